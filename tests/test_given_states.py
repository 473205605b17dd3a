"""Images as complex amplitudes, as FRQI and as matrix product states: closed forms, engines against each other, refusals."""

import math

import numpy as np
import pytest
import torch

import reference
from circuits import AmplitudeEncoding, Circuit, ComplexAmplitudeEncoding, FRQIEncoding, build_circuit, from_gates, z_on
from circuits.ansatz import rotation_chain, su4, su4_last_four
from conftest import train_here
from data_settings import IMAGES
from dataset import DataError, load_features
from engines import bytes_needed, make_engine
from engines.cones import MOST_COLUMNS
from engines.given_states import GivenStates, states_of
from engines.protocol import UnsupportedCircuit
from engines.statevector import StatevectorEngine, encoded
from given_images import by_blocks, compressed, frqi_amplitudes, image_features, resized
from hardware.chip import Chip
from hardware.engine import NoisyEngine
from hardware.export import program_of
from hardware.noise import Noise
from test_ansatz import bends, gates_of
from test_any_circuit import assert_near, numbers, with_gradients
from training.command_line import parse_command_line

ENCODINGS = ("complex_amplitude", "frqi", "frqi_colour_first", "state")


def frqi_by_hand(pixels, colour: int) -> np.ndarray:
    """The sum over pixels of |p> (cos |0> + sin |1>), term by term."""
    n = int(math.log2(len(pixels)))
    state = np.zeros(2 * len(pixels))
    for p, value in enumerate(pixels):
        for bit, amplitude in enumerate((math.cos(math.pi * value / 2), math.sin(math.pi * value / 2))):
            state[2 * p + bit if colour else (bit << n) + p] = amplitude / math.sqrt(len(pixels))
    return state


def small_circuit(encoding: str, readout: str = "z", n_wires: int = 4) -> Circuit:
    ansatz = from_gates(n_wires, [("ry", (0,)), ("crx", (3, 1)), ("rz", (2,)), ("h", (3,)), ("cnot", (0, 2)), ("rx", (1,))])
    named = build_circuit(n_wires, encoding, readout=readout)
    return Circuit(named.encoding, ansatz, named.readout)


# states


