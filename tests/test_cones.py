"""Light cones: what a readout depends on, and its observables from that part alone, against the whole circuit."""

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from circuits import AmplitudeEncoding, Circuit, PauliReadout, build_circuit, from_gates
from circuits.operations import GATES
from engines.compiled import CompiledEngine
from engines.cones import data_wires, light_cone, n_columns
from engines.parts import all_columns, by_cones, cheapest
from engines.sharing import dealt, work
from engines.statevector import StatevectorEngine


@st.composite
def circuits(draw, max_wires: int = 7):
    """Few gates on several wires, so that cones are small; any strings of Z, any number of inputs."""
    n_wires = draw(st.integers(2, max_wires))
    gates = [
        (gate, tuple(draw(st.permutations(range(n_wires)))[: GATES[gate].n_wires]))
        for gate in draw(st.lists(st.sampled_from(sorted(GATES)), min_size=1, max_size=12))
    ]
    string = st.text("IIZ", min_size=n_wires, max_size=n_wires)
    strings = draw(st.lists(string, min_size=1, max_size=5, unique=True))
    encoding = AmplitudeEncoding(n_wires, draw(st.integers(1, 2 ** min(n_wires, 4))))
    return Circuit(encoding, from_gates(n_wires, gates), PauliReadout(tuple(strings)))


def some_angles(circuit: Circuit) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return math.pi * (2 * torch.rand(circuit.n_parameters, generator=draw, dtype=torch.float64) - 1)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(circuits())
def test_a_readout_feels_its_cone_and_nothing_else(circuit):
    """The circuit of the cone's operations alone, by the statevector engine; and what a wire outside holds."""
    v = torch.randn(3, circuit.n_inputs, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    theta = some_angles(circuit)
    whole = StatevectorEngine(circuit).compile(theta).readouts(v)
    for k, support in enumerate(circuit.readout.supports()):
        cone = light_cone(circuit, support)
        operations = [circuit.ansatz.operations[position] for position in cone.operations]
        assert set(cone.wires) == set(support).union(*(operation.wires for operation in operations))
        kept = sorted({o.parameter for o in operations} - {None})
        gates = [(o.gate, o.wires) for o in operations]
        part = Circuit(circuit.encoding, from_gates(circuit.n_wires, gates), circuit.readout)
        order = [o.parameter for o in operations if o.parameter is not None]
        assert kept == sorted(order)
        found = StatevectorEngine(part).compile(theta[order]).readouts(v)
        torch.testing.assert_close(found[:, k], whole[:, k], rtol=0, atol=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 7), st.data())
def test_the_columns_of_some_wires_are_the_first_states(n_wires, data):
    n_inputs = data.draw(st.integers(1, 2**n_wires))
    wires = data.draw(st.sets(st.integers(0, n_wires - 1)))
    circuit = Circuit(
        AmplitudeEncoding(n_wires, n_inputs), from_gates(n_wires, [("h", (0,))]), PauliReadout(("Z" * n_wires,))
    )
    held = sorted(wires & set(data_wires(circuit)))
    bits = np.arange(n_inputs)[:, None] >> (n_wires - 1 - np.array(held, dtype=int)) & 1
    numbers = {int("0" + "".join(map(str, row)), 2) for row in bits}
    assert numbers == set(range(n_columns(circuit, wires)))


