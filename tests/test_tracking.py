"""Where a run's numbers go: metrics.csv, TensorBoard and wandb hold the right values by the right names."""

import csv
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
import wandb
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train_qep
from conftest import ctrl_c, train_here
from qep.settings import parse_command_line as parse_qep
from runs import tracking, wandb_log
from runs.metrics_csv import CsvLog
from runs.tracking import TensorBoardLog, Tracker
from runs.wandb_files import records
from training.metrics import COLUMNS
from training.settings import Settings
from wandb_reader import read_offline_run
from wandb_server import WandbServer

RELEASED_METRICS = """train_loss train_acc train_res val_loss val_acc val_res best_val_loss best_val_acc
best_val_res test_loss test_acc test_res epoch train_step mode""".split()
ISSUE_METRICS = """train_solver_steps val_converged val_res_rel train_jac_loss grad_norm lr seconds_per_step
peak_memory_mb val_spectral_radius""".split()


def rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def steps(path: Path) -> list[tuple[str, int]]:
    return [(row["event"], int(row["train_step"])) for row in rows(path)]


@pytest.fixture
def warned(monkeypatch, caplog):
    """The log's warnings so far."""
    monkeypatch.setattr(logging.getLogger("qdeq"), "propagate", True)
    caplog.set_level(logging.WARNING, "qdeq")
    return lambda: caplog.messages


# metrics.csv


def test_columns_have_the_names_of_the_released_code_and_ours():
    assert set(RELEASED_METRICS + ISSUE_METRICS) <= set(COLUMNS)
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_csv_holds_each_value_under_its_name_at_once(tmp_path):
    log = CsvLog(tmp_path / "m.csv", COLUMNS)
    assert (tmp_path / "m.csv").read_text().strip() == ",".join(COLUMNS)
    log.log("train", 10, {"train_loss": 0.1 + 0.2, "mode": 1})
    first = rows(tmp_path / "m.csv")  # the log is still open
    log.log("val", 20, {"val_loss": float("nan"), "val_acc": 0.5})
    log.close()
    assert rows(tmp_path / "m.csv")[:1] == first
    values = [{name: value for name, value in row.items() if value} for row in rows(tmp_path / "m.csv")]
    assert values == [
        {"event": "train", "train_step": "10", "train_loss": "0.30000000000000004", "mode": "1"},
        {"event": "val", "train_step": "20", "val_loss": "nan", "val_acc": "0.5"},
    ]


def test_csv_refuses_a_name_that_is_no_column(tmp_path):
    with pytest.raises(ValueError, match="train_los"):
        CsvLog(tmp_path / "m.csv", COLUMNS).log("train", 1, {"train_los": 1.0})


def test_csv_of_a_resumed_run_is_rewound_to_its_checkpoint(tmp_path):
    log = CsvLog(tmp_path / "m.csv", COLUMNS)
    for event, step in [("train", 10), ("val", 10), ("train", 20), ("val", 20), ("test", 20), ("train", 30)]:
        log.log(event, step, {"epoch": step / 10})
    log.close()
    log = CsvLog(tmp_path / "m.csv", COLUMNS, resume_step=20)
    log.log("train", 30, {"epoch": 33.0})
    log.close()
    kept = [("train", 10), ("val", 10), ("train", 20), ("val", 20)]
    assert steps(tmp_path / "m.csv") == [*kept, ("train", 30)]
    assert [float(row["epoch"]) for row in rows(tmp_path / "m.csv")] == [1, 1, 2, 2, 33]
    CsvLog(tmp_path / "m.csv", COLUMNS).close()
    assert steps(tmp_path / "m.csv") == []  # a new run starts anew


