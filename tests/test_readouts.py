"""Readouts by name: what they are by dense matrices, on all engines with two derivatives, in runs."""

import json
from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import reference
from circuits import Circuit, PauliReadout, ProbabilityReadout, build_circuit
from circuits.readout import READOUTS, build_readout
from conftest import train_here
from deq import SolverSettings, hutchinson_jacobian_loss, spectral_radius
from deployment.shifts import jacobian, radius, shift, smaller_space
from engines import make_engine
from engines.angle import ProductStates
from engines.fusion import FusedBlocks
from engines.measured import ColumnMeasurement
from engines.outcomes import Table, Transform
from engines.protocol import UnsupportedCircuit
from engines.statevector import StatevectorEngine
from hardware.engine import NoisyEngine
from hardware.noise import Noise, parse_noise
from models.depth import Equilibrium, Stack
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer
from test_ansatz import bends
from test_any_circuit import PAULIS, assert_near, circuits, numbers, with_gradients
from training.command_line import parse_command_line

OWN = "ZIII,XXYI,IZZY"
NAMES = [*READOUTS, OWN]
ROOTS = {"X": np.array([[1, 1], [1, -1]]) / 2**0.5, "Y": np.array([[1, -1j], [1, 1j]]) / 2**0.5, "Z": np.eye(2)}


def matrices(readout) -> np.ndarray:
    """What is measured, as dense matrices, from the readout's meaning."""
    if isinstance(readout, PauliReadout):
        return np.stack([reference.kron([PAULIS[letter] for letter in string]) for string in readout.strings])
    found = []
    for outcome in range(readout.n):
        factors = [np.eye(2)] * readout.n_wires
        for place, wire in enumerate(readout.wires):
            bit = outcome >> len(readout.wires) - 1 - place & 1
            factors[wire] = np.diag([1 - bit, bit])
        found.append(2 ** len(readout.wires) * reference.kron(factors))
    return np.stack(found)


def expected(circuit: Circuit, v: torch.Tensor, theta: torch.Tensor) -> np.ndarray:
    """Readouts of amplitude-encoded inputs, by dense matrices."""
    states = np.zeros((2**circuit.n_wires, len(v)), dtype=complex)
    states[: v.shape[1]] = (v / v.norm(dim=1, keepdim=True)).numpy().T
    ansatz = tuple((o.gate, o.wires, o.parameter) for o in circuit.ansatz.operations)
    states = reference.run(ansatz, theta.numpy(), states)
    return np.einsum("ib,kij,jb->bk", states.conj(), matrices(circuit.readout), states).real


# as data


