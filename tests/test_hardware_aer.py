"""Simulated machines: bits in their places after routing, noise on every gate, draws, costs; `run` and `transpile`."""

import json
import runpy
from dataclasses import replace

import pytest
import torch

from circuits.circuit import build_circuit
from conftest import SCRIPTS
from hardware.channels import NoiseError
from hardware.engine import NoisyEngine
from hardware.noise import parse_noise
from quick_runs import train_quickly

pytest.importorskip("qiskit_aer", reason="Aer 0.13 needs Python < 3.13")
pytest.importorskip("qiskit_ibm_runtime", reason="Qiskit's runtime 0.20 needs Python < 3.13")
from hardware.aer import AerEngine, cost_on, machine, median_costs, noisy_gates  # noqa: E402


@pytest.fixture(scope="module")
def manila():
    return machine("manila")


def problem(encoding="amplitude"):
    circuit = build_circuit(4, encoding)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(1, circuit.n_inputs, dtype=torch.float64, generator=generator)
    return circuit, torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64), v


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_counts_of_a_routed_circuit_are_the_readouts(manila, encoding):
    circuit, theta, v = problem(encoding)
    exact = NoisyEngine(circuit, parse_noise("none")).compile(theta).readouts(v)
    shots = 20_000
    compiled = AerEngine(circuit, replace(manila, noise_model=None), shots).compile(theta)
    found = compiled.readouts(v)
    assert torch.all((found - exact).abs() < 5 * ((1 - exact**2) / shots).sqrt())
    assert compiled.circuits == 1
    noisy = AerEngine(circuit, manila, shots).compile(theta)
    assert noisy_gates(noisy.template, manila)[0] == sum(
        i.operation.name in ("sx", "x", "cx") for i in noisy.template.data
    )
    assert (noisy.readouts(v) - exact).abs().max() > 0.05
    assert not torch.equal(compiled.readouts(v), found)  # drawn anew


def test_a_machine_has_both_readout_errors_and_its_date(manila):
    (errors,) = [
        e for e in manila.noise_model.to_dict()["errors"] if e["type"] == "roerror" and e["gate_qubits"] == [(0,)]
    ]
    assert errors["probabilities"] == [[1 - 0.0572, 0.0572], [pytest.approx(0.2322), pytest.approx(1 - 0.2322)]]
    assert manila.describe()["calibrated"] == "2021-07-26"
    with pytest.raises(NoiseError, match="has no snapshot of it"):
        machine("atlantis")


def test_an_input_with_a_nan_reads_nan(manila):
    circuit, theta, v = problem("angle")
    v = v.repeat(2, 1)
    v[0, 0] = torch.nan
    found = AerEngine(circuit, manila, 10, 0).compile(theta).readouts(v)
    assert found[0].isnan().all() and found[1].isfinite().all()


def test_success_is_the_product_of_what_goes_right(manila):
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(5, 1)
    circuit.cx(0, 1)
    circuit.sx(1)
    circuit.rz(0.3, 1)
    circuit.measure(1, 0)
    target = manila.backend.target
    errors = (target["cx"][0, 1].error, target["sx"][1,].error, target["measure"][1,].error)
    wanted = (1 - errors[0]) * (1 - errors[1]) * (1 - errors[2])
    found = cost_on(circuit, manila)
    assert found["success"] == pytest.approx(wanted) and (found["two_qubit_gates"], found["depth"]) == (1, 3)
    assert median_costs(circuit, manila, 0, range(2))["duration_us"] > 0.3  # the measurement at least


def test_the_commands(manila, tmp_path, capsys):
    train_quickly(tmp_path, "run", 5)
    main = runpy.run_path(str(SCRIPTS / "hardware.py"))["main"]
    run = tmp_path / "run"
    of_run = ("--run", str(run), "--device", "manila")
    flags = ["run", *of_run, "--images", "2", "--shots", "100", "--f_thres", "2", "--optimization_level", "1"]
    main(flags)
    found = json.loads((run / "hardware_run_manila.json").read_text())
    # at 0 and after every step, and once more to measure the residual
    assert found["circuits"] == found["counts"]["circuits"] == 2 * (found["solver_steps"] + 2)
    assert found["counts"]["circuits_residual"] == 2 and 0 < found["solver_steps"] <= 2
    main([*flags, "--json", str(tmp_path / "again.json")])
    again = json.loads((tmp_path / "again.json").read_text())
    assert again | {"date": found["date"]} == found  # of one seed; another draws others
    main([*flags, "--json", str(tmp_path / "other.json"), "--seed", "1"])
    assert json.loads((tmp_path / "other.json").read_text())["error"] != found["error"]
    assert (found["device"], found["images"], found["shots"], found["calibrated"]) == ("manila", 2, 100, "2021-07-26")
    assert 0 < found["noisy_gates"] < found["gates"] and 0 < found["success"] < 1
    main(["transpile", *of_run, "--seeds", "1", "--optimization_level", "0"])
    rows = {row["part"]: row for row in json.loads((run / "hardware_transpile.json").read_text())["rows"]}
    assert rows["encoding"]["two_qubit_gates"] >= 14 and rows["ansatz"]["two_qubit_gates"] >= 18
    assert "| manila | 0 | encoding |" in capsys.readouterr().out
    for flags, status, words in (
        (["run", "--run", str(run), "--device", "atlantis"], 1, "has no snapshot of it"),
        (["run", *of_run, "--shots", "0"], 2, "argument --shots: expected an integer from 1"),
        (["run", *of_run, "--f_solver", "newton"], 1, "counts give no exact Jacobian"),
    ):
        with pytest.raises(SystemExit) as end:
            main(flags)
        error = capsys.readouterr().err
        assert (end.value.code, error.count("\n")) == (status, 1) and words in error, error