def test_csv_line_cut_anywhere_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "m.csv"
    log = CsvLog(path, COLUMNS)
    log.log("train", 10, {"train_loss": 1.25})
    before = path.read_bytes()
    log.log("val", 123, {"epoch": 12.5, "val_loss": 2.25, "val_spectral_radius": 0.75})
    log.close()
    whole, expected = path.read_bytes(), rows(path)
    for cut in range(len(before), len(whole) + 1):
        path.write_bytes(whole[:cut])
        resumed = CsvLog(path, COLUMNS, resume_step=200)
        resumed.log("train", 130, {})
        resumed.close()
        is_whole = cut >= len(whole) - len("\r\n")
        assert rows(path)[:-1] == (expected if is_whole else expected[:1])
        assert steps(path)[-1] == ("train", 130)


def test_csv_resumed_without_a_file_starts_one(tmp_path):
    CsvLog(tmp_path / "m.csv", COLUMNS, resume_step=5).close()
    assert (tmp_path / "m.csv").read_text().strip() == ",".join(COLUMNS)


def picture() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    return figure


# TensorBoard


def test_tensorboard_holds_each_value_and_is_rewound(tmp_path):
    tracker = Tracker(tmp_path, Settings(), COLUMNS)
    for step in (10, 20, 30):
        tracker.log("val", step, {"val_loss": step / 4, "mode": 1})
    tracker.close()
    tracker = Tracker(tmp_path, Settings(), COLUMNS, resume_step=20)
    tracker.log("val", 30, {"val_loss": 99.0, "mode": 0})
    tracker.finish(30, {"test_acc": 0.5}, {"circuit": picture()})
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


# wandb, really, offline: one run, stopped and continued

SETTINGS = Settings(
    dataset="fashion_mnist", num_classes=4, lr=0.125, name="read_me_back",
    wandb="offline", wandb_project="tests", tensorboard=False,
)  # fmt: skip
EVENTS = [
    (event, step, {f"{event}_loss": step / 7, f"{event}_res": 1 / step, "mode": step % 2, "epoch": step / 3})
    for step in range(1, 301)
    for event in [("train", "val")[step % 2]]
]
RESULTS = {"test_acc": 0.75, "dataset": "fashion_mnist", "settings": {"lr": 0.125}, "torchquantum": None,
           "confusion_matrix": [[1, 2], [3, 4]]}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """wandb keeps its own files out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A run folder with an offline run in two parts, the ids of the parts, and the calls of wandb.init."""
    path = tmp_path_factory.mktemp("runs") / "read_me_back"
    path.mkdir()
    calls, real_init = [], wandb.init
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb, "init", lambda **options: calls.append(options) or real_init(**options))
        first = Tracker(path, SETTINGS, COLUMNS)
        ids = [first.wandb_id]
        for event in EVENTS[:250]:
            first.log(*event)
        first.close(failed=True)
        second = Tracker(path, SETTINGS, COLUMNS, resume_step=250, wandb_id=ids[0])
        ids.append(second.wandb_id)
        for event in EVENTS[250:]:
            second.log(*event)
        second.finish(300, RESULTS, {"circuit": picture()})
        second.close()
    return path, ids, calls


def test_wandb_config_is_the_settings_and_tags_are_the_released_ones(offline):
    config, _, _, tags = read_offline_run(offline[0])
    assert Settings.from_dict(config) == SETTINGS
    assert tags == ["fashion_mnist", "4C"]


def test_wandb_history_holds_each_value_under_its_name(offline):
    _, history, _, _ = read_offline_run(offline[0])
    assert history[:-1] == [{"train_step": step, **metrics} for _, step, metrics in EVENTS]
    assert set(history[-1]) == {"train_step", "circuit"} and history[-1]["train_step"] == 300
    picture = history[-1]["circuit"]
    assert picture["_type"] == "image-file"
    (part,) = offline[0].glob("wandb/offline-run-*/files/media/images/*.png")
    assert part.name in picture["path"]


def test_wandb_summary_holds_the_results(offline):
    _, _, summary, _ = read_offline_run(offline[0])
    assert RESULTS.items() <= summary.items()
    assert summary["val_loss"] == EVENTS[-2][2]["val_loss"]


