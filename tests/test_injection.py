"""Where data and z enter: --injection concatenate, and data that are a state. Engines, f, h, their slopes, runs.

Held to dense Kronecker products of numpy (`reference.py`), which share nothing with the engines but the list of operations.
"""

import json

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

import reference
from circuits import AngleEncoding, Circuit, Operation, PauliReadout, StateEncoding, build_circuit, from_gates
from circuits.encodings import build_encoding
from conftest import train_here
from deq import SolverSettings, batch_jacobian, hutchinson_jacobian_loss
from engines import make_engine
from engines.protocol import UnsupportedCircuit
from engines.statevector import StatevectorEngine
from figures.circuit_drawing import draw_circuit
from hardware.engine import NoisyEngine
from hardware.noise import parse_noise
from models.depth import Equilibrium, Stack
from models.layer import AtReadouts
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer
from test_any_circuit import PAULIS, assert_near, numbers, placed, with_gradients
from test_ansatz import bends
from training.command_line import parse_command_line

KINDS = [("amplitude", "concatenate"), ("angle", "concatenate"), ("components", "concatenate"), ("turned_states", "add")]
CASES = [(kind, readout, 1.0 if readout == "z" else 0.3) for kind in KINDS for readout in ("z", "pauli2", "marginal")]


def small(encoding: str, injection: str, readout: str = "z") -> Circuit:
    return build_circuit(4, encoding, readout=readout, injection=injection, n_random_operations=12)


@st.composite
def circuits(draw):
    """Real or complex data on some wires, any gates of one wire by z, anywhere and in any order."""
    n_wires = draw(st.integers(2, 4))
    n_state, is_complex = draw(st.integers(1, n_wires)), draw(st.booleans())
    n_data = draw(st.integers(1, 2**n_state)) * (1 + is_complex)
    gates = [placed(draw, n_wires, ["rx", "ry", "rz", "h", "sx"]) for _ in range(draw(st.integers(0, 6)))]
    gates.append(("ry", (draw(st.integers(0, n_wires - 1)),)))
    operations = [Operation(g, w, n_data + draw(st.integers(0, 3)) if g in ("rx", "ry", "rz") else None) for g, w in gates]
    ansatz = from_gates(n_wires, [placed(draw, n_wires, ["rx", "ry", "cnot", "crx", "h"]) for _ in range(6)])
    strings = draw(st.lists(st.text("IXYZ", min_size=n_wires, max_size=n_wires), min_size=1, max_size=4, unique=True))
    return Circuit(StateEncoding(n_wires, n_state, n_data, tuple(operations), is_complex), ansatz, PauliReadout(tuple(strings)))


