"""Exported circuits, read back by readers that share nothing with the writer: JSON, OpenQASM 3 and Qiskit's format."""

import json
import re
import runpy

import numpy as np
import pytest
import torch

from circuits.circuit import Circuit, build_circuit
from circuits.readout import PauliReadout
from conftest import SCRIPTS
from deployment import exporting
from deployment.command_line import parse_command_line
from deployment.trained import Trained, read_trained
from engines.protocol import UnsupportedCircuit
from hardware.engine import NoisyEngine
from hardware.export import program_of, to_qasm3
from hardware.noise import parse_noise
from models.depth import Stack
from models.table import MODELS, build_model
from quick_runs import train_quickly
from reference import apply, gate_matrix
from test_models_table import settings_of

GATE = re.compile(r"^(\w+)(?:\((.+)\))? (q\[\d+\](?:, q\[\d+\])*);$")


def tree_angles(v, n_levels):
    """The rule in model.json, number by number."""
    parts = np.pad(v, (0, 2**n_levels - len(v)))
    found = []
    for level in range(n_levels):
        halves = parts.reshape(2**level, 2, -1)
        t = [2 * np.arctan2(b[0], a[0]) if len(a) == 1 else 2 * np.arctan2(np.linalg.norm(b), np.linalg.norm(a))
             for a, b in halves]  # fmt: skip
        for i in range(2**level):
            signs = [(-1) ** bin(j & (i ^ i >> 1)).count("1") for j in range(2**level)]
            found.append(np.dot(signs, t) / 2**level)
    return found


def simulated(steps, values, n_wires, strings=None):
    """Expectation values of Z, wire by wire or of strings of Z, of gates [name, wires, angle] with named angles."""
    state = np.eye(2**n_wires, 1, dtype=complex)
    for gate, wires, angle in steps:
        angle = values.get(angle, angle)
        state = apply(gate_matrix({"cx": "cnot"}.get(gate, gate), angle), tuple(wires), state)
    weights = np.abs(state[:, 0]) ** 2
    bits = np.arange(2**n_wires) >> np.arange(n_wires - 1, -1, -1)[:, None] & 1
    z = 1 - 2 * bits
    if strings is None:
        return z @ weights
    return np.array([np.prod(z[[w for w, letter in enumerate(text) if letter == "Z"]], 0) @ weights for text in strings])


def read_qasm(text):
    """Names of the inputs, and the gates."""
    lines = [line for line in text.splitlines() if not line.startswith("//")]
    assert lines[:2] == ["OPENQASM 3.0;", 'include "stdgates.inc";'] and lines[-1] == "c = measure q;"
    inputs = [line.split()[-1].rstrip(";") for line in lines if line.startswith("input float[64] ")]
    steps = []
    for match in filter(None, map(GATE.match, lines)):
        gate, angle, wires = match.groups()
        wires = [int(w) for w in re.findall(r"\d+", wires)]
        steps.append([gate, wires, angle if angle is None or angle in inputs else float(angle)])
    return inputs, steps


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train_quickly(folder, "amplitude", 20)
    train_quickly(folder, "angle", 20, "--amplitude_encoder", False)
    train_quickly(folder, "wang2022", 20, "--model", "wang2022", "--mode", "direct", "--n_layer", 1)
    return folder


def exported(run, format="qasm3"):
    runpy.run_path(str(SCRIPTS / "hardware.py"))["main"](["export", "--run", str(run), "--format", format])
    return json.loads((run / "export" / "model.json").read_text())


def trained(run):
    return read_trained(parse_command_line(["export", "--run", str(run)])).model.double()