def test_wandb_is_initialised_once_and_goes_on_under_its_id(offline):
    path, ids, calls = offline
    assert len(calls) == 2  # one for each part
    assert ids[0] == ids[1] is not None
    parts = sorted(path.glob("wandb/offline-run-*/run-*.wandb"))
    assert [part.name for part in parts] == [f"run-{ids[0]}.wandb"] * 2
    assert all((call["project"], call["name"]) == ("tests", "read_me_back") for call in calls)
    assert [len(read_offline_run(part.parent)[1]) for part in parts] == [250, 51]


def test_wandb_files_of_several_blocks_and_cut_ones_are_read(offline):
    data = min(offline[0].glob("wandb/offline-run-*/run-*.wandb")).read_bytes()
    assert len(data) > 2 * 32768
    whole = list(records(data))
    assert list(records(data[:-1])) == whole[:-1] and whole[-1][1] == len(data)
    damage = bytearray(data)
    damage[40000] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        list(records(bytes(damage)))
    with pytest.raises(FileNotFoundError):
        read_offline_run(offline[0] / "home")


def test_csv_holds_the_same_run(offline):
    assert steps(offline[0] / "metrics.csv") == [(event, step) for event, step, _ in EVENTS]


# the end of a run, and any kill before it


@pytest.mark.parametrize("tensorboard", [True, False])
@pytest.mark.parametrize("mode", ["disabled", "offline"])
@pytest.mark.parametrize("backend", [None, "module://matplotlib_inline.backend_inline"])
def test_pictures_and_summary_arrive_whichever_trackers_are_on(tmp_path, monkeypatch, warned, tensorboard, mode, backend):
    # as in a run's own process, which has no reason to import pyplot, and may be started from a notebook
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)
    if backend:
        monkeypatch.setenv("MPLBACKEND", backend)
    tracker = Tracker(tmp_path, replace(SETTINGS, wandb=mode, tensorboard=tensorboard), COLUMNS)
    tracker.log("test", 3, {"test_loss": 0.5})
    tracker.finish(3, RESULTS, {"circuit": picture(), "curves": picture()})
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


def rows_of(events: list[tuple]) -> list[dict]:
    return [{"train_step": step, **metrics} for _, step, metrics in events]


@pytest.mark.parametrize("cut", [0, 7, 20_000, 32_768, 50_001, None])
def test_offline_run_cut_by_a_kill_is_whole_after_a_restart(tmp_path, cut):
    first = Tracker(tmp_path, SETTINGS, COLUMNS)
    for event in EVENTS[:120]:
        first.log(*event)
    first.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    file.write_bytes(data[:cut])
    time.sleep(1)  # the parts' names tell seconds
    # the checkpoint is of step 100: those after it are taken again
    second = Tracker(tmp_path, SETTINGS, COLUMNS, resume_step=100, wandb_id=first.wandb_id)
    for event in EVENTS[100:130]:
        second.log(*event)
    second.close()
    _, history, summary, _ = read_offline_run(tmp_path)
    assert history == rows_of(EVENTS[:130])
    assert summary["train_step"] == 130
    for part in tmp_path.glob("wandb/offline-run-*/run-*.wandb"):
        assert list(records(part.read_bytes()))[-1][1] == part.stat().st_size  # which `wandb sync` asks for


def test_offline_run_killed_before_its_first_checkpoint_stays_one_run(tmp_path):
    for n in (5, 9):
        tracker = Tracker(tmp_path, SETTINGS, COLUMNS)
        for event in EVENTS[:n]:
            tracker.log(*event)
        tracker.close()
        time.sleep(1)
    assert len({path.name for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}) == 1
    assert read_offline_run(tmp_path)[1] == rows_of(EVENTS[:9])


def test_run_of_an_older_version_is_not_logged_twice():
    # its history had our steps for wandb's, and one row for training and validation
    assert wandb_log._last_place(60, 60) == wandb_log.place("val", 60) < wandb_log.place("test", 60)
    for event in wandb_log.EVENTS:
        for step in (0, 1, 60):
            assert wandb_log._last_place(wandb_log.place(event, step), step) == wandb_log.place(event, step)
    assert wandb_log._last_place(-1) == -1


