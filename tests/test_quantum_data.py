"""Quantum data: ground states of rings against dense matrices and free fermions, their phases, their file, runs on them."""

import json

import numpy as np
import pytest
import torch

import make_states
from conftest import REPOSITORY, train_here
from dataset import DataError, load_features
from qep.phases import CHAINS, PHASES, draw_couplings, energies, ground_states, labelled_states, margins, phases
from qep_reference import pauli_matrix
from readme_pages import numbers
from training.command_line import parse_command_line

SMALL = "--n_spins 4 --n_train 40 --n_test 12".split()


def drawn(name: str, n: int = 6, seed: int = 0) -> torch.Tensor:
    return draw_couplings(CHAINS[name], n, 0.02, seed, "test")


def ring(couplings, n: int) -> np.ndarray:
    """The Hamiltonian by Kronecker products."""

    def term(letters: str, first: int) -> np.ndarray:
        string = ["I"] * n
        for step, letter in enumerate(letters):
            string[(first + step) % n] = letter
        return pauli_matrix("".join(string))

    return -sum(c * term(letters, j) for c, letters in zip(couplings, ("X", "ZZ", "ZXZ")) for j in range(n)).real


@pytest.mark.parametrize("n", [4, 6])
@pytest.mark.parametrize("name", CHAINS)
def test_ground_states_are_those_of_dense_matrices_and_energies_those_of_free_fermions(name, n):
    couplings = drawn(name)
    energy, psi = ground_states(couplings, n)
    torch.testing.assert_close(energy, energies(couplings, n), rtol=0, atol=1e-10)
    values, vectors = np.linalg.eigh(pauli_matrix("X" * n).real)
    even = vectors[:, values > 0]
    for own, e, state in zip(couplings.numpy(), energy.numpy(), psi.numpy()):
        h = ring(own, n)
        lowest, states = np.linalg.eigh(even.T @ h @ even)
        np.testing.assert_allclose([e, abs(state @ even @ states[:, 0])], [lowest[0], 1], atol=1e-9)
        # where one phase is not broken, nothing lies below; else a state of odd parity, by what falls with n
        assert np.linalg.eigvalsh(h)[0] > e - 1e-9 or phases(torch.tensor(own)[None]) == 1
        assert state[np.abs(state).argmax()] > 0


@pytest.mark.parametrize("name", CHAINS)
def test_energies_of_wider_rings_are_those_of_free_fermions(name):
    couplings = drawn(name, 3)
    torch.testing.assert_close(ground_states(couplings, 8, "krylov")[0], energies(couplings, 8), rtol=0, atol=1e-7)


def test_the_ising_chain_has_pfeutys_energy():
    """-n times the mean of sqrt(1 + g^2 - 2 g cos k); at the transition the sum is 2 / sin(pi / 2n)."""
    for n in (4, 8, 12):
        found = energies(torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64), n)
        np.testing.assert_allclose(found, -2 / np.sin(np.pi / (2 * n)), rtol=1e-12)


def test_phases_are_told_by_zeros_in_the_unit_circle():
    couplings = torch.cat([drawn(name, 30) for name in CHAINS])
    zeros = [np.roots([-c2, -c1, c0] if c2 else [-c1, c0]) for c0, c1, c2 in couplings.tolist()]
    assert phases(couplings).tolist() == [int((np.abs(own) < 1).sum()) for own in zeros]
    assert phases(torch.eye(3)).tolist() == [0, 1, 2] and len(PHASES) == 3
    # the distance is that of f at k = 0 or pi from 0, where a phase ends
    of_f = [min(abs(c0 - c1 * s - c2) for s in (1, -1)) for c0, c1, c2 in couplings.tolist()]
    np.testing.assert_allclose(margins(couplings), of_f, atol=1e-14)


def test_draws_are_balanced_repeated_and_apart():
    chain = CHAINS["cluster_ising"]
    one = draw_couplings(chain, 30, 0.3, 7, "train")
    assert torch.equal(one, draw_couplings(chain, 30, 0.3, 7, "train"))
    assert torch.equal(one[:12], draw_couplings(chain, 12, 0.3, 7, "train"))
    assert not torch.equal(one, draw_couplings(chain, 30, 0.3, 8, "train"))
    assert phases(one).tolist() == [0, 1, 2] * 10 and (margins(one) >= 0.3).all()
    torch.testing.assert_close(one.abs().sum(1), torch.ones(30, dtype=torch.float64))
    assert (one[:, 1] <= 0).all() and not torch.equal(one, draw_couplings(chain, 30, 0.3, 7, "test"))


def load(path, num_classes=2, n_wires=4, reduction="pooling"):
    return load_features(f"states:{path}", num_classes, n_wires, 1, "", "cpu", reduction)


def test_a_file_becomes_real_and_imaginary_parts(tmp_path):
    arrays = labelled_states("ising", 4, 20, 6, 0.1, 3)
    arrays["test_states"] = arrays["test_states"] * 3j
    np.savez(tmp_path / "x.npz", **arrays)
    splits = load(tmp_path / "x.npz")
    assert splits.classes == ("ferromagnet", "paramagnet") and (len(splits.train), len(splits.val)) == (16, 4)
    features = splits.test.features.numpy()
    assert features.dtype == np.float32 and features.shape == (6, 32) and not features[:, :16].any()
    np.testing.assert_allclose(features[:, 16:], arrays["test_states"].imag / 3, atol=1e-6)
    assert [splits.classes[label] for label in splits.test.labels] == arrays["test_labels"].tolist()
    with pytest.raises(DataError, match="states of 4 qubits: choose --n_wires 4, not 6"):
        load(tmp_path / "x.npz", n_wires=6)
    with pytest.raises(DataError, match="states are taken as they are, and components are made of images"):
        load(tmp_path / "x.npz", reduction="components")
    with pytest.raises(DataError, match="has 2 classes .* not 3: give --num_classes 2"):
        load(tmp_path / "x.npz", 3)


