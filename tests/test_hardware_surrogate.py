"""Observables measured once: exact where readouts are, as uncertain as counting makes them, and what is refused."""

import json
import runpy

import pytest
import torch

from circuits.circuit import build_circuit
from conftest import SCRIPTS
from engines.protocol import UnsupportedCircuit
from hardware.engine import NoisyEngine
from hardware.noise import parse_noise
from hardware.surrogate import SurrogateEngine, measured_observables
from quick_runs import train_quickly


def problem(n_wires=4):
    circuit = build_circuit(n_wires)
    return circuit, torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)


@pytest.mark.parametrize("n_wires", (4, 6))
def test_readouts_of_basis_vectors_and_pairs_say_all(n_wires):
    circuit, theta = problem(n_wires)
    exact = NoisyEngine(circuit, parse_noise("device:melbourne")).compile(theta)
    measured = measured_observables(exact, circuit.n_inputs, theta)
    assert torch.allclose(measured, exact.observables, rtol=0, atol=1e-12)


def test_counting_makes_them_as_uncertain_as_it_should():
    """Unbiased; M_ii scatters by (1 - M_ii^2) / S, M_ij by a quarter of what its sum and its difference do together."""
    circuit, theta = problem()
    shots, n = 500, 60
    draws = torch.stack([SurrogateEngine(circuit, shots, seed=seed).compile(theta).observables for seed in range(n)])
    exact = NoisyEngine(circuit, parse_noise("none")).compile(theta).observables
    assert torch.equal(draws, draws.transpose(2, 3))
    diagonal = exact.diagonal(dim1=1, dim2=2)
    variance = (1 - diagonal**2) / shots
    means = (diagonal.unsqueeze(1) + diagonal.unsqueeze(2)) / 2
    beside = ((1 - (means + exact) ** 2) + (1 - (means - exact) ** 2)) / 4 / shots
    wanted = torch.where(torch.eye(16, dtype=torch.bool), torch.diag_embed(variance), beside)
    deviations = (draws.mean(0) - exact) / (wanted / n).sqrt()
    assert deviations.abs().max() < 5
    assert float((draws - exact).square().mean(0).sum() / wanted.sum()) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("v", (torch.ones(16), torch.arange(16.0), (-1.0) ** torch.arange(16), torch.eye(16)[3]))
def test_readouts_of_any_vector_are_as_certain_as_one_circuit_makes_them(v):
    circuit, theta = problem()
    shots, n, v = 200, 150, v.double().unsqueeze(0)
    exact = NoisyEngine(circuit, parse_noise("none")).compile(theta).readouts(v)
    found = torch.cat([SurrogateEngine(circuit, shots, seed=seed).compile(theta).readouts(v) for seed in range(n)])
    assert ((found.mean(0) - exact).abs() < 5 / (shots * n) ** 0.5).all()
    assert (found.var(0) < 1.6 / shots).all()  # 1 / shots at most, and 5 sigma of n draws


def test_how_many_circuits_it_takes_and_what_has_none():
    assert SurrogateEngine(problem()[0], 1).n_circuits == 256
    assert SurrogateEngine(build_circuit(10), 1).n_circuits == 10_000
    with pytest.raises(UnsupportedCircuit, match="not of angles"):
        SurrogateEngine(build_circuit(4, "angle"), 1)


def test_the_command_measures_once_and_solves_to_the_tolerance(tmp_path, capsys):
    train_quickly(tmp_path, "run", 20)
    main = runpy.run_path(str(SCRIPTS / "hardware.py"))["main"]
    flags = ["surrogate", "--run", str(tmp_path / "run"), "--shots", "100000", "--repeat", "2", "--max_images", "50"]
    main(flags)
    found = json.loads((tmp_path / "run" / "hardware_surrogate.json").read_text())
    assert (found["circuits"], found["all_shots"], found["seeds"]) == (256, 25_600_000, [0, 1])
    assert found["counts"] == {
        "circuits": 256, "shots": 25_600_000, "rounds": 1, "jobs": 1, "circuits_calibration": 256,
    }  # fmt: skip
    assert found["res_rel"] < 1.1e-3  # no floor: the solve is classical
    assert 0 < found["error"] < 0.1 and abs(found["drop"]) < 5
    assert "| 256 | 25,600,000 |" in capsys.readouterr().out
    main([*flags, "--noise", "device:quito"])
    noisy = json.loads((tmp_path / "run" / "hardware_surrogate.json").read_text())
    assert noisy["devices"][0]["device"] == "quito" and noisy["error"] < 0.1
