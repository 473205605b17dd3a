"""Several processes share a run: the same steps as one, to round-off, whoever is killed or stopped in between."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import evaluate_qdeq
from benchmarks.ranks import SharedStep
from benchmarks.step import Problem
from circuits.circuit import Circuit, build_circuit
from circuits.readout import PauliReadout
from conftest import SCRIPTS, assert_same, train_here, user_environment
from engines.compiled import CompiledEngine
from engines.protocol import UnsupportedCircuit
from engines.sharing import SharedObservables, SharedParts
from launched import free_port, launch
from models.table import build_model
from runs import checkpoint
from runs.ranks import ALONE, Ranks, RanksDiffer, joined_ranks
from runs.settings import SettingsError
from training.command_line import parse_command_line
from training.loop import Training
from utils import command_line
from utils import launch as launching

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
    "columns": ("--shard", "columns", "--batch_size", 50, "--max_step", 9, "--batch_chunk", 3, "--jac_loss_weight", 0.8,
                "--jac_loss_freq", 0.7, "--dropout", 0.3),
    "few columns": ("--shard", "columns", "--batch_size", 3, "--max_step", 3, "--optim", "SGD"),
    "from before": ("--z0", "previous", "--batch_size", 191, "--max_step", 9, "--batch_chunk", 2),
    "classical": ("--model", "classical", "--batch_size", 2, "--max_step", 4, "--weight_decay", 0.01),
}  # fmt: skip
TOLERANCE = 1e-5  # of losses after so few steps; parameters are held to ten times as much
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
@pytest.mark.parametrize("size, ways", [(2, list(WAYS)), (4, ["implicit", "few rows", "columns"])])
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
        # where a gradient is near zero Adam makes a share of a step of its round-off
        torch.testing.assert_close(states[1]["model"], states[0]["model"], rtol=TOLERANCE, atol=10 * TOLERANCE)
        assert [s["step"] for s in states] == [WAYS[way][WAYS[way].index("--max_step") + 1]] * 2
        assert_same(states[1]["meter"]["counts"], states[0]["meter"]["counts"])
        if way == "from before":
            assert states[0]["previous_r"].any(1).all()
            torch.testing.assert_close(states[1]["previous_r"], states[0]["previous_r"], rtol=1e-3, atol=1e-3)
    assert (tmp_path / "rank1.txt").read_text() == ""
    assert "test accuracy" in (tmp_path / "rank0.txt").read_text()


def evaluate_on_ranks(ports: list[int], evaluations: list[list[str]]) -> None:
    for port, flags in zip(ports, evaluations):
        os.environ["MASTER_PORT"] = str(port)
        evaluate_qdeq.main(evaluate_qdeq.parse_command_line(flags))


@pytest.mark.slow
def test_ranks_evaluate_as_one_process_does(alone, tmp_path):
    """The images are counted in the same order, a single one too."""
    evaluations = [[str(alone / "implicit"), "--split", "test", "--spectral_radius_mode"],
                   [str(alone / "implicit"), "--split", "val", "--max_images", "1"]]  # fmt: skip
    evaluate_on_ranks([0, 0], evaluations)
    files = sorted((alone / "implicit").glob("evaluation_*.json"))
    assert len(files) == 2
    expected = [json.loads(file.read_text()) for file in files]
    ports = [free_port() for _ in evaluations]
    assert launch(2, evaluate_on_ranks, ports, evaluations, output=tmp_path) == [0, 0]
    assert (tmp_path / "rank1.txt").read_text() == ""
    for file, before in zip(files, expected):
        after = json.loads(file.read_text())
        assert after["confusion_matrix"] == before["confusion_matrix"] and after["images"] == before["images"]
        for name in ("loss", "solver_steps", "spectral_radius")[: 2 + ("spectral_radius" in before)]:
            assert math.isclose(after[name], before[name], rel_tol=1e-4)


# stopped, killed, resumed


def train_until(step: int, number: int, victim: int, flags: tuple) -> None:
    """Train; on one rank a signal comes before the step after so many."""
    take_step = Training.train_step

    def interrupted(training: Training, x: torch.Tensor, y: torch.Tensor) -> None:
        if training.state.step == step and training.ranks.rank == victim:
            os.kill(os.getpid(), number)
        take_step(training, x, y)

    Training.train_step = interrupted
    train_here(*flags)


def last_of(run: Path) -> dict:
    last = checkpoint.load(run / "checkpoint_last.pt")
    return {name: last[name] for name in ("model", "optimizer", "learning_rate", "step", "best", "meter", "failed")}


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_after_the_same_step_and_the_run_resumes_bit_for_bit(tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    flags = begin("implicit", stopped)
    assert launch(2, train_here, *begin("implicit", whole), output=whole) == [0, 0]
    assert launch(2, train_until, 5, signal.SIGTERM, 1, flags, output=stopped) == [128 + signal.SIGTERM] * 2
    assert "stopped after step 6; continue with" in (stopped / "rank0.txt").read_text()
    assert (stopped / "rank1.txt").read_text() == ""
    assert last_of(stopped / "implicit")["step"] == 6
    assert launch(2, train_here, *flags, "--restart", output=stopped) == [0, 0]
    assert_same(last_of(stopped / "implicit"), last_of(whole / "implicit"))
    assert events_of(stopped / "implicit") == events_of(whole / "implicit")


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_which_continues_on_another_number_of_ranks(alone, tmp_path):
    flags, run = begin("implicit", tmp_path), tmp_path / "implicit"
    began = time.monotonic()
    assert launch(2, train_until, 6, signal.SIGKILL, 1, flags, output=tmp_path) == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 60
    said = (tmp_path / "rank0.txt").read_text()
    assert "error: another process of this run has ended" in said and "Traceback" not in said
    assert last_of(run)["step"] == 4
    short = [8 if flag == 12 else flag for flag in flags]
    train_here(*short, "--restart")
    assert last_of(run)["step"] == 8
    assert launch(4, train_here, *flags, "--restart", output=tmp_path) == [0] * 4
    expected, found = last_of(alone / "implicit"), last_of(run)
    torch.testing.assert_close(found["model"], expected["model"], rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.slow
def test_torchrun_trains_and_ends_all_where_one_is_killed(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    flags = map(str, (*DIGITS, "--batch_size", 64, "--epochs", 5000, "--name", "r", "--work_dir", tmp_path))
    command = [*torchrun, SCRIPTS / "train_qdeq.py", *flags]
    job = subprocess.Popen(command, env=user_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not (tmp_path / "r" / "checkpoint_last.pt").exists():
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.1)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        said, _ = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode != 0
    assert said.count("error: another process of this run has ended") == 1
    assert said.count("Traceback") == 1  # torchrun's own


# one line


def as_rank(rank: int, monkeypatch) -> list[float]:
    """Let this process be one of two; returns what it will have slept."""
    slept = []
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(launching.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_rank_tells_an_error_that_all_have(rank, monkeypatch, capsys):
    """The others wait before they tell it, and torchrun ends them meanwhile."""
    slept = as_rank(rank, monkeypatch)
    for fails in (lambda: command_line.fail("no disk"), lambda: parse_command_line(["--lr", "x"])):
        slept.clear()
        with pytest.raises(SystemExit):
            fails()
        assert slept == [launching.PATIENCE] * rank
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and ("process 1" in said) == (rank == 1 and "disk" in said)


@pytest.mark.parametrize("command", ["train_qep.py", "benchmark.py", "reproduce.py"])
def test_commands_of_one_process_refuse_torchrun(command, monkeypatch, capsys):
    command_line.refuse_torchrun(command)
    as_rank(0, monkeypatch)
    with pytest.raises(SystemExit) as end:
        command_line.refuse_torchrun(command)
    assert end.value.code == 1
    assert capsys.readouterr().err == f"error: {command} works in one process: start it without torchrun\n"
    assert f'refuse_torchrun("{command}")' in (SCRIPTS / command).read_text()


# what ranks send


def exchange() -> None:
    """On every rank: an error of one is everybody's, rows are shared out, and parameters that differ are refused."""
    with joined_ranks() as ranks:
        assert ranks.from_first(lambda: ranks.rank) == 0
        with pytest.raises(SettingsError, match="no disk"):
            ranks.from_first(lambda: _raise(SettingsError("no disk")))
        with pytest.raises(SettingsError, match="last"), ranks.together():
            if ranks.rank == ranks.size - 1:
                raise SettingsError("last")
        for n in (1, 2, 3, 10):
            counted, computed = torch.zeros(n), torch.zeros(1)
            share = ranks.share(n)
            counted[share.rows] += float(share.count > 0)
            computed += len(counted[share.rows])
            ranks.sum_in_place([counted, computed], [0.0])
            assert counted.eq(1).all() and computed == max(n, ranks.size)
        module = torch.nn.Linear(3, 2)
        for parameter in module.parameters():
            torch.nn.init.ones_(parameter)
        ranks.check_equal(module)
        if ranks.rank:
            module.weight.data[1, 2] += 1e-7
        with pytest.raises(RanksDiffer):
            ranks.check_equal(module)


