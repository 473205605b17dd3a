"""The comparison of two checkouts notices a changed cell, value, key or line, and a run that fails."""

import json
from pathlib import Path

import pytest

from campaigns import same_runs

RESULTS = {
    "test_acc": 0.5, "seed": 3, "cosine": None, "confusion_matrix": [[1, 0], [2, 3]], "date": "today",
    "train_seconds": 1.0, "settings": {"lr": 0.1, "wandb_group": "", "device": "cpu"},
}  # fmt: skip
METRICS = "event,train_step,train_loss,seconds_per_step,val_loss\ntrain,1,0.25,0.01,\nval,1,,,0.3\n"

# what stands in for training: it writes the accuracy of its checkout
FAKE = """
import json, sys
from pathlib import Path
folder = Path(*(sys.argv[sys.argv.index(flag) + 1] for flag in ("--work_dir", "--name")))
folder.mkdir(exist_ok=True)
(folder / "results.json").write_text(json.dumps({"test_acc": ACCURACY, "date": "of " + __file__}))
(folder / "metrics.csv").write_text("event,train_loss\\ntrain,0.5\\n")
print("trained")
"""


def write_run(folder: Path, results: dict = RESULTS, metrics: str = METRICS) -> Path:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "metrics.csv").write_text(metrics)
    return folder


def difference(tmp_path: Path, results: dict = RESULTS, metrics: str = METRICS) -> str | None:
    return same_runs.compare_runs(write_run(tmp_path / "a"), write_run(tmp_path / "b", results, metrics))[0]


def test_what_depends_on_the_machine_may_differ(tmp_path):
    other = RESULTS | {"date": "tomorrow", "train_seconds": 9.0}
    before, after = write_run(tmp_path / "a"), write_run(tmp_path / "b", other, METRICS.replace("0.01", "7.5"))
    n_values = 3 + 4 + 3 + 2 * 4  # scalars, matrix, settings, cells
    assert same_runs.compare_runs(before, after) == (None, n_values)


@pytest.mark.parametrize("changed, place", [
    ({"test_acc": 0.5000000000000001}, "results.json test_acc: 0.5 before, 0.5000000000000001 after"),
    ({"seed": 3.0}, "results.json seed: 3 before, 3.0 after"),
    ({"cosine": 1.0}, "results.json cosine: null before, 1.0 after"),
    ({"confusion_matrix": [[1, 0], [3, 2]]}, "results.json confusion_matrix 1 0: 2 before, 3 after"),
    ({"settings": RESULTS["settings"] | {"device": "cuda"}}, "results.json settings device: cpu before, cuda after"),
    ({"settings": RESULTS["settings"] | {"wandb_group": "x"}}, "settings wandb_group: an empty cell before, x after"),
    ({"confusion_matrix": [[1, 0], [2, 3], [0, 0]]}, "results.json confusion_matrix 2 0: nothing before, 0 after"),
])  # fmt: skip
def test_a_changed_result_is_named(changed, place, tmp_path):
    assert place in difference(tmp_path, RESULTS | changed)


def test_an_entry_that_is_new_differs_from_nothing_and_one_that_is_gone_does(tmp_path):
    less = write_run(tmp_path / "less")
    column = "\n".join(line + end for line, end in zip(METRICS.splitlines(), (",new", ",1", ",2"))) + "\n"
    for name, more, place in (
        ("entry", {"results": RESULTS | {"failed_images": 0}}, "results.json failed_images: 0"),
        ("setting", {"results": RESULTS | {"settings": RESULTS["settings"] | {"new": 1}}}, "results.json settings new: 1"),
        ("column", {"metrics": column}, "metrics.csv line 2 new: 1"),
    ):
        more = write_run(tmp_path / name, **more)
        assert same_runs.compare_runs(less, more)[0] is None
        assert same_runs.compare_runs(more, less)[0] == f"DIFFERENT {place} before, nothing after"


def test_a_row_that_is_new_is_a_difference(tmp_path):
    assert "line 4 event: nothing before, val after" in difference(tmp_path, metrics=METRICS + "val,2,,,0.2\n")


@pytest.mark.parametrize("old, new, place", [
    ("0.25", "0.250", "metrics.csv line 2 train_loss: 0.25 before, 0.250 after"),
    ("0.3\n", "\n", "metrics.csv line 3 val_loss: 0.3 before, an empty cell after"),
    ("val,1,,,0.3\n", "", "metrics.csv line 3 event: val before, nothing after"),
    ("val_loss", "val_cost", "metrics.csv line 2 val_loss: an empty cell before, nothing after"),
])  # fmt: skip
def test_a_changed_cell_is_named(old, new, place, tmp_path):
    assert place in difference(tmp_path, metrics=METRICS.replace(old, new))


def fake_checkout(folder: Path, accuracy: str) -> Path:
    (folder / "DEQ-Quantum").mkdir(parents=True)
    for script in ("train_qdeq.py", "train_qep.py"):
        (folder / "DEQ-Quantum" / script).write_text(FAKE.replace("ACCURACY", accuracy))
    return folder


def test_checkouts_are_run_and_compared(tmp_path, monkeypatch, capfd):
    """Every run of both, resumed ones in two commands; 1 where one differs, or where one fails in both."""
    monkeypatch.setattr(same_runs, "PRELOADED", [])
    before = fake_checkout(tmp_path / "before", "0.5")
    same = fake_checkout(tmp_path / "same", "0.5")
    other = fake_checkout(tmp_path / "other", "0.5 + 0.25 * ('qep' in folder.name)")
    broken = fake_checkout(tmp_path / "broken", "unknown")
    names = ["amplitude_4", "resumed", "qep_digits"]
    assert same_runs.compare_checkouts(before, same, names, tmp_path / "1") == 0
    assert "all 3 runs are equal (9 values compared" in capfd.readouterr().out
    assert (tmp_path / "1" / "after" / "resumed.log").read_text() == "trained\n" * 2
    assert same_runs.compare_checkouts(before, other, names, tmp_path / "2") == 1
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:3]] == [
        "equal", "equal", "DIFFERENT results.json test_acc: 0.5 before, 0.75 after"
    ]  # fmt: skip
    assert lines[3].startswith("1 of 3 runs differ")
    assert same_runs.compare_checkouts(broken, broken, names[:1], tmp_path / "3") == 1
    assert "train_qdeq.py ended with status 1: NameError: name 'unknown' is not defined" in capfd.readouterr().out
