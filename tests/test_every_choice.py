"""Every ansatz with every readout, encoding and injection that has a name: all engines, values and slopes of f(z; x).

Held to the statevector engine, which `test_any_circuit.py` and `test_injection.py` hold to dense matrices.
"""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from circuits import Circuit, build_circuit
from circuits.ansatz import ANSATZE
from circuits.readout import READOUTS
from models.quantum_layer import QuantumLayer
from test_any_circuit import assert_near, numbers

KINDS = [(encoding, injection) for injection in ("add", "concatenate") for encoding in ("amplitude", "angle")]
# each choice of one thing meets each of another
PAIRS = [
    (ansatz, readout, KINDS[(i + j) % len(KINDS)])
    for i, ansatz in enumerate(ANSATZE)
    for j, readout in enumerate(READOUTS)
]


def made(ansatz: str, readout: str, kind: tuple[str, str], n_blocks: int) -> Circuit:
    encoding, injection = kind
    more = {"n_random_operations": 12} if ansatz == "paper" else {}
    return build_circuit(4, encoding, ansatz, readout, injection=injection, n_blocks=n_blocks, **more)


def values_and_slopes(engine: str, circuit: Circuit, seed: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """f(z; x), and the slopes of a sum of its entries with random weights in z, x and theta, in float64."""
    _, theta, _ = numbers(circuit, seed)
    layer = QuantumLayer(circuit, engine, theta.to(dtype), z_gain=0.7)
    draw = torch.Generator().manual_seed(seed)
    sizes = layer.width, layer.n_inputs, layer.width
    z, x, weights = (torch.randn(2, n, generator=draw, dtype=torch.float64).to(dtype) for n in sizes)
    z.requires_grad_()
    x.requires_grad_()
    value = layer(z, x)
    slopes = torch.autograd.grad((value * weights).sum(), (z, x, layer.theta))
    return [found.detach().double() for found in (value, *slopes)]


def check_engines(circuit: Circuit, seed: int) -> list[torch.Tensor]:
    """All three agree on the values and slopes that are returned."""
    expected = values_and_slopes("statevector", circuit, seed, torch.float64)
    assert_near(values_and_slopes("compiled", circuit, seed, torch.float64), expected, 1e-10)
    assert_near(values_and_slopes("torchquantum", circuit, seed, torch.float32), expected, 1e-4)
    return expected


@pytest.mark.parametrize("ansatz, readout, kind", PAIRS)
def test_two_blocks_of_every_pair_of_choices(ansatz, readout, kind):
    pytest.importorskip("torchquantum")
    assert all(found.abs().max() > 1e-3 for found in check_engines(made(ansatz, readout, kind, 2), 3))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([*ANSATZE]), st.sampled_from([*READOUTS]), st.sampled_from(KINDS), st.integers(1, 3))
def test_any_choice(ansatz, readout, kind, n_blocks):
    pytest.importorskip("torchquantum")
    check_engines(made(ansatz, readout, kind, n_blocks), n_blocks)
