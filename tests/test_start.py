"""How commands end that are interrupted early, that nobody reads, or that find no memory: one line or none, no traceback."""

import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import torch

import benchmark
import evaluate_qdeq
import reproduce
import train_qdeq
import train_qep
from benchmarks.measurements import MEASUREMENTS
from conftest import SCRIPTS, user_environment
from qep.settings import parse_command_line as parse_qep
from runs import machine
from runs.signals import StopRequest
from training.command_line import parse_command_line as parse_qdeq

# the module during whose import Ctrl-C comes, and flags of the command
IMPORTS = {
    "train_qdeq": ("torch", "--dataset digits"),
    "train_qep": ("torch", "--task xor"),
    "evaluate_qdeq": ("torch", "nowhere"),
    "reproduce": ("reproduction.checks", "overview"),
    "benchmark": ("benchmarks.command_line", "solve"),
}
INTERRUPTED = """
import runpy, signal, sys
class CtrlC:
    def find_spec(self, name, *_):
        if name == {module!r}:
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException as error:
                raise ImportError("a library that catches everything") from error
sys.meta_path.insert(0, CtrlC())
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
sys.argv = [{program!r}, *{flags!r}]
runpy.run_path({program!r}, run_name="__main__")
"""
SHOWN = """
import sys
from pathlib import Path
from utils.start import start_command
start_command()
from tqdm import tqdm
from runs.log import log, progress_bar, start_log
start_log(Path(sys.argv[1]) / "log.txt")
with progress_bar(0, 300):
    for step in range(300):
        log.info("step %d of %s, \\u00b1 1", step, sys.argv[1])
print("the end", flush=True)
(Path(sys.argv[1]) / "done").touch()
"""


@pytest.mark.parametrize("program", IMPORTS)
def test_ctrl_c_during_imports_is_one_line(program):
    module, flags = IMPORTS[program]
    code = INTERRUPTED.format(module=module, program=f"{program}.py", flags=flags.split())
    process = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, env=user_environment(), capture_output=True,
                             text=True, timeout=60)  # fmt: skip
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("redirection", ["| head -1", "| true", "2>&-", ">&-", "<&- >&- 2>&-", "2> /dev/full"])
@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_run_that_nobody_reads_goes_on(redirection, locale, tmp_path):
    folder = tmp_path / "\u00fc"
    folder.mkdir()
    script = f'set -o pipefail; "$PYTHON" -c "$CODE" "$FOLDER" {redirection}'
    environment = user_environment(PYTHON=sys.executable, CODE=SHOWN, FOLDER=str(folder), **locale)
    process = subprocess.run(["bash", "-c", script], cwd=SCRIPTS, env=environment, capture_output=True, timeout=60)
    assert (process.returncode, process.stderr) == (0, b"") and (folder / "done").exists()
    assert f"step 299 of {folder}, \u00b1 1" in (folder / "log.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["| head -1", ">&- 2>&-"])
def test_training_that_nobody_reads_ends_with_its_results(redirection, tmp_path):
    flags = "--dataset digits --num_classes 2 --n_wires 4 --max_step 2 --tensorboard False --device cpu --name \u00fc"
    script = f'set -o pipefail; "$PYTHON" train_qdeq.py {flags} --work_dir "$FOLDER" {redirection}'
    environment = user_environment(PYTHON=sys.executable, FOLDER=str(tmp_path), LC_ALL="C", PYTHONUTF8="0")
    process = subprocess.run(["bash", "-c", script], cwd=SCRIPTS, env=environment, capture_output=True, timeout=120)
    assert (process.returncode, process.stderr) == (0, b"")
    assert json.loads((tmp_path / "\u00fc" / "results.json").read_text())["steps"] == 2


# signals


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_closing_terminal_and_slurm_ask_a_run_to_stop_however_often(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        for _ in range(3):
            signal.raise_signal(number)
        assert stop.signal == number
    assert signal.getsignal(number) is before


def test_a_run_under_nohup_outlives_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


# memory

LACKS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                 "to allocate 137438953472 bytes.\nError code 12 (Cannot allocate memory)"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    OSError(12, "Cannot allocate memory"),
]  # fmt: skip


@pytest.mark.parametrize("error", LACKS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("program", IMPORTS)
def test_lack_of_memory_is_one_line_that_names_the_flags_to_lower(program, error, monkeypatch, capsys):
    def lacks(*_, **__):
        raise error

    monkeypatch.setattr(train_qdeq, "find_run", lacks)
    monkeypatch.setattr(train_qep, "find_run", lacks)
    monkeypatch.setattr(evaluate_qdeq, "measure", lacks)
    monkeypatch.setitem(reproduce.COMMANDS, "qep", lacks)
    monkeypatch.setitem(MEASUREMENTS, "solve", lacks)
    commands = {
        "train_qdeq": (lambda: train_qdeq.train(parse_qdeq([])), "--batch_size"),
        "train_qep": (lambda: train_qep.train(parse_qep([])), "--n_spins"),
        "evaluate_qdeq": (lambda: evaluate_qdeq.main(evaluate_qdeq.parse_command_line(["x"])), "--max_images"),
        "reproduce": (lambda: reproduce.main(["qep", "error", "--json", "x"]), "--n_spins"),
        "benchmark": (lambda: benchmark.main(["solve", "--device", "cpu"]), "--batch_size"),
    }
    command, flag = commands[program]
    with pytest.raises(SystemExit) as end:
        command()
    shown = capsys.readouterr().err
    assert end.value.code == 1 and shown.startswith("error: out of memory: ") and shown.count("\n") == 1
    assert flag in shown
    for handler in list(logging.getLogger("qdeq").handlers):
        logging.getLogger("qdeq").removeHandler(handler)


# the commit


def test_source_inside_another_repository_has_no_commit_of_its_own(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e")
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    git("init")
    inside = tmp_path / "qdeq"
    inside.mkdir()
    (inside / "file").touch()
    git("add", ".")
    git("commit", "-m", "foreign")
    monkeypatch.setattr(machine, "REPOSITORY", tmp_path)
    assert len(machine.environment(torch.device("cpu"))["git_commit"]) == 12
    monkeypatch.setattr(machine, "REPOSITORY", inside)
    assert machine.environment(torch.device("cpu"))["git_commit"] is None
    monkeypatch.setenv("GIT_DIR", os.fspath(tmp_path / ".git"))  # as in a git hook of the other
    assert machine.environment(torch.device("cpu"))["git_commit"] is None
