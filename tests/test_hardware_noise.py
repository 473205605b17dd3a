"""Noise as data: the grammar of --noise, channels that are channels, devices and their numbers, what is refused."""

import json

import numpy as np
import pytest

from circuits.circuit import build_circuit
from circuits.operations import GATES, Operation
from hardware import transfer
from hardware.channels import CHANNELS, Coherent, Damping, Depolarizing, NoiseError, Readout
from hardware.devices import FOLDER, Device, known_devices, read_device
from hardware.engine import NoisyEngine
from hardware.mitigation import mitigated
from hardware.native import TWO_WIRES, NativeGate, counts, native_gates, scheduled
from hardware.noise import parse_noise, refuse_small_machines
from hardware.shots import ShotEngine
from hardware.snapshots import device_of_snapshot
from reference import gate_matrix

# what was read off the snapshots by hand: date, T1, T2 in us, SX error, gate on two wires, its error and ns, readout
TABLE = {
    "quito": ("2021-03-15", 60, 27, 1.6e-3, "cx", 3.6e-2, 324, 0.012, 0.068),
    "yorktown": ("2021-03-15", 48, 25, 1.3e-3, "cx", 2.1e-2, 473, 0.049, 0.078),
    "belem": ("2021-03-15", 78, 64, 3.3e-4, "cx", 1.4e-2, 501, 0.010, 0.055),
    "manila": ("2021-07-26", 109, 37, 4.6e-4, "cx", 1.0e-2, 345, 0.012, 0.038),
    "santiago": ("2021-03-15", 128, 99, 1.8e-4, "cx", 6.0e-3, 469, 0.011, 0.018),
    "melbourne": ("2021-03-15", 53, 55, 1.1e-3, "cx", 2.9e-2, 900, 0.019, 0.070),
    "guadalupe": ("2021-04-20", 72, 88, 3.1e-4, "cx", 1.0e-2, 380, 0.006, 0.026),
    "kolkata": ("2021-12-09", 111, 83, 2.0e-4, "cx", 7.5e-3, 380, 0.008, 0.009),
    "sherbrooke": ("2023-01-03", 304, 162, 2.2e-4, "ecr", 7.4e-3, 533, 0.010, 0.012),
    "torino": ("2025-02-26", 185, 141, 2.7e-4, "cz", 4.1e-3, 68, 0.020, 0.023),
    "marrakesh": ("2025-02-26", 197, 118, 2.3e-4, "cz", 3.2e-3, 68, 0.005, 0.013),
    "kingston": ("2026-04-15", 283, 144, 2.3e-4, "cz", 1.8e-3, 68, 0.009, 0.012),
    "aachen": ("2026-04-17", 232, 255, 1.9e-4, "cz", 1.5e-3, 68, 0.006, 0.007),
}
EACH = (
    "depolarizing:0.3", "depolarizing:0.02,0.05", "damping:50,80,40,400", "coherent:0.2,3", "device:quito",
    "device:sherbrooke", "device:aachen", "device:manila,depolarizing:0.01,coherent:0.1,x2",
)  # fmt: skip


def unitary(gates, theta, n_wires):
    """The matrix of native gates, wire 0 first."""
    product = np.eye(2**n_wires, dtype=complex)
    for gate in gates:
        if gate.name == "rz":
            angle = gate.angle + (0 if gate.parameter is None else gate.scale * theta[gate.parameter])
            matrix = np.diag(np.exp([-0.5j * angle, 0.5j * angle]))
        else:
            matrix = transfer.UNITARIES[gate.name]
        order = [*gate.wires, *(w for w in range(n_wires) if w not in gate.wires)]
        whole = np.kron(matrix, np.eye(2 ** (n_wires - len(gate.wires)))).reshape((2,) * 2 * n_wires)
        back = np.argsort(order)
        whole = whole.transpose(*back, *(n_wires + back)).reshape(2**n_wires, -1)
        product = whole @ product
    return product


@pytest.mark.parametrize("two_wires", TWO_WIRES)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("angle", (0.0, 0.7, -2.9, np.pi))
def test_every_gate_in_native_gates_is_the_gate(gate, two_wires, angle):
    wires = (0,) if GATES[gate].n_wires == 1 else (0, 1)
    operation = Operation(gate, wires, 0 if GATES[gate].has_angle else None)
    gates = native_gates([operation], two_wires)
    assert {g.name for g in gates} <= {"rz", "sx", "x", two_wires}
    found, wanted = unitary(gates, [angle], len(wires)), gate_matrix(gate, angle)
    assert abs(np.trace(found.conj().T @ wanted)) / len(wanted) == pytest.approx(1, abs=1e-12)  # up to a phase


