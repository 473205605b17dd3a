"""A data set of one's own, --dataset file:PATH.npz: what it may hold, how it is found, and runs on it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import train_here
from dataset import DataError, load_features
from features import PrincipalComponents
from small_data import synthetic
from training.command_line import parse_command_line
from training.settings import Settings

SMALL = "--n_wires 4 --num_classes 3 --batch_size 32 --max_step 4 --eval-interval 2 --device cpu".split()


def vectors(width: int = 5, classes=("apple", "pear", "plum"), n_train: int = 120, n_test: int = 30) -> dict:
    """Vectors around one centre per class."""
    draw = np.random.default_rng(0)
    centres, arrays = draw.normal(size=(len(classes), width)), {}
    for half, n in (("train", n_train), ("test", n_test)):
        positions = np.arange(n) % len(classes)
        arrays[f"{half}_vectors"] = centres[positions] + 0.1 * draw.normal(size=(n, width))
        arrays[f"{half}_labels"] = np.array(classes)[positions]
    return arrays


@pytest.fixture
def fruit(tmp_path) -> Path:
    path = tmp_path / "mine" / "fruit.npz"
    path.parent.mkdir()
    np.savez(path, **vectors())
    return path


def load(path: Path, num_classes: int = 3, n_wires: int = 4, reduction: str = "pooling"):
    return load_features(f"file:{path}", num_classes, n_wires, 1, "", "cpu", reduction)


def test_images_are_treated_as_the_papers_are(tmp_path):
    np.savez(tmp_path / "mnist.npz", **synthetic())
    theirs, ours = load_features("mnist", 10, 10, 1, tmp_path, "cpu"), load(tmp_path / "mnist.npz", 10, 10)
    assert ours.classes == theirs.classes
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(ours, name).features, getattr(theirs, name).features)
        assert torch.equal(getattr(ours, name).labels, getattr(theirs, name).labels)


def test_vectors_are_taken_as_they_are(fruit):
    splits, arrays = load(fruit), vectors()
    assert splits.classes == ("apple", "pear", "plum") and len(splits.train) == 96 and len(splits.val) == 24
    np.testing.assert_array_equal(splits.test.features[:, :5], arrays["test_vectors"].astype(np.float32))
    assert splits.test.features.shape == (30, 16) and not splits.test.features[:, 5:].any()
    assert [splits.classes[label] for label in splits.test.labels] == arrays["test_labels"].tolist()


@pytest.mark.parametrize("labels", [(-7, 3), (True, False), (1000, 2, 70000), tuple("abcdefghijkl")])
def test_any_labels_of_two_classes_or_more(labels, tmp_path):
    np.savez(tmp_path / "x.npz", **vectors(classes=labels))
    splits = load(tmp_path / "x.npz", len(labels))
    assert splits.classes == tuple(sorted(labels))
    assert [splits.classes[label] for label in splits.test.labels] == [labels[i % len(labels)] for i in range(30)]


def test_components_of_vectors_are_those_of_a_singular_value_decomposition():
    x = vectors()["train_vectors"].astype(np.float32)
    centred = x.astype(np.float64) - x.mean(0, dtype=np.float64)
    u, _, _ = np.linalg.svd(centred, full_matrices=False)
    found = PrincipalComponents(x, 4)(x).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :4]) * len(x) ** 0.5, atol=1e-4)
    with pytest.raises(ValueError, match="120 images vary in fewer than 6 directions"):
        PrincipalComponents(x, 6)


# what is put in place of an array (None: nothing), and what is said of it
LACKS = {
    "no labels": ("train_labels", None, "it has test_labels, test_vectors, train_vectors"),
    "no test": ("test_vectors", None, "it has test_labels, train_labels, train_vectors"),
    "floats as labels": ("test_labels", np.zeros(30), "test_labels is float64 (30,), not whole numbers or text (30,)"),
    "lengths": ("train_labels", np.zeros(7, int), "train_labels is int64 (7,), not whole numbers or text (120,)"),
    "a NaN": ("train_vectors", np.full((120, 5), np.nan), "train_vectors has a NaN, an inf, or a number beyond float32"),
    "too large": ("test_vectors", np.full((30, 5), 1e39), "test_vectors has a NaN, an inf, or a number beyond float32"),
    "complex": ("train_vectors", np.full((120, 5), 1j), "train_vectors is complex128 (120, 5), not numbers (N, D)"),
    "other width": ("test_vectors", np.zeros((30, 4)), "train_vectors are of 5 numbers, test_vectors of 4"),
    "nothing": ("test_vectors", np.zeros((0, 5)), "test_vectors is empty, (0, 5)"),
    "mixed": ("test_labels", np.zeros(30, int), "one of train_labels and test_labels is text"),
    "objects": ("train_labels", np.array([None] * 120), "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("case", LACKS)
def test_what_the_file_lacks_is_said(case, fruit):
    key, value, found = LACKS[case]
    arrays = {k: v for k, v in (vectors() | {key: value}).items() if v is not None}
    np.savez(fruit, **dict(sorted(arrays.items())))
    before = fruit.read_bytes()
    with pytest.raises(DataError) as caught:
        load(fruit)
    message = str(caught.value)
    assert found in message and "train_vectors and test_vectors, finite numbers (N, D)" in message
    assert message.startswith(f"{fruit} holds something else") and "\n" not in message and fruit.read_bytes() == before


def test_images_are_grey_squares_of_bytes(tmp_path):
    arrays = synthetic()
    for other in (arrays["train_images"] / 255, arrays["train_images"][:, 1:], np.stack([arrays["train_images"]] * 3, -1)):
        np.savez(tmp_path / "x.npz", **arrays | {"train_images": other})
        with pytest.raises(DataError, match=r"train_images is \w+ \(200, .*\), not uint8 \(N, S, S\)"):
            load(tmp_path / "x.npz", 10)


def test_a_file_that_is_damaged_or_not_there(fruit):
    fruit.write_bytes(fruit.read_bytes()[:500])
    with pytest.raises(DataError, match="fruit.npz is corrupt, or no .npz file; put a whole copy in its place$"):
        load(fruit)
    with pytest.raises(DataError, match="there is no file .*gone.npz; --data_dir is its folder"):
        load(fruit.with_name("gone.npz"))


def test_numbers_that_do_not_fit_come_with_the_remedy(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **vectors())
    with pytest.raises(DataError, match=r"has 3 classes \(apple, pear, plum\), not 10: give --num_classes 3"):
        load(path, 10)
    np.savez(path, **vectors(width=17))
    with pytest.raises(DataError, match="vectors of 17 numbers are more than the 16 inputs of 4 wires: choose --n_wires 6"):
        load(path)
    np.savez(path, **vectors(width=785))
    with pytest.raises(DataError, match="at most 784 can be used"):
        load(path)
    np.savez(path, **vectors() | {"test_labels": np.array(["fig"] * 30)})
    with pytest.raises(DataError, match="test_labels has fig, and train_labels only apple, pear, plum"):
        load(path)
    np.savez(path, **vectors(classes=("apple",)))
    with pytest.raises(DataError, match=r"has 1 classes \(apple\), not 2: there must be two or more"):
        load(path, 2)


# the command line


def test_a_file_is_a_name_and_a_folder(fruit, monkeypatch):
    monkeypatch.chdir(fruit.parent.parent)
    monkeypatch.setenv("HOME", str(fruit.parent))
    for words in (f"--dataset file:{fruit}", "--dataset file:mine/fruit.npz", "--dataset file:~/fruit.npz",
                  f"--dataset file:fruit.npz --data_dir {fruit.parent}", "--dataset file:fruit.npz --data_dir mine"):  # fmt: skip
        s = parse_command_line([*words.split(), *SMALL]).settings
        assert (s.dataset, s.data_dir) == ("file:fruit.npz", str(fruit.parent))
    assert s.run_name == "fruit_3c_4q_amplitude_implicit_seed1111" and s.tags == ["fruit", "3C"]
    assert str(fruit.parent) not in json.dumps(s.without_paths())


@pytest.mark.parametrize("words, said", [
    ("--dataset file:", "--dataset file: must name a file"), ("--dataset file:x.csv", "must name a file, as file:PATH.npz"),
    ("--dataset mnst", "--dataset must be one of mnist, "), ("--num_classes 3", "one of 2, 4, 10 with --dataset mnist, got 3"),
    ("--dataset file:x.npz --num_classes 1", "--num_classes must be at least 2"),
])  # fmt: skip
def test_wrong_flags_end_the_command(words, said, capsys):
    with pytest.raises(SystemExit):
        parse_command_line(words.split())
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_from_elsewhere_and_where_the_file_has_gone(fruit, tmp_path, monkeypatch):
    before = fruit.read_bytes(), fruit.stat().st_mtime_ns
    monkeypatch.chdir(fruit.parent)
    common = ["--work_dir", tmp_path / "runs", *SMALL]
    train_here("--dataset", "file:fruit.npz", *common)
    folder = tmp_path / "runs" / "fruit_3c_4q_amplitude_implicit_seed1111"
    assert json.loads((folder / "config.json").read_text())["data_dir"] == str(fruit.parent)
    monkeypatch.chdir(tmp_path)
    longer = ["--dataset", "file:fruit.npz", *common, "--restart", "--max_step"]  # the last --max_step holds
    train_here(*longer, 6)
    assert (fruit.read_bytes(), fruit.stat().st_mtime_ns) == before
    moved = tmp_path / "moved" / "fruit.npz"
    moved.parent.mkdir()
    fruit.rename(moved)
    train_here("--restart", "--restart_dir", folder, "--data_dir", moved.parent, "--max_step", 8)
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == 8 and results["dataset"] == "file:fruit.npz" and results["num_classes"] == 3
    assert str(tmp_path) not in json.dumps(results)
    assert Settings.from_dict(json.loads((folder / "config.json").read_text())).data_folder == moved.parent
