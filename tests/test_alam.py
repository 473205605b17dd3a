"""Alam et al.'s baselines: circuit and states by dense matrices, angles, the autoencoder, and flags that they read."""

import json
import re

import numpy as np
import pytest
import torch

import autoencoder
import reference
from angles import Angles
from autoencoder import Latents
from circuits.ansatz import sim14
from circuits.circuit import build_circuit
from circuits.encodings import hadamard_angles
from conftest import REPOSITORY
from dataset import DataError, load_features, split_rows
from engines import make_engine
from models.baselines import LinearReadoutClassifier
from models.depth import Stack
from models.quantum_layer import QuantumLayer
from reproduction.jobs import same_run
from small_data import synthetic
from test_any_circuit import numbers, readouts_by_matrices
from training.command_line import parse_command_line


def alam_circuit(n_wires: int, per_wire: int = 4, n_blocks: int = 2):
    return build_circuit(n_wires, "hadamard_angles", "sim14", n_blocks=n_blocks, features_per_wire=per_wire)


# the circuit


@pytest.mark.parametrize("per_wire", [1, 3, 4])
def test_features_of_a_wire_follow_each_other(per_wire):
    """H, then RZ and RX in turns: the product of 2 x 2 matrices, wire by wire."""
    v = np.linspace(-1, 1, 3 * per_wire)
    h = np.array([[1, 1], [1, -1]]) / 2**0.5
    wires = []
    for wire in range(3):
        state = h @ [1, 0]
        for i, angle in enumerate(v[wire * per_wire : (wire + 1) * per_wire]):
            pauli = (reference.Z, reference.X)[i % 2]
            state = (np.cos(angle / 2) * np.eye(2) - 1j * np.sin(angle / 2) * pauli) @ state
        wires.append(state)
    operations = tuple((o.gate, o.wires, o.parameter) for o in hadamard_angles(3, per_wire).operations)
    found = reference.unitary(operations, v, 3)[:, 0]
    np.testing.assert_allclose(found, reference.kron(wires), atol=1e-14)


def test_to_first_order_the_second_and_fourth_angle_of_a_wire_are_not_seen():
    """The Bloch vector moves along y by a + c alone, what results/alam says: slopes at zero by central differences."""
    operations = tuple((o.gate, o.wires, o.parameter) for o in hadamard_angles(1, 4).operations)

    def bloch(angles):
        state = reference.unitary(operations, angles, 1)[:, 0]
        return np.array([(state.conj() @ pauli @ state).real for pauli in (reference.X, reference.Y, reference.Z)])

    assert bloch(np.zeros(4)) == pytest.approx([1, 0, 0])
    slopes = [reference.slope(lambda t: bloch(t * unit)) for unit in np.eye(4)]
    np.testing.assert_allclose(slopes, [[0, 1, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0]], atol=1e-9)


def test_both_rings_of_a_layer_close():
    gates = [(o.gate, o.wires) for o in sim14(4).operations]
    assert gates[:4] == gates[8:12] == [("ry", (wire,)) for wire in range(4)]
    assert gates[4:8] == [("crx", wires) for wires in ((0, 3), (1, 0), (2, 1), (3, 2))]
    assert gates[12:] == [("crx", wires) for wires in ((0, 1), (3, 0), (2, 3), (1, 2))]
    assert sim14(8, 4).n_parameters == 128  # theirs has as many


@pytest.mark.parametrize("engine, per_wire", [("compiled", 1), ("compiled", 4), ("statevector", 4), ("torchquantum", 4)])
def test_readouts_are_those_of_dense_matrices(engine, per_wire):
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    circuit = alam_circuit(4, per_wire)
    v, theta, _ = numbers(circuit, 3)
    expected = readouts_by_matrices(circuit, v.numpy(), theta.numpy())
    made = make_engine(engine, circuit)
    found = made.compile(theta.float()).readouts(v.float()) if engine == "torchquantum" else made.double().compile(theta).readouts(v)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 if engine == "torchquantum" else 1e-12)


