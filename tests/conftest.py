"""What tests share: running the scripts as a user does, comparing bit for bit, small data sets in the cached format."""

import logging
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import figures
import figures.qep_pictures
import train_qdeq
import train_qep
from qep.settings import parse_command_line as parse_qep
from training.command_line import parse_command_line

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = REPOSITORY / "DEQ-Quantum"

torch.set_num_threads(1)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as in a terminal: under nohup programs ignore it, and these tests are of what they do


def user_environment(**changes: str) -> dict:
    """The environment of a user: no data folder or dashboards set, one thread."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "QDEQ"))}
    return environment | {"OMP_NUM_THREADS": "1", "QDEQ_PYTHON": sys.executable} | changes


@pytest.fixture
def run_script():
    """Run `python DEQ-Quantum/NAME flags...` and give back the finished process."""

    def run(name: str, *flags: object, check: bool = True, cwd: Path = REPOSITORY, **environment: str):
        process = subprocess.run(
            [sys.executable, str(SCRIPTS / name), *map(str, flags)],
            cwd=cwd, env=user_environment(**environment), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if check:
            assert process.returncode == 0, process.stdout + process.stderr
        return process

    return run


@contextmanager
def no_pictures():
    """Runs that end in here are not drawn: that takes a second or two, and most tests do not look."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (figures, figures.qep_pictures):
            patch.setattr(module, "draw_run", lambda *_: {})
        yield


def train_here(*flags: object, pictures: bool = False) -> None:
    """The training command in this process, without seconds of imports; its run's pictures only where asked for."""
    with nullcontext() if pictures else no_pictures():
        train_qdeq.train(parse_command_line(list(map(str, flags))))


def train_qep_here(*flags: object, pictures: bool = False) -> None:
    """The same for train_qep.py."""
    with nullcontext() if pictures else no_pictures():
        train_qep.train(parse_qep(list(map(str, flags))))


def ctrl_c(*_) -> None:
    """What Ctrl-C does, also where the tests run in the background and the signal itself is ignored."""
    raise KeyboardInterrupt


def assert_same(a, b) -> None:
    """Equal in structure, type and every bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert a == b


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A data_dir with tiny mnist, fashion_mnist and cifar10: noise around one pattern per class."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, side in (("mnist", 28), ("fashion_mnist", 28), ("cifar10", 32)):
        patterns = rng.uniform(0, 200, (10, side, side))
        arrays = {}
        for split, count in (("train", 200), ("test", 60)):
            labels = np.arange(count) % 10
            noise = rng.uniform(0, 55, (count, side, side))
            arrays[f"{split}_images"] = (patterns[labels] + noise).astype(np.uint8)
            arrays[f"{split}_labels"] = labels.astype(np.uint8)
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


@pytest.fixture
def warned(monkeypatch, caplog):
    """The log's warnings so far."""
    monkeypatch.setattr(logging.getLogger("qdeq"), "propagate", True)
    caplog.set_level(logging.WARNING, "qdeq")
    return lambda: caplog.messages


@pytest.fixture(scope="module")
def wandb_home(tmp_path_factory):
    """wandb keeps its own files out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("home")))
        yield
