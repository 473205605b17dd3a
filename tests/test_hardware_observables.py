"""Exact noisy readouts: against Aer's density matrices and counts, against the other engines, and their derivatives."""

import numpy as np
import pytest
import torch

from circuits.ansatz import from_gates
from circuits.circuit import Circuit, build_circuit
from circuits.encodings import AmplitudeEncoding, AngleEncoding
from circuits.operations import GATES, Operation
from circuits.readout import PauliReadout, z_on
from deq import SolverSettings
from engines import make_engine
from engines.protocol import UnsupportedCircuit
from hardware import observables
from hardware.counted import CountedEngine
from hardware.engine import NoisyEngine
from hardware.native import native_gates
from hardware.noise import parse_noise
from hardware.shots import ShotEngine
from models.depth import Equilibrium
from models.lift import projection
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer
from reference import X, Y, Z

NOISES = (
    "depolarizing:0.05", "depolarizing:0.02,0.03", "damping:20,25,60,700", "coherent:0.15,2", "device:quito,x2",
    "device:sherbrooke", "device:aachen", "damping:30,40,60,700,depolarizing:0.02,coherent:0.1",
)  # fmt: skip
STRINGS = ("ZIII", "IIZI", "ZIZZ", "XIII", "IYXI", "YZIX")


def random_circuit(seed, n_wires=4, n_gates=14, strings=STRINGS, encoding=None):
    """Every gate twice, in random order on random wires."""
    draw = np.random.default_rng(seed)
    names = draw.permutation([*GATES] * (n_gates // len(GATES)))
    gates = [(str(name), tuple(map(int, draw.permutation(n_wires)[: GATES[str(name)].n_wires]))) for name in names]
    ansatz = from_gates(n_wires, gates)
    theta = torch.tensor(draw.uniform(-np.pi, np.pi, ansatz.n_parameters))
    return Circuit(encoding or AmplitudeEncoding(n_wires, 2**n_wires), ansatz, PauliReadout(strings)), theta


def expectation(string, rho):
    matrix = np.eye(1)
    for letter in string:
        matrix = np.kron(matrix, {"I": np.eye(2), "X": X, "Y": Y, "Z": Z}[letter])
    return np.trace(matrix @ rho).real


def of_aer(circuit, theta, v, noise):
    """The readouts of Aer's density matrices, (B, K); X and Y are read without the gates that turn them."""
    from aer_circuits import density_matrix, noise_model_of

    gates = native_gates(circuit.ansatz.operations, noise.two_wires)
    model = noise_model_of(noise.channels, circuit.n_wires, noise.two_wires)
    found = []
    for amplitudes in (v / v.norm(dim=1, keepdim=True)).numpy():
        state = np.pad(amplitudes, (0, 2**circuit.n_wires - len(amplitudes)))
        rho = density_matrix(gates, theta, state, model)
        found.append([expectation(string, rho) for string in circuit.readout.strings])
    return torch.tensor(found)


@pytest.mark.parametrize("text", NOISES)
def test_readouts_are_those_of_aers_density_matrix(text):
    noise = parse_noise(text)
    for seed in range(2):
        circuit, theta = random_circuit(seed, strings=("ZIII", "IIZI", "ZIZZ", "IIIZ"))
        theta = theta if seed else 0 * theta  # no angle takes a gate, and its noise, away
        v = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        engine = NoisyEngine(circuit, noise)
        ours = engine.compile(theta).readouts(v)
        # bits that a device misreads are in ours, not in a density matrix
        slopes, offsets = zip(*(noise.readout(wire) for wire in range(4)))
        theirs = of_aer(circuit, theta, v, noise)
        if any(offsets) or set(slopes) != {1.0}:
            single = [0, 1, 3]
            s, o = slopes[0], offsets[0]
            assert torch.allclose(ours[:, single], s * theirs[:, single] + o, rtol=0, atol=1e-10)
        else:
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-10)


def test_all_observables_of_the_papers_circuit_are_aers_on_basis_states_and_pairs():
    noise = parse_noise("depolarizing:0.02,damping:50,40")
    circuit = build_circuit(4)
    theta = torch.linspace(-3, 3, circuit.n_parameters, dtype=torch.float64)
    observables_ours = NoisyEngine(circuit, noise).compile(theta).observables
    draw = np.random.default_rng(0)
    pairs = [(int(a), int(b)) for a, b in draw.integers(0, 16, (3, 2))]
    v = torch.zeros(len(pairs), 16, dtype=torch.float64)
    for row, (a, b) in enumerate(pairs):
        v[row, a] += 1
        v[row, b] += 1
    ours = torch.einsum("bi,kij,bj->bk", v, observables_ours, v) / v.square().sum(1, keepdim=True)
    assert torch.allclose(ours, of_aer(circuit, theta, v, noise), rtol=0, atol=1e-10)


def test_six_wires_of_which_some_are_read_and_some_amplitudes_given():
    noise = parse_noise("damping:20,30,depolarizing:0.03")
    circuit, theta = random_circuit(5, 6, 21, ("ZIIIII", "IIIIZZ"), AmplitudeEncoding(6, 19))
    v = torch.randn(1, 19, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = NoisyEngine(circuit, noise).compile(theta).readouts(v)
    assert torch.allclose(ours, of_aer(circuit, theta, v, noise), rtol=0, atol=1e-10)


def test_wires_that_wait_lose_what_aer_says():
    """Delays as operations of their own in Aer, with the relaxation of their time."""
    from aer_circuits import density_matrix, noise_model_of

    waiting, busy = (parse_noise("damping:20,15,60,700" + idle) for idle in (",idle", ""))
    circuit, theta = random_circuit(3, strings=("ZIII", "IZII", "IIZI", "IIIZ"))
    v = torch.randn(1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gates = waiting.timed(native_gates(circuit.ansatz.operations), 4)
    rho = density_matrix(gates, theta, (v / v.norm())[0], noise_model_of(waiting.channels, 4, "cx"), (20, 15))
    ours, without = (NoisyEngine(circuit, noise).compile(theta).readouts(v)[0] for noise in (waiting, busy))
    assert ours.tolist() == pytest.approx([expectation(string, rho) for string in circuit.readout.strings], abs=1e-10)
    assert (ours - without).abs().max() > 1e-3


def test_wrong_bits_are_in_the_readouts_as_in_aers_counts():
    """Asymmetric, so that a transposed confusion matrix fails; strings of several bits, errors of which are joint."""
    from qiskit_aer.noise import ReadoutError

    from aer_circuits import AerSimulator, circuit_of, noise_model_of

    noise = parse_noise("depolarizing:0.03,readout:0.02,0.11")
    circuit, theta = random_circuit(7, strings=("ZIII", "IZII", "IIZI", "IIIZ", "ZIZI", "ZZZZ"))
    gates = native_gates(circuit.ansatz.operations)
    model = noise_model_of(noise.channels, 4, "cx")
    model.add_all_qubit_readout_error(ReadoutError([[0.98, 0.02], [0.11, 0.89]]))
    native = circuit_of(gates, theta, 4, 4)
    native.measure(range(4), range(4))
    shots = 20_000
    simulator = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    counted = simulator.run(native, shots=shots, seed_simulator=1).result().get_counts()
    ours = NoisyEngine(circuit, noise).compile(theta).readouts(torch.eye(1, 16, dtype=torch.float64))[0]
    for value, string in zip(ours.tolist(), circuit.readout.strings):
        signs = {bits: (-1) ** sum(bits[::-1][w] == "1" for w in range(4) if string[w] == "Z") for bits in counted}
        found = sum(signs[bits] * n for bits, n in counted.items()) / shots
        assert abs(found - value) < 5 * ((1 - value**2) / shots) ** 0.5, string
    silent = parse_noise("depolarizing:0.03")
    without = NoisyEngine(circuit, silent).compile(theta).readouts(torch.eye(1, 16, dtype=torch.float64))[0]
    assert (ours - without).abs().max() > 0.05


# against the other engines


@pytest.mark.parametrize("two_wires", ("cx", "cz", "ecr"))
@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_without_noise_the_readouts_are_those_of_the_state_vector(encoding, two_wires):
    device = {"cx": "none", "cz": "device:aachen,x1e-13", "ecr": "device:sherbrooke,x1e-13"}[two_wires]
    angles = AngleEncoding(
        4,
        [
            Operation(gate, (wire,), parameter)
            for gate, wire, parameter in (
                ("ry", 0, 0),
                ("h", 1, None),
                ("rz", 1, 1),
                ("sx", 2, None),
                ("rx", 2, 2),
                ("rx", 0, 1),
            )
        ],
    )
    circuit, theta = random_circuit(11, encoding=None if encoding == "amplitude" else angles)
    v = torch.randn(3, circuit.n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = NoisyEngine(circuit, parse_noise(device)).compile(theta).readouts(v)
    assert torch.allclose(ours, make_engine("statevector", circuit).compile(theta).readouts(v), rtol=0, atol=1e-11)


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
def test_ten_wires_string_by_string_in_both_precisions(encoding):
    circuit = build_circuit(10, encoding)
    theta = torch.linspace(-3, 3, circuit.n_parameters)
    v = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    engine = NoisyEngine(circuit, parse_noise("none"))
    single, double = (engine.compile(theta.to(t)).readouts(v.to(t)) for t in (torch.float32, torch.float64))
    reference = make_engine("compiled", circuit).double().compile(theta.double()).readouts(v.double())
    assert single.dtype == torch.float32
    assert torch.allclose(double, reference, rtol=0, atol=1e-12)
    assert torch.allclose(single.double(), reference, rtol=0, atol=1e-5)


def test_one_string_at_a_time_gives_the_same(monkeypatch):
    circuit, theta = random_circuit(2)
    engine = NoisyEngine(circuit, parse_noise("device:manila,coherent:0.1"))
    together = engine.compile(theta).observables
    monkeypatch.setattr(observables, "TOGETHER", 0)
    assert torch.allclose(engine.compile(theta).observables, together, rtol=0, atol=1e-14)


def test_noisy_angles_are_aers():
    from aer_circuits import density_matrix, noise_model_of

    noise, of_encoding = parse_noise("depolarizing:0.04"), parse_noise("damping:15,20,60,700,coherent:0.1")
    operations = [
        Operation(g, (w,), p) for p, (g, w) in enumerate((("ry", 0), ("rz", 0), ("rx", 1), ("rx", 0), ("ry", 3)))
    ]
    circuit, theta = random_circuit(4, strings=("ZIII", "IZZI", "IIIZ"), encoding=AngleEncoding(4, operations))
    v = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours = NoisyEngine(circuit, noise, of_encoding).compile(theta).readouts(v)
    quiet = NoisyEngine(circuit, noise).compile(theta).readouts(v)
    assert (ours - quiet).abs().max() > 1e-3
    ground = np.eye(16)[0]
    for angles, row in zip(v, ours):
        rho = density_matrix(native_gates(operations), angles, ground, noise_model_of(of_encoding.channels, 4, "cx"))
        # a mixed state goes on as its eigenvectors do, each with its weight
        values, vectors = np.linalg.eigh(rho)
        model = noise_model_of(noise.channels, 4, "cx")
        gates = native_gates(circuit.ansatz.operations)
        after = sum(w * density_matrix(gates, theta, vectors[:, i], model) for i, w in enumerate(values) if w > 1e-13)
        wanted = [expectation(string, after) for string in circuit.readout.strings]
        assert row.tolist() == pytest.approx(wanted, abs=1e-10)


# derivatives and use


@pytest.mark.parametrize("encoding", (None, AngleEncoding(2, [Operation("ry", (0,), 0), Operation("rx", (1,), 1)])))
def test_derivatives_in_parameters_and_inputs(encoding):
    circuit, theta = random_circuit(1, 2, 7, ("ZI", "XY"), encoding)
    engine = NoisyEngine(
        circuit,
        parse_noise("device:quito,coherent:0.1"),
        parse_noise("damping:50,40") if encoding else parse_noise("none"),
    )
    v = torch.randn(2, circuit.n_inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    function = lambda theta, v: engine.compile(theta).readouts(v)  # noqa: E731
    arguments = (theta.requires_grad_(), v.requires_grad_())
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments)


def test_a_layer_trains_with_exact_noise():
    circuit = build_circuit(4)
    torch.manual_seed(0)
    layer = QuantumLayer(circuit, NoisyEngine(circuit, parse_noise("device:manila")))
    x = torch.randn(3, 16)
    h = layer.bind(x).reduced()
    r = torch.full((3, 4), 0.1, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda r: h(r).sum(0), r).permute(1, 0, 2)
    assert torch.allclose(h.jacobian(r), jacobian, atol=1e-5)
    layer(torch.zeros_like(x), x).square().sum().backward()
    assert layer.theta.grad.abs().max() > 1e-3


def test_every_gate_but_rz_is_noisy_and_that_is_counted():
    circuit = build_circuit(4)
    engine = NoisyEngine(circuit, parse_noise("depolarizing:0.01"))
    names = [gate.name for gate in native_gates(circuit.ansatz.operations)]
    assert (engine.n_noisy, engine.n_gates) == (sum(name != "rz" for name in names), len(names))
    assert NoisyEngine(circuit, parse_noise("readout:0.01")).n_noisy == 0  # bits alone


def test_noise_that_no_gate_carries_is_refused():
    virtual = Circuit(AmplitudeEncoding(2, 4), from_gates(2, [("rz", (0,)), ("rz", (1,))]), z_on(2, (0, 1)))
    with pytest.raises(UnsupportedCircuit, match="no gate of the ansatz carries noise; .*RZ has none"):
        NoisyEngine(virtual, parse_noise("depolarizing:0.1"))
    with pytest.raises(UnsupportedCircuit, match="no gate of the ansatz carries noise"):
        NoisyEngine(build_circuit(4), parse_noise("depolarizing:0"))
    NoisyEngine(virtual, parse_noise("readout:0.1"))
    NoisyEngine(virtual, parse_noise("none"))


def test_encodings_that_cannot_be_are_refused():
    joined = AngleEncoding(2, [Operation("ry", (0,), 0), Operation("cnot", (0, 1))])
    circuit, _ = random_circuit(1, 2, 7, ("ZI",), joined)
    with pytest.raises(UnsupportedCircuit, match=r"cnot\(0, 1\) in the encoding joins two"):
        NoisyEngine(circuit, parse_noise("none"))


@pytest.mark.parametrize("z_gain", [1.0, 0.5])
def test_more_readouts_than_inputs_are_solved_for_in_states(z_gain):
    """Forms of K readouts in K would be larger than the observables; for a thousand strings of ten wires 4 GiB."""
    circuit = build_circuit(4, readout="pauli2")
    torch.manual_seed(0)
    layer = QuantumLayer(circuit, NoisyEngine(circuit, parse_noise("depolarizing:0.001")), z_gain=z_gain)
    model, x = QDEQModel(layer, 4).double().eval(), torch.rand(5, 16, dtype=torch.float64)
    f, r = layer.bind(x), torch.rand(5, circuit.n_readouts, dtype=torch.float64)
    h, w = f.reduced(), torch.rand(5, circuit.n_readouts, dtype=torch.float64)
    assert circuit.n_readouts > circuit.n_inputs and h.jacobian is None
    z = layer.lift(r).requires_grad_()
    read = f.read(z)
    torch.testing.assert_close(h(r), read, rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(read, z, w)
    torch.testing.assert_close(h.vjp(r, w), slope, rtol=0, atol=1e-12)
    solver = SolverSettings("broyden", 60, 1e-11)
    z, u = model(x, Equilibrium(solver, solver)).z, torch.rand(5, 16, dtype=torch.float64)
    torch.testing.assert_close(layer.lift(f.read(z)), z, rtol=0, atol=1e-9)
    torch.testing.assert_close(f(z), z, rtol=0, atol=1e-9)
    torch.testing.assert_close(f.vjp(z, u), torch.autograd.grad(layer.lift(f.read(z)), z, u)[0], rtol=0, atol=1e-12)


def test_more_counted_readouts_than_inputs_have_the_exact_ones_slopes():
    given = build_circuit(4, readout="z_strings")
    circuit = Circuit(AmplitudeEncoding(4, 9), given.ansatz, given.readout)
    exact, x, lift = NoisyEngine(circuit, parse_noise("depolarizing:0.01")), torch.rand(5, 9), projection(15, 9).float()
    theta, r, w = torch.rand(circuit.n_parameters), torch.rand(5, 15, requires_grad=True), torch.rand(5, 15)
    h = CountedEngine(ShotEngine(circuit, 100, parse_noise("depolarizing:0.01")), exact).compile(theta).along(x, lift)
    assert h.jacobian is None
    slopes = [torch.autograd.grad(value, r, w)[0] for value in (h(r), exact.compile(theta).readouts(x + lift(r)))]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(lift.transpose(h.vjp(r, w)), slopes[1], rtol=1e-4, atol=1e-5)


def test_readouts_too_many_to_keep_are_refused():
    with pytest.raises(UnsupportedCircuit, match="would need 8 GiB for 1023 readouts of 10 wires with angle encoding"):
        NoisyEngine(build_circuit(10, "angle", readout="z_strings"), parse_noise("depolarizing:0.01"))
    NoisyEngine(build_circuit(10, readout="z_strings"), parse_noise("depolarizing:0.01"))