def test_how_many_there_are_and_how_they_are_measured():
    ten = {name: build_readout(name, 10) for name in READOUTS}
    assert {name: len(r) for name, r in ten.items()} == {
        "z": 10, "zz": 55, "z_strings": 1023, "pauli1": 30, "pauli2": 165, "xyz_strings": 3069,
        "projections": 100, "marginal": 16
    }  # fmt: skip
    assert [len(r.settings()) for r in ten.values()] == [1, 1, 1, 3, 3, 3, 1, 1]
    assert len(build_readout("projections", 4)) == 16 and len(build_readout(OWN, 4).settings()) == 3
    assert build_readout("zz", 3).strings == ("ZII", "IZI", "IIZ", "ZZI", "ZIZ", "IZZ")
    assert build_readout("z_strings", 3).strings == ("ZII", "IZI", "IIZ", "ZZI", "ZIZ", "IZZ", "ZZZ")
    assert build_readout("xyz_strings", 2).strings == ("XI", "IX", "XX", "YI", "IY", "YY", "ZI", "IZ", "ZZ")
    assert ten["marginal"].wires == (6, 7, 8, 9)


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_settings_are_the_dense_matrices(name):
    readout = build_readout(name, 4)
    dense, seen = matrices(readout), []
    for basis, members in readout.settings().items():
        turn = reference.kron([ROOTS[letter] for letter in basis])
        for weights, k in zip(readout.weights(basis), members, strict=True):
            np.testing.assert_allclose(turn.conj().T @ np.diag(weights) @ turn, dense[k], atol=1e-14)
        seen += members
    assert sorted(seen) == list(range(len(readout)))


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("basis", ["ZZZZZ", "XYYXX"])
def test_a_transform_is_its_table(n, basis):
    """Some strings of a setting in any order, and all of them, on outcomes whose bits have another order than the wires."""
    strings = ["".join(letters) for letters in product(*[("I", letter) for letter in basis])][1:]
    order = torch.randperm(len(strings), generator=torch.Generator().manual_seed(n)).tolist()
    for chosen in (order[:n], order):
        readout = PauliReadout([strings[k] for k in chosen])
        (own,) = readout.settings()  # wires that no string needs have Z
        dense, fast = (kind(readout, own, (3, 0, 4, 1, 2)).double() for kind in (Table, Transform))
        outcomes, weights = torch.rand(32, 2, dtype=torch.float64), torch.rand(len(readout), 2, dtype=torch.float64)
        torch.testing.assert_close(fast(outcomes), dense(outcomes), rtol=0, atol=1e-13)
        torch.testing.assert_close(fast.transposed(weights), dense.transposed(weights), rtol=0, atol=1e-13)


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("name, n", [("z_strings", 63), ("xyz_strings", 189)])
def test_all_strings_of_a_letter_on_six_wires(name, n, encoding):
    """As many as make the transform the cheaper way, with two derivatives, against the statevector engine."""
    circuit = build_circuit(6, encoding, readout=name, n_random_operations=10)
    arguments = numbers(circuit, 1, batch=2)
    engine = make_engine("compiled", circuit).double()
    if encoding == "angle":  # on six wires polynomials of Bloch vectors are cheaper still
        engine.blocks = FusedBlocks(circuit.ansatz.operations, circuit.n_wires).double()
        engine.states = ProductStates(circuit, engine.blocks.wires).double()
    assert {type(one.table) for one in engine.states.measurements} == {Transform}
    assert_near(with_gradients(engine, *arguments), with_gradients(StatevectorEngine(circuit), *arguments), 1e-10)
    v, theta, _ = arguments
    assert engine.compile(theta).readouts(v[:0]).shape == (0, n)  # a batch may be empty


@pytest.mark.parametrize("name, said", [
    ("zy", "readout must be one of z, zz, z_strings, pauli1, pauli2, xyz_strings, projections, marginal, or Pauli strings"),
    ("ZZZ", "has a letter for each of the 4 wires, got 'ZZZ'"), ("ZZZZ,ZZZZ", "occurs twice"), ("", "for each of the 4 wires"),
])  # fmt: skip
def test_other_readouts_are_refused(name, said, capsys):
    with pytest.raises(ValueError, match=said):
        build_readout(name, 4)
    with pytest.raises(SystemExit):
        parse_command_line(["--n_wires", "4", "--readout", name])
    assert "--readout: " in capsys.readouterr().err


@pytest.mark.parametrize("wires, n", [((), 1), ((0, 0), 1), ((4,), 1), ((0, 1), 5), ((0,), 0)])
def test_other_probabilities_are_refused(wires, n):
    with pytest.raises(ValueError, match="probabilities are read on different wires|outcomes, not"):
        ProbabilityReadout(4, wires, n)


def test_machines_refuse_probabilities_by_name():
    with pytest.raises(UnsupportedCircuit, match="this readout has probabilities"):
        NoisyEngine(build_circuit(4, readout="marginal"), Noise())


# engines


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("name", NAMES)
def test_engines_agree_on_values_and_two_derivatives(name, encoding):
    pytest.importorskip("torchquantum")
    circuit = build_circuit(4, encoding, readout=name, n_random_operations=12)
    arguments = numbers(circuit, 5)
    gate_by_gate, compiled = StatevectorEngine(circuit), make_engine("compiled", circuit).double()
    held_to = [*with_gradients(gate_by_gate, *arguments), *bends(gate_by_gate, *arguments)]
    if encoding == "amplitude":
        np.testing.assert_allclose(held_to[0].numpy(), expected(circuit, *arguments[:2]), atol=1e-12)
    assert_near([*with_gradients(compiled, *arguments), *bends(compiled, *arguments)], held_to, 1e-9)
    single = [values.float() for values in arguments]
    held_to = [values.float() for values in held_to]
    for engine in (make_engine("torchquantum", circuit), make_engine("compiled", circuit)):
        assert_near([*with_gradients(engine, *single), *bends(engine, *single)], held_to, 1e-4)


