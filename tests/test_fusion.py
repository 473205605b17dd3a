"""The compiled engine's columns: fused blocks against the dense unitary, and the backward pass that undoes them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

import reference
from circuits import Operation, build_circuit
from engines.basis import BasisPropagation
from engines.compiled import CompiledEngine
from engines.fusion import GROUP, FusedBlocks, partition
from engines.propagation import KEPT, ProductPropagation, Propagation

GATES = {"rx": 1, "ry": 1, "rz": 1, "crx": 2, "h": 1, "sx": 1, "cnot": 2}


@st.composite
def circuits(draw, max_wires: int = 7) -> tuple[int, tuple[Operation, ...], list[float]]:
    """Any gates on any wires, and an angle for each that takes one."""
    n_wires = draw(st.integers(4, max_wires))
    operations, angles = [], []
    for gate in draw(st.lists(st.sampled_from(sorted(GATES)), min_size=1, max_size=40)):
        wires = tuple(draw(st.permutations(range(n_wires)))[: GATES[gate]])
        parameter = None
        if gate in ("rx", "ry", "rz", "crx"):
            parameter = len(angles)
            angles.append(draw(st.floats(-2 * math.pi, 2 * math.pi)))
        operations.append(Operation(gate, wires, parameter))
    return n_wires, tuple(operations), angles


def identity_columns(n_wires: int) -> torch.Tensor:
    identity = torch.eye(2**n_wires, dtype=torch.float64)
    return torch.stack([identity, torch.zeros_like(identity)])


def fused_unitary(operations: tuple[Operation, ...], theta: torch.Tensor, n_wires: int) -> np.ndarray:
    """The circuit's matrix from its action on all basis states, axes put back in the order of the wires."""
    blocks = FusedBlocks(operations, n_wires).double()
    propagation = Propagation(blocks.wires, n_wires)
    state = propagation(blocks(theta), identity_columns(n_wires))
    back = [1 + propagation.wire_order.index(w) for w in range(n_wires)]
    state = state.view((2,) * (1 + n_wires) + (-1,)).permute(0, *back, 1 + n_wires)
    real, imag = state.reshape(2, 2**n_wires, 2**n_wires).detach().numpy()
    return real + 1j * imag


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(circuits())
def test_fused_blocks_are_the_dense_unitary(case):
    n_wires, operations, angles = case
    theta = torch.tensor(angles, dtype=torch.float64)

    as_tuples = tuple((o.gate, o.wires, o.parameter) for o in operations)
    expected = reference.unitary(as_tuples, theta.numpy(), n_wires)

    np.testing.assert_allclose(fused_unitary(operations, theta, n_wires), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wires", [(0,), (3,), (6,)])
@pytest.mark.parametrize("gate", ("h", "sx"))
def test_a_circuit_needs_no_parameter(gate, wires):
    expected = reference.dense_gate(reference.gate_matrix(gate), wires, 7)

    unitary = fused_unitary((Operation(gate, wires),), torch.zeros(0, dtype=torch.float64), 7)

    np.testing.assert_allclose(unitary, expected, rtol=0, atol=1e-15)


def test_a_parameter_may_serve_several_gates():
    operations = (Operation("rx", (0,), 1), Operation("crx", (2, 0), 0), Operation("rz", (3,), 1))
    theta = torch.tensor([0.4, -1.3], dtype=torch.float64)

    expected = reference.unitary([(o.gate, o.wires, o.parameter) for o in operations], theta.numpy(), 4)

    np.testing.assert_allclose(fused_unitary(operations, theta, 4), expected, rtol=0, atol=1e-14)


@pytest.mark.slow
def test_a_long_circuit_is_built_in_groups_with_the_same_gradient():
    """More blocks than a group: values against the reference, the rebuilt gradient against finite differences."""
    circuit = build_circuit(8, n_random_operations=300)
    blocks = FusedBlocks(circuit.ansatz.operations, 8).double()
    assert len(blocks.wires) > GROUP
    draw = torch.Generator().manual_seed(0)
    theta = torch.empty(circuit.n_parameters, dtype=torch.float64).uniform_(-3, 3, generator=draw)
    as_tuples = tuple((o.gate, o.wires, o.parameter) for o in circuit.ansatz.operations)
    expected = reference.unitary(as_tuples, theta.numpy(), 8)
    np.testing.assert_allclose(fused_unitary(circuit.ansatz.operations, theta, 8), expected, rtol=0, atol=1e-12)

    propagation = Propagation(blocks.wires, 8)
    columns = identity_columns(8)[..., :3]
    weights = torch.randn(2, 256, 3, generator=draw, dtype=torch.float64)

    def loss(theta):
        return (propagation(blocks(theta), columns) * weights).sum()

    theta.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(theta), theta)
    direction = torch.randn(theta.shape, generator=draw, dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(theta + 1e-5 * direction) - loss(theta - 1e-5 * direction)) / 2e-5
    assert gradient @ direction == pytest.approx(slope.item(), rel=1e-7)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(circuits(max_wires=10), st.integers(2, 6))
