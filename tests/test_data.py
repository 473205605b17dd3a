"""Data: from images to pooled features and splits. Files are small and synthetic.

Pooling is held against plain loops over pixels written here from section 3.2 of the paper, not against torch.
"""

import numpy as np
import pytest
import torch
from PIL import Image

import features as reduction
from dataset import CLASSES, DataError, load_features, load_images, split_rows
from features import PrincipalComponents, pool_images
from small_data import SIDES, synthetic


@pytest.fixture
def data_dir(tmp_path):
    """A folder with a small file for each data set."""
    for name, side in SIDES.items():
        np.savez(tmp_path / f"{name}.npz", **synthetic(side))
    return tmp_path


# --- pooling --------------------------------------------------------------------------------------


def normalised(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float64) / 255 - 0.1307) / 0.3081


def mean_of_windows(image: np.ndarray, windows: list[tuple[int, int]]) -> np.ndarray:
    """Sum over the pixels of each window that lie in the image, divided by the whole window's size."""
    side = len(image)
    out = np.zeros((len(windows), len(windows)))
    for i, (top, bottom) in enumerate(windows):
        for j, (left, right) in enumerate(windows):
            for row in range(max(top, 0), min(bottom, side)):
                for column in range(max(left, 0), min(right, side)):
                    out[i, j] += image[row, column]
            out[i, j] /= (bottom - top) * (right - left)
    return out.ravel()


WINDOWS = {
    4: [(6 * i, 6 * i + 6) for i in range(4)],
    10: [(3 * i - 2, 3 * i + 3) for i in range(10)],
    6: [(0, 5), (4, 10), (9, 14), (14, 19), (18, 24), (23, 28)],  # floor(28 i / 6), ceil(28 (i + 1) / 6)
}


@pytest.mark.parametrize("n_wires", WINDOWS)
def test_pooling_equals_plain_loops(n_wires):
    images = synthetic(n_train=5)["train_images"]
    expected = np.stack([mean_of_windows(normalised(image), WINDOWS[n_wires]) for image in images])
    features = pool_images(images, n_wires)
    assert features.shape == (5, n_wires**2) and features.dtype == torch.float32
    np.testing.assert_allclose(features.numpy(), expected, atol=2e-6)


def test_ten_wires_count_the_zero_border():
    """A black image: the corner window holds 9 of 25 pixels, an edge window 15, an inner one 25."""
    black = -0.1307 / 0.3081
    picture = pool_images(np.zeros((1, 28, 28), np.uint8), 10).view(10, 10)
    for row, column, inside in ((0, 0, 9), (9, 9, 9), (0, 5, 15), (5, 9, 15), (5, 5, 25)):
        assert picture[row, column].item() == pytest.approx(black * inside / 25)


def test_four_wires_leave_out_the_last_rows_and_columns():
    images = synthetic(n_train=3)["train_images"]
    changed = images.copy()
    changed[:, 24:, :] = 0
    changed[:, :, 24:] = 255
    assert torch.equal(pool_images(images, 4), pool_images(changed, 4))


def test_normalisation_of_black_and_white():
    images = np.stack([np.zeros((28, 28)), np.full((28, 28), 255)]).astype(np.uint8)
    features = pool_images(images, 8)
    torch.testing.assert_close(features[0], torch.full((64,), -0.42421292))
    torch.testing.assert_close(features[1], torch.full((64,), 2.82148653))


@pytest.mark.parametrize("side", [8, 32])
def test_resizing_keeps_constants_and_symmetry(side):
    """Interpolation weights sum to one, and treat left and right, rows and columns alike."""
    constant = pool_images(np.full((1, side, side), 51, np.uint8), 6)
    torch.testing.assert_close(constant, torch.full((1, 36), (51 / 255 - 0.1307) / 0.3081))
    image = synthetic(side, n_train=1)["train_images"]
    picture = pool_images(image, 14).view(14, 14)
    flipped = pool_images(np.ascontiguousarray(image[:, ::-1, ::-1]), 14).view(14, 14)
    transposed = pool_images(np.ascontiguousarray(image.transpose(0, 2, 1)), 14).view(14, 14)
    torch.testing.assert_close(flipped.flip(0, 1), picture)
    torch.testing.assert_close(transposed.T, picture)


def test_resizing_follows_pillow():
    """Pillow's bilinear filter is antialiased too; it rounds to whole grey values."""
    image = synthetic(32, n_train=1)["train_images"]
    resized = np.array(Image.fromarray(image[0]).resize((28, 28), Image.Resampling.BILINEAR))
    difference = pool_images(image, 28) - pool_images(resized[None], 28)
    assert difference.abs().max() < 1.01 / 255 / 0.3081


def test_chunks_do_not_show(monkeypatch):
    images = synthetic(n_train=23)["train_images"]
    whole = pool_images(images, 10)
    monkeypatch.setattr(reduction, "CHUNK", 5)
    assert torch.equal(pool_images(images, 10), whole)


# --------------------------------------------------------------------------------- principal components