@st.composite
def any_readout(draw):
    """Circuits of up to 6 wires, with strings of all letters or probabilities of some wires."""
    circuit = draw(circuits(letters="IXYZ"))
    if draw(st.booleans()):
        return circuit
    n = circuit.n_wires
    wires = draw(st.permutations(range(n)))[: draw(st.integers(1, n))]
    readout = ProbabilityReadout(n, tuple(wires), draw(st.integers(1, 2 ** len(wires))))
    return Circuit(circuit.encoding, circuit.ansatz, readout)


@settings(max_examples=60, deadline=None)
@given(any_readout(), st.booleans(), st.integers(0, 2**32))
def test_any_readout_is_compiled_as_gate_by_gate(circuit, by_states, seed):
    """Values, gradients, the closed `vjp` and its derivatives; of angles also the way by states."""
    v, theta, weights = numbers(circuit, seed)
    engine = make_engine("compiled", circuit).double()
    if engine.blocks is not None and by_states and not circuit.encoding.operations:
        engine.states = ColumnMeasurement(circuit, engine.blocks.wires).double()
    if by_states and circuit.encoding.operations:
        engine.blocks = FusedBlocks(circuit.ansatz.operations, circuit.n_wires).double()
        engine.states = ProductStates(circuit, engine.blocks.wires).double()
    gate_by_gate, found = StatevectorEngine(circuit), []
    assert_near(with_gradients(engine, v, theta, weights), with_gradients(gate_by_gate, v, theta, weights), 1e-10)
    for one in (engine, gate_by_gate):
        leaf_v, leaf_theta = v.clone().requires_grad_(), theta.clone().requires_grad_()
        compiled = one.compile(leaf_theta)
        slope = compiled.vjp(leaf_v, weights) if one is engine else torch.autograd.grad(
            compiled.readouts(leaf_v), leaf_v, weights, create_graph=True)[0]  # fmt: skip
        slopes = torch.autograd.grad(
            slope.square().sum(), (leaf_v, leaf_theta), allow_unused=True, materialize_grads=True
        )
        found.append([slope.detach(), *slopes])
    assert_near(*found, 1e-9)


@pytest.mark.parametrize("n_wires", [6, 8])
def test_turns_of_more_wires_than_a_block_has(n_wires):
    """Two blocks of five wires, of which the second has too few of its own."""
    circuit = build_circuit(n_wires, readout="pauli2", n_random_operations=10)
    arguments = numbers(circuit, 1, batch=2)
    engine = make_engine("compiled", circuit).double()
    assert isinstance(engine.states, ColumnMeasurement)
    assert_near(with_gradients(engine, *arguments), with_gradients(StatevectorEngine(circuit), *arguments), 1e-10)


# the layer


@pytest.mark.parametrize("lift", ["auto", "interpolate", "projection"])
@pytest.mark.parametrize("name", ["zz", "pauli2", "marginal"])
def test_the_reduced_map_is_f(name, lift):
    """h, its slopes, the Jacobian loss and the spectral radius in float64, against the statevector engine's."""
    circuit, found = build_circuit(4, readout=name, n_random_operations=12), []
    _, theta, _ = numbers(circuit, 2)
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(3, 16, generator=draw, dtype=torch.float64)
    r = torch.randn(3, circuit.n_readouts, generator=draw, dtype=torch.float64)
    weights, start = torch.randn(r.shape, generator=draw, dtype=torch.float64), torch.randn(3, 16, generator=draw).double()
    for engine in ("compiled", "statevector"):
        layer = QuantumLayer(circuit, engine, theta, lift)
        f, leaf = layer.bind(x), r.clone().requires_grad_()
        h = f.reduced()
        value = h(leaf)
        slopes = torch.autograd.grad((value * weights).sum(), (leaf, layer.theta), retain_graph=True)
        torch.testing.assert_close(layer.lift(value), f(layer.lift(leaf)), rtol=0, atol=1e-12)
        if h.vjp is not None:
            torch.testing.assert_close(layer.lift.transpose(h.vjp(r, weights)), slopes[0], rtol=0, atol=1e-12)
        f, z = layer.bind(x), layer.lift(r)
        jac_loss = hutchinson_jacobian_loss(f, z, vectors=start.unsqueeze(0))
        (of_theta,) = torch.autograd.grad(jac_loss, layer.theta, retain_graph=True)
        found.append([value.detach(), *slopes, jac_loss.detach(), of_theta, spectral_radius(f, z, start=start)])
    assert_near(*found, 1e-9)