def test_the_head_is_a_linear_map_of_the_readouts():
    torch.manual_seed(0)
    layer = QuantumLayer(alam_circuit(4)).double()
    model = LinearReadoutClassifier(layer, 3).double()
    x = torch.randn(5, 16, dtype=torch.float64)
    r = readouts_by_matrices(layer.circuit, x.numpy(), layer.full_theta().detach().numpy())
    expected = r @ model.head.weight.detach().numpy().T + model.head.bias.detach().numpy()
    np.testing.assert_allclose(model.train()(x, Stack(1)).logits.detach().numpy(), expected, atol=1e-12)
    assert (r < -0.05).any() and model.head.weight.shape == (3, 4)  # a ReLU would show


# the features


def test_angles_are_bounded_over_the_training_images():
    factors = torch.tensor([3.0, 0.1])
    images = np.array([[1, -2], [-4, 1]], dtype=np.float32)
    angles = Angles(lambda rows: torch.from_numpy(rows) * factors, images, scale=2.0)
    expected = [[0.5, -2.0], [-2.0, 1.0]]
    torch.testing.assert_close(angles(images), torch.tensor(expected))
    torch.testing.assert_close(angles(2 * images), 2 * torch.tensor(expected))


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    monkeypatch.delenv("QDEQ_CACHE", raising=False)
    monkeypatch.setattr(autoencoder, "EPOCHS", 1)
    np.savez(tmp_path / "mnist.npz", **synthetic())
    return tmp_path


@pytest.mark.parametrize("reduction", ["component_angles", "latent_angles"])
def test_angles_learn_from_the_training_split_alone(data_dir, reduction):
    arrays = dict(np.load(data_dir / "mnist.npz"))

    def load():
        return load_features("mnist", 10, 4, 5, data_dir, "cpu", reduction, n_angles=8, angle_scale=0.5)

    before = load()
    assert before.train.features.shape == (160, 8) and before.test.features.shape == (60, 8)
    torch.testing.assert_close(before.train.features.abs().amax(0), torch.full((8,), 0.5))
    train, val = split_rows(200, 5)
    arrays["train_images"][val] = 255 - arrays["train_images"][val]
    arrays["test_images"] = 255 - arrays["test_images"]
    np.savez(data_dir / "mnist.npz", **arrays)
    for path in data_dir.glob("autoencoder-*"):
        path.unlink()
    after = load()
    assert torch.equal(after.train.features, before.train.features)
    assert not torch.allclose(after.val.features, before.val.features)
    assert not torch.allclose(after.test.features, before.test.features)
    arrays["train_images"][train[0]] = 255 - arrays["train_images"][train[0]]
    np.savez(data_dir / "mnist.npz", **arrays)
    assert not torch.allclose(load().test.features, after.test.features)


# the autoencoder

IMAGES = synthetic(n_train=40)["train_images"]


def test_it_learns_and_is_a_function_of_its_seed(tmp_path, monkeypatch):
    """Its error after training is below that of the mean image; global generators neither matter nor move."""
    x, y = np.mgrid[:28, :28] / 28.0
    shapes = [127 * (1 + np.sin(9 * (x * np.cos(t) + y * np.sin(t)))) for t in np.linspace(0, 3, 200)]
    images = np.array(shapes).astype(np.uint8)
    monkeypatch.setattr(autoencoder, "BATCH", 20)
    errors = []
    monkeypatch.setattr(autoencoder, "mse_loss", lambda a, b: errors.append(torch.nn.functional.mse_loss(a, b)) or errors[-1])
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    autoencoder.train(images, 4, seed=3, epochs=12)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert errors[-1] < 0.8 * (images / 255.0).var(0).mean()
    few = images[:40]
    found, again, other = (autoencoder.train(few, 4, seed, 1) for seed in (3, 3, 4))
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert not torch.equal(found["0.weight"], other["0.weight"])


