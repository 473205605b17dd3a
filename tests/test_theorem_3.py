"""Theorem 3's construction: one weight-tied block network, one circuit, against the untied layers."""

import numpy as np
import pytest
import torch

import reference
from circuits.circuit import build_circuit
from engines.statevector import StatevectorEngine
from models.classical_layers import BoundTanh, TanhLayer
from models.layer import BoundCircuit
from models.quantum_layer import QuantumLayer
from theory import construction


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layers_of(encoding: str, n_layers: int = 2) -> list[QuantumLayer]:
    torch.manual_seed(0)
    return [QuantumLayer(build_circuit(4, encoding)).double() for _ in range(n_layers)]


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_two_layers_are_one_circuit_of_twice_the_qubits(encoding):
    """Registers of 4 qubits side by side: their states' product, one unitary of all gates, all 8 readouts."""
    layers = layers_of(encoding)
    x, z = draw(3, 16), draw(3, 32, seed=1).tanh()
    registers = [reference.encode(v.numpy(), 4, encoding) for v in (x, z[:, :16] + x)]
    states = np.stack([np.kron(a, b) for a, b in zip(registers[0].T, registers[1].T)], axis=1)
    gates, theta = [], np.concatenate([layer.full_theta().detach().numpy() for layer in layers])
    for number in range(2):
        for gate, wires, index in reference.circuit(4):
            shifted = None if index is None else index + number * reference.n_parameters(4)
            gates.append((gate, tuple(4 * number + wire for wire in wires), shifted))
    readouts = (reference.readout_signs(8) @ np.abs(reference.run(tuple(gates), theta, states)) ** 2).T
    expected = np.repeat(readouts, 4, axis=1)
    for block in (construction.BlockNetwork(layers, x)(z), construction.one_circuit(layers, x, z)):
        np.testing.assert_allclose(block.detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["amplitude", "angle", "tanh"])
@pytest.mark.parametrize("n_layers", [2, 4])
def test_block_network_equals_the_untied_one_to_round_off(kind, n_layers):
    torch.manual_seed(1)
    found = construction.measure(n_layers, kind, 4, 5, torch.Generator().manual_seed(0))
    for name in ("output_difference", "all_blocks_difference", "residual_after_L", "jacobian_power_L"):
        assert found[name] <= 1e-13, name
    assert found["jacobian_power_L_minus_1"] > 1e-4
    assert found["solver_steps"] == n_layers
    if kind == "tanh" or n_layers == 4:
        assert found["one_circuit_difference"] is None
    else:
        assert found["one_circuit_difference"] <= 1e-13


@pytest.mark.parametrize("kind", ["amplitude", "angle", "tanh"])
def test_a_wrong_block_network_is_told(kind, monkeypatch):
    """An engine, or a formula, that is off by 1e-6 differs from what is computed independently of it."""
    bound = BoundTanh if kind == "tanh" else BoundCircuit
    right = bound.__call__
    monkeypatch.setattr(bound, "__call__", lambda f, z: right(f, z) + 1e-6)
    found = construction.measure(2, kind, 4, 5, torch.Generator().manual_seed(0))
    assert found["output_difference"] > 1e-7 and found["all_blocks_difference"] > 1e-7
    assert kind == "tanh" or found["one_circuit_difference"] > 1e-7


def test_ten_qubits_are_those_of_the_reference():
    layer = QuantumLayer(build_circuit(10, "amplitude")).double()
    x, theta = draw(2, 100), layer.full_theta().detach()
    expected = reference.readouts(x.numpy(), theta.numpy(), 10, "amplitude")
    found = StatevectorEngine(layer.circuit).compile(theta).readouts(x)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["amplitude", "tanh"])
def test_the_order_of_the_layers_matters(kind):
    torch.manual_seed(1)
    layers = [TanhLayer(16, 16).double() for _ in range(3)] if kind == "tanh" else layers_of(kind, 3)
    x = draw(4, 16)
    z = torch.zeros(4, 48, dtype=torch.float64)
    f = construction.tanh_blocks(layers).bind(x) if kind == "tanh" else construction.BlockNetwork(layers, x)
    for _ in range(3):
        z = f(z)
    assert torch.allclose(z, construction.untied(layers, x), atol=1e-13)
    assert (z - construction.untied(layers[::-1], x))[:, 32:].abs().max() > 1e-2