@pytest.mark.parametrize("solver", ["broyden", "newton"])
@pytest.mark.parametrize("name", ["pauli2", "z_strings", "xyz_strings"])
def test_equilibria_of_many_readouts_are_those_of_the_readouts(name, solver, monkeypatch):
    """Solved in the space of z, where readouts outnumber its entries, and in theirs: the same r* and gradients."""
    circuit = build_circuit(4, readout=name, n_random_operations=12)
    _, theta, _ = numbers(circuit, 2)
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tight = SolverSettings(solver, 60, 1e-13)
    model = QDEQModel(QuantumLayer(circuit, "compiled", theta, "projection"), 3, dropout=0).double()
    found, widths = [], []
    for in_states in (True, False):
        monkeypatch.setattr("models.qdeq_model._solves_in_states", lambda h, lift: in_states)
        p = model(x, Equilibrium(tight, tight if solver == "broyden" else SolverSettings("exact", 1, 1e-13)))
        loss = torch.nn.functional.cross_entropy(p.logits, torch.arange(6) % 3)
        found.append([p.r, p.z.detach(), p.logits.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
        widths.append(p.solver.z.shape[1])
        assert p.res_rel.max() < 1e-11
    assert widths == [16, circuit.n_readouts]
    assert_near(*found, 1e-9)


@pytest.mark.parametrize("name, engine, width", [
    ("pauli2", "compiled", 16), ("zz", "compiled", 10), ("pauli2", "statevector", 16), ("pauli2", "noisy", 16),
    ("zz", "noisy", 10), ("zz", "angles", 10),
])  # fmt: skip
def test_the_smaller_space_is_solved_in_unless_readouts_offer_a_jacobian(name, engine, width):
    layer = QuantumLayer(build_circuit(4, "components" if engine == "angles" else "amplitude", readout=name))
    if engine == "noisy":
        layer.engine = NoisyEngine(layer.circuit, Noise())
    elif engine == "statevector":
        layer.engine = make_engine(engine, layer.circuit)
    model, x = QDEQModel(layer, 3), torch.rand(2, layer.n_inputs)
    assert model(x, Equilibrium()).solver.z.shape[1] == width
    if engine == "angles":  # ten readouts of four inputs
        assert layer.n_units > layer.width and layer.bind(x).reduced().jacobian is not None


def test_how_far_noise_moves_many_readouts_is_told_of_z():
    """z = E r moves by E times what r moves by to first order, (I - J)^-1 dh, and both Jacobians have one spectral radius."""
    circuit = build_circuit(4, readout="pauli2", n_random_operations=12)
    _, theta, _ = numbers(circuit, 2)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    layer, depth = QuantumLayer(circuit, "compiled", theta), Equilibrium(SolverSettings("broyden", 60, 1e-12))
    maps, reached, shown = [], [], []
    for noise in (None, "depolarizing:1e-5"):
        if noise:
            layer.engine = NoisyEngine(circuit, parse_noise(noise))
        h, (shown_map, of_readouts) = layer.bind(x).reduced(), smaller_space(layer, x)
        maps.append(h)
        shown.append(shown_map)
        reached.append(depth.run(h, torch.zeros(5, 30, dtype=torch.float64)).r.detach())
    found = shift(depth, *shown, *map(of_readouts, reached))
    of_r = jacobian(maps[0], reached[0])
    moved = torch.linalg.solve(torch.eye(30).double() - of_r, maps[1](reached[0]) - maps[0](reached[0])).detach()
    lift = layer.lift
    assert found["shift_predicted"] == pytest.approx(float((lift(moved).norm(dim=1) / lift(reached[0]).norm(dim=1)).mean()))
    assert found["prediction_error"] < 1e-2
    assert found["spectral_radius"] == pytest.approx(float(radius(jacobian(maps[1], reached[1])).mean()))
    assert (of_r.shape[1], jacobian(shown[0], lift(reached[0])).shape[1]) == (30, 16)


@pytest.mark.parametrize("name", ["zz", "pauli2", "projections"])
def test_a_zero_vector_and_a_nan_stay_where_they_are(name):
    circuit = build_circuit(4, readout=name)
    v, theta, weights = numbers(circuit, 1)
    v[0], v[1, 3] = 0, float("nan")
    v.requires_grad_()
    compiled = make_engine("compiled", circuit).double().compile(theta)
    readouts = compiled.readouts(v)
    assert not readouts[0].any() and readouts[1].isnan().all() and readouts[2].isfinite().all()
    (slope,) = torch.autograd.grad((readouts * weights)[[0, 2]].sum(), v)
    assert not slope[0].any() and slope[2].isfinite().all()
    assert compiled.readouts(v[:0]).shape == compiled.vjp(v[:0], weights[:0])[:, :1].expand(0, circuit.n_readouts).shape


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_trained_alike_by_two_engines(name):
    circuit = build_circuit(4, readout=name, n_random_operations=12)
    _, theta, _ = numbers(circuit, 2)
    x = torch.randn(6, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for depth in (Stack(2), Equilibrium()):
        found = []
        for engine in ("compiled", "statevector"):
            torch.manual_seed(0)
            model = QDEQModel(QuantumLayer(circuit, engine, theta), 3, dropout=0).double()
            p = model(x, depth)
            loss = torch.nn.functional.cross_entropy(p.logits, torch.arange(6) % 3)
            found.append([p.logits.detach(), p.z.detach(), *torch.autograd.grad(loss, list(model.parameters()))])
        assert_near(*found, 1e-8)


# runs


def test_choices_show_in_the_runs_name():
    names = {
        "--readout zz": "mnist_10c_10q_amplitude_zz_implicit_seed1111",
        "--readout pauli2 --lift interpolate": "mnist_10c_10q_amplitude_pauli2_interpolate_implicit_seed1111",
        f"--readout {OWN} --n_wires 4": "mnist_10c_4q_amplitude_3strings_implicit_seed1111",
    }
    assert {text: parse_command_line(text.split()).settings.run_name for text in names} == names


def test_a_lift_that_does_not_come_out_even_ends_the_command(capsys):
    with pytest.raises(SystemExit):
        parse_command_line("--readout zz --lift repeat".split())
    assert "--lift repeat: 55 readouts cannot be repeated to 100 inputs" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name, flags, n, n_settings", [
    ("pauli2", ("--jac_loss_weight", 0.5, "--jac_loss_freq", 1, "--spectral_radius_mode"), 30, 3),
    ("marginal", ("--amplitude_encoder", "False", "--f_solver", "newton", "--b_solver", "exact"), 16, 1),
])  # fmt: skip
def test_a_run_reads_what_it_is_told_to(name, flags, n, n_settings, tmp_path):
    common = ["--dataset", "digits", "--num_classes", 2, "--n_wires", 4, "--work_dir", tmp_path, "--name", "r"]
    train_here(*common, "--max_step", 2, "--device", "cpu", "--readout", name, *flags)
    train_here("--restart", "--restart_dir", tmp_path / "r", "--max_step", 3, pictures=True)
    found = json.loads((tmp_path / "r" / "results.json").read_text())
    assert (found["readout"], found["n_readouts"], found["measurement_settings"]) == (name, n, n_settings)
    assert found["lift"] == "auto" and found["steps"] == 3 and 0 <= found["test_acc"] <= 1
    assert (tmp_path / "r" / "circuit.png").exists()


def test_a_prediction_tells_more_readouts_than_its_state_does():
    """pauli2 has 30 readouts of 4 wires, and z 16 numbers: r is the model's own, not the shortest of those with that z."""
    torch.manual_seed(0)
    layer = QuantumLayer(build_circuit(4, readout="pauli2"))
    x = torch.randn(3, 16)
    p = QDEQModel(layer, 4, dropout=0.0)(x, Stack(2))
    h = layer.bind(x).reduced()
    torch.testing.assert_close(p.r, h(h(torch.zeros(3, 30))).detach())
    torch.testing.assert_close(layer.lift(p.r), p.z.detach())
    assert (layer.lift.readouts(p.z) - p.r).norm() > 0.1 * p.r.norm()