def test_a_transfer_matrix_is_what_it_says():
    for name, matrix in transfer.UNITARIES.items():
        paulis = transfer.pauli_products(len(matrix) // 2)
        for i, j in ((1, 2), (2, 3), (3, 1), (len(paulis) - 1, 1)):
            entry = np.trace(paulis[i] @ matrix @ paulis[j] @ matrix.conj().T).real / len(matrix)
            assert transfer.GATES[name][i, j] == pytest.approx(entry, abs=1e-15)


@pytest.mark.parametrize("text", EACH)
def test_noise_is_a_channel_that_keeps_the_trace_and_is_completely_positive(text):
    noise = parse_noise(text)
    for gate in (NativeGate("sx", (0,)), NativeGate("x", (1,)), NativeGate(noise.two_wires, (2, 1))):
        matrix = noise.after(gate)
        assert np.allclose(matrix[0], np.eye(len(matrix))[0], rtol=0, atol=1e-14)
        paulis = transfer.pauli_products(len(gate.wires))
        choi = np.einsum("ij,jba,icd->acbd", matrix, paulis, paulis) / len(matrix)
        size = 4 ** len(gate.wires)
        assert np.linalg.eigvalsh(choi.reshape(size, size)).min() > -1e-12


def test_the_strength_scales_chances_rates_and_angles():
    weak = parse_noise("depolarizing:0.1,damping:100,80,50,500,readout:0.02,0.05,coherent:0.4,x0.5")
    assert weak.channels[0] == Depolarizing(0.05, 0.005)
    same = parse_noise("damping:200,160,50,500").channels[0]
    assert np.allclose(weak.channels[1].on_gate("cx", (0, 1)), same.on_gate("cx", (0, 1)), rtol=0, atol=1e-15)
    assert weak.channels[2:] == (Readout(0.01, 0.025), Coherent(0.2))
    assert np.allclose(
        parse_noise("device:aachen,x3").readout(0), (1 - 3 * (0.006348 + 0.006592), 3 * (0.006592 - 0.006348))
    )


def test_two_readout_errors_act_one_after_the_other():
    slope, offset = parse_noise("readout:0.1,0.2,readout:0.05,0.03").readout(0)
    for z in (1, -1):
        p = np.array([1 + z, 1 - z]) / 2
        for one, zero in ((0.1, 0.2), (0.05, 0.03)):
            p = np.array([(1 - one) * p[0] + zero * p[1], one * p[0] + (1 - zero) * p[1]])
        assert slope * z + offset == pytest.approx(p[0] - p[1])


# traps


def test_conventions_of_depolarising_are_told_apart():
    """Aer's chance p, the average infidelity p (d - 1) / d, the chance of a Pauli error p (d^2 - 1) / d^2."""
    for n_wires, size in ((1, 2), (2, 4)):
        matrix = transfer.depolarizing(0.04, n_wires)
        assert transfer.average_infidelity(matrix) == pytest.approx(0.04 * (size - 1) / size)
        paulis = transfer.pauli_products(n_wires)
        of_pauli = sum(transfer.of_kraus(p) for p in paulis[1:]) / (size**2 - 1)
        chance = 0.04 * (size**2 - 1) / size**2
        assert np.allclose(matrix, (1 - chance) * np.eye(size**2) + chance * of_pauli)


@pytest.mark.parametrize("name", TABLE)
def test_a_devices_gates_have_its_calibrated_errors(name):
    device = read_device(name)
    for gate, wires, error in (("sx", (0,), device.sx_error), (device.two_wires, (0, 1), device.two_wires_error)):
        relaxed = device.on_delay(0, device.time(gate))
        relaxed = relaxed if len(wires) == 1 else np.kron(relaxed, relaxed)
        wanted = max(error, transfer.average_infidelity(relaxed))
        assert transfer.average_infidelity(device.on_gate(gate, wires)) == pytest.approx(wanted, rel=1e-9)


def test_controlled_rotations_count_as_two_gates_and_no_angle_takes_a_gate_away():
    for n_wires, n_two in ((4, 18), (10, 22)):
        ansatz = build_circuit(n_wires).ansatz
        gates = native_gates(ansatz.operations)
        assert counts(gates)["cx"] == n_two
        assert n_two == sum({"cnot": 1, "crx": 2}.get(o.gate, 0) for o in ansatz.operations)


def test_wires_that_wait_are_damped_only_where_asked_for():
    gates = [NativeGate("cx", (0, 1)), NativeGate("sx", (0,)), NativeGate("cx", (1, 2))]
    timed = parse_noise("damping:100,80,40,400,idle").timed(gates, 3)
    assert [g for g in timed if g.name != "delay"] == gates
    assert [(g.wires[0], g.time) for g in timed if g.name == "delay"] == [(2, 400.0), (0, 360.0)]
    assert parse_noise("damping:100,80,40,400").timed(gates, 3) == gates
    assert parse_noise("damping:100,80,40,400,idle").after(NativeGate("delay", (0,), time=500.0)) == pytest.approx(
        transfer.relaxation(100, 80, 0.5)
    )


def test_the_schedule_is_that_of_qiskit():
    qiskit = pytest.importorskip("qiskit", reason="Qiskit 0.46 needs Python < 3.13")
    from aer_circuits import circuit_of

    times = {"rz": 0, "sx": 40, "x": 40, "cx": 400}
    ansatz = build_circuit(4).ansatz
    gates = native_gates(ansatz.operations)
    theta = np.linspace(-3, 3, ansatz.n_parameters)
    # something first on every wire, since Qiskit waits only where a wire is no longer |0>
    gates = [*(NativeGate("x", (wire,)) for wire in range(4)), *gates]
    ours = [0.0] * 4
    for gate in scheduled(gates, 4, times.get):
        ours[gate.wires[0]] += gate.time
    circuit = circuit_of(gates, theta, 4, 4)
    circuit.measure(range(4), range(4))
    found = qiskit.transpile(
        circuit, scheduling_method="alap", optimization_level=0, dt=1e-9,
        instruction_durations=[(n, None, t) for n, t in {**times, "measure": 1000}.items()],
    )  # fmt: skip
    theirs = [0.0] * 4
    for instruction in found.data:
        if instruction.operation.name == "delay":
            theirs[found.find_bit(instruction.qubits[0]).index] += instruction.operation.duration
    assert ours == theirs and max(ours) > 0


# devices


def test_devices_have_the_numbers_of_the_table():
    assert set(known_devices()) == set(TABLE)
    for name, (day, t1, t2, sx, two_wires, error, time, one, zero) in TABLE.items():
        device = read_device(name)
        assert (device.calibrated, device.two_wires) == (day, two_wires)
        numbers = (device.T1_us, device.T2_us, device.sx_error, device.two_wires_error, device.two_wires_ns)
        assert numbers == pytest.approx((t1, t2, sx, error, time), rel=0.05), name
        assert (device.readout_1_for_0, device.readout_0_for_1) == pytest.approx((one, zero), abs=6e-4), name
        assert device.describe()["source"].startswith("qiskit-ibm-runtime")


def test_device_files_are_what_the_snapshots_say_with_both_readout_errors():
    pytest.importorskip("qiskit_ibm_runtime", reason="Qiskit's runtime 0.20 needs Python < 3.13")
    for name in known_devices():
        kept = json.loads((FOLDER / f"{name}.json").read_text())
        if kept["source"].startswith("qiskit-ibm-runtime 0.20.0"):
            assert device_of_snapshot(name) == kept
            assert kept["readout_1_for_0"] < kept["readout_0_for_1"]
    with pytest.raises(NoiseError, match="has no snapshot of atlantis"):
        device_of_snapshot("atlantis")


def test_a_file_of_ones_own_may_have_a_number_for_each_wire(tmp_path):
    content = json.loads((FOLDER / "manila.json").read_text())
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content | {"T1_us": [90, 20], "readout_1_for_0": [0.1, 0.2], "name": "mine"}))
    noise = parse_noise(f"{path},idle")
    assert isinstance(noise.channels[0], Device) and noise.idle
    assert noise.channels[0].on_delay(1, 100.0)[3, 3] == pytest.approx(np.exp(-0.1 / 20))
    assert noise.readout(1) == pytest.approx((1 - 0.2 - 0.0382, 0.0382 - 0.2))
    with pytest.raises(NoiseError, match="mine has numbers of 2 wires, the circuit a wire 2"):
        noise.readout(2)


