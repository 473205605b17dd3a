"""The encoder of amplitudes as rotations: the state it makes, its gates, its slopes, and what noise in it does."""

import numpy as np
import pytest
import torch

from circuits.ansatz import from_gates
from circuits.circuit import Circuit, build_circuit
from circuits.encodings import AmplitudeEncoding
from circuits.operations import Operation
from circuits.readout import z_on
from engines.statevector import applied
from hardware.engine import NoisyEngine
from hardware.native import NativeGate, counts, native_gates
from hardware.noise import parse_noise
from hardware.tree import Tree

NONE = parse_noise("none")


def encoded(tree, n_wires, v):
    """The states after the tree's logical gates, (B, 2^n)."""
    operations = [Operation("cnot" if name == "cx" else name, wires, p) for name, wires, p in tree.steps]
    ground = torch.eye(1, 2**n_wires, dtype=torch.complex128).expand(len(v), -1).reshape(-1, *(2,) * n_wires)
    return applied(operations, tree.angles(v).T[..., None, None], ground).reshape(len(v), -1)


def vectors(n_inputs, seed=0):
    """Signed, positive, sparse, one-hot, and with whole parts that are zero."""
    draw = torch.randn(3, n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    draw[1].abs_()
    draw[2][torch.rand(n_inputs, generator=torch.Generator().manual_seed(seed)) < 0.7] = 0
    half = draw[0].clone()
    half[: n_inputs // 2] = 0
    return torch.stack([*draw, half, *(sign * torch.eye(n_inputs, dtype=torch.float64)[-1] for sign in (1, -1))])


@pytest.mark.parametrize("n_wires, n_inputs", [(4, 16), (4, 11), (5, 8), (3, 5), (2, 2), (7, 100)])
def test_the_state_is_the_normalised_vector(n_wires, n_inputs):
    v = vectors(n_inputs)
    v = v[v.norm(dim=1) > 0]
    states = encoded(Tree(n_wires, n_inputs), n_wires, v)
    wanted = torch.nn.functional.pad(v / v.norm(dim=1, keepdim=True), (0, 2**n_wires - n_inputs))
    overlaps = (states.conj() * wanted).sum(1).abs()
    assert torch.all(overlaps > 1 - 1e-12)
    assert torch.allclose(encoded(Tree(n_wires, n_inputs), n_wires, 7 * v), states)  # of any length


def test_a_hundred_amplitudes_of_ten_wires_take_seven_wires_and_126_gates():
    tree = Tree(10, 100)
    assert tree.wires == (3, 4, 5, 6, 7, 8, 9)  # wire 0 is the most significant bit
    assert counts(tree.gates("cx"))["cx"] == 126
    assert tree.n_angles == 127


def test_signs_cost_no_gate():
    assert counts(Tree(4, 16).gates("cx")) == {"rz": 30, "sx": 30, "cx": 14}


def test_angles_have_slopes_where_parts_are_zero_too():
    tree = Tree(3, 8)
    v = torch.randn(2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(tree.angles, v)
    zeros = torch.zeros(1, 8, requires_grad=True)
    tree.angles(zeros + torch.eye(1, 8)).sum().backward()
    assert zeros.grad.isfinite().all()


# noise


@pytest.mark.parametrize("text", ("depolarizing:0.03", "damping:20,25,60,700", "device:aachen,x20"))
def test_noise_in_encoding_and_ansatz_is_aers(text):
    from aer_circuits import density_matrix, noise_model_of

    noise = parse_noise(text)
    ansatz = from_gates(3, [("crx", (0, 2)), ("ry", (1,)), ("cnot", (2, 1)), ("h", (0,)), ("cnot", (1, 0))])
    circuit = Circuit(AmplitudeEncoding(3, 7), ansatz, z_on(3, (0, 1, 2)))
    theta = torch.tensor([0.7, -2.0], dtype=torch.float64)
    v = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = NoisyEngine(circuit, noise, noise).compile(theta).readouts(v)
    tree = Tree(3, 7)
    shifted = [
        NativeGate(g.name, g.wires, g.angle, None if g.parameter is None else 7 + g.parameter, g.scale)
        for g in native_gates(ansatz.operations, noise.two_wires)
    ]
    gates = [*tree.gates(noise.two_wires), *shifted]
    bits = noise.readout(0)
    for angles, row in zip(tree.angles(v), ours):
        model = noise_model_of(noise.channels, 3, noise.two_wires)
        diagonal = density_matrix(gates, torch.cat([angles, theta]), np.eye(8)[0], model).diagonal().real
        signs = 1 - 2 * (np.arange(8) >> np.array([[2], [1], [0]]) & 1)
        assert row.tolist() == pytest.approx(bits[0] * signs @ diagonal + bits[1], abs=1e-10)


def test_without_noise_the_tree_gives_the_observables_values():
    circuit = build_circuit(4)
    theta = torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)
    v = torch.cat([vectors(16), torch.zeros(1, 16, dtype=torch.float64)])
    ansatz_noise = parse_noise("device:manila")
    whole = NoisyEngine(circuit, ansatz_noise).compile(theta).readouts(v)
    tree = NoisyEngine(circuit, ansatz_noise, parse_noise("depolarizing:1e-14")).compile(theta).readouts(v)
    assert torch.allclose(tree, whole, rtol=0, atol=1e-12)


def test_only_noise_of_the_encoding_spoils_the_quadratic_form():
    """N(v) = |v|^2 r(v): its exact difference rule N(v+u) - N(v-u) = 2 dN/dv u holds for ansatz noise alone."""
    circuit = build_circuit(4)
    theta = torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)
    v, u = torch.randn(2, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = parse_noise("depolarizing:0.05")
    for engine, exact in ((NoisyEngine(circuit, noise), True), (NoisyEngine(circuit, NONE, noise), False)):
        compiled = engine.compile(theta)
        weighted = lambda v: v.square().sum() * compiled.readouts(v)[0]  # noqa: E731, B023
        slope = torch.autograd.functional.jvp(weighted, v, u)[1]
        error = ((weighted(v + u) - weighted(v - u)) / 2 - slope).abs().max()
        assert (error < 1e-10) == exact and (exact or error > 1e-2)
