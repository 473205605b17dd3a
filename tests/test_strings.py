"""Observables as sums of Pauli strings, and the readouts and slopes found from them: against dense matrices and autograd."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import reference
from circuits import AngleEncoding, Circuit, build_circuit
from circuits.operations import Operation
from circuits.paulis import LETTERS
from deq import SolverSettings, solve
from engines import make_engine
from engines.angle import ProductStates
from engines.bloch import BlochPolynomials
from engines.statevector import StatevectorEngine
from engines.strings import PauliSums, TooManyStrings
from models.lift import Repeat
from test_any_circuit import PAULIS, circuits, compiled_engine, numbers

ANGLES = circuits().filter(lambda circuit: isinstance(circuit.encoding, AngleEncoding))


@settings(max_examples=40, deadline=None)
@given(circuits(letters="IXYZ"), st.integers(0, 2**32))
def test_strings_add_up_to_the_dense_observables(circuit, seed):
    """sum_s c_ks (prod_w R_w) s = U^+ P_k U, where R_w turns the Bloch vector as the leading gates do."""
    n = circuit.n_wires
    theta = numbers(circuit, seed)[1]
    sums = PauliSums(circuit).double()
    sums.lay_out("all", np.arange(len(sums.readout)), len(sums.readout))
    rotations, (coefficients,) = sums(theta, "all")
    turns = np.zeros((n, 4, 4))
    turns[:, 0, 0], turns[:, 1:, 1:] = 1, rotations.numpy()
    # s of letters turned: the coefficient of its image tr(. b) in b, letter by letter the row of [1, R]
    found = np.zeros((circuit.n_readouts, 2**n, 2**n), dtype=complex)
    for letters, k, c in zip(sums.letters, sums.readout, coefficients.numpy()):
        factors = [sum(turns[w, letter, m] * PAULIS[LETTERS[m]] for m in range(4)) for w, letter in enumerate(letters)]
        found[k] += c * reference.kron(factors)
    ansatz = tuple((o.gate, o.wires, o.parameter) for o in circuit.ansatz.operations)
    unitary = reference.run(ansatz, theta.numpy(), np.eye(2**n, dtype=complex))
    expected = [unitary.conj().T @ reference.kron([PAULIS[letter] for letter in string]) @ unitary for string in circuit.readout.strings]
    np.testing.assert_allclose(found, expected, atol=1e-12)


class DenseLift:
    """Any linear map from readouts to inputs."""

    def __init__(self, matrix: torch.Tensor):
        self.matrix = matrix

    def __call__(self, r: torch.Tensor) -> torch.Tensor:
        return r @ self.matrix.T

    def transpose(self, values: torch.Tensor, dim: int = -1) -> torch.Tensor:
        return (values.movedim(dim, -1) @ self.matrix).movedim(-1, dim)


@settings(max_examples=40, deadline=None)
@given(ANGLES, st.integers(0, 2**32))
def test_the_reduced_map_is_that_of_statevectors(circuit, seed):
    """Value, exact Jacobian and vector-Jacobian product of h(r) = r(x + E r), and the slopes of all in theta."""
    x, theta, weights = numbers(circuit, seed)
    draw = torch.Generator().manual_seed(seed)
    lift = DenseLift(torch.randn(circuit.n_inputs, circuit.n_readouts, generator=draw, dtype=torch.float64))
    r = torch.randn(len(x), circuit.n_readouts, generator=draw, dtype=torch.float64)
    mix = torch.randn(len(x), circuit.n_readouts, circuit.n_readouts, generator=draw, dtype=torch.float64)
    ours, theirs = theta.clone().requires_grad_(), theta.clone().requires_grad_()
    h = compiled_engine(circuit, by_states=False).compile(ours).along(x, lift)
    found = [h(r), h.jacobian(r), h.vjp(r, weights)]

    v = (x + lift(r)).requires_grad_()
    readouts = StatevectorEngine(circuit).compile(theirs).readouts(v)
    rows = [
        torch.autograd.grad(column.sum(), v, create_graph=True, allow_unused=True, materialize_grads=True)[0]
        for column in readouts.unbind(1)
    ]
    slopes = torch.stack(rows, dim=1)
    expected = [readouts, slopes @ lift.matrix, (weights.unsqueeze(1) @ slopes).squeeze(1)]
    for ours_values, theirs_values in zip(found, expected):
        torch.testing.assert_close(ours_values, theirs_values, rtol=0, atol=1e-11)
    options = {"allow_unused": True, "materialize_grads": True}
    (slope,), (expected_slope,) = (
        torch.autograd.grad(values[0].sum() + (values[1] * mix).sum() + values[2].square().sum(), leaf, **options)
        for values, leaf in ((found, ours), (expected, theirs))
    )
    torch.testing.assert_close(slope, expected_slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_wires, encoding", [(4, "angle"), (10, "angle"), (10, "components"), (16, "angle")])
def test_the_papers_circuits_have_few_strings(n_wires, encoding):
    states = make_engine("compiled", build_circuit(n_wires, encoding)).states
    assert isinstance(states, BlochPolynomials)
    if n_wires == 10:
        assert len(states.sums.readout) == 4892  # what README.md says


@pytest.mark.parametrize("n_wires, n_operations", [(4, 600), (8, 200)])
def test_deep_circuits_are_simulated(n_wires, n_operations):
    """Too many atoms, or strings; product states give the same readouts."""
    circuit = build_circuit(n_wires, "angle", n_random_operations=n_operations)
    engine = make_engine("compiled", circuit).double()
    assert isinstance(engine.states, ProductStates)
    with pytest.raises(TooManyStrings):
        PauliSums(circuit)
    v, theta, _ = numbers(circuit, 1)
    expected = StatevectorEngine(circuit).compile(theta).readouts(v)
    torch.testing.assert_close(engine.compile(theta).readouts(v), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("n_wires", (4, 10))
def test_second_derivatives_along_the_reduced_map(n_wires):
    """What the Jacobian loss is trained by, in float64, against finite differences of the slopes."""
    circuit = build_circuit(n_wires, "angle")
    v, theta, weights = numbers(circuit, 2, batch=1)
    engine = make_engine("compiled", circuit).double()
    leaves = [v.requires_grad_(), theta.requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda v, theta: engine.compile(theta).vjp(v, weights).square().sum(), leaves, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(
        lambda v, theta: engine.compile(theta).readouts(v).square().sum(), leaves, fast_mode=True
    )


def test_a_gate_repeated_on_an_input_adds_up():
    """Two rotations by one input: their slopes are added, h and sx turn without an angle."""
    gates = [("ry", 0), ("h", None), ("rz", 0), ("sx", None), ("rx", 1)]
    encoding = AngleEncoding(2, tuple(Operation(gate, (0,), angle) for gate, angle in gates))
    paper = build_circuit(4)
    ansatz = type(paper.ansatz)(2, (Operation("rx", (0,), 0), Operation("crx", (0, 1), 1)), ("a", "b"))
    circuit = Circuit(encoding, ansatz, type(paper.readout)(("ZI", "ZZ")))
    v, theta, weights = numbers(circuit, 3)
    leaf = v.clone().requires_grad_()
    (expected,) = torch.autograd.grad(StatevectorEngine(circuit).compile(theta).readouts(leaf), leaf, weights)
    found = compiled_engine(circuit, by_states=False).compile(theta).vjp(v, weights)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("few", (0, 10**9))
def test_what_the_reduced_map_remembers_is_what_it_finds(few, monkeypatch):
    """A solver's calls, sample after sample standing still: the same as by a map that has seen nothing, nothing shared."""
    monkeypatch.setattr("engines.bloch.FEW", few)
    circuit = build_circuit(4, "angle")
    x, theta, _ = numbers(circuit, 4, batch=6)
    lift = DenseLift(torch.randn(16, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    compiled = make_engine("compiled", circuit).double().compile(theta)
    h, r = compiled.along(x, lift), torch.zeros(6, 4, dtype=torch.float64)
    with torch.no_grad():
        for n_moving in (6, 5, 2, 1, 0, 6, 0):
            r[:n_moving] += 0.1
            for answer in ("__call__", "jacobian", "jacobian", "__call__") if n_moving != 5 else ("__call__",):
                found = getattr(h, answer)(r)
                expected = getattr(compiled.along(x, lift), answer)(r)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
                found.zero_()
    gradient = torch.autograd.grad(h(r.requires_grad_()).sum(), r)[0]
    torch.testing.assert_close(gradient, h.jacobian(r.detach()).sum(1), rtol=0, atol=1e-13)


def test_a_solver_evaluates_the_samples_that_move(monkeypatch):
    monkeypatch.setattr("engines.bloch.FEW", 0)
    circuit = build_circuit(4, "angle")
    x, theta, _ = numbers(circuit, 4, batch=40)
    compiled = make_engine("compiled", circuit).double().compile(theta)
    rows = []
    monkeypatch.setattr(compiled, "with_jacobian", lambda v, found=compiled.with_jacobian: rows.append(len(v)) or found(v))
    h = compiled.along(x, Repeat(4, 4))
    result = solve(h, x.new_zeros(40, 4), SolverSettings("newton", 10, 1e-3))
    with torch.no_grad():
        h.jacobian(result.z)
    assert rows[0] == 40 and rows[-1] < 20
    assert sum(rows) < 40 * (result.n_jacobians + 1)