@pytest.mark.parametrize("noise, of_encoding", [("device:manila", "none"), ("none", "device:manila,x0.5")])
def test_a_circuit_larger_than_the_machine_is_refused(noise, of_encoding):
    """Of the ansatz's noise and of the encoding's, in every engine; the five qubits of manila hold five wires."""
    noises = parse_noise(noise), parse_noise(of_encoding)
    for build in (NoisyEngine, mitigated, lambda circuit, *both: ShotEngine(circuit, 10, *both)):
        with pytest.raises(NoiseError, match="device:manila has 5 qubits, the circuit 6 wires") as error:
            build(build_circuit(6), *noises)
        assert "\n" not in str(error.value)
    refuse_small_machines(5, *noises)
    with pytest.raises(NoiseError, match="5 qubits, the circuit 6 wires"):
        refuse_small_machines(6, *noises)


@pytest.mark.parametrize("name", ("guadalupe", "sherbrooke", "aachen"))
def test_machines_of_the_study_hold_ten_wires(name):
    NoisyEngine(build_circuit(10), parse_noise(f"device:{name}"))


# refusals


@pytest.mark.parametrize("text, words", [
    ("device:atlantis", "atlantis is not known; known: aachen, belem"),
    ("thermal:1", "'thermal:1' is not known; known: depolarizing, damping"),
    ("", "'' is not known"),
    ("0.1", "'0.1' is not known"),
    ("depolarizing:1.5", "from 0 to 1, got 1.5"),
    ("depolarizing:-0.1", "from 0 to 1, got -0.1"),
    ("depolarizing:nan", "takes up to 2 numbers"),
    ("depolarizing", "takes up to 2 numbers, two_wires, one_wire"),
    ("depolarizing:0.1,0.1,0.1", "takes up to 2 numbers"),
    ("depolarizing:0.4,x3", "3 times as strong, .* got 1.2"),
    ("readout:0.1,2", "from 0 to 1, got 2"),
    ("damping:10,21", "T2 is at most 2 T1.*got T1 10 us and T2 21 us"),
    ("damping:10", "more numbers are needed of t1, t2"),
    ("damping:0,10", "times above 0"),
    ("coherent:-1", "an angle from 0 on"),
    ("coherent:0.1,0.5", "a whole number"),
    ("readout:0.1,idle", "idle needs T1, T2 and times"),
    ("device:manila,device:aachen", "different gates on two wires"),
    ("nowhere.json", "nowhere.json cannot be read"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(text, words):
    with pytest.raises(NoiseError, match=words) as error:
        parse_noise(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change, words", [
    ({"T2_us": 500.0}, "T2 is at most 2 T1"),
    ({"sx_error": 1.5}, "gate errors are probabilities"),
    ({"readout_0_for_1": [0.1, -1]}, "readout errors are probabilities"),
    ({"two_wires": "swap"}, "two_wires is one of cx, cz, ecr"),
    ({"T1_us": "long"}, "T1_us cannot be 'long'"),
    ({"T3_us": 1}, "'T3_us', which is not known"),
    ({"source": None}, "lacks source"),
    ({"sx_error": [0.1, 0.2]}, r"sx_error cannot be \[0.1, 0.2\]"),
    ({"T1_us": []}, r"T1_us cannot be \[\]"),
    ({"max_shots": 0}, "max_shots is above 0, got 0"),
    ({"max_circuits": 0.5}, "max_circuits cannot be 0.5"),
    (None, "describes no machine"),
])  # fmt: skip
def test_a_file_that_describes_no_machine_is_refused(tmp_path, change, words):
    content = json.loads((FOLDER / "manila.json").read_text())
    if change is None:
        content = [content]
    else:
        content = {key: value for key, value in (content | change).items() if value is not None}
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(NoiseError, match=words):
        parse_noise(str(tmp_path / "bad.json"))


def test_every_channel_is_tested_here():
    assert {text.partition(":")[0] for text in EACH} | {"readout"} == {*CHANNELS, "device"}
    assert Damping(1, 1).time("rz") == 0
