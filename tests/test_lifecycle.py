"""A run of any kind from its folder to its results: what is logged, left alone, closed, and how it stops."""

import signal
from pathlib import Path

import pytest
import torch

from conftest import ctrl_c
from runs.folder import RunFolder
from runs.lifecycle import carry_out
from runs.log import log, start_log
from runs.signals import Stopped, StopRequest
from training.settings import Settings


class Counting:
    """A run of three steps; `asked` is the signal that comes in its second one."""

    def __init__(self, path: Path, asked: signal.Signals | None = None):
        self.folder, self.device, self.asked = RunFolder(path, Settings(), None), torch.device("cpu"), asked
        self.step, self.max_step, self.closed = 0, 3, []
        self.tracker = self

    def start_tracking(self) -> None:
        assert (self.folder.path / "config.json").exists()

    def close(self, failed: bool) -> None:
        self.closed.append(failed)

    def run(self, stop: StopRequest) -> None:
        while self.step < self.max_step:
            self.step += 1
            if self.asked and self.step == 2:
                signal.raise_signal(self.asked)
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


def test_a_run_is_logged_trained_and_measured(tmp_path, screen):
    run = Counting(tmp_path / "x")
    assert carry_out(run, lambda run: {"steps": run.step}, ["--lr is large"]) == {"steps": 3}
    assert run.closed == [False]
    lines = screen().splitlines()
    assert lines == ["warning: --lr is large", f"run folder {tmp_path / 'x'} on cpu, 3 steps"]
    logged = (tmp_path / "x" / "log.txt").read_text().splitlines()
    assert [line.split(maxsplit=3)[3] for line in logged] == lines


def test_a_finished_run_is_left_alone(tmp_path, screen):
    run = Counting(tmp_path)
    run.step = 3
    run.folder.results_path.write_text("{}")
    start_log(None)
    assert carry_out(run, lambda run: pytest.fail("measured again"), []) is None
    assert run.closed == [] and [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert "has finished its 3 steps" in screen()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on(tmp_path, screen, number):
    run = Counting(tmp_path / "x", number)
    with pytest.raises(SystemExit) as end:
        carry_out(run, lambda run: pytest.fail("measured"), [])
    assert end.value.code == 128 + number and run.closed == [True]
    assert f"stopped after step 2; continue with --restart --restart_dir {tmp_path / 'x'}" in screen()


def test_ctrl_c_while_a_run_is_measured_says_how_to_go_on(tmp_path, screen):
    run = Counting(tmp_path / "x")
    with pytest.raises(SystemExit) as end:
        carry_out(run, ctrl_c, [])
    assert end.value.code == 130 and run.closed == [True]
    assert f"stopped after step 3; continue with --restart --restart_dir {tmp_path / 'x'}" in screen()


def test_a_run_that_has_ended_is_free_for_others(tmp_path):
    for _ in range(2):
        run = Counting(tmp_path / "x")
        run.folder.settings.restart = True  # the second goes on in the folder of the first
        carry_out(run, lambda run: {}, [])
        assert run.folder.path == tmp_path / "x"


def test_the_log_of_a_run_that_is_not_kept_names_no_folder(tmp_path, screen):
    with pytest.raises(SystemExit):
        carry_out(Counting(tmp_path / "x", signal.SIGINT), lambda run: pytest.fail("measured"), [], kept=False)
    output = screen()
    assert "3 steps" in output and "stopped after step 2" in output and str(tmp_path) not in output


def test_a_run_that_fails_is_closed_as_failed(tmp_path):
    run = Counting(tmp_path / "x")
    with pytest.raises(OSError, match="disk"):
        carry_out(run, lambda run: (_ for _ in ()).throw(OSError("the disk is full")), [])
    assert run.closed == [True]