def _raise(error: Exception) -> None:
    raise error


STRINGS = {"paper": None, "across the halves, out of order": ("IIIZZI", "ZIIIIZ", "IZIIII", "IIIIIZ")}


def share_columns() -> None:
    """On every rank: the shared circuit's readouts and gradient are those of the whole one."""
    with joined_ranks() as ranks:
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
            for strings in STRINGS.values():
                circuit = build_circuit(6)
                circuit = circuit if strings is None else replace(circuit, readout=PauliReadout(strings))
                _compare_with_whole(ranks, circuit, SharedObservables, dtype, tolerance)
            _compare_with_whole(ranks, build_circuit(14, n_random_operations=5), SharedParts, dtype, tolerance)


def _compare_with_whole(ranks: Ranks, circuit: Circuit, kind: type, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(3)
    theta, x, weights = (torch.randn(shape, dtype=dtype, generator=generator) for shape in (
        (circuit.n_parameters,), (7, circuit.n_inputs), (7, circuit.n_readouts)))  # fmt: skip
    theta.requires_grad_()
    whole, shared = CompiledEngine(circuit).to(dtype), CompiledEngine(circuit).to(dtype)
    shared.share_columns(ranks)
    assert isinstance(shared.states, kind)
    own = ranks.share(7).rows
    expected, found = whole.compile(theta).readouts(x), shared.compile(theta).readouts(x[own])
    torch.testing.assert_close(found, expected[own], rtol=tolerance, atol=tolerance)
    (gradient,) = torch.autograd.grad((weights * expected).sum(), theta)
    (part,) = torch.autograd.grad((weights[own] * found).sum(), theta)
    assert (part - gradient).norm() > 1e-3 * gradient.norm()
    ranks.sum_in_place([part], [0.0])
    torch.testing.assert_close(part, gradient, rtol=tolerance, atol=tolerance * float(gradient.norm()))
    if dtype == torch.float64:
        direction = torch.cos(torch.arange(len(theta), dtype=dtype))
        ends = [shared.compile(theta.detach() + step * direction).readouts(x[own]) for step in (1e-5, -1e-5)]
        slope = (weights[own] * (ends[0] - ends[1])).sum() / 2e-5
        ranks.sum_in_place([slope], [0.0])
        torch.testing.assert_close(slope, gradient @ direction, rtol=1e-7, atol=1e-9)


def step_of_the_benchmark() -> None:
    """On every rank: what `benchmark.py ranks` times is one step, however it is shared out."""
    with joined_ranks() as ranks:
        problem = Problem(4, 7, 1, torch.device("cpu"))
        gradients = []
        for own, shard in ((ALONE, "batch"), (ranks, "batch"), (ranks, "columns")):
            step = SharedStep(problem, own, 1, shard)
            step()
            gradients.append(torch.cat([p.grad.flatten() for p in step.model.parameters()]))
        for shared in gradients[1:]:
            torch.testing.assert_close(shared, gradients[0], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_what_ranks_send(size, tmp_path):
    for work in (exchange, share_columns, step_of_the_benchmark):
        assert launch(size, work, output=tmp_path) == [0] * size, (tmp_path / "rank0.txt").read_text()


@pytest.mark.parametrize("flags", [("--amplitude_encoder", "False"), ("--model", "linear"), ("--engine", "statevector")])
def test_columns_are_refused_where_there_are_none_to_share_out(flags, capsys):
    with pytest.raises(SystemExit):
        parse_command_line([*flags, "--shard", "columns"])
    said = capsys.readouterr().err
    assert "--shard columns" in said and flags[0].split("_")[0][2:] in said
    if flags[0] != "--model":
        settings = parse_command_line(list(flags)).settings
        with pytest.raises(UnsupportedCircuit, match="--shard batch"):
            build_model(settings).layer.engine.share_columns(ALONE)