@pytest.mark.parametrize("name", ("amplitude", "angle", "wang2022"))
def test_json_and_qasm_say_what_the_model_does(runs, name):
    content, model = exported(runs / name), trained(runs / name)
    inputs, steps = read_qasm((runs / name / "export" / "circuit.qasm").read_text())
    circuit = content["circuit"]
    assert circuit["encoding"] + circuit["ansatz"] == steps and circuit["parameters"] == inputs
    x, z = torch.randn(2, 2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = model.layer(z, x)
    logits = model.classify(ours)
    for v, state, scores in zip((x + z).numpy(), ours, logits):
        angles = tree_angles(v, 4) if inputs[0] == "angle_0" else v
        r = simulated(steps, dict(zip(inputs, angles)), 4)
        lifted = np.repeat(r, content["copies"])
        assert lifted == pytest.approx(state.detach().numpy(), abs=1e-6)  # theta was trained in single precision
        head = content["head"]
        theirs = head["weight"] @ r if name == "wang2022" else head["weight"] @ np.maximum(lifted, 0) + head["bias"]
        assert theirs == pytest.approx(scores.detach().numpy(), abs=1e-5)


def logits_of(content, x, n_layers):
    """Of one image's features, by what model.json says and nothing else."""
    circuit = content["circuit"]
    lift = np.array(content["lift"]) if "lift" in content else None
    (gain,) = re.findall(r"v = (\S*) ?z \+ x", content["layer"])
    z = np.zeros(len(x))
    for _ in range(n_layers):
        v = float(gain or 1) * z + x
        amplitudes = circuit["parameters"][0] == "angle_0"
        angles = tree_angles(v, int(np.ceil(np.log2(len(v))))) if amplitudes else v
        values = dict(zip(circuit["parameters"], angles, strict=True))
        r = simulated(circuit["encoding"] + circuit["ansatz"], values, circuit["n_wires"], circuit["readout"])
        z = np.repeat(r, content["copies"]) if lift is None else lift @ r
    head = content["head"]
    of = {"weight max(z, 0) + bias": np.maximum(z, 0), "weight max(r, 0) + bias": np.maximum(r, 0),
          "weight r + bias": r, "weight r": r}[head["logits"]]  # fmt: skip
    return head["weight"] @ of + np.array(head.get("bias", 0))


EXPORTED = {
    "qdeq": (), "wang2022": (), "alam2021": (), "alam2021_pca": (), "alam2021_vae": (),
    "qdeq angles": ("--amplitude_encoder", "False", "--z_gain", "0.3"),
    "qdeq pairs": ("--readout", "zz"), "wang2022 polygon": ("--lift", "interpolate"),
    "alam2021_pca pairs": ("--readout", "zz", "--features_per_wire", "3"),
}  # fmt: skip
REFUSED = {
    "west2024": "states of complex_amplitude encoding", "west2024_head": "states of complex_amplitude encoding",
    "dilip2022": "--model dilip2022 makes its logits otherwise", "kiwit2025": "--model kiwit2025 makes its logits otherwise",
    "dilip2022_mps": "--model dilip2022_mps makes its logits otherwise",
}  # fmt: skip


def untrained(name, *flags):
    settings = settings_of(name, *flags)
    torch.manual_seed(2)
    return Trained(settings, settings, build_model(settings).eval().double(), Stack(2), 0)


@pytest.mark.parametrize("name", EXPORTED)
def test_logits_of_every_model_that_is_exported_are_those_of_its_file(name):
    found = untrained(name.split()[0], *EXPORTED[name])
    content = json.loads(json.dumps(exporting.exported(found)[1]))
    x = torch.randn(2, found.model.layer.n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = found.model(x, found.depth).logits.detach().numpy()
    assert np.array([logits_of(content, row, 2) for row in x.numpy()]) == pytest.approx(ours, abs=1e-9)
    fitted = found.settings.model.startswith("alam2021")
    assert ("fitted to the training images and not in this file" in content["features"]) == fitted


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_model_with_a_circuit_is_refused_by_name(name):
    with pytest.raises(UnsupportedCircuit, match=REFUSED[name]) as error:
        exporting.exported(untrained(name))
    assert "\n" not in str(error.value)


def test_no_model_is_left_out():
    with_circuits = {name for name, model in MODELS.items() if model.circuit is not None}
    assert {*REFUSED} | {name.split()[0] for name in EXPORTED} == with_circuits


def test_numbers_are_whole():
    """Every digit of float64, and a tree on the wires that need it."""
    circuit = build_circuit(10)
    theta = torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)
    inputs, steps = read_qasm(to_qasm3(program_of(circuit, theta.tolist())))
    assert len(inputs) == 127
    assert sorted(a for _, _, a in steps if isinstance(a, float)) == sorted(theta.tolist())
    encoder = steps[: 127 + 126]
    assert {w for _, wires, _ in encoder for w in wires} == set(range(3, 10))
    assert sum(gate == "cx" for gate, _, _ in encoder) == 126


def test_a_readout_of_x_is_refused():
    circuit = build_circuit(4)
    other = Circuit(circuit.encoding, circuit.ansatz, PauliReadout(("XIII",)))
    with pytest.raises(UnsupportedCircuit, match="measures Z on every wire"):
        program_of(other, [0.0] * circuit.n_parameters)


def test_qiskit_reads_it_back_and_aer_measures_our_readouts(runs):
    """Without noise exactly, with noise and wrong bits within 5 sigma; also under a layout that permutes."""
    qiskit = pytest.importorskip("qiskit", reason="Qiskit 0.46 needs Python < 3.13")
    from qiskit import qpy
    from qiskit.quantum_info import Statevector
    from qiskit_aer.noise import ReadoutError

    from aer_circuits import AerSimulator, noise_model_of

    content, model = exported(runs / "amplitude", "qiskit"), trained(runs / "amplitude")
    with (runs / "amplitude" / "export" / "circuit.qpy").open("rb") as file:
        (circuit,) = qpy.load(file)
    assert circuit.metadata["bit_order"] == content["circuit"]["bit_order"]
    v = torch.randn(1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = dict(zip(content["circuit"]["parameters"], tree_angles(v[0].numpy(), 4)))
    theta, ours = model.layer.full_theta(), lambda noise: NoisyEngine(model.layer.circuit, noise, of_encoding(noise))
    bind = lambda found: found.assign_parameters({p: values[p.name] for p in found.parameters})  # noqa: E731

    # exactly: the probability of every bit string, Qiskit's most significant bit being wire 3
    exact = Statevector(bind(circuit.remove_final_measurements(inplace=False))).probabilities([3, 2, 1, 0])
    signs = 1 - 2 * (np.arange(16) >> np.array([[3], [2], [1], [0]]) & 1)
    quiet = ours(parse_noise("none")).compile(theta).readouts(v)[0]
    assert signs @ exact == pytest.approx(quiet.detach().numpy(), abs=1e-10)

    noise = parse_noise("depolarizing:0.01,readout:0.02,0.08")
    noise_model = noise_model_of(noise.channels, 5, "cx")
    noise_model.add_all_qubit_readout_error(ReadoutError([[0.98, 0.02], [0.08, 0.92]]))
    basis = {"basis_gates": ["rz", "sx", "x", "cx"], "optimization_level": 0, "seed_transpiler": 0}
    shots = 20_000
    for layout, model_of_noise, wanted in (
        (None, noise_model, ours(noise).compile(theta).readouts(v)[0]),
        ([3, 1, 0, 4], None, quiet),
    ):
        line = None if layout is None else [[a, a + 1] for a in range(4)] + [[a + 1, a] for a in range(4)]
        template = qiskit.transpile(circuit, initial_layout=layout, coupling_map=line, **basis)  # once, then bound
        simulator = AerSimulator(method="density_matrix", noise_model=model_of_noise, max_parallel_threads=1)
        counted = simulator.run(bind(template), shots=shots, seed_simulator=2).result().get_counts()
        for wire in range(4):
            found = sum((-1) ** int(bits[::-1][wire]) * n for bits, n in counted.items()) / shots
            value = wanted[wire].item()
            assert abs(found - value) < 5 * ((1 - value**2) / shots) ** 0.5 + 1e-9, (layout, wire)


def of_encoding(noise):
    """The same for the gates of the encoding; bits are misread once, after the ansatz."""
    return parse_noise(noise.text.partition(",")[0])