def test_latents_are_normalised_image_by_image_whatever_their_company(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "EPOCHS", 1)
    latents = Latents(IMAGES, 6, 0, tmp_path)
    found = latents(IMAGES)
    torch.testing.assert_close(found.mean(1), torch.zeros(40), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(40), atol=1e-2, rtol=0)
    torch.testing.assert_close(latents(IMAGES[:3]), found[:3], atol=1e-5, rtol=0)  # batch statistics are not of these


def test_it_is_trained_once_and_kept_under_what_it_learnt(tmp_path, monkeypatch, warned):
    monkeypatch.setattr(autoencoder, "EPOCHS", 1)
    found = Latents(IMAGES, 4, 0, tmp_path / "new")(IMAGES)
    (path,) = (tmp_path / "new").iterdir()
    assert path.stat().st_size < 400_000
    with monkeypatch.context() as patch:
        patch.setattr(autoencoder, "train", lambda *_: pytest.fail("trained again"))
        assert torch.equal(Latents(IMAGES, 4, 0, tmp_path / "new")(IMAGES), found)
    path.write_bytes(path.read_bytes()[:1000])
    assert torch.equal(Latents(IMAGES, 4, 0, tmp_path / "new")(IMAGES), found)
    (warning,) = warned()
    assert str(path) in warning and "trained again" in warning
    Latents(IMAGES, 4, 1, tmp_path / "new"), Latents(IMAGES[1:], 4, 0, tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_told_with_the_remedy(tmp_path, monkeypatch, warned):
    monkeypatch.setattr(autoencoder, "EPOCHS", 1)
    (tmp_path / "file").touch()
    assert Latents(IMAGES, 4, 0, tmp_path / "file" / "folder")(IMAGES).shape == (40, 4)
    (warning,) = warned()
    assert "QDEQ_CACHE" in warning and "\n" not in warning


def test_vectors_have_no_autoencoder(tmp_path):
    arrays = {f"{half}_labels": np.arange(40) % 2 for half in ("train", "test")}
    arrays |= {f"{half}_vectors": np.random.default_rng(0).normal(size=(40, 9)).astype(np.float32) for half in ("train", "test")}
    np.savez(tmp_path / "own.npz", **arrays)
    own = f"file:{tmp_path / 'own.npz'}"
    with pytest.raises(DataError, match="the autoencoder learns images.*--model alam2021_pca"):
        load_features(own, 2, 4, 0, "", "cpu", "latent_angles", n_angles=8)
    assert load_features(own, 2, 4, 0, "", "cpu", "component_angles", n_angles=8).train.features.shape == (32, 8)
    with pytest.raises(DataError, match="fewer --features_per_wire"):
        load_features(own, 2, 4, 0, "", "cpu", "component_angles", n_angles=10)


# the command line


def test_flags_reach_features_and_circuit():
    parsed = parse_command_line("--model alam2021_pca --n_wires 4 --features_per_wire 3 --angle_scale 3.14".split())
    assert parsed.warnings == [] and parsed.settings.run_name == "mnist_10c_4q_3perwirescale3.14_alam2021_pca_implicit_seed1111"
    (warning,) = parse_command_line("--features_per_wire 3".split()).warnings
    assert "--features_per_wire has no effect with --model qdeq" in warning


# the page


def test_the_pages_numbers_are_those_of_its_runs():
    """Each row of results/alam names its flags; the run of these flags has its number."""
    page = (REPOSITORY / "results" / "alam" / "README.md").read_text()
    rows = re.findall(r"^\|[^|]*\| `([^`]*)` \| ([\d.]+) \|$", page, re.M)
    (common,) = re.findall(r"`python DEQ-Quantum/train_qdeq.py ([^`]*)`", page)
    runs = [json.loads(path.read_text()) for path in (REPOSITORY / "results" / "alam").glob("*.json")]
    assert len(rows) == len(runs) > 3
    for flags, shown in rows:
        settings = parse_command_line([*common.split(), *flags.split()]).settings
        (run,) = [run for run in runs if same_run(run["settings"], settings)]
        assert f"{100 * run['best_val_acc']:.1f}" == shown