def engine_in_parts(circuit: Circuit) -> CompiledEngine:
    """In as many parts as multiplications alone ask for."""
    with patch.multiple("engines.parts", PART_OVERHEAD=0, BLOCK_OVERHEAD=0):
        return CompiledEngine(circuit, "cones").double()


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(circuits())
def test_cones_give_the_observables_of_all_columns(circuit):
    theta = some_angles(circuit).requires_grad_()
    engines = {"columns": CompiledEngine(circuit, "columns").double(), "cones": engine_in_parts(circuit)}
    found = {way: engine.compile(theta).observables for way, engine in engines.items()}
    torch.testing.assert_close(found["cones"], found["columns"], rtol=0, atol=1e-12)
    v = torch.randn(3, circuit.n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = StatevectorEngine(circuit).compile(theta).readouts(v)
    norm = v.square().sum(1, keepdim=True)
    torch.testing.assert_close(torch.einsum("bi,kij,bj->bk", v, found["cones"], v) / norm, expected, rtol=0, atol=1e-12)
    if circuit.n_parameters:
        weights = torch.randn(found["cones"].shape, dtype=torch.float64)
        ours, theirs = (torch.autograd.grad((weights * m).sum(), theta)[0] for m in (found["cones"], found["columns"]))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


def test_cones_have_right_first_and_second_derivatives():
    circuit = build_circuit(8, n_random_operations=0)
    circuit = Circuit(AmplitudeEncoding(8, 20), circuit.ansatz, circuit.readout)
    engine = engine_in_parts(circuit)
    assert len(engine.states.parts) > 1
    theta = some_angles(circuit).requires_grad_()
    left, right = torch.randn(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def entries(theta):  # neither symmetric nor a quadratic form: every part of M_k's gradient shows
        return engine.compile(theta).observables @ left @ right

    assert gradcheck(entries, (theta,)) and gradgradcheck(entries, (theta,))


@pytest.mark.parametrize("n_wires", [12, 14])
def test_the_papers_circuits_by_cones(n_wires):
    """Values and a slope of the gradient, which the statevector engine gives by finite differences."""
    circuit = build_circuit(n_wires)
    engine = CompiledEngine(circuit).double()
    assert len(engine.states.parts) > 1
    theta = some_angles(circuit).requires_grad_()
    draw = torch.Generator().manual_seed(1)
    v = torch.randn(2, circuit.n_inputs, generator=draw, dtype=torch.float64)
    readouts = engine.compile(theta).readouts(v)
    reference = StatevectorEngine(circuit)
    torch.testing.assert_close(readouts, reference.compile(theta.detach()).readouts(v), rtol=0, atol=1e-11)
    weights = torch.randn(readouts.shape, generator=draw, dtype=torch.float64)
    direction = torch.randn(theta.shape, generator=draw, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weights * readouts).sum(), theta)
    ends = [reference.compile(theta.detach() + step * direction).readouts(v) for step in (1e-5, -1e-5)]
    assert gradient @ direction == pytest.approx(float((weights * (ends[0] - ends[1])).sum() / 2e-5), rel=1e-7)


def test_parts_have_every_readout_once_and_the_cheapest_way_is_taken():
    for n_wires, n_operations in ((4, 50), (10, 50), (12, 50), (12, 400), (16, 50)):
        circuit = build_circuit(n_wires, n_random_operations=n_operations)
        ways = {"columns": all_columns(circuit), "cones": by_cones(circuit)}
        for parts in ways.values():
            assert sorted(k for part in parts for k in part.readouts) == list(range(n_wires))
        assert work(cheapest(circuit)) == min(map(work, ways.values()))
    # few operations on many wires: cones; a deep circuit: all columns
    assert len(cheapest(build_circuit(16))) > 1
    assert len(cheapest(build_circuit(12, n_random_operations=400))) == 1


def test_parts_are_dealt_so_that_the_largest_share_is_small():
    parts = by_cones(build_circuit(18))
    shares = dealt(parts, 2)
    assert sorted(k for share in shares for part in share for k in part.readouts) == list(range(18))
    assert max(map(work, shares)) <= max(max(part.macs for part in parts), 4 / 3 * work(parts) / 2)


def test_cones_hold_less_than_all_columns():
    circuit = build_circuit(12)
    theta = torch.zeros(circuit.n_parameters, requires_grad=True)
    held = {}
    for way in ("columns", "cones"):
        engine = CompiledEngine(circuit, way)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            engine.compile(theta)
        held[way] = sum(sizes)
    assert held["cones"] < held["columns"] / 2