def test_partition_keeps_the_order_on_every_wire_and_the_width(case, width):
    n_wires, operations, _ = case
    width = min(width, n_wires)

    blocks = partition(operations, width, range(n_wires))

    order = [position for block in blocks for position in block.members]
    assert sorted(order) == list(range(len(operations)))
    for wire in range(n_wires):
        on_wire = [position for position in order if wire in operations[position].wires]
        assert on_wire == sorted(on_wire)
    for block in blocks:
        touched = {w for position in block.members for w in operations[position].wires}
        assert touched <= set(block.wires)
        assert len(set(block.wires)) == len(block.wires) == width


def test_partition_needs_few_blocks_for_the_papers_circuits():
    assert len(partition(build_circuit(4).ansatz.operations, 4, range(4))) == 1
    assert len(partition(build_circuit(10).ansatz.operations, 5, range(10))) == 5


def test_an_unknown_gate_is_refused():
    with pytest.raises(ValueError, match="does not know the gate 'swap'"):
        FusedBlocks((Operation("swap", (0, 1)),), 4)


# the backward pass


def random_orthogonal(n_blocks: int, dim: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.linalg.qr(torch.randn(n_blocks, dim, dim, generator=draw, dtype=torch.float64))[0]


@pytest.mark.parametrize("kept", [1, 2, 9])
@pytest.mark.parametrize("wires", [[(0, 2), (3, 1), (1, 4), (0, 4)], [(2, 0)]])
@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_undoing_the_blocks_gives_the_gradient_of_plain_operations(wires, needs, kept, monkeypatch):
    monkeypatch.setattr("engines.propagation.KEPT", kept)
    propagation = Propagation(wires, 5)
    matrices = random_orthogonal(len(wires), 8).requires_grad_(needs[0])
    columns = torch.randn(2, 32, 6, dtype=torch.float64).requires_grad_(needs[1])
    weights = torch.randn(2, 32, 6, dtype=torch.float64)
    inputs = [t for t in (matrices, columns) if t.requires_grad]
    out, plain = propagation(matrices, columns), propagation.forward(matrices, columns)
    assert torch.equal(out, plain)
    for ours, theirs in zip(
        torch.autograd.grad((out * weights).sum(), inputs), torch.autograd.grad((plain * weights).sum(), inputs)
    ):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_many_columns_go_in_parts_with_the_same_values_and_gradients(monkeypatch):
    propagation = Propagation([(0, 2), (1, 2)], 3)
    matrices = random_orthogonal(2, 8).requires_grad_()
    columns = torch.randn(2, 8, 5, dtype=torch.float64).requires_grad_()
    weights = torch.randn(2, 8, 5, dtype=torch.float64)
    whole = propagation(matrices, columns)
    monkeypatch.setattr("engines.propagation.CHUNK", 16)  # two columns of eight amplitudes
    monkeypatch.setattr("engines.propagation.FEWEST", 1)
    parts = propagation(matrices, columns)
    assert torch.allclose(whole, parts, rtol=0, atol=1e-14)
    for ours, theirs in zip(
        torch.autograd.grad((parts * weights).sum(), (matrices, columns)),
        torch.autograd.grad((whole * weights).sum(), (matrices, columns)),
    ):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n_columns", [1, 5, 16])
@pytest.mark.parametrize("chunk", [32, 10**6])  # two columns of sixteen amplitudes at a time, all at once
@pytest.mark.parametrize("wires", [[(1, 3), (0, 2), (3, 0)], [(2, 0)]])
def test_basis_states_meet_the_blocks_as_any_columns_do(wires, chunk, n_columns, monkeypatch):
    monkeypatch.setattr("engines.propagation.CHUNK", chunk)
    monkeypatch.setattr("engines.propagation.FEWEST", 1)
    of_basis, general = BasisPropagation(wires, 4, n_columns), Propagation(wires, 4)
    matrices = random_orthogonal(len(wires), 8).requires_grad_()
    weights = torch.randn(2, 16, n_columns, dtype=torch.float64)

    def in_order(state, propagation):
        axes = [1 + propagation.wire_order.index(wire) for wire in range(4)]
        return state.view(2, 2, 2, 2, 2, -1).permute(0, *axes, 5).reshape(2, 16, -1)

    ours = in_order(of_basis(matrices), of_basis)
    theirs = in_order(general(matrices, identity_columns(4)[..., of_basis.columns]), general)
    assert sorted(of_basis.columns) == list(range(n_columns))
    for columns in (slice(0, 1), slice(n_columns // 2, n_columns)):
        assert torch.allclose(in_order(of_basis(matrices, columns), of_basis), ours[..., columns], rtol=0, atol=1e-14)
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-14)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), matrices)[0] for out in (ours, theirs))
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(circuits())
def test_product_states_meet_the_blocks_as_any_columns_do(case):
    """Also where wires join late or, since no gate acts on them, last."""
    n_wires, operations, angles = case
    blocks = FusedBlocks(operations, n_wires).double()
    matrices = blocks(torch.tensor(angles, dtype=torch.float64)).detach()
    qubits = torch.randn(2, n_wires, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    columns = np.stack([reference.kron(list(sample)) for sample in qubits.permute(2, 1, 0).numpy()], axis=1)
    general = Propagation(blocks.wires, n_wires)
    product = ProductPropagation(blocks.wires, n_wires)

    states = product.rest(product.remaining(matrices), product.begin(matrices, qubits))

    expected = general(matrices, torch.stack([torch.tensor(columns.real), torch.tensor(columns.imag)]))
    axes = [1 + general.wire_order.index(w) for w in product.rest.wire_order]
    expected = expected.view((2,) * (1 + n_wires) + (3,)).permute(0, *axes, 1 + n_wires).reshape(states.shape)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-12)