def by_matrices(circuit: Circuit, v: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """<P_k>: the data's state, a Kronecker product with |0>s, gates as matrices of 2^n."""
    encoding, values = circuit.encoding, []
    for sample in v:
        data = sample[: encoding.n_data]
        data = data[: len(data) // 2] + 1j * data[len(data) // 2 :] if encoding.is_complex else data
        of_data = np.zeros(2**encoding.n_state_wires, dtype=complex)
        of_data[: len(data)] = data / np.linalg.norm(data)
        state = reference.kron([of_data] + [np.array([1, 0])] * (circuit.n_wires - encoding.n_state_wires))
        for operations, angles in ((encoding.operations, sample), (circuit.ansatz.operations, theta)):
            for o in operations:
                gate = reference.gate_matrix(o.gate, None if o.parameter is None else angles[o.parameter])
                state = reference.dense_gate(gate, o.wires, circuit.n_wires) @ state
        strings = [reference.kron([PAULIS[letter] for letter in string]) for string in circuit.readout.strings]
        values.append([(state.conj() @ matrix @ state).real for matrix in strings])
    return np.array(values)


@settings(max_examples=15, deadline=None)
@given(circuits(), st.integers(0, 2**32))
def test_engines_are_those_of_dense_matrices(circuit, seed):
    arguments = numbers(circuit, seed)
    expected = with_gradients(StatevectorEngine(circuit), *arguments)
    np.testing.assert_allclose(expected[0], by_matrices(circuit, *(a.numpy() for a in arguments[:2])), rtol=0, atol=1e-12)
    assert_near(with_gradients(make_engine("compiled", circuit).double(), *arguments), expected, 1e-10)


@pytest.mark.parametrize("encoding, injection", KINDS)
def test_the_state_is_a_product_of_data_and_z(encoding, injection):
    """Concatenated inputs share no wire, so readouts of the data's wires without an ansatz do not see z, nor the others x."""
    built = build_encoding(encoding, 6, injection)
    wires = {False: set(range(getattr(built, "n_state_wires", 0))), True: set()}
    for o in built.operations:
        wires[o.parameter >= built.n_data].update(o.wires)
    assert wires[False] | wires[True] == set(range(built.n_wires))
    assert wires[False] & wires[True] == (set(range(6)) if encoding == "turned_states" else set())


@pytest.mark.parametrize("encoding, injection", KINDS)
def test_engines_agree_on_values_and_two_derivatives(encoding, injection):
    circuit = small(encoding, injection, "pauli1")
    arguments = numbers(circuit, 5)
    expected = [*with_gradients(StatevectorEngine(circuit), *arguments), *bends(StatevectorEngine(circuit), *arguments)]
    compiled = make_engine("compiled", circuit).double()
    assert_near([*with_gradients(compiled, *arguments), *bends(compiled, *arguments)], expected, 1e-9)
    pytest.importorskip("torchquantum")
    simulated, arguments = make_engine("torchquantum", circuit), [values.float() for values in arguments]
    assert_near(with_gradients(simulated, *arguments), [e.float() for e in expected[:3]], 1e-4)


@pytest.mark.parametrize("encoding, injection", KINDS)
def test_slopes_are_those_of_finite_differences(encoding, injection):
    circuit = small(encoding, injection)
    _, theta, _ = numbers(circuit, 2, batch=2)
    layer = QuantumLayer(circuit, theta=theta, z_gain=0.7)
    draw = torch.Generator().manual_seed(1)
    x, z = (torch.randn(2, n, generator=draw, dtype=torch.float64).requires_grad_() for n in (layer.n_inputs, layer.width))
    arguments = [tensor.requires_grad_() for tensor in (x, z, theta.clone())]

    def readouts(x: torch.Tensor, z: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        return layer.engine.compile(theta).readouts(torch.cat([x, z], 1))

    assert torch.autograd.gradcheck(readouts, arguments, fast_mode=True)
    assert torch.autograd.gradgradcheck(readouts, arguments, fast_mode=True)


@pytest.mark.parametrize("kind, readout, gain", CASES)
def test_f_and_h_and_their_slopes_are_the_circuits(kind, readout, gain):
    circuit = small(*kind, readout)
    _, theta, _ = numbers(circuit, 2)
    draw, found = torch.Generator().manual_seed(3), []
    pure = StatevectorEngine(circuit).compile(theta)
    for engine in ("compiled", "statevector"):
        layer = QuantumLayer(circuit, engine, theta, z_gain=gain)
        draw.manual_seed(3)
        sizes = layer.n_inputs, layer.n_units, layer.width
        x, r, vectors = (torch.randn(3, n, generator=draw, dtype=torch.float64) for n in sizes)
        f, z = layer.bind(x), layer.lift(r)
        h = f.reduced()
        torch.testing.assert_close(f(z), layer.lift(pure.readouts(torch.cat([x, gain * z], 1))), rtol=0, atol=1e-11)
        torch.testing.assert_close(layer.lift(h(r)), f(z), rtol=0, atol=1e-11)
        slope = batch_jacobian(f, z)
        if h.jacobian is not None:
            expected = batch_jacobian(lambda r: pure.readouts(torch.cat([x, gain * layer.lift(r)], 1)), r)
            torch.testing.assert_close(h.jacobian(r), expected, rtol=0, atol=1e-10)
        for map_ in [f] + [AtReadouts(f, h, layer.lift, r)] * (h.vjp is not None):
            if map_.vjp is not None:
                product = (vectors.unsqueeze(1) @ slope).squeeze(1)
                torch.testing.assert_close(map_.vjp(z, vectors), product, rtol=0, atol=1e-10)
        jac_loss = hutchinson_jacobian_loss(f, z, vectors=vectors.unsqueeze(0))
        found.append([jac_loss.detach(), *torch.autograd.grad(jac_loss, layer.theta)])
    assert_near(*found, 1e-9)


@pytest.mark.parametrize("encoding, injection", KINDS)
def test_models_are_deep_and_their_radius_is_the_jacobians(encoding, injection):
    circuit = small(encoding, injection)
    _, theta, _ = numbers(circuit, 2)
    model = QDEQModel(QuantumLayer(circuit, theta=theta, z_gain=0.2), 3, dropout=0).double()
    x = torch.randn(4, circuit.n_features, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    tight = SolverSettings("broyden", 60, 1e-10)
    found = model(x, Equilibrium(tight, tight))
    deep = model(x, Stack(60))
    torch.testing.assert_close(found.logits, deep.logits, rtol=0, atol=1e-7)
    slopes = [torch.autograd.grad(p.logits.square().sum(), model.layer.theta)[0] for p in (found, deep)]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-7)
    f = model.layer.bind(x)
    exact = torch.linalg.eigvals(batch_jacobian(f, found.z.detach())).abs().amax(-1)
    with torch.no_grad():
        radius = model.spectral_radius(f, found.z, torch.Generator().manual_seed(0))
    torch.testing.assert_close(radius, exact, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("engine", ["compiled", "statevector", "torchquantum"])
def test_data_without_direction_read_nothing_and_a_z_of_zero_is_no_such_thing(engine):
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    circuit = small("amplitude", "concatenate")
    layer = QuantumLayer(circuit, engine)
    x = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    x[0] = 0
    x.requires_grad_()
    value = layer(torch.zeros(2, 16), x)
    assert not value[0].any() and value[1].any()
    value.sum().backward()
    assert not x.grad[0].any() and x.grad.isfinite().all() and layer.theta.grad.isfinite().all()


def test_encodings_refuse_what_is_no_state():
    ry = (Operation("ry", (0,), 4),)
    for wrong, message in (
        ((2, 3, 4, ry), "3 wires does not fit on 2"),
        ((2, 2, 5, ry), "5 numbers are no real state of 2 wires"),
        ((2, 2, 3, ry, True), "3 numbers are no complex state"),
        ((2, 2, 4, (Operation("ry", (0,), 1),)), "inputs before 4 are data"),
        ((2, 2, 4, ()), "of 4 inputs 4 cannot be data"),
    ):
        with pytest.raises(ValueError, match=message):
            StateEncoding(*wrong)
    with pytest.raises(ValueError, match="of 1 inputs 1 cannot be data"):
        AngleEncoding(2, (Operation("ry", (0,), 0),), n_data=1)
    with pytest.raises(ValueError, match="injection concatenate is for amplitude, angle, components, not for frqi"):
        build_circuit(4, "frqi", injection="concatenate")


def test_who_knows_no_states_says_so():
    circuit = small("amplitude", "concatenate")
    with pytest.raises(UnsupportedCircuit, match="no gates here prepare a state of the data beside z: leave noise and shots out"):
        NoisyEngine(circuit, parse_noise("depolarizing:1e-2"))
    joined = Operation("cnot", (0, 1))
    encoding = StateEncoding(2, 2, 4, (joined, Operation("ry", (0,), 4)))
    with pytest.raises(UnsupportedCircuit, match="joins two; use --engine statevector"):
        make_engine("compiled", Circuit(encoding, from_gates(2, [("ry", (0,))]), PauliReadout(("ZI",))))


def test_a_drawing_says_what_is_encoded():
    texts = {t.get_text() for t in draw_circuit(small("amplitude", "concatenate")).axes[0].texts}
    assert "amplitude encoding\nof x" in texts
    assert "state\nof x" in {t.get_text() for t in draw_circuit(small("turned_states", "add")).axes[0].texts}


def test_registers_fit_the_features():
    sizes = {n: (e.n_state_wires, e.n_wires) for n in (4, 6, 8, 10, 12) for e in [build_encoding("amplitude", n, "concatenate")]}
    assert sizes == {4: (4, 8), 6: (6, 12), 8: (6, 8), 10: (7, 10), 12: (8, 12)}


def test_flags_say_where_z_enters(capsys):
    name = "mnist_10c_10q_amplitude_concatenate_implicit_seed1111"
    assert parse_command_line(["--injection", "concatenate"]).settings.run_name == name
    for flags, message in (
        ("--injection concatenate --shard columns", "--injection concatenate: leave it out"),
        ("--injection concatenate --model kiwit2025", "is not for --model kiwit2025, which takes whole images"),
        ("--injection concatenate --n_wires 4 --readout ZIII", "a letter for each of the 8 wires"),
    ):
        with pytest.raises(SystemExit):
            parse_command_line(flags.split())
        assert message in capsys.readouterr().err
    given = "--model linear --injection concatenate".split()
    assert parse_command_line(given).warnings == ["--injection has no effect with --model linear"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--amplitude_encoder", "False", "--mode", "direct", "--n_layer", "2"]])
def test_a_run_keeps_where_z_entered(more, tmp_path):
    flags = "--dataset digits --num_classes 2 --n_wires 4 --device cpu --name r --max_step 2 --spectral_radius_mode".split()
    loss = "--jac_loss_weight 1 --jac_loss_freq 1".split() if not more else []
    train_here(*flags, *loss, *more, "--injection", "concatenate", "--work_dir", tmp_path)
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert (results["injection"], results["n_readouts"]) == ("concatenate", 4 if more else 8)
    assert results["failure"] is None and results["test_spectral_radius"] > 0
