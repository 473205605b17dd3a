"""TensorBoard; what arrives whichever trackers are on; dashboards that fail end nothing."""

import sys
from dataclasses import replace

import matplotlib
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from conftest import train_here, train_qep_here
from runs import tracking
from runs.tracking import TensorBoardLog, Tracker
from tracked import RESULTS, SETTINGS, picture, rows, steps
from training.metrics import COLUMNS
from training.settings import Settings
from wandb_reader import read_offline_run

pytestmark = pytest.mark.usefixtures("wandb_home")


def test_tensorboard_holds_each_value_and_is_rewound(tmp_path):
    tracker = Tracker(tmp_path, Settings(), COLUMNS)
    for step in (10, 20, 30):
        tracker.log("val", step, {"val_loss": step / 4, "mode": 1})
    tracker.close()
    tracker = Tracker(tmp_path, Settings(), COLUMNS, resume_step=20)
    tracker.log("val", 30, {"val_loss": 99.0, "mode": 0})
    tracker.finish(30, {"test_acc": 0.5}, {"circuit": picture(tmp_path)})
    tracker.close()

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"val_loss", "mode"}
    assert [(e.step, e.value) for e in events.Scalars("val_loss")] == [(10, 2.5), (20, 5.0), (30, 99.0)]
    assert [e.value for e in events.Scalars("mode")] == [1, 1, 0]
    assert events.Tags()["images"] == ["circuit"]


def test_tensorboard_has_each_row_at_once(tmp_path):
    tracker = Tracker(tmp_path, Settings(), COLUMNS)
    tracker.log("val", 10, {"val_loss": 2.5})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()  # a kill would leave no more
    assert [(e.step, e.value) for e in events.Scalars("val_loss")] == [(10, 2.5)]
    tracker.close()


def test_tensorboard_can_be_left_out(tmp_path):
    tracker = Tracker(tmp_path, Settings(tensorboard=False), COLUMNS)
    tracker.log("train", 1, {"train_loss": 1.0})
    tracker.close()
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize("tensorboard", [True, False])
@pytest.mark.parametrize("mode", ["disabled", "offline"])
@pytest.mark.parametrize("backend", [None, "module://matplotlib_inline.backend_inline"])
def test_pictures_and_summary_arrive_whichever_trackers_are_on(
    tmp_path, monkeypatch, warned, tensorboard, mode, backend
):
    # as in a run's own process, which has no reason to import pyplot, and may be started from a notebook
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    if backend:
        monkeypatch.setenv("MPLBACKEND", backend)
    tracker = Tracker(tmp_path, replace(SETTINGS, wandb=mode, tensorboard=tensorboard), COLUMNS)
    tracker.log("test", 3, {"test_loss": 0.5})
    tracker.finish(3, RESULTS, {"circuit": picture(tmp_path), "curves": picture(tmp_path)})
    tracker.close()
    assert warned() == [] and "matplotlib.pyplot" not in sys.modules
    if tensorboard:
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert sorted(events.Tags()["images"]) == ["circuit", "curves"]
    if mode == "offline":
        _, history, summary, _ = read_offline_run(tmp_path)
        assert {"train_step": 3, "test_loss": 0.5} in history
        assert {name: value["_type"] for name, value in history[-1].items() if name != "train_step"} == {
            "circuit": "image-file", "curves": "image-file"
        }  # fmt: skip
        assert RESULTS.items() <= summary.items() and summary["test_loss"] == 0.5


QUICK = ("--max_step", 2, "--batch_size", 64, "--device", "cpu", "--tensorboard", "False")
COMMANDS = {
    "train_qdeq": (train_here, ("--dataset", "digits", "--num_classes", 2, "--n_wires", 4, *QUICK), "test accuracy"),
    "train_qep": (train_qep_here, ("--task", "xor", *QUICK), "test cost"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_results_are_written_and_shown_before_an_upload_is_waited_for(tmp_path, monkeypatch, capsys, command):
    train, flags, shown = COMMANDS[command]
    found, close = [], Tracker.close

    def look(tracker, failed):
        found.append(((tmp_path / "r" / "results.json").exists(), shown in capsys.readouterr().out))
        close(tracker, failed)

    monkeypatch.setattr(Tracker, "close", look)
    train(*flags, "--work_dir", tmp_path, "--name", "r")
    assert found == [(True, True)]


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ("reproduce.py", "circuit", "--n_wires", 4, "--out", "c.png"),
    ("train_qep.py", *COMMANDS["train_qep"][1], "--work_dir", ".", "--wandb", "offline"),
])  # fmt: skip
def test_a_notebooks_backend_does_not_matter(tmp_path, run_script, words):
    backend = "module://matplotlib_inline.backend_inline"
    run_script(*words, cwd=tmp_path, MPLBACKEND=backend, WANDB_CONFIG_DIR=str(tmp_path), WANDB_CACHE_DIR=str(tmp_path))
    assert list(tmp_path.rglob("c*.png"))


