"""Readouts by counting: probabilities against state vectors, moments of counts, seeds, floors, refusals."""

import numpy as np
import pytest
import torch

from circuits.ansatz import from_gates
from circuits.circuit import Circuit, build_circuit
from circuits.encodings import AmplitudeEncoding
from circuits.readout import PauliReadout, z_on
from deq import SolverSettings, SolverStatus, equilibrium, solve
from engines.outcomes import walsh_hadamard
from engines.protocol import UnsupportedCircuit
from engines.statevector import applied, encoded
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.noise import parse_noise
from hardware.shots import ShotEngine, draw_counts, residual_floor
from models.quantum_layer import QuantumLayer

NONE = parse_noise("none")


def problem(n_wires=4, encoding="amplitude", batch=2):
    circuit = build_circuit(n_wires, encoding)
    theta = torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    return circuit, theta, torch.randn(batch, circuit.n_inputs, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_probabilities_are_those_of_the_state_and_of_wrong_bits(encoding):
    circuit, theta, v = problem(encoding=encoding)
    states = applied(circuit.ansatz.operations, theta, encoded(circuit, v)).reshape(len(v), -1)
    born = states.abs().square()
    quiet = ShotEngine(circuit, 10).compile(theta).probabilities(v)
    assert torch.allclose(quiet, born, rtol=0, atol=1e-12)
    confusion = torch.tensor([[0.9, 0.2], [0.1, 0.8]], dtype=torch.float64)
    all_bits = torch.eye(1, dtype=torch.float64)
    for _ in range(4):
        all_bits = torch.kron(all_bits, confusion)
    misread = ShotEngine(circuit, 10, parse_noise("readout:0.1,0.2")).compile(theta).probabilities(v)
    assert torch.allclose(misread, born @ all_bits.T, rtol=0, atol=1e-12)


def test_the_transform_is_that_of_signs():
    bits = np.arange(8)
    signs = torch.tensor([[(-1.0) ** bin(b & s).count("1") for s in bits] for b in bits], dtype=torch.float64)
    values = torch.randn(3, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(walsh_hadamard(values.T), signs @ values.T)
    assert walsh_hadamard(values[:0].T).shape == (8, 0)


def test_counts_are_multinomial():
    """Means and all covariances of many draws, a whole number of shots each, none where nothing can come up."""
    p = torch.tensor([0.0, 0.05, 0.3, 0.1, 0.25, 0.0, 0.2, 0.1], dtype=torch.float64)
    n, shots = 20_000, 50
    counts = draw_counts(p.expand(n, 8), shots, torch.Generator().manual_seed(1))
    assert torch.equal(counts.sum(1), torch.full((n,), shots, dtype=torch.float64))
    assert torch.equal(counts, counts.round()) and counts[:, [0, 5]].sum() == 0
    wanted = shots * (torch.diag(p) - torch.outer(p, p))
    assert torch.all((counts.mean(0) - shots * p).abs() <= 5 * (wanted.diagonal() / n).sqrt())
    spread = (wanted.diagonal().outer(wanted.diagonal()) + wanted.square()) / n
    assert torch.all((counts.T.cov() - wanted).abs() <= 6 * spread.sqrt())
    assert draw_counts(torch.zeros(2, 4), 10, torch.Generator()).sum() == 0
    assert draw_counts(p.expand(1, 8), 10**9, torch.Generator().manual_seed(0)).sum() == 10**9


def test_bits_of_one_shot_belong_together():
    """Three wires that are always equal: a sampler that draws wire by wire fails."""
    ansatz = from_gates(3, [("h", (0,)), ("cnot", (0, 1)), ("cnot", (1, 2))])
    circuit = Circuit(AmplitudeEncoding(3, 8), ansatz, z_on(3, (0, 1, 2)))
    v = torch.eye(1, 8).expand(200, -1)
    r = ShotEngine(circuit, 1).compile(torch.zeros(0)).readouts(v)
    assert torch.equal(r.abs(), torch.ones(200, 3)) and torch.equal(r[:, 0], r[:, 1]) and torch.equal(r[:, 0], r[:, 2])
    assert 60 < (r[:, 0] > 0).sum() < 140
    counted = ShotEngine(circuit, 100).compile(torch.zeros(0)).readouts(v)
    assert torch.equal(counted[:, 0], counted[:, 2])


@pytest.mark.parametrize("text", ("none", "device:quito"))
def test_readouts_scatter_about_the_exact_ones_as_shots_do(text):
    circuit, theta, v = problem()
    exact = NoisyEngine(circuit, parse_noise(text)).compile(theta).readouts(v[:1])
    shots, n = 200, 2000
    counted = ShotEngine(circuit, shots, parse_noise(text)).compile(theta).readouts(v[:1].expand(n, -1))
    variance = (1 - exact**2) / shots
    assert torch.all((counted.mean(0) - exact).abs() < 5 * (variance / n).sqrt())
    assert torch.allclose(counted.var(0), variance[0], rtol=0.2)


def test_every_call_draws_anew_and_every_run_the_same():
    """A frozen seed would make f deterministic, and solvers converge to a wrong point with no residual."""
    circuit, theta, v = problem()
    engine = ShotEngine(circuit, 100, seed=3)
    compiled = engine.compile(theta)
    first, second = compiled.readouts(v), compiled.readouts(v)
    assert not torch.equal(first, second)
    again = engine.compile(theta)
    assert torch.equal(again.readouts(v), first) and torch.equal(again.readouts(v), second)
    engine.step = 1
    other_step = engine.compile(theta).readouts(v)
    other_seed = ShotEngine(circuit, 100, seed=4).compile(theta).readouts(v)
    assert not torch.equal(other_step, first) and not torch.equal(other_seed, first)


def test_the_floor_of_the_residual():
    circuit, theta, x = problem(batch=400)
    layer = QuantumLayer(circuit, theta=theta)
    r, _ = equilibrium(layer.bind(x).reduced(), x.new_zeros(400, 4), SolverSettings("newton", 50, 1e-10))
    for shots in (128, 4096):
        layer.engine = ShotEngine(circuit, shots)
        residual = (layer.bind(x).reduced()(r.detach()) - r).norm(dim=1) / r.norm(dim=1)
        ratio = residual.square().mean().sqrt() / residual_floor(r, shots).square().mean().sqrt()
        assert 0.9 < float(ratio.detach()) < 1.1


def test_a_zero_vector_reads_zero():
    circuit, theta, v = problem()
    assert torch.equal(ShotEngine(circuit, 10).compile(theta).readouts(0 * v), torch.zeros(2, 4, dtype=torch.float64))


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_an_input_with_a_nan_reads_nan_as_exact_engines_do(encoding):
    """Of counts that are 0 a failed image would get a finite state."""
    circuit, theta, v = problem(encoding=encoding, batch=3)
    v[1, 2] = torch.nan
    noise, shots = parse_noise("readout:0.1"), 400
    exact = NoisyEngine(circuit, noise).compile(theta).readouts(v)
    found = ShotEngine(circuit, shots, noise).compile(theta).readouts(v)
    assert found[1].isnan().all() and exact[1].isnan().all()
    error, spread = (found - exact)[[0, 2]], ((1 - exact[[0, 2]] ** 2) / shots).sqrt()
    assert torch.all(error.abs() < 5 * spread)
    counts = draw_counts(torch.tensor([[0.5, torch.nan], [0.5, 0.5]]), 8, torch.Generator().manual_seed(0))
    assert counts[0].isnan().all() and counts[1].sum() == 8


def test_what_cannot_be_counted_is_refused():
    circuit, theta, _ = problem()
    with pytest.raises(ValueError, match="one shot or more, got 0"):
        ShotEngine(circuit, 0)
    with pytest.raises(UnsupportedCircuit, match="for strings of Z, and the readout has others"):
        ShotEngine(Circuit(circuit.encoding, circuit.ansatz, PauliReadout(("XIII",))), 10)
    with pytest.raises(UnsupportedCircuit, match="noisy shots of 10 wires need 8.0 GiB"):
        ShotEngine(build_circuit(10, "angle"), 10, parse_noise("readout:0.1"))
    assert ShotEngine(build_circuit(10, "angle"), 10).shots == 10


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_without_noise_probabilities_are_the_noisy_engines(encoding):
    """What the compiled engine gives of all strings, and what pulling each of them back through no noise gives."""
    circuit, theta, v = problem(6, encoding)
    engine = ShotEngine(circuit, 10)
    found = engine.compile(theta).probabilities(v)
    engine.exact = NoisyEngine(engine.exact.circuit, NO_NOISE)
    torch.testing.assert_close(found, engine.compile(theta).probabilities(v), rtol=0, atol=1e-12)


def test_solvers_know_how_wrong_counts_are():
    """The floor of a solve is what fresh counts show at the exact equilibrium, within 10 %; samples stop there."""
    torch.manual_seed(0)
    circuit = build_circuit(4)
    layer = QuantumLayer(circuit, "compiled").double()
    x = torch.rand(300, 16, dtype=torch.float64)
    exact = solve(layer.bind(x).reduced(), torch.zeros(300, 4).double(), SolverSettings("broyden", 50, 1e-10)).z
    layer.engine = ShotEngine(circuit, 512)
    h = layer.bind(x).reduced()
    at_exact = solve(h, exact, SolverSettings("fixed_point", 0, 0.0, "abs"))
    measured = at_exact.abs_residual.square().mean().sqrt()
    assert at_exact.floor.square().mean().sqrt() == pytest.approx(float(measured), rel=0.1)
    for name in ("broyden", "anderson", "fixed_point"):
        found = solve(h, torch.zeros(300, 4).double(), SolverSettings(name, 10, 1e-3))
        assert (found.status == SolverStatus.AT_FLOOR).float().mean() > 0.8 and found.steps.double().mean() < 6
    averaged = solve(h, torch.zeros(300, 4).double(), SolverSettings("averaged", 60, 0.0))
    assert (averaged.z - exact).norm(dim=1).mean() < 0.4 * (found.z - exact).norm(dim=1).mean()
