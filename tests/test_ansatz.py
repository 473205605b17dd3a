"""The ansätze by name: their gates as the literature has them, that SU(4) is reached, all engines, the command line."""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import reference
from circuits import Circuit, build_circuit
from circuits.ansatz import ANSATZE, paper_ansatz, strongly_entangling, su4
from circuits.encodings import ENCODINGS
from circuits.readout import READOUTS
from conftest import train_here
from engines import make_engine
from engines.statevector import StatevectorEngine, applied
from reproduction.run_table import run_table
from test_any_circuit import assert_near, numbers, with_gradients
from training.command_line import parse_command_line
from training.settings import Settings


def gates_of(ansatz) -> list[tuple[str, tuple[int, ...]]]:
    return [(o.gate, o.wires) for o in ansatz.operations]


def bends(engine, v, theta, weights) -> list[torch.Tensor]:
    """Gradient of the squared gradient of the readouts' weighted sum, in inputs and parameters."""
    v, theta = v.clone().requires_grad_(), theta.clone().requires_grad_()
    slopes = torch.autograd.grad((engine.compile(theta).readouts(v) * weights).sum(), (v, theta), create_graph=True)
    return list(torch.autograd.grad(sum(slope.square().sum() for slope in slopes), (v, theta)))


# gates


def test_the_papers_is_as_it_was_and_repeats_its_staircase():
    assert paper_ansatz(10) == paper_ansatz(10, n_blocks=1) == build_circuit(10).ansatz
    once, thrice = paper_ansatz(6, 20), paper_ansatz(6, 20, n_blocks=3)
    assert thrice.parameter_names[: once.n_parameters] == once.parameter_names
    assert gates_of(thrice) == gates_of(once)[:20] + 3 * gates_of(once)[20:]
    assert thrice.n_parameters == once.n_parameters + 2 * 8 and thrice.parameter_names[-1] == "block.5.crx[2,4]"
    assert len(build_circuit(6, n_blocks=3, trainable_gates="released").frozen) == 3 * 8


def test_rings_of_strongly_entangling_layers_reach_further_from_layer_to_layer():
    ansatz = strongly_entangling(4, 4)
    layers = [gates_of(ansatz)[16 * layer : 16 * (layer + 1)] for layer in range(4)]
    turns = [(axis, (wire,)) for wire in range(4) for axis in ("rz", "ry", "rz")]
    assert all(layer[:12] == turns for layer in layers)
    rings = [[wires for _, wires in layer[12:]] for layer in layers]
    assert rings[0] == rings[3] == [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert rings[1:3] == [[(0, 2), (1, 3), (2, 0), (3, 1)], [(0, 3), (1, 0), (2, 1), (3, 2)]]
    assert ansatz.n_parameters == 4 * 12 and strongly_entangling(10, 20).n_parameters == 600


def test_sequential_gates_have_fifteen_parameters_each():
    assert su4(11, 4).n_parameters == 15 * 10 * 4
    pairs = [o.wires for o in su4(4).operations if o.gate == "cnot"]
    assert [tuple(sorted(wires)) for wires in pairs[::3]] == [(0, 1), (1, 2), (2, 3)] and len(pairs) == 9


def two_qubit_unitary(theta: torch.Tensor) -> torch.Tensor:
    """The gate of su4(2), (4, 4): its columns are what it makes of the basis states."""
    basis = torch.eye(4, dtype=torch.complex128).view(4, 2, 2)
    return applied(su4(2).operations, theta, basis).flatten(1).T


def test_a_general_gate_moves_in_all_directions_of_su4():
    """U^+ dU spans the 15 dimensions of traceless anti-Hermitian matrices."""
    theta = torch.linspace(0.3, 2.7, 15, dtype=torch.float64)
    operations = tuple((o.gate, o.wires, o.parameter) for o in su4(2).operations)
    u = reference.unitary(operations, theta.numpy(), 2)
    np.testing.assert_allclose(two_qubit_unitary(theta).numpy(), u, atol=1e-14)
    slopes = [reference.slope(lambda t: reference.unitary(operations, theta.numpy() + t * unit, 2)) for unit in np.eye(15)]
    directions = np.array([(u.conj().T @ slope).ravel() for slope in slopes])
    values = np.linalg.svd(np.concatenate([directions.real, directions.imag], 1), compute_uv=False)
    assert values[14] > 1e-3


def test_a_general_gate_reaches_any_unitary():
    draw = torch.Generator().manual_seed(3)
    swap = torch.eye(4, dtype=torch.complex128)[[0, 2, 1, 3]]
    for target in (swap, torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.complex128))[0]):
        best = 1.0
        for _ in range(5):  # it may end in a saddle
            theta = torch.randn(15, generator=draw, dtype=torch.float64).requires_grad_()
            optimizer = torch.optim.LBFGS([theta], max_iter=150, line_search_fn="strong_wolfe", tolerance_change=1e-14)

            def loss() -> torch.Tensor:
                optimizer.zero_grad()
                infidelity = 1 - (target.conj() * two_qubit_unitary(theta)).sum().abs().square() / 16
                infidelity.backward()
                return infidelity

            optimizer.step(loss)
            best = min(best, loss().item())
            if best < 1e-9:
                break
        assert best < 1e-9