# a dashboard that fails


class Recorder:
    """Stands for a dashboard; notes its calls, and fails in the methods named in `fails`."""

    id = "abc"
    online = False
    fails: tuple[str, ...] = ()

    def __init__(self, *arguments):
        self.calls = []
        self._note("init")

    def _note(self, name):
        self.calls.append(name)
        if name in self.fails:
            raise RuntimeError(f"{name} went wrong")

    def log(self, event, step, metrics):
        self._note("log")

    def figures(self, figures, step):
        self._note("figures")

    def summary(self, values):
        self._note("summary")

    def close(self, failed=None):
        self._note("close")


def go_through(tracker: Tracker) -> None:
    for step in (1, 2, 3):
        tracker.log("train", step, {"train_loss": 0.5})
    tracker.finish(3, {"test_acc": 0.5}, {})
    tracker.close()


@pytest.mark.parametrize("failing", ["init", "log", "figures", "summary", "close"])
def test_failing_wandb_warns_once_and_all_else_goes_on(tmp_path, monkeypatch, warned, failing):
    well, ill = Recorder(), type("Ill", (Recorder,), {"fails": (failing,)})
    monkeypatch.setattr(tracking, "TensorBoardLog", lambda *arguments: well)
    monkeypatch.setattr(tracking, "WandbLog", ill)
    tracker = Tracker(tmp_path, Settings(wandb="offline"), COLUMNS)
    assert tracker.wandb_id == (None if failing == "init" else "abc")
    go_through(tracker)
    (warning,) = warned()
    assert "wandb" in warning and f"{failing} went wrong" in warning
    assert well.calls == ["init", "log", "log", "log", "figures", "close"]
    assert steps(tmp_path / "metrics.csv") == [("train", 1), ("train", 2), ("train", 3)]


@pytest.mark.parametrize("failing", ["init", "log", "figures", "close"])
def test_failing_tensorboard_warns_once_and_all_else_goes_on(tmp_path, monkeypatch, warned, failing):
    well, ill = Recorder(), type("Ill", (Recorder,), {"fails": (failing,)})
    monkeypatch.setattr(tracking, "TensorBoardLog", ill)
    monkeypatch.setattr(tracking, "WandbLog", lambda *arguments: well)
    go_through(Tracker(tmp_path, Settings(wandb="offline"), COLUMNS))
    (warning,) = warned()
    assert "TensorBoard" in warning and f"{failing} went wrong" in warning
    assert well.calls == ["init", "log", "log", "log", "figures", "summary", "close"]
    assert steps(tmp_path / "metrics.csv") == [("train", 1), ("train", 2), ("train", 3)]


def test_wandb_that_is_not_installed_warns(tmp_path, monkeypatch, warned):
    monkeypatch.setitem(sys.modules, "wandb", None)
    go_through(Tracker(tmp_path, Settings(wandb="offline", tensorboard=False), COLUMNS))
    (warning,) = warned()
    assert "wandb is not available" in warning
    assert len(rows(tmp_path / "metrics.csv")) == 3


def test_wandb_that_cannot_start_warns(tmp_path, monkeypatch, warned):
    def init(**options):
        raise wandb.errors.CommError("no route to the server")

    monkeypatch.setattr(wandb, "init", init)
    go_through(Tracker(tmp_path, Settings(wandb="online", tensorboard=False), COLUMNS))
    (warning,) = warned()
    assert "no route" in warning
    assert len(rows(tmp_path / "metrics.csv")) == 3


def test_wandb_disabled_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(wandb, "init", lambda **options: pytest.fail("initialised"))
    tracker = Tracker(tmp_path, Settings(tensorboard=False), COLUMNS)
    assert tracker.wandb_id is None
    go_through(tracker)


def test_both_dashboards_are_opened_in_the_run_folder(tmp_path):
    log = TensorBoardLog(tmp_path, None)
    log.close(failed=False)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