@pytest.mark.parametrize("colour", [0, 3])
def test_frqi_is_its_closed_form(colour):
    v = torch.rand(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_hand = np.stack([frqi_by_hand(pixels, colour) for pixels in v.tolist()])
    circuit = Circuit(FRQIEncoding(4, colour), su4(4), z_on(4, range(4)))
    states = states_of(circuit.encoding, v)
    np.testing.assert_allclose(states[0].T.numpy(), by_hand, atol=1e-15)
    assert not states[1].any()
    np.testing.assert_allclose(encoded(circuit, v).flatten(1).numpy(), by_hand, atol=1e-15)
    np.testing.assert_allclose((by_hand**2).sum(1), 1)


@pytest.mark.parametrize("n_inputs", [32, 25, 2])
def test_two_inputs_are_one_complex_amplitude(n_inputs):
    v = torch.randn(3, n_inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    by_hand = np.zeros((3, 16), dtype=complex)
    for j in range(n_inputs):
        by_hand[:, j // 2] += (1, 1j)[j % 2] * v[:, j].numpy()
    by_hand /= np.sqrt((abs(by_hand) ** 2).sum(1, keepdims=True))
    circuit = Circuit(ComplexAmplitudeEncoding(4, n_inputs), su4(4), z_on(4, range(4)))
    real, imag = states_of(circuit.encoding, v).numpy()
    np.testing.assert_allclose((real + 1j * imag).T, by_hand, atol=1e-15)
    np.testing.assert_allclose(encoded(circuit, v).flatten(1).numpy(), by_hand, atol=1e-15)


def test_encodings_that_do_not_fit():
    with pytest.raises(ValueError, match="4 wires have 16 complex amplitudes: 33 inputs do not fit"):
        ComplexAmplitudeEncoding(4, 33)
    for n_wires, colour in ((1, 0), (4, 2)):
        with pytest.raises(ValueError, match="colour on the first or last of 2 wires or more"):
            FRQIEncoding(n_wires, colour)


# engines


@pytest.mark.parametrize("readout", ["z", "marginal", "pauli2"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_engines_agree_on_values_and_two_derivatives(encoding, readout):
    circuit = small_circuit(encoding, readout)
    v, theta, weights = numbers(circuit, 5)
    gate_by_gate, compiled = StatevectorEngine(circuit), make_engine("compiled", circuit).double()
    if encoding == "state":  # of so few inputs the columns would be sent
        compiled.states = GivenStates(circuit, compiled.blocks.wires).double()
    held_to = [*with_gradients(gate_by_gate, v, theta, weights), *bends(gate_by_gate, v, theta, weights)]
    assert_near([*with_gradients(compiled, v, theta, weights), *bends(compiled, v, theta, weights)], held_to, 1e-9)
    leaf = v.clone().requires_grad_()
    product = compiled.compile(theta).vjp(leaf, weights)
    (slope,) = torch.autograd.grad(gate_by_gate.compile(theta).readouts(leaf), leaf, weights, create_graph=True)
    assert_near([product.detach()], [slope.detach()], 1e-10)
    assert_near(*([torch.autograd.grad(s.square().sum(), leaf)[0]] for s in (product, slope)), 1e-9)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_torchquantum_agrees(encoding):
    pytest.importorskip("torchquantum")
    circuit = small_circuit(encoding)
    arguments = [values.float() for values in numbers(circuit, 5)]
    engines = [make_engine(name, circuit) for name in ("torchquantum", "compiled")]
    assert_near(*(with_gradients(engine, *arguments) for engine in engines), 1e-5)


def test_complex_amplitudes_against_dense_matrices():
    circuit = build_circuit(4, "complex_amplitude", "rotation_chain", n_blocks=2)
    v, theta, _ = numbers(circuit, 3)
    states = (v / v.norm(dim=1, keepdim=True)).numpy()
    states = np.pad(states, ((0, 0), (0, 32 - 25)))
    states = (states[:, ::2] + 1j * states[:, 1::2]).T
    states = reference.run(tuple((o.gate, o.wires, o.parameter) for o in circuit.ansatz.operations), theta.numpy(), states)
    expected = (reference.readout_signs(4) @ abs(states) ** 2).T
    found = make_engine("compiled", circuit).double().compile(theta).readouts(v)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_zero_vector_reads_zero_and_a_nan_stays_where_it_is():
    circuit = small_circuit("complex_amplitude")
    v, theta, weights = numbers(circuit, 1)
    v[0], v[1, 3] = 0, float("nan")
    v.requires_grad_()
    for name in ("compiled", "statevector"):
        readouts = make_engine(name, circuit).double().compile(theta).readouts(v)
        assert not readouts[0].any() and readouts[1].isnan().all() and readouts[2].isfinite().all()
        (slope,) = torch.autograd.grad((readouts * weights)[[0, 2]].sum(), v)
        assert not slope[0].any() and slope[2].isfinite().all()


def test_states_of_many_amplitudes_go_through_the_circuit_one_by_one():
    circuit = Circuit(AmplitudeEncoding(11, 2048), su4(11), z_on(11, range(11)))
    assert circuit.n_inputs > MOST_COLUMNS and isinstance(make_engine("compiled", circuit).states, GivenStates)
    assert bytes_needed("compiled", circuit, 10) == 3 * 10 * 2048 * 8
    with pytest.raises(UnsupportedCircuit, match="--shard batch"):
        make_engine("compiled", circuit).share_columns(None)


@pytest.mark.parametrize("encoding", ["complex_amplitude", "frqi"])
def test_machines_refuse_states_that_no_circuit_here_prepares(encoding):
    circuit = build_circuit(4, encoding)
    for refused in (lambda: NoisyEngine(circuit, Noise()), lambda: program_of(circuit, [0.0] * circuit.n_parameters),
                    lambda: Chip(make_engine("statevector", circuit))):  # fmt: skip
        with pytest.raises(UnsupportedCircuit, match=f"no gates here prepare the states of {circuit.encoding.name} encoding"):
            refused()


# ansätze


def test_a_chain_is_open():
    gates = gates_of(rotation_chain(9, 20))
    assert rotation_chain(9, 20).n_parameters == 540 and len(gates) == 20 * (27 + 8)
    assert gates[:35] == gates[35:70]
    assert [wires for gate, wires in gates[:35] if gate == "cnot"] == [(wire, wire + 1) for wire in range(8)]


def test_the_last_four_wires_have_three_gates_more():
    plain, more = su4(11, 2), su4_last_four(11, 2)
    assert more.n_parameters == plain.n_parameters + 45 and su4_last_four(11).n_parameters == 195
    assert gates_of(more)[: len(gates_of(plain))] == gates_of(plain)
    touched = [wires for _, wires in gates_of(more)[len(gates_of(plain)) :]]
    assert {wire for wires in touched for wire in wires} == {7, 8, 9, 10}


# images


def test_pixels_are_in_their_order():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    np.testing.assert_array_equal(image_features(images, "pixels", 9, 2).numpy(), images.reshape(3, -1).astype("f4") / 255)
    side32 = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    rows = image_features(side32, "frqi_reversed", 11, 2)
    reversed_numbers = [int(f"{number:010b}"[::-1], 2) for number in range(1024)]
    np.testing.assert_array_equal(rows.numpy(), side32.reshape(3, -1)[:, reversed_numbers].astype("f4") / 255)
    blocks = image_features(side32, "frqi_blocks", 11, 2).numpy()
    for number in range(1024):  # bits: row, column, row, column, ...
        row, column = (sum((number >> 2 * k + shift & 1) << k for k in range(5)) for shift in (1, 0))
        np.testing.assert_array_equal(blocks[:, number], side32[:, row, column].astype("f4") / 255)


def test_blocks_of_wide_images():
    numbers_ = torch.arange(8.0).view(1, 2, 4)
    assert by_blocks(numbers_).tolist() == [[0, 1, 4, 5, 2, 3, 6, 7]]


def test_resized_images_keep_brightness_and_place():
    images = np.full((1, 28, 28), 51, dtype=np.uint8)
    for rows, columns in ((32, 32), (2, 4)):
        np.testing.assert_allclose(resized(images, rows, columns), np.full((1, rows, columns), 0.2), atol=1e-6)
    images[0, :14] = 255
    assert (resized(images, 32, 32)[0, :15] > 0.99).all()


def test_compressed_states_are_the_best_of_their_bond_dimension():
    draw = torch.Generator().manual_seed(0)
    states = torch.nn.functional.normalize(torch.randn(4, 32, generator=draw, dtype=torch.float64))
    torch.testing.assert_close(compressed(states, 5, 4), states)  # five wires need no more
    for bond in (1, 2, 3):
        small = compressed(states, 5, bond)
        torch.testing.assert_close(small.norm(dim=1), torch.ones(4, dtype=torch.float64))
        for cut in range(1, 5):
            values = torch.linalg.svdvals(small.view(4, 2**cut, -1))
            assert (values[:, bond:] < 1e-12).all()
    # of two wires the best one is known: the singular vectors of the largest singular values
    pair = torch.nn.functional.normalize(torch.randn(6, 4, generator=draw, dtype=torch.float64))
    overlaps = (compressed(pair, 2, 1) * pair).sum(1)
    torch.testing.assert_close(overlaps, torch.linalg.svdvals(pair.view(6, 2, 2))[:, 0])


def test_compressed_images_are_compressed_frqi():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    pixels = image_features(images, "frqi_reversed", 5, 2)
    exact = states_of(FRQIEncoding(5, 0), pixels)[0].T
    torch.testing.assert_close(frqi_amplitudes(pixels), exact)
    torch.testing.assert_close(image_features(images, "compressed_frqi", 5, 4), exact)
    found = image_features(images, "compressed_frqi", 5, 1)
    torch.testing.assert_close(found, compressed(exact.double(), 5, 1).float())
    assert (found * exact).sum(1).min() > 0.5


@pytest.mark.parametrize("reduction", IMAGES)
def test_splits_of_whole_images(reduction, tiny_data):
    splits = load_features("mnist", 4, 5, 0, tiny_data, "cpu", reduction, (0, 1, 2, 3), 2)
    width = {"pixels": 64, "compressed_frqi": 32}.get(reduction, 16)
    assert splits.train.features.shape == (64, width) and splits.classes == (0, 1, 2, 3)
    assert splits.test.labels.unique().tolist() == [0, 1, 2, 3]


def test_what_is_no_image_is_refused(tiny_data, tmp_path):
    with pytest.raises(ValueError, match="images must be uint8"):
        image_features(np.zeros((1, 28, 28), dtype=np.float32), "pixels", 9, 2)
    with pytest.raises(ValueError, match="features of whole images are pixels"):
        image_features(np.zeros((1, 28, 28), dtype=np.uint8), "pooling", 9, 2)
    with pytest.raises(DataError, match="choose a number from 4 to 28"):
        load_features("mnist", 10, 3, 0, tiny_data, "cpu", "pixels")


# the command line


@pytest.mark.parametrize("flags, said", [
    ("--classes 0,1,2", "--classes takes --num_classes labels from 0 to 9, rising"),
    ("--num_classes 3 --classes 2,1,0", "rising"), ("--num_classes 2 --classes 3,3", "rising"),
    ("--num_classes 2 --classes 3,x", "rising"),
    ("--n_wires 9", "--n_wires must be an even number from 4 to 28, got 9"),
    ("--model west2024 --n_wires 9", "--ansatz paper takes an even --n_wires, got 9: choose another --ansatz"),
    ("--model west2024 --n_wires 9 --ansatz su4", "--model west2024 shares its 9 readouts out among the classes"),
    ("--model dilip2022 --n_wires 11 --ansatz su4", "--model dilip2022 reads probabilities: choose --readout marginal"),
    ("--model kiwit2025", "--model kiwit2025 reads probabilities: choose --readout marginal"),
    ("--model kiwit2025 --n_wires 12 --readout marginal", "--model kiwit2025 takes images of up to 32 x 32 pixels: choose --n_wires 11"),
])  # fmt: skip
def test_flags_that_do_not_go_together(flags, said, capsys):
    with pytest.raises(SystemExit):
        parse_command_line(flags.split())
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_a_bond_dimension_is_of_compressed_states_alone():
    assert parse_command_line(["--bond_dimension", "3"]).warnings == ["--bond_dimension has no effect with --model qdeq"]
    compressed_flags = ["--model", "dilip2022_mps", "--readout", "marginal", "--bond_dimension", "3"]
    assert parse_command_line(compressed_flags).warnings == []


def test_a_scale_of_logits_is_of_probabilities_alone():
    assert parse_command_line(["--logit_scale", "3"]).warnings == ["--logit_scale has no effect with --model qdeq"]
    flags = ["--model", "dilip2022", "--readout", "marginal", "--logit_scale", "300"]
    parsed = parse_command_line(flags)
    assert parsed.warnings == [] and "logits300" in parsed.settings.run_name


def test_classes_are_chosen(tiny_data, tmp_path):
    train_here("--model", "west2024", "--n_wires", 5, "--ansatz", "rotation_chain", "--readout", "ZIIII,IZIII", "--num_classes",
               2, "--classes", "0,1", "--max_step", 2, "--data_dir", tiny_data, "--mode", "direct", "--n_layer", 1,
               "--name", "run", "--work_dir", tmp_path)  # fmt: skip
    assert (tmp_path / "run" / "results.json").exists()
