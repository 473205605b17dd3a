"""Quantum layers and vectors for them, for the tests of the layer."""

import pytest
import torch

from circuits.circuit import build_circuit
from models.quantum_layer import QuantumLayer

ENCODINGS = ("amplitude", "angle")  # of n_wires^2 inputs
ENGINES = ("compiled", "torchquantum", "statevector")
FACES = [(engine, encoding) for engine in ENGINES for encoding in ENCODINGS]


def make_layer(n_wires=4, engine="compiled", encoding="amplitude", trainable_gates="all", seed=0):
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    torch.manual_seed(seed)
    return QuantumLayer(build_circuit(n_wires, encoding, trainable_gates=trainable_gates), engine)


def draw(n_wires=4, batch=3, dtype=torch.float32, seed=0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.rand(batch, n_wires**2, generator=generator, dtype=dtype) - 1
    return z, torch.randn(batch, n_wires**2, generator=generator, dtype=dtype)
