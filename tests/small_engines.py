"""Engines, arguments and the reference's readouts, for the tests of the engines."""

import math

import numpy as np
import pytest
import torch

import engines
import reference
from circuits.circuit import build_circuit
from engines.compiled import CompiledEngine

ENCODINGS = ("amplitude", "angle")  # of n_wires^2 inputs
ENGINES = ("compiled", "torchquantum", "statevector")
WIRES = (4, 6, 10)
PAIRS = [(n, encoding) for n in WIRES for encoding in ENCODINGS]


def compiled_float64(n_wires: int, encoding: str) -> CompiledEngine:
    return CompiledEngine(build_circuit(n_wires, encoding)).double()


def make_engine(name: str, n_wires: int, encoding: str):
    if name == "torchquantum":
        pytest.importorskip("torchquantum")
    return engines.make_engine(name, build_circuit(n_wires, encoding))


def draw(n_wires: int, batch: int = 2, dtype=torch.float64, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """z in [-1, 1] as readouts are, x like standardised pixels, theta anywhere on the circle."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.rand(batch, n_wires**2, generator=generator, dtype=dtype) - 1
    x = torch.randn(batch, n_wires**2, generator=generator, dtype=dtype)
    theta = math.pi * (2 * torch.rand(reference.n_parameters(n_wires), generator=generator, dtype=dtype) - 1)
    return z, x, theta


def reference_readouts(z, x, theta, n_wires: int, encoding: str) -> np.ndarray:
    return reference.readouts(z.numpy() + x.numpy(), theta.numpy(), n_wires, encoding)
