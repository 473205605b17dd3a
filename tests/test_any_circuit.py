"""An engine reads the whole circuit or refuses it by name: circuits drawn at random, all engines, values and gradients.

Held to float64 numpy matrices that share nothing with the engines but the list of operations (`reference.py`).
"""

import math
from unittest import mock

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import engines.compiled
import reference
from circuits import AmplitudeEncoding, AngleEncoding, Circuit, Operation, PauliReadout, build_circuit, from_gates
from circuits.operations import GATES
from engines import ENGINES, bytes_needed, make_engine
from engines.angle import ProductStates
from engines.protocol import UnsupportedCircuit
from engines.statevector import StatevectorEngine

ONE_WIRE = [name for name, gate in GATES.items() if gate.n_wires == 1]
ROTATIONS = ("rx", "ry", "rz")
PAULIS = {"I": reference.I2, "X": reference.X, "Y": reference.Y, "Z": reference.Z}


def placed(draw, n_wires: int, gates: list[str]) -> tuple[str, tuple[int, ...]]:
    gate = draw(st.sampled_from(gates))
    wires = draw(st.permutations(range(n_wires)))[: GATES[gate].n_wires]
    return gate, tuple(wires)


@st.composite
def encodings(draw, n_wires: int, entangling: bool):
    """Amplitudes of any number, or gates of any axes in any order whose inputs may repeat and leave gaps."""
    if draw(st.booleans()) and not entangling:
        return AmplitudeEncoding(n_wires, draw(st.integers(1, 2**n_wires)))
    gates = [*ONE_WIRE, *("cnot", "crx")] if entangling else ONE_WIRE
    chosen = [placed(draw, n_wires, gates) for _ in range(draw(st.integers(0, 8)))]
    chosen.insert(draw(st.integers(0, len(chosen))), placed(draw, n_wires, list(ROTATIONS)))
    if entangling:
        chosen.insert(draw(st.integers(0, len(chosen))), placed(draw, n_wires, ["cnot"]))
    return AngleEncoding(
        n_wires,
        tuple(
            Operation(gate, wires, draw(st.integers(0, 5)) if GATES[gate].has_angle else None)
            for gate, wires in chosen
        ),
    )


@st.composite
def circuits(draw, entangling: bool = False, letters: str = "IZ"):
    n_wires = draw(st.integers(2, 5))
    gates = [placed(draw, n_wires, list(GATES)) for _ in range(draw(st.integers(1, 14)))]
    strings = draw(
        st.lists(st.text(letters, min_size=n_wires, max_size=n_wires), min_size=1, max_size=6, unique=True)
    )
    return Circuit(draw(encodings(n_wires, entangling)), from_gates(n_wires, gates), PauliReadout(tuple(strings)))