@pytest.fixture
def server(monkeypatch):
    server = WandbServer()
    wandb.teardown()  # it reads the environment once
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    yield server
    server.answer_again()
    wandb.teardown()
    server.close()


ONLINE = replace(SETTINGS, wandb="online")


def test_online_run_stopped_anywhere_is_whole_after_a_restart(tmp_path, server, monkeypatch, warned):
    # stopped in its last step: the server has that step's training and validation, the test is to come
    events = [(event, step, {f"{event}_loss": step / 7}) for step in (10, 20, 60) for event in ("train", "val")]
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    for event in events:
        tracker.log(*event)
    tracker.close(failed=True)
    run = tracker.wandb_id
    assert len(server.rows[run]) == 6
    del server.rows[run][4:]  # a kill took the last two
    server.summary[run] = {key: value for key, value in server.rows[run][-1].items()}
    monkeypatch.setattr(logging.getLogger("qdeq"), "level", logging.INFO)
    tracker = Tracker(tmp_path, ONLINE, COLUMNS, resume_step=60, wandb_id=run)
    tracker.log("test", 60, {"test_loss": 0.25})
    tracker.finish(60, RESULTS, {"circuit": picture()})
    tracker.close()
    shown = [{name: value for name, value in row.items() if name[0] != "_"} for row in server.rows[run]]
    assert shown[:-1] == rows_of([*events, ("test", 60, {"test_loss": 0.25})])
    assert shown[-1]["train_step"] == 60 and shown[-1]["circuit"]["_type"] == "image-file"
    steps = [row["_step"] for row in server.rows[run]]
    assert steps == sorted(set(steps))
    summary = server.summary[run]
    assert {name: summary.get(name) for name in RESULTS} == RESULTS and summary["test_loss"] == 0.25
    assert not [message for message in warned() if "wandb" in message]


def test_online_run_says_where_it_is(tmp_path, server, monkeypatch):
    said = []
    monkeypatch.setattr(logging.getLogger("qdeq"), "info", lambda text, *values: said.append(text % values))
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    tracker.log("train", 1, {"train_loss": 1.0})
    tracker.close()
    assert said == [f"wandb: {server.url}/me/p/runs/{tracker.wandb_id}"]


@pytest.mark.slow
def test_a_server_that_falls_silent_is_waited_for_no_longer_than_said(tmp_path, server, monkeypatch, warned):
    monkeypatch.setattr(wandb_log, "UPLOAD_SECONDS", 2.0)
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    tracker.log("train", 1, {"train_loss": 1.0})
    server.fall_silent()
    tracker.log("val", 1, {"val_loss": 1.0})
    began = time.monotonic()
    tracker.finish(1, RESULTS, {"circuit": picture()})
    assert time.monotonic() - began < 1
    tracker.close()
    assert time.monotonic() - began < 5
    (warning,) = warned()
    (folder,) = tmp_path.glob("wandb/run-*")
    assert f"wandb sync --include-online {folder}" in warning


def test_ctrl_c_while_the_upload_is_waited_for_ends_the_wait(tmp_path, server, monkeypatch, warned):
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    with monkeypatch.context() as patch:
        patch.setattr(type(wandb.run), "finish", lambda *_, **__: ctrl_c())
        tracker.close()
    (warning,) = warned()
    assert "wandb sync --include-online" in warning
    wandb.run.finish()


QUICK = ("--max_step", 2, "--batch_size", 64, "--device", "cpu", "--tensorboard", "False")
COMMANDS = {
    "train_qdeq": (train_here, ("--dataset", "digits", "--num_classes", 2, "--n_wires", 4, *QUICK), "test accuracy"),
    "train_qep": (
        lambda *flags: train_qep.train(parse_qep(list(map(str, flags)))), ("--task", "xor", *QUICK), "test cost"
    ),
}  # fmt: skip


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
