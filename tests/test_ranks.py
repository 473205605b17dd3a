"""Several processes share a run: the same steps as one, to round-off, whoever is killed or stopped in between."""

import csv
import math
import os
from pathlib import Path

import pytest
import torch

from conftest import assert_same, train_here
from launched import free_port, launch
from runs import checkpoint

DIGITS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--device", "cpu", "--tensorboard", "False")
# 457 training images: the last batch of an epoch is a small one, and chunks have odd sizes
WAYS = {
    "implicit": ("--batch_size", 50, "--max_step", 12, "--batch_chunk", 3, "--jac_loss_weight", 0.8, "--jac_loss_freq",
                 0.7, "--dropout", 0.3, "--spectral_radius_mode"),
    "newton": ("--batch_size", 61, "--max_step", 9, "--f_solver", "newton", "--b_solver", "exact", "--clip", 0),
    "angle": ("--amplitude_encoder", "False", "--batch_size", 31, "--max_step", 3, "--jac_loss_weight", 0.8,
              "--jac_loss_freq", 1, "--spectral_radius_mode"),
    "direct": ("--mode", "direct", "--n_layer", 2, "--batch_size", 64, "--max_step", 9, "--scheduler", "dev_perf"),
    "warm-up": ("--n_layer", 1, "--pretrain_steps", 4, "--batch_size", 64, "--max_step", 9),
    "few rows": ("--batch_size", 3, "--max_step", 6, "--batch_chunk", 2, "--jac_loss_weight", 0.8, "--jac_loss_freq", 1,
                 "--max_eval_steps", 1, "--optim", "SGD"),
    "classical": ("--model", "classical", "--batch_size", 2, "--max_step", 4, "--weight_decay", 0.01),
}  # fmt: skip
TOLERANCE = 1e-5  # of losses and parameters after so few steps
TIMES = {"seconds_per_step", "peak_memory_mb"}


def begin(name: str, work_dir: Path) -> tuple:
    return (*DIGITS, *WAYS[name], "--eval-interval", 4, "--log-interval", 2, "--name", name, "--work_dir", work_dir)


def train_all(ways: list[str], work_dir: Path, ports: list[int] = ()) -> None:
    """One run after the other in this process, each with a port of its own where there are several ranks."""
    for way, port in zip(ways, ports or ways):
        os.environ["MASTER_PORT"] = str(port)
        train_here(*begin(way, work_dir))


def events_of(run: Path) -> list[dict[str, float | str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v if k == "event" else float(v) for k, v in row.items() if v and k not in TIMES}
                for row in csv.DictReader(file)]  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """Every way, in one process."""
    work_dir = tmp_path_factory.mktemp("alone")
    train_all(list(WAYS), work_dir)
    return work_dir


@pytest.mark.slow
@pytest.mark.parametrize("size, ways", [(2, list(WAYS)), (4, ["implicit", "few rows"])])
def test_several_ranks_take_the_steps_of_one(size, ways, alone, tmp_path):
    assert launch(size, train_all, ways, tmp_path, [free_port() for _ in ways], output=tmp_path) == [0] * size
    for way in ways:
        expected, found = events_of(alone / way), events_of(tmp_path / way)
        assert len(expected) > 3
        for before, after in zip(expected, found, strict=True):
            assert before.keys() == after.keys()
            for name, value in before.items():
                # single entries near zero dominate the paper's residual
                close = name == "event" or "_res" in name or math.isclose(value, after[name], rel_tol=1e-3)
                assert close if not name.endswith("loss") else math.isclose(value, after[name], rel_tol=TOLERANCE), (way, name)
        states = [checkpoint.load(folder / way / "checkpoint_last.pt") for folder in (alone, tmp_path)]
        torch.testing.assert_close(states[1]["model"], states[0]["model"], rtol=TOLERANCE, atol=TOLERANCE)
        assert [s["step"] for s in states] == [WAYS[way][WAYS[way].index("--max_step") + 1]] * 2
        assert_same(states[1]["meter"]["counts"], states[0]["meter"]["counts"])
    assert (tmp_path / "rank1.txt").read_text() == ""
    assert "test accuracy" in (tmp_path / "rank0.txt").read_text()
