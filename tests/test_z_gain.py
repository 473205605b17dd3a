"""How strongly f sees z beside x: v = g z + x in f, h, all slopes, and in runs; g = 1 changes no bit."""

import json

import pytest
import torch

from circuits import build_circuit
from conftest import train_here
from deq import batch_jacobian, hutchinson_jacobian_loss
from engines.statevector import StatevectorEngine
from models.depth import PAPER_SOLVER, Equilibrium, Stack
from models.layer import AtReadouts
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer
from test_any_circuit import assert_near, numbers
from training.command_line import parse_command_line

CASES = [(encoding, readout) for encoding in ("amplitude", "angle") for readout in ("z", "zz", "pauli2", "marginal")]


def drawn(circuit) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    shapes = ((3, 16), (3, circuit.n_readouts), (3, 16))
    return tuple(torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)


@pytest.mark.parametrize("gain", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("encoding, readout", CASES)
def test_f_and_h_and_their_slopes_see_so_much_of_z(encoding, readout, gain):
    circuit = build_circuit(4, encoding, readout=readout, n_random_operations=12)
    _, theta, _ = numbers(circuit, 2)
    x, r, vectors = drawn(circuit)
    pure, found = StatevectorEngine(circuit).compile(theta), []
    for engine in ("compiled", "statevector"):
        layer = QuantumLayer(circuit, engine, theta, z_gain=gain)
        f, z = layer.bind(x), layer.lift(r)
        h = f.reduced()
        torch.testing.assert_close(f(z), layer.lift(pure.readouts(gain * z + x)), rtol=0, atol=1e-11)
        torch.testing.assert_close(layer.lift(h(r)), f(z), rtol=0, atol=1e-11)
        slope = batch_jacobian(f, z)
        if h.jacobian is not None:
            torch.testing.assert_close(h.jacobian(r), batch_jacobian(lambda r: pure.readouts(x + gain * layer.lift(r)), r),
                                       rtol=0, atol=1e-10)  # fmt: skip
        for map_ in [f] + [AtReadouts(f, h, layer.lift, r)] * (h.vjp is not None):
            if map_.vjp is not None:
                product = (vectors.unsqueeze(1) @ slope).squeeze(1)
                torch.testing.assert_close(map_.vjp(z, vectors), product, rtol=0, atol=1e-10)
        jac_loss = hutchinson_jacobian_loss(f, z, vectors=vectors.unsqueeze(0))
        (of_theta,) = torch.autograd.grad(jac_loss, layer.theta, allow_unused=True, materialize_grads=True)
        found.append([jac_loss.detach(), of_theta])
        assert bool(slope.any()) == bool(gain)
    assert_near(*found, 1e-9)


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_a_gain_of_one_changes_no_bit(encoding):
    circuit = build_circuit(4, encoding)
    _, theta, _ = numbers(circuit, 2)
    x, r, _ = (values.float() for values in drawn(circuit))
    own, papers = (QuantumLayer(circuit, theta=theta.float(), **gain).bind(x) for gain in ({"z_gain": 1.0}, {}))
    z = papers.lift(r)
    assert torch.equal(own(z), papers(z)) and torch.equal(own(z), papers.lift(papers.circuit.readouts(z + x)))
    assert torch.equal(own.reduced()(r), papers.circuit.along(x, papers.lift)(r))


def test_without_z_every_depth_is_one_layer():
    circuit = build_circuit(4)
    _, theta, _ = numbers(circuit, 2)
    x = drawn(circuit)[0]
    model = QDEQModel(QuantumLayer(circuit, theta=theta, z_gain=0), 3, dropout=0).double()
    one, *others = (model(x, depth).logits for depth in (Stack(1), Stack(4), Equilibrium(PAPER_SOLVER)))
    for other in others:
        torch.testing.assert_close(other, one, rtol=0, atol=1e-14)


def test_a_run_keeps_its_gain(tmp_path):
    assert parse_command_line(["--z_gain", "3"]).settings.run_name == "mnist_10c_10q_amplitude_gain3_implicit_seed1111"
    assert parse_command_line("--model linear --z_gain 3".split()).warnings == ["--z_gain has no effect with --model linear"]
    flags = "--dataset digits --num_classes 2 --n_wires 4 --device cpu --jac_loss_weight 1 --jac_loss_freq 1 --name r".split()
    train_here(*flags, "--z_gain", 2, "--max_step", 2, "--work_dir", tmp_path)
    assert json.loads((tmp_path / "r" / "results.json").read_text())["z_gain"] == 2
