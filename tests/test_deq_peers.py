"""The comparison with other libraries: its answers are right, its table is whole, whoever is not installed is named."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch

from benchmarks import peer_steps, peers
from benchmarks.command_line import parse_command_line
from benchmarks.peer_libraries import SEQUENCE_LAYERS
from benchmarks.peer_problems import peer_problems
from benchmarks.peer_training import DELAY, LENGTH, sequences, train_in_turn
from benchmarks.record import Record
from benchmarks.report import text
from benchmarks.step import SETTINGS
from benchmarks.timing import Series, one_cpu
from conftest import REPOSITORY
from deq import batch_jacobian


@pytest.mark.parametrize("number", range(7))
def test_answers_are_equilibria_of_contractions(number):
    problem = peer_problems(1, 2)[number]
    z, gradient = problem.answer()
    f = problem.f(tuple(p.detach().double() for p in problem.parameters), problem.x.double())
    torch.testing.assert_close(f(z), z, rtol=0, atol=1e-6)
    assert len(gradient) == len(problem.parameters) and all(g.abs().sum() > 0 for g in gradient)
    if z[0].numel() <= 256:
        assert torch.linalg.eigvals(batch_jacobian(f, z)).abs().max() < 1
    # f acts on every sample alone
    moved = z.clone()
    moved[0] += 1
    torch.testing.assert_close(f(moved)[1], f(z)[1])


@pytest.mark.slow
def test_the_table_without_the_others(monkeypatch):
    for name in (peers.TORCHDEQ, *peers.IN_JAX, "jax"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(peers, "peer_problems", lambda seed, batch_size: peer_problems(seed, batch_size)[:1])
    monkeypatch.setattr("benchmarks.timing.BLOCK_SECONDS", 1e-3)
    monkeypatch.setattr(peers, "SEQUENCE_STEPS", 2)
    record = Record(parse_command_line(["peers", "--repetitions", "1", "--batch_size", "4", "--device", "cpu"]))
    peers.measure_peers(record)
    record.content["complete"] = True
    rows = record.content["peers"]
    assert len(rows) == 3 * 3 and {row["library"] for row in rows} == set(peers.OWN)
    for row in rows:
        assert row["at_tolerance"]["converged"] == 1.0 and row["at_tolerance"]["value_error"] < 1e-2
        assert row["at_accuracy"]["gradient_error"] <= peers.ACCURACY and row["peak_bytes"] > 0
    shown = text(record.content)
    assert all(f"no comparison with {name}" in shown for name in (peers.TORCHDEQ, *peers.IN_JAX))
    assert "no training step in JAX" in shown
    assert [row["library"] for row in record.content["sequence"]] == ["deq"] and "sequence task" in shown
    assert "affine, d 64, broyden, deq, wait_for_all" in shown


def test_the_sequence_task_is_learnt_and_its_answers_are_the_tokens_before():
    tokens, wanted = sequences(4, torch.Generator().manual_seed(0))
    assert all(tokens[b, t] == wanted[b, t] for b in range(4) for t in range(LENGTH - DELAY))
    layers = {"deq": SEQUENCE_LAYERS["deq"]()}
    (first,), (row,) = (train_in_turn(layers, seed=0, batch_size=16, n_steps=n) for n in (1, 60))
    assert first["accuracy"] < 0.3 and row["accuracy"] > 0.5 and row["loss"] < first["loss"]
    assert len(row["seconds"]) == 60


@pytest.mark.parametrize("in_jax, sentence", [
    (1.0, "jax, newton wins with one model, of all jax, newton (jax, newton 1.00 ms)"),
    (3.0, "jax, newton wins with one model, of all ours, 3 seeds side by side, per model ("),
    (5.0, "ours wins with one model, of all ours, 3 seeds side by side, per model ("),
])  # fmt: skip
def test_who_wins_is_named(in_jax, sentence):
    medians = {peer_steps.IN_JAX: in_jax / 1e3, "ours": 4e-3, "ours" + peer_steps.TOGETHER: 2e-3}
    assert sentence in peer_steps.verdict_of(4, medians)


def test_times_of_several_models_are_told_per_model():
    assert Series(5, [0.3, 0.9, 0.6]).summary(3) == {"median": pytest.approx(0.2), "lowest": pytest.approx(0.1),
                                                     "highest": pytest.approx(0.3), "calls": 5,
                                                     "seconds": pytest.approx([0.1, 0.3, 0.2])}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process on one CPU")
def test_one_cpu_is_given_back():
    before = os.sched_getaffinity(0)
    with one_cpu(True):
        assert len(os.sched_getaffinity(0)) == 1
    with one_cpu(False):
        assert os.sched_getaffinity(0) == before


def test_the_page_of_results_has_the_committed_times_of_the_step_in_jax():
    content = json.loads((REPOSITORY / "results/benchmark/peers.json").read_text())
    page = (REPOSITORY / "results/benchmark/README.md").read_text()
    assert all(row["equal"] for row in content["equality"])
    for n_wires in peer_steps.WIRES:
        times = content[f"training_step_{n_wires}"]["times"]
        in_jax, *ours = [f"{1e3 * times[label]['median']:.2f}" for label in (peer_steps.IN_JAX, *(
            f"compiled, {setting}{more}" for more in ("", peer_steps.TOGETHER) for setting in SETTINGS))]
        assert f"| {n_wires} | {in_jax} | {ours[0]}, {ours[1]} | {ours[2]}, {ours[3]} |" in page
