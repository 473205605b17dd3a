"""A run of any kind from its folder to its results: what is logged, left alone, closed, and how it stops."""

import signal
from pathlib import Path

import pytest
import torch

from conftest import ctrl_c
from runs.checkpoint import CheckpointError
from runs.folder import RunFolder
from runs.lifecycle import TrainingError, is_finished, one_line_errors, open_run
from runs.log import log, start_log
from runs.settings import SettingsError
from runs.signals import Stopped, StopRequest
from runs.state import TrainingState
from runs.tracking import Tracker
from training.settings import Settings

COLUMNS = ("event", "train_step", "epoch")


def begin(path: Path, restart: bool = False) -> TrainingState:
    """A run of three steps at its first one; nothing is written."""
    folder = RunFolder(path, Settings(max_step=3, tensorboard=False, restart=restart), None)
    model = torch.nn.Linear(2, 1)
    return TrainingState(folder, model, torch.optim.SGD(model.parameters()), torch.device("cpu"), n_samples=10)


def train(state: TrainingState, asked: signal.Signals | None = None) -> None:
    """Take all steps; `asked` is the signal that comes in the second one."""
    with StopRequest() as stop:
        while state.step < state.max_step:
            state.step += 1
            if asked and state.step == 2:
                signal.raise_signal(asked)
            if stop.signal is not None:
                raise Stopped(stop.signal)


@pytest.fixture(autouse=True)
def screen(capsys):
    """What the log has shown so far; no log is left after the test."""
    yield lambda: capsys.readouterr().out
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = True


@pytest.fixture
def closed(monkeypatch) -> list[bool]:
    """How trackers were closed so far: whether as failed."""
    calls, close = [], Tracker.close
    monkeypatch.setattr(Tracker, "close", lambda self, failed: calls.append(failed) or close(self, failed))
    return calls


def test_a_run_is_logged_and_tracked(tmp_path, screen, closed):
    state = begin(tmp_path / "x")
    with open_run(state, COLUMNS, ["--lr is large"]):
        assert (tmp_path / "x" / "config.json").exists()
        train(state)
        state.log("val", {})
    assert closed == [False]
    lines = screen().splitlines()
    assert lines == ["warning: --lr is large", f"run folder {tmp_path / 'x'} on cpu, 3 steps"]
    logged = (tmp_path / "x" / "log.txt").read_text().splitlines()
    assert [line.split(maxsplit=3)[3] for line in logged] == lines
    assert (tmp_path / "x" / "metrics.csv").read_text().splitlines() == ["event,train_step,epoch", "val,3,3.0"]


def test_a_finished_run_is_left_alone(tmp_path, screen):
    state = begin(tmp_path)
    start_log(None)
    state.folder.results_path.write_text('{"steps": 3}')
    assert not is_finished(state) and screen() == ""  # of a run that is being extended
    state.step = 3
    assert is_finished(state) and "has finished its 3 steps" in screen()
    state.folder.results_path.unlink()
    assert not is_finished(state)  # stopped while it was measured
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_stopped_run_says_how_to_resume_it(tmp_path, screen, closed, number):
    state = begin(tmp_path / "x")
    with pytest.raises(SystemExit) as end, open_run(state, COLUMNS, []):
        train(state, number)
    assert end.value.code == 128 + number and closed == [True]
    assert f"stopped after step 2; continue with --restart --restart_dir {tmp_path / 'x'}" in screen()


def test_ctrl_c_while_a_run_is_measured_says_how_to_resume_it(tmp_path, screen, closed):
    state = begin(tmp_path / "x")
    with pytest.raises(SystemExit) as end, open_run(state, COLUMNS, []):
        train(state)
        ctrl_c()
    assert end.value.code == 130 and closed == [True]
    assert f"stopped after step 3; continue with --restart --restart_dir {tmp_path / 'x'}" in screen()


def test_an_open_run_is_locked_and_free_for_others_when_it_has_ended(tmp_path):
    for restart in (False, True):  # the second resumes in the folder of the first
        state = begin(tmp_path / "x", restart)
        with open_run(state, COLUMNS, []):
            other = begin(tmp_path / "x", restart=True)
            with pytest.raises(SettingsError, match="another process"), open_run(other, COLUMNS, []):
                pytest.fail("two processes in one run")
        assert state.folder.path == tmp_path / "x"


def test_the_log_of_a_run_that_is_not_kept_names_no_folder(tmp_path, screen):
    state = begin(tmp_path / "x")
    with pytest.raises(SystemExit), open_run(state, COLUMNS, [], kept=False):
        train(state, signal.SIGINT)
    output = screen()
    assert "3 steps" in output and "stopped after step 2" in output and str(tmp_path) not in output


def test_a_run_that_fails_is_closed_as_failed(tmp_path, closed):
    for error, named in ((OSError("the disk is full"), f"into {tmp_path / 'x'}"),
                         (OSError(28, "No space left on device", "curves.png"), "curves.png")):  # fmt: skip
        with pytest.raises(TrainingError, match=f"cannot write {named} .*--restart_dir {tmp_path / 'x'}"):
            with open_run(begin(tmp_path / "x", restart=True), COLUMNS, []):
                raise error
    assert closed == [True, True]


@pytest.mark.parametrize("kind", [SettingsError, TrainingError, CheckpointError, OSError, KeyError])
def test_an_error_that_the_user_can_mend_is_one_line(capsys, kind):
    with pytest.raises(SystemExit) as end, one_line_errors(KeyError):
        raise kind("--lr is odd")
    assert end.value.code == 1
    assert capsys.readouterr().err in ("error: --lr is odd\n", "error: '--lr is odd'\n")


def test_any_other_error_keeps_its_traceback(tmp_path):
    with pytest.raises(ZeroDivisionError), one_line_errors(), open_run(begin(tmp_path / "x"), COLUMNS, []):
        raise ZeroDivisionError


def test_ctrl_c_before_the_training_is_told_so(screen):
    with pytest.raises(SystemExit) as end, one_line_errors():
        ctrl_c()
    assert end.value.code == 130 and screen() == "stopped before training\n"