def numbers(circuit: Circuit, seed: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, parameters and weights of a sum of the readouts, in float64."""
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(batch, circuit.n_inputs, generator=generator, dtype=torch.float64)
    theta = math.pi * (2 * torch.rand(circuit.n_parameters, generator=generator, dtype=torch.float64) - 1)
    return v, theta, torch.randn(batch, circuit.n_readouts, generator=generator, dtype=torch.float64)


def readouts_by_matrices(circuit: Circuit, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """<P_k> of every sample by dense vectors and matrices: (B, n_inputs) to (B, K)."""
    size, values = 2**circuit.n_wires, []
    ansatz = tuple((o.gate, o.wires, o.parameter) for o in circuit.ansatz.operations)
    for sample in v:
        state = np.zeros((size, 1), dtype=complex)
        if isinstance(circuit.encoding, AmplitudeEncoding):
            state[: len(sample), 0] = sample / np.linalg.norm(sample)
        else:
            state[0] = 1
            encoder = tuple((o.gate, o.wires, o.parameter) for o in circuit.encoding.operations)
            state = reference.run(encoder, sample, state)
        state = reference.run(ansatz, theta, state)[:, 0]
        strings = [reference.kron([PAULIS[letter] for letter in string]) for string in circuit.readout.strings]
        values.append([(state.conj() @ matrix @ state).real for matrix in strings])
    return np.array(values)


def with_gradients(engine, v, theta, weights) -> list[torch.Tensor]:
    """Readouts, and the gradient of their weighted sum in inputs and parameters."""
    v, theta = v.clone().requires_grad_(), theta.clone().requires_grad_()
    readouts = engine.compile(theta).readouts(v)
    slopes = torch.autograd.grad((readouts * weights).sum(), (v, theta), allow_unused=True, materialize_grads=True)
    return [readouts.detach(), *slopes]


def assert_near(found: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    """Equal to the tolerance, beside each tensor's largest entry where that exceeds 1."""
    for ours, theirs in zip(found, expected, strict=True):
        scale = max([1.0, *theirs.abs().flatten().tolist()])
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(st.one_of(circuits(), circuits(entangling=True), circuits(letters="IXYZ")), st.integers(0, 2**32))
def test_statevectors_are_those_of_dense_matrices(circuit, seed):
    v, theta, weights = numbers(circuit, seed)
    engine = StatevectorEngine(circuit)
    values, slope_v, slope_theta = with_gradients(engine, v, theta, weights)
    expected = readouts_by_matrices(circuit, v.numpy(), theta.numpy())
    np.testing.assert_allclose(values.numpy(), expected, rtol=0, atol=1e-12)
    direction_v, direction_theta, _ = numbers(circuit, seed + 1)

    def along(t: float) -> np.ndarray:
        moved = readouts_by_matrices(circuit, (v + t * direction_v).numpy(), (theta + t * direction_theta).numpy())
        return (moved * weights.numpy()).sum()

    slope = (slope_v * direction_v).sum() + (slope_theta * direction_theta).sum()
    # beside a vector that is short the readouts bend strongly: the five-point rule errs more there
    bend = max(1.0, float(1 / v.norm(dim=1).min()) ** 5)
    np.testing.assert_allclose(slope.item(), reference.slope(along, 1e-4), rtol=1e-6, atol=1e-7 * bend)


def compiled_engine(circuit: Circuit, by_states: bool):
    """The compiled engine; angle encoding by product states, as for circuits of too many strings, or by strings."""
    with mock.patch.object(engines.compiled, "PREFERRED", 0 if by_states else 1000):
        engine = make_engine("compiled", circuit)
    assert isinstance(circuit.encoding, AmplitudeEncoding) or isinstance(engine.states, ProductStates) == by_states
    return engine.double()


@settings(max_examples=150, deadline=None)
@given(circuits(), st.integers(0, 2**32), st.booleans())
def test_the_compiled_engine_reads_the_whole_circuit(circuit, seed, by_states):
    """Any one-wire encoding or amplitudes, any ansatz, any strings of Z: as gate by gate, to 1e-10."""
    v, theta, weights = numbers(circuit, seed)
    compiled = with_gradients(compiled_engine(circuit, by_states), v, theta, weights)
    expected = with_gradients(StatevectorEngine(circuit), v, theta, weights)
    assert_near(compiled, expected, 1e-10)


@settings(max_examples=60, deadline=None)
@given(circuits(), st.integers(0, 2**32), st.booleans())
def test_the_closed_forms_are_autograds(circuit, seed, by_states):
    """`vjp` of the compiled circuit, and second derivatives through it."""
    v, theta, weights = numbers(circuit, seed)
    results = []
    for engine, closed in ((compiled_engine(circuit, by_states), True), (StatevectorEngine(circuit), False)):
        leaf_v, leaf_theta = v.clone().requires_grad_(), theta.clone().requires_grad_()
        compiled = engine.compile(leaf_theta)
        if closed:
            product = compiled.vjp(leaf_v, weights)
        else:
            (product,) = torch.autograd.grad(compiled.readouts(leaf_v), leaf_v, weights, create_graph=True)
        bends = torch.autograd.grad(
            product.square().sum(), (leaf_v, leaf_theta), allow_unused=True, materialize_grads=True
        )
        results.append([product.detach(), *bends])
    assert_near(*results, 1e-9)


def numbers_in_float32(circuit: Circuit, seed: int) -> list[torch.Tensor]:
    """As `numbers`; amplitudes of length 1, since slopes, and with them round-off, grow as 1 / |v|."""
    v, theta, weights = (values.float() for values in numbers(circuit, seed))
    if isinstance(circuit.encoding, AmplitudeEncoding):
        v = v / v.norm(dim=1, keepdim=True)
    return [v, theta, weights]


@settings(max_examples=60, deadline=None)
@given(circuits(), st.integers(0, 2**32))
def test_the_compiled_engine_in_float32(circuit, seed):
    v, theta, weights = numbers_in_float32(circuit, seed)
    compiled = with_gradients(make_engine("compiled", circuit), v, theta, weights)
    expected = with_gradients(StatevectorEngine(circuit), v, theta, weights)
    assert_near(compiled, expected, 1e-5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.one_of(circuits(), circuits(entangling=True), circuits(letters="IXYZ")), st.integers(0, 2**32))
def test_torchquantum_reads_the_whole_circuit(circuit, seed):
    pytest.importorskip("torchquantum")
    v, theta, weights = numbers_in_float32(circuit, seed)
    simulated = with_gradients(make_engine("torchquantum", circuit), v, theta, weights)
    expected = with_gradients(StatevectorEngine(circuit), v, theta, weights)
    assert_near(simulated, expected, 1e-5)


# what the compiled engine cannot do


@settings(max_examples=40, deadline=None)
@given(circuits(entangling=True))
def test_entangling_encodings_are_refused_by_name(circuit):
    culprit = next(o for o in circuit.encoding.operations if len(o.wires) > 1)
    with pytest.raises(UnsupportedCircuit) as refusal:
        make_engine("compiled", circuit)
    line = str(refusal.value)
    assert str(culprit) in line and "--engine statevector" in line and "\n" not in line


@pytest.mark.parametrize("n_wires, gates", [(1, [("ry", (0,))]), (2, [])])
def test_nothing_to_fuse_is_refused(n_wires, gates):
    circuit = Circuit(AmplitudeEncoding(n_wires, 2), from_gates(n_wires, gates), PauliReadout(("Z" * n_wires,)))
    with pytest.raises(UnsupportedCircuit, match="--engine statevector or torchquantum"):
        make_engine("compiled", circuit)
    v, theta, _ = numbers(circuit, 0)
    expected = readouts_by_matrices(circuit, v.numpy(), theta.numpy())
    found = StatevectorEngine(circuit).compile(theta).readouts(v)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-13)


def test_a_gate_that_product_states_do_not_know_is_refused(monkeypatch):
    """A new entry of GATES is no gate of another name."""
    monkeypatch.setitem(GATES, "t", GATES["h"])
    encoding = AngleEncoding(2, (Operation("ry", (0,), 0), Operation("t", (1,))))
    circuit = Circuit(encoding, from_gates(2, [("cnot", (0, 1))]), PauliReadout(("ZI",)))
    with pytest.raises(UnsupportedCircuit, match=r"knows no gate t\(1\) in an encoding; use --engine statevector"):
        make_engine("compiled", circuit)


def test_engines_say_how_many_bytes_they_need():
    """Three states at once: those of the inputs' basis where that is all the circuit is applied to, else one a sample."""
    amplitude, angle = build_circuit(10), build_circuit(10, "angle")
    assert bytes_needed("compiled", amplitude, 256) == 3 * 100 * 2**10 * 8
    assert bytes_needed("compiled", angle, 256) == bytes_needed("torchquantum", amplitude, 256) == 3 * 256 * 2**10 * 8
    assert bytes_needed("statevector", amplitude, 256) == 3 * 256 * 2**10 * 16
    assert set(ENGINES) == {"compiled", "torchquantum", "statevector"}