def singular_vectors(images: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, first n right singular vectors (rows) of the centred images, and standard deviations along them."""
    pixels = np.stack([normalised(image).ravel() for image in images])
    mean = pixels.mean(0)
    _, s, rows = np.linalg.svd(pixels - mean, full_matrices=False)
    return mean, rows[:n], s[:n] / np.sqrt(len(images))


def test_components_equal_a_singular_value_decomposition():
    arrays = synthetic(n_train=40, n_test=7)
    mean, rows, deviations = singular_vectors(arrays["train_images"], 6)
    components = PrincipalComponents(arrays["train_images"], 6)
    for half in ("train", "test"):
        pixels = np.stack([normalised(image).ravel() for image in arrays[f"{half}_images"]])
        expected = (pixels - mean) @ rows.T / deviations
        expected *= np.sign(rows[np.arange(6), np.abs(rows).argmax(1)])
        found = components(arrays[f"{half}_images"])
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)


def test_components_are_those_of_the_training_split_alone(data_dir):
    before = load_features("mnist", 10, 10, 5, data_dir, "cpu", "components")
    assert before.train.features.shape == (160, 10) and before.test.features.shape == (60, 10)
    torch.testing.assert_close(before.train.features.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(before.train.features.std(0, correction=0), torch.ones(10), atol=1e-5, rtol=0)
    arrays = dict(np.load(data_dir / "mnist.npz"))
    _, val_rows = split_rows(200, 5)
    arrays["train_images"][val_rows] = 255 - arrays["train_images"][val_rows]
    arrays["test_images"] = 255 - arrays["test_images"]
    np.savez(data_dir / "mnist.npz", **arrays)
    after = load_features("mnist", 10, 10, 5, data_dir, "cpu", "components")
    assert torch.equal(after.train.features, before.train.features)
    assert not torch.allclose(after.val.features, before.val.features)
    assert not torch.allclose(after.test.features, before.test.features)


def test_components_do_not_show_chunks(monkeypatch):
    images = synthetic(n_train=23)["train_images"]
    whole = PrincipalComponents(images, 4)(images)
    monkeypatch.setattr(reduction, "CHUNK", 5)
    torch.testing.assert_close(PrincipalComponents(images, 4)(images), whole, atol=1e-5, rtol=0)


def test_too_few_images_for_components():
    images = synthetic(n_train=5)["train_images"]  # five points span four directions
    PrincipalComponents(images, 4)
    with pytest.raises(ValueError, match="5 images vary in fewer than 5 directions"):
        PrincipalComponents(images, 5)


@pytest.mark.parametrize("grey", [0, 51, 128, 255])
@pytest.mark.parametrize("count", [5, 500])
def test_constant_images_have_no_components(grey, count):
    """What is left of their variance is round-off, also where it is a large share of the first one's."""
    with pytest.raises(ValueError, match=f"{count} images are all alike"):
        PrincipalComponents(np.full((count, 28, 28), grey, np.uint8), 4)


def test_the_smallest_difference_is_no_round_off():
    """One grey level in one pixel of one image of many, on white, is a direction; a second one is not there."""
    images = np.full((5000, 28, 28), 255, np.uint8)
    images[7, 3, 4] = 254
    features = PrincipalComponents(images, 1)(images)
    assert features[7].abs() == pytest.approx(4999**0.5, rel=1e-3) and features.std() == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="5000 images vary in fewer than 2 directions"):
        PrincipalComponents(images, 2)


def test_alike_images_are_refused_with_the_remedy(tmp_path):
    arrays = synthetic()
    arrays["train_images"][:] = arrays["train_images"][0]
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(DataError, match="no principal components: 160 images are all alike; .* another data set"):
        load_features("mnist", 10, 4, 0, tmp_path, "cpu", "components")


def test_images_have_no_more_components_than_pixels():
    images = np.random.default_rng(0).integers(0, 256, (900, 28, 28), dtype=np.uint8)
    with pytest.raises(ValueError, match="900 images vary in fewer than 785 directions"):
        PrincipalComponents(images, 785)


@pytest.mark.parametrize("reduce", [lambda images: pool_images(images, 4), lambda images: PrincipalComponents(images, 4)])
@pytest.mark.parametrize("images", [
    np.full((5, 28, 28), np.nan), np.ones((5, 28, 28), np.float32), np.ones((5, 784), np.uint8),
    np.ones((5, 28, 27), np.uint8), np.ones((5, 1, 28, 28), np.uint8),
])  # fmt: skip
def test_other_arrays_are_no_images(reduce, images):
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, S, S\), got \w+ \(5, "):
        reduce(images)


@pytest.mark.parametrize("n_wires", [0, 2, 5, 30, -4])
def test_wires_that_cannot_be_pooled_to(n_wires, data_dir):
    with pytest.raises(DataError, match=f"n_wires is {n_wires}; choose an even number from 4 to 28"):
        load_features("mnist", 10, n_wires, 0, data_dir, "cpu")


# --- splits and labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 9, 1000])
def test_split_is_disjoint_and_covers(n):
    train, val = split_rows(n, seed=3)
    assert len(train) == 4 * n // 5
    assert sorted([*train, *val]) == list(range(n))
    assert (np.diff(train) > 0).all() and (np.diff(val) > 0).all()


def test_split_depends_on_the_seed_alone():
    torch.manual_seed(0)
    first, state = split_rows(1000, seed=1), torch.get_rng_state()
    torch.rand(7)
    np.random.rand(3)
    assert all(map(np.array_equal, first, split_rows(1000, seed=1)))
    assert not np.array_equal(first[0], split_rows(1000, seed=2)[0])
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state), "the split moved torch's global generator"