def test_propagation_has_right_second_derivatives():
    propagation = Propagation([(0, 2), (1, 2)], 3)
    matrices = random_orthogonal(2, 8).requires_grad_()
    columns = torch.randn(2, 8, 2, dtype=torch.float64).requires_grad_()
    assert gradgradcheck(propagation, (matrices, columns))


def test_observables_have_right_first_and_second_derivatives():
    circuit = build_circuit(4, n_random_operations=4)
    engine = CompiledEngine(circuit).double()
    theta = torch.linspace(-1, 1, circuit.n_parameters, dtype=torch.float64).requires_grad_()
    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 16, generator=draw, dtype=torch.float64)

    def entries(theta):  # neither symmetric nor a quadratic form: every part of M_k's gradient shows
        return engine.compile(theta).observables @ left @ right

    assert gradcheck(entries, (theta,)) and gradgradcheck(entries, (theta,))


@pytest.mark.parametrize("n_random_operations", [20, 400])
def test_the_backward_pass_keeps_a_fixed_number_of_states(n_random_operations):
    """What autograd holds for the columns: matrices, the states that went in, a few on the way, nothing per block."""
    circuit = build_circuit(8, n_random_operations=n_random_operations)
    blocks = FusedBlocks(circuit.ansatz.operations, 8)
    propagation = Propagation(blocks.wires, 8)
    matrices = blocks(torch.zeros(circuit.n_parameters)).detach().requires_grad_()
    columns = torch.randn(2, 256, 64)
    held: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        propagation(matrices, columns)
    kept = min(KEPT, len(matrices) - 1)
    assert len(matrices) - 1 > KEPT or n_random_operations == 20
    assert sum(t.numel() for t in held) == matrices.numel() + (1 + kept) * columns.numel()
