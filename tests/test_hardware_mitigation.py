"""Mitigation: inverted bits against dense confusion matrices, foldings against Aer, extrapolation by its order, rescaling."""

from functools import reduce

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit, build_circuit
from circuits.readout import PauliReadout
from engines import make_engine
from engines.protocol import UnsupportedCircuit
from hardware.engine import NoisyEngine
from hardware.mitigation import MitigatedEngine, mitigated, rescaled, to_zero
from hardware.native import folded, native_gates
from hardware.noise import NoiseError, parse_noise
from test_hardware_observables import random_circuit

QUIET = parse_noise("none")


def inputs(n, n_inputs=16, seed=3):
    return torch.randn(n, n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_weights_of_the_extrapolation_take_polynomials_to_their_value_at_zero():
    for scales in ((1,), (1, 3), (1, 3, 5), (1, 2, 4, 8)):
        for degree in range(len(scales)):
            found = sum(weight * scale**degree for weight, scale in zip(to_zero(scales), scales))
            assert found == pytest.approx(float(degree == 0), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_folded_circuit_is_the_same_and_three_times_as_noisy(seed):
    circuit, theta = random_circuit(seed)
    theta.requires_grad_()
    v = inputs(3)
    once, twice = (NoisyEngine(circuit, parse_noise("damping:1e9,1e9"), folds=folds) for folds in (0, 1))
    found = [engine.compile(theta).readouts(v) for engine in (once, twice)]
    assert torch.allclose(*found, rtol=0, atol=1e-6)
    quiet = [NoisyEngine(circuit, QUIET, folds=folds).compile(theta).readouts(v) for folds in (0, 1, 2)]
    gradients = [torch.autograd.grad(readouts.sin().sum(), theta)[0] for readouts in quiet]
    for readouts, gradient in zip(quiet[1:], gradients[1:]):
        assert torch.allclose(readouts, quiet[0], rtol=0, atol=1e-12)
        assert torch.allclose(gradient, gradients[0], rtol=0, atol=1e-11)
    ansatz = sum(gate.name in ("sx", "x", "cx") for gate in native_gates(circuit.ansatz.operations))
    assert twice.n_noisy - once.n_noisy == 2 * ansatz


def test_a_folded_circuit_under_noise_is_aers():
    from aer_circuits import density_matrix, noise_model_of
    from test_hardware_observables import expectation

    circuit, theta = random_circuit(1, strings=("ZIII", "IZZI"))
    noise = parse_noise("depolarizing:0.02,damping:50,40")
    v = inputs(1)
    gates = folded(native_gates(circuit.ansatz.operations), 1)
    rho = density_matrix(gates, theta, (v[0] / v[0].norm()).numpy(), noise_model_of(noise.channels, 4, "cx"))
    theirs = torch.tensor([expectation(string, rho) for string in circuit.readout.strings])
    ours = NoisyEngine(circuit, noise, folds=1).compile(theta).readouts(v)[0]
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


def test_inverted_bits_are_those_of_the_inverse_confusion_matrices():
    """Dense: A p is what wrong bits make of the 16 probabilities, and A^-1 gives them back."""
    strings = ("ZIII", "IZZI", "ZZZZ")
    circuit = build_circuit(4)
    circuit = Circuit(circuit.encoding, circuit.ansatz, PauliReadout(strings))
    theta = torch.linspace(-2, 3, circuit.n_parameters, dtype=torch.float64)
    v, noise = inputs(4), parse_noise("readout:0.03,0.11")
    confusion = reduce(np.kron, [np.array([[0.97, 0.11], [0.03, 0.89]])] * 4)
    bits = np.arange(16)[:, None] >> np.arange(3, -1, -1) & 1
    signs = np.array([[np.prod([(-1) ** b for b, letter in zip(row, s) if letter == "Z"]) for row in bits] for s in strings])
    z_strings = ["".join("IZ"[b] for b in row) for row in bits]
    every = Circuit(circuit.encoding, circuit.ansatz, PauliReadout(z_strings))
    exact = NoisyEngine(every, QUIET).compile(theta).readouts(v).numpy()
    signs_of_all = np.array([[np.prod([(-1) ** b for b, c in zip(row, r) if c]) for row in bits] for r in bits])
    probabilities = exact @ signs_of_all / 16
    misread = probabilities @ confusion.T
    noisy = NoisyEngine(circuit, noise).compile(theta).readouts(v).numpy()
    np.testing.assert_allclose(noisy, misread @ signs.T, atol=1e-12)
    inverted = mitigated(circuit, noise, inverted=True).compile(theta).readouts(v).numpy()
    np.testing.assert_allclose(inverted, misread @ np.linalg.inv(confusion).T @ signs.T, atol=1e-12)
    assert abs(inverted - noisy).max() > 0.01


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_extrapolation_leaves_an_error_of_second_order(encoding):
    circuit = build_circuit(4, encoding)
    theta = torch.linspace(-2, 3, circuit.n_parameters, dtype=torch.float64)
    v = inputs(5)
    exact = make_engine("statevector", circuit).compile(theta).readouts(v)
    errors = {}
    for p in (2e-3, 1e-3):
        noise = parse_noise(f"depolarizing:{p}")
        engines = (mitigated(circuit, noise), mitigated(circuit, noise, extrapolated=True))
        errors[p] = [float((engine.compile(theta).readouts(v) - exact).norm()) for engine in engines]
        assert engines[1].n_circuits == 2
    (plain, zero), (plain_half, zero_half) = errors.values()
    assert 1.9 < plain / plain_half < 2.1 and 3.7 < zero / zero_half < 4.3
    assert zero < plain / 10


def test_rescaling_undoes_a_line_and_keeps_a_quadratic_form():
    circuit = build_circuit(4)
    theta = torch.linspace(-2, 3, circuit.n_parameters, dtype=torch.float64)
    v, more = inputs(20), inputs(7, seed=4)
    quiet = NoisyEngine(circuit, QUIET)
    wrong = MitigatedEngine([(1.0, quiet)], torch.tensor([0.5, 0.8, 0.9, -0.7]).double(), 0.1 * torch.ones(4).double())
    ideal = quiet.compile(theta).readouts(v)
    mended = rescaled(wrong, wrong.compile(theta).readouts(v), ideal)
    compiled = mended.compile(theta)
    assert torch.allclose(compiled.readouts(more), quiet.compile(theta).readouts(more), rtol=0, atol=1e-12)
    assert compiled.observables.shape == (4, 16, 16)  # solvers keep their closed forms
    noise = parse_noise("depolarizing:0.02,readout:0.02,0.05")
    engine = mitigated(circuit, noise)
    mended = rescaled(engine, engine.compile(theta).readouts(v), ideal)
    errors = [(e.compile(theta).readouts(more) - quiet.compile(theta).readouts(more)).norm() for e in (engine, mended)]
    assert errors[1] < errors[0] / 2
    # a readout that never changes has no slope to be told
    constant = rescaled(engine, torch.ones(3, 4), 0.5 * torch.ones(3, 4))
    assert torch.equal(constant.slope, engine.slope) and torch.allclose(constant.offset, torch.full((4,), -0.5).double())


def test_sums_are_the_same_with_and_without_the_closed_form():
    circuit = build_circuit(4)
    theta = torch.linspace(-2, 3, circuit.n_parameters, dtype=torch.float64)
    engine = mitigated(circuit, parse_noise("depolarizing:0.02,readout:0.1"), inverted=True, extrapolated=True)
    engine.slope, engine.offset = engine.slope * 0.9, engine.offset + 0.1
    closed = engine.compile(theta).readouts(inputs(3))
    parts = [part.compile(theta).readouts(inputs(3)) for part in engine.engines]
    assert torch.allclose(closed, 0.9 * (1.5 * parts[0] - 0.5 * parts[1]) + 0.1, rtol=0, atol=1e-12)


def test_what_cannot_be_mitigated_is_refused():
    circuit = build_circuit(4)
    noise = parse_noise("depolarizing:0.01")
    with pytest.raises(UnsupportedCircuit, match="zne folds the ansatz alone"):
        mitigated(circuit, noise, noise, extrapolated=True)
    with pytest.raises(NoiseError, match="read by chance"):
        mitigated(circuit, parse_noise("readout:0.5"), inverted=True)
    with pytest.raises(ValueError, match="two images or more, got 1"):
        rescaled(mitigated(circuit, noise), torch.ones(1, 4), torch.ones(1, 4))