@pytest.mark.parametrize("name", ANSATZE)
def test_an_ansatz_has_a_block_on_wires_that_it_can_join(name):
    for n_wires, n_blocks in ((4, 0), (1, 1)):
        with pytest.raises(ValueError, match="n_wires must be|one block or more on two wires or more"):
            ANSATZE[name](n_wires, n_blocks=n_blocks)


# engines


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("name", ANSATZE)
def test_engines_agree_on_values_and_two_derivatives(name, encoding):
    pytest.importorskip("torchquantum")
    circuit = build_circuit(4, encoding, name, n_blocks=2)
    arguments = numbers(circuit, 5)
    expected = [*with_gradients(StatevectorEngine(circuit), *arguments), *bends(StatevectorEngine(circuit), *arguments)]
    compiled = make_engine("compiled", circuit).double()
    assert_near([*with_gradients(compiled, *arguments), *bends(compiled, *arguments)], expected, 1e-9)
    simulated, arguments = make_engine("torchquantum", circuit), [values.float() for values in arguments]
    assert_near([*with_gradients(simulated, *arguments), *bends(simulated, *arguments)], [e.float() for e in expected], 1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(1, 3), st.sampled_from(["strongly_entangling", "su4"]), st.booleans(), st.integers(0, 99))
def test_any_size_is_compiled_as_gate_by_gate(n_wires, n_blocks, name, angles, seed):
    encoding = ENCODINGS["components" if angles else "amplitude"](n_wires) if n_wires > 3 or angles else None
    encoding = encoding or ENCODINGS["components"](n_wires)
    circuit = Circuit(encoding, ANSATZE[name](n_wires, n_blocks=n_blocks), READOUTS["z"](n_wires))
    arguments = numbers(circuit, seed)
    compiled = with_gradients(make_engine("compiled", circuit).double(), *arguments)
    assert_near(compiled, with_gradients(StatevectorEngine(circuit), *arguments), 1e-10)


# the command line


def test_choices_show_in_the_runs_name():
    names = {
        "": "mnist_10c_10q_amplitude_implicit_seed1111",
        "--ansatz su4 --n_blocks 4": "mnist_10c_10q_amplitude_su4_blocks4_implicit_seed1111",
        "--n_random_operations 400": "mnist_10c_10q_amplitude_random400_implicit_seed1111",
        "--model linear": "mnist_10c_10q_linear_seed1111",
    }
    assert {text: parse_command_line(text.split()).settings.run_name for text in names} == names


@pytest.mark.parametrize("text, flag", [
    ("--ansatz su4 --n_random_operations 3", "--n_random_operations has no effect without --ansatz paper"),
    ("--model classical --ansatz su4", "--ansatz has no effect with --model classical"),
    ("--model linear --n_blocks 2", "--n_blocks has no effect with --model linear"),
])  # fmt: skip
def test_what_has_no_effect_is_said(text, flag):
    assert parse_command_line(text.split()).warnings == [flag]


@pytest.mark.parametrize("text, said", [
    ("--ansatz su4 --trainable_gates released", "--trainable_gates released is of --ansatz paper"),
    ("--ansatz su5", "--ansatz"), ("--n_blocks 0", "--n_blocks must be at least 1"),
])  # fmt: skip
def test_wrong_choices_end_the_command(text, said, capsys):
    with pytest.raises(SystemExit):
        parse_command_line(text.split())
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_keeps_its_ansatz_and_older_runs_have_the_papers(tmp_path):
    flags = ["--dataset", "digits", "--num_classes", 2, "--n_wires", 4, "--max_step", 2, "--work_dir", tmp_path,
             "--device", "cpu", "--name"]  # fmt: skip
    train_here(*flags, "new", "--ansatz", "strongly_entangling", "--n_blocks", 3)
    train_here(*flags, "old")
    found = json.loads((tmp_path / "new" / "results.json").read_text())
    assert found["n_parameters"] == 3 * 12 + 16 * 2 + 2
    assert [found[name] for name in ("ansatz", "n_random_operations", "n_blocks")] == ["strongly_entangling", 50, 3]
    config = tmp_path / "old" / "config.json"
    saved = json.loads(config.read_text())
    older = {name: value for name, value in saved.items() if name not in ("ansatz", "n_random_operations", "n_blocks")}
    config.write_text(json.dumps(older))
    assert Settings.from_dict(older) == Settings.from_dict(saved)
    train_here(*flags, "old", "--restart", "--max_step", 3)
    old = json.loads((tmp_path / "old" / "results.json").read_text())
    assert old["steps"] == 3 and old["ansatz"] == "paper"
    rows = run_table([old, {k: v for k, v in old.items() if k != "ansatz"}, found]).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| IMPLICIT", "| IMPLICIT (ansatz strongly_entangling, n_blocks 3)"]