def test_split_draws_evenly():
    """Every row falls into validation about 1 time in 5 (400 seeds: 80 +- 8)."""
    counts = np.zeros(50)
    for seed in range(400):
        counts[split_rows(50, seed)[1]] += 1
    assert 40 < counts.min() and counts.max() < 120


@pytest.mark.parametrize("name", SIDES)
@pytest.mark.parametrize("num_classes", CLASSES)
def test_splits_hold_the_chosen_classes_renamed(name, num_classes, data_dir):
    splits = load_features(name, num_classes, 4, 7, data_dir, "cpu")
    sizes = [len(s) // num_classes for s in (splits.train, splits.val, splits.test)]
    assert sizes == [16, 4, 6] and len(splits.train) == 16 * num_classes
    assert splits.classes == CLASSES[num_classes] and splits.n_classes == num_classes and splits.side == 4
    for split in (splits.train, splits.val, splits.test):
        assert split.features.shape == (len(split), 16) and split.features.dtype == torch.float32
        assert split.labels.shape == (len(split),) and split.labels.dtype == torch.int64
    labels = torch.cat([splits.train.labels, splits.val.labels])
    assert labels.bincount().tolist() == [20] * num_classes


def test_labels_stay_with_their_images(data_dir):
    """Each image of class c filled with grey 20 c: its features tell which class it was."""
    arrays = synthetic()
    for half in ("train", "test"):
        arrays[f"{half}_images"][:] = 20 * arrays[f"{half}_labels"][:, None, None]
    np.savez(data_dir / "mnist.npz", **arrays)
    splits = load_features("mnist", 4, 4, 0, data_dir, "cpu")
    assert splits.classes == (0, 3, 6, 9)
    for split in (splits.train, splits.val, splits.test):
        grey = torch.tensor(splits.classes)[split.labels] * 20
        torch.testing.assert_close(split.features[:, 0], (grey / 255 - 0.1307) / 0.3081)


def test_features_are_the_pooled_images_of_the_split(data_dir):
    images = load_images("fashion_mnist", data_dir)
    splits = load_features("fashion_mnist", 10, 10, 5, data_dir, "cpu")
    train, val = split_rows(200, 5)
    assert torch.equal(splits.train.features, pool_images(images["train_images"][train], 10))
    assert torch.equal(splits.val.features, pool_images(images["train_images"][val], 10))
    assert torch.equal(splits.test.features, pool_images(images["test_images"], 10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_holds_the_same_numbers(data_dir):
    cpu, cuda = (load_features("cifar10", 10, 10, 5, data_dir, device) for device in ("cpu", "cuda"))
    for split in ("train", "val", "test"):
        assert getattr(cuda, split).features.is_cuda and getattr(cuda, split).labels.is_cuda
        assert torch.equal(getattr(cuda, split).features.cpu(), getattr(cpu, split).features)
        assert torch.equal(getattr(cuda, split).labels.cpu(), getattr(cpu, split).labels)


def test_choices_are_named(data_dir):
    with pytest.raises(DataError, match="unknown data set 'mnst'; choose one of mnist, fashion_mnist, cif"):
        load_features("mnst", 10, 4, 0, data_dir, "cpu")
    with pytest.raises(DataError, match="num_classes is 3; choose one of 2, 4, 10"):
        load_features("mnist", 3, 4, 0, data_dir, "cpu")


def test_a_class_without_images_is_named(tmp_path):
    arrays = synthetic()
    arrays["test_labels"][arrays["test_labels"] == 6] = 5
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(DataError, match="test_images of mnist has none of class 6; choose other --num_classes"):
        load_features("mnist", 2, 4, 0, tmp_path, "cpu")


def test_a_class_whose_images_all_fall_to_validation_is_named(tmp_path):
    """Of four images three are drawn for training: with one of class 3, one seed in four leaves it out."""
    arrays = synthetic(n_train=4)
    arrays["train_labels"][:] = 6, 6, 3, 6
    np.savez(tmp_path / "mnist.npz", **arrays)
    (seed,) = [seed for seed in range(10) if 2 in split_rows(4, seed)[1]][:1]
    with pytest.raises(DataError, match=f"that --seed {seed} draws for training have none of class 3; choose"):
        load_features("mnist", 2, 4, seed, tmp_path, "cpu")