LACKS = {
    "no labels": ("train_labels", None, "it has test_labels, test_states, train_states"),
    "vectors": ("train_states", None, "it has test_labels, test_states, train_labels"),
    "floats as labels": ("test_labels", np.zeros(6), "test_labels is float64 (6,), not whole numbers or text (6,)"),
    "a NaN": ("train_states", np.full((20, 16), np.nan), "train_states has a NaN, an inf, or a state of zeros"),
    "zeros": ("test_states", np.zeros((6, 16)), "test_states has a NaN, an inf, or a state of zeros"),
    "no qubits": ("test_states", np.ones((6, 12)), "12 amplitudes are those of no number of qubits"),
    "other width": ("test_states", np.ones((6, 8)), "train_states have 16 amplitudes, test_states 8"),
    "nothing": ("test_states", np.ones((0, 16)), "test_states is empty, (0, 16)"),
    "matrices": ("test_states", np.ones((6, 4, 4)), "test_states is float64 (6, 4, 4), not numbers (N, 2^n_wires)"),
    "mixed": ("test_labels", np.zeros(6, int), "one of train_labels and test_labels is text"),
}


@pytest.mark.parametrize("case", LACKS)
def test_what_the_file_lacks_is_said(case, tmp_path):
    key, value, found = LACKS[case]
    arrays = {f"{half}_states": np.ones((n, 16)) for half, n in (("train", 20), ("test", 6))}
    arrays |= {f"{half}_labels": np.array(["a", "b"] * n) for half, n in (("train", 10), ("test", 3))}
    np.savez(tmp_path / "x.npz", **dict(sorted((k, v) for k, v in (arrays | {key: value}).items() if v is not None)))
    with pytest.raises(DataError) as caught:
        load(tmp_path / "x.npz")
    message = str(caught.value)
    assert found in message and "train_states and test_states, (N, 2^n_wires), real or complex amplitudes" in message


def test_what_states_do_not_go_with_is_refused(capsys):
    flags = "--dataset states:x.npz --n_wires 4 --num_classes 2 "
    settings = parse_command_line(flags.split()).settings
    assert (settings.encoding, settings.run_name) == ("turned_states", "x_2c_4q_turned_states_implicit_seed1111")
    for more, message in (
        ("--injection concatenate", "z turns the states themselves: leave out --injection and --amplitude_encoder"),
        ("--amplitude_encoder False", "z turns the states themselves"),
        ("--model linear", "--dataset states:x.npz is for models whose circuit begins in them (qdeq, wang2022), not linear"),
        ("--model alam2021", "not alam2021"),
        ("--lift repeat --readout pauli1", "12 readouts cannot be repeated to 4 inputs"),
        ("--shard columns", "encoding turned_states"),
        ("--model dilip2022_mps --readout marginal", "not dilip2022_mps"),
        ("--classes 0,1", "of a file all are taken"),
        ("--dataset states:x.npy", "must name a file, as states:PATH.npz"),
    ):
        with pytest.raises(SystemExit):
            parse_command_line((flags + more).split())
        assert message in capsys.readouterr().err


def test_a_file_is_made_and_a_run_trains_on_it(tmp_path, capsys):
    assert make_states.CHAINS == tuple(CHAINS)
    out = tmp_path / "new" / "rings.npz"
    make_states.main(["--out", str(out), "--chain", "cluster_ising", *SMALL])
    assert "--num_classes 3 --n_wires 4" in capsys.readouterr().out
    flags = "--num_classes 3 --n_wires 4 --device cpu --name r --max_step 3 --readout pauli1 --spectral_radius_mode".split()
    loss = "--jac_loss_weight 0.1 --jac_loss_freq 1 --batch_size 16".split()
    train_here("--dataset", f"states:{out}", *flags, *loss, "--work_dir", tmp_path)
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert (results["encoding"], results["n_readouts"], results["dataset"]) == ("turned_states", 12, "states:rings.npz")
    assert results["failure"] is None and results["test_spectral_radius"] > 0
    with pytest.raises(SystemExit):
        make_states.main(["--out", str(tmp_path / "x.txt")])
    assert "--out must end with .npz" in capsys.readouterr().err


def test_the_pages_numbers_are_those_of_committed_runs():
    folder = REPOSITORY / "results" / "quantum_data"
    direct, implicit = (json.loads((folder / f"{name}.json").read_text()) for name in ("direct-1", "implicit"))
    told = " ".join(numbers("DEQ-Quantum/README.md", "One seed on that file"))
    for one, name in ((direct, "test_acc"), (implicit, "test_acc")):
        assert f"{100 * one[name]:.1f}" in told
    assert f"{implicit['test_spectral_radius']:.2f}" in told and implicit["n_parameters"] == direct["n_parameters"] == 78
    assert {one["readout"] for one in (direct, implicit)} == {"z"} and {one["seed"] for one in (direct, implicit)} == {0}
