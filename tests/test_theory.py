"""The theory's checks: their bounds against states and circuits simulated elsewhere, and that each check can fail."""

import json
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import reference
import torch
from conftest import train_here
from torch.autograd.functional import jacobian

import reproduce
import theory
from dataset import load_features
from figures import draw_overlaps
from models.circuit import build_circuit
from models.classical_layers import TanhLayer
from models.quantum_layer import QuantumLayer
from reproduction.page import to_html
from theory import ablations, bounds, construction, contraction, first_experiments, overlaps, subjects
from utils.cli import parse_command_line
from utils.settings import SettingsError

FAST = theory.Plan("digits", epochs=1, n_images=6, n_overlaps=50, n_pairs=3, n_circuits=1, n_directions=2,
                   ablation_epochs=1, ablation_seeds=1)  # fmt: skip


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def subject(*flags: str, n_images: int = 5, seed: int = 0) -> subjects.Subject:
    """A four-qubit model, or another that the flags name, with normal features."""
    torch.manual_seed(seed)
    settings = parse_command_line(["--n_wires", "4", "--num_classes", "4", *flags]).settings
    model = subjects.build_model(settings).double().eval()
    return subjects.Subject("model", "untrained", settings, model, draw(n_images, 16), 0.0)


# bounds


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
@pytest.mark.parametrize("size", [0.01, 0.3, 3.0])
def test_readouts_never_differ_by_more_than_the_bound(encoding, size):
    rng = np.random.default_rng(0)
    theta = rng.uniform(-np.pi, np.pi, reference.n_parameters(4))
    v = rng.normal(size=(300, 16))
    other = v + size * rng.normal(size=v.shape) / 4
    differences = [reference.readouts(w, theta, 4, encoding) for w in (v, other)]
    moved = np.abs(differences[0] - differences[1]).max(1)
    bound = bounds.readout_difference_bound(encoding, torch.from_numpy(v), torch.from_numpy(other)).numpy()
    assert (moved <= bound + 1e-12).all() and (bound <= 2).all() and (moved > 0.02 * bound).any()


def test_amplitude_bound_is_met_by_one_qubit():
    """<Z> = cos 2a for the state (cos a, sin a): about 45 degrees it moves by 2 sin of the angle between vectors."""
    turn = 0.4
    a, b = math.pi / 4 - turn / 2, math.pi / 4 + turn / 2
    # as long as makes it the foot of the perpendicular from the other's end
    v = math.cos(turn) * torch.tensor([[math.cos(a), math.sin(a), 0, 0]], dtype=torch.float64)
    other = torch.tensor([[math.cos(b), math.sin(b), 0, 0]], dtype=torch.float64)
    difference = math.cos(2 * a) - math.cos(2 * b)
    assert bounds.readout_difference_bound("amplitude", v, other).item() == pytest.approx(difference)
    readout = torch.tensor([[math.cos(2 * a)]], dtype=torch.float64)
    slope = abs(-2 * math.sin(2 * a)) / v.norm()  # d(cos 2a) / da, over the length that turns v by da
    assert bounds.slope_bounds("amplitude", v, readout).item() == pytest.approx(slope.item())


def test_angle_bound_is_met_by_one_rotation():
    """<Z> = cos t after RY(t): about 90 degrees it moves by 2 sin(d / 2)."""
    v, other = torch.zeros(1, 16, dtype=torch.float64), torch.zeros(1, 16, dtype=torch.float64)
    v[0, 2], other[0, 2] = math.pi / 2 - 0.3, math.pi / 2 + 0.3
    difference = math.cos(v[0, 2]) - math.cos(other[0, 2])
    assert bounds.readout_difference_bound("angle", v, other).item() == pytest.approx(difference)
    assert bounds.readout_difference_bound("angle", 9 * v, 0 * v).item() == 2  # no more than from one end to the other


def test_the_papers_bound_follows_from_ours():
    distance = torch.linspace(0, 1, 100001, dtype=torch.float64)
    margin = distance.cos().square() - bounds.fidelity_bound_of_the_paper(distance)
    assert margin.min() >= -1e-15 and margin.max() > 0.05


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_gradients_are_no_longer_than_their_bounds(encoding):
    s = subject("--amplitude_encoder", str(encoding == "amplitude"))
    readouts = s.model.layer.bind(torch.zeros_like(s.x)).readout.readouts
    gradients = jacobian(lambda v: readouts(v).sum(0), s.x).permute(1, 0, 2)
    bound = bounds.slope_bounds(encoding, s.x, readouts(s.x))
    assert (gradients.norm(dim=-1) <= bound + 1e-12).all()
    assert (gradients.norm(dim=-1) > 0.2 * bound).any()


# overlaps


def test_states_are_those_of_the_reference():
    angles = draw(6, 16).numpy()
    expected = reference.encode(angles, 4, "angle")  # (16, 6), wire 0 first
    per_wire = [overlaps.angle_states(torch.from_numpy(angles[:, wire::4])).numpy() for wire in range(4)]
    together = np.stack([reference.kron([qubit[i] for qubit in per_wire]) for i in range(6)], axis=1)
    np.testing.assert_allclose(together, expected, atol=1e-14)
    norm = overlaps.amplitude_states(draw(6, 4)).norm(dim=1)
    torch.testing.assert_close(norm, torch.ones(6, dtype=torch.float64))


def test_overlaps_keep_to_their_bounds_and_tell_when_not(monkeypatch):
    measured = overlaps.measure(2000, torch.Generator().manual_seed(1))
    below = {encoding: [b["pairs_below"] for b in measured[encoding]["bounds"]] for encoding in measured}
    assert below["angle"] == [0, 0, 0]
    assert below["amplitude"][0] > 0 and below["amplitude"][1] == 0  # short vectors turn far
    for found in measured.values():
        assert len(found["overlap"]) == 2000 and max(found["distance_squared"]) <= 1
    monkeypatch.setattr(bounds, "angle_fidelity_bound", lambda d: 1 - 0.1 * d.norm(dim=-1).square())
    tightened = overlaps.measure(2000, torch.Generator().manual_seed(1))["angle"]["bounds"][1]
    assert tightened["pairs_below"] > 100 and tightened["least_margin"] < -0.1


# contraction


def test_contraction_of_a_known_map():
    """tanh(W z) with W = 0.3 Q, Q orthogonal, has its equilibrium at 0, and its Jacobian there is W."""
    s = subject("--model", "classical")
    q = torch.linalg.qr(draw(16, 16, seed=1))[0]
    with torch.no_grad():
        s.model.layer.w.copy_(0.3 * q)
    s.x.zero_()
    measured = contraction.measure(s, 20, torch.Generator().manual_seed(0))
    at = measured["at_equilibrium"]
    for name in ("spectral_radius", "norm_l2"):
        assert at[name]["mean"] == pytest.approx(0.3) and at[name]["share_below_1"] == 1
    assert at["norm_max"]["largest"] == pytest.approx(0.3 * q.abs().sum(1).max().item())
    assert at["norm_l2"]["mean_bound"] == at["norm_l2"]["largest_bound"] == pytest.approx(0.3) and at["radial"] is None
    for ratio in measured["ratios"]:
        assert ratio["violations"] == 0 and ratio["largest"] <= ratio["largest_bound"]
    assert max(r["largest"] for r in measured["ratios"] if r["norm"] == "l2") > 0.2


@pytest.mark.parametrize("flags", [(), ("--amplitude_encoder", "False"), ("--model", "classical")])
def test_contraction_tells_when_a_bound_is_violated(flags, monkeypatch):
    s = subject(*flags)
    measured = contraction.measure(s, 5, torch.Generator().manual_seed(0))
    assert not any(r["violations"] for r in measured["ratios"])
    assert not measured["at_equilibrium"]["norm_l2"]["violations"]
    pair_bound, slopes = contraction._pair_bound, contraction._slope_bounds
    monkeypatch.setattr(contraction, "_pair_bound", lambda *a: 0.01 * pair_bound(*a))
    monkeypatch.setattr(contraction, "_slope_bounds", lambda *a: {k: 0.01 * v for k, v in slopes(*a).items()})
    measured = contraction.measure(s, 5, torch.Generator().manual_seed(0))
    assert all(r["violations"] for r in measured["ratios"])
    assert measured["at_equilibrium"]["norm_l2"]["violations"] == len(s.x)


def test_jacobian_at_the_equilibrium_is_that_of_f():
    s = subject()
    p = s.model(s.x, subjects.TIGHT)
    f = s.model.layer.bind(s.x)
    full = jacobian(lambda z: f(z).sum(0), p.z.detach()).permute(1, 0, 2)
    at = contraction.measure(s, 1, torch.Generator().manual_seed(0))["at_equilibrium"]
    assert at["spectral_radius"]["largest"] == pytest.approx(torch.linalg.eigvals(full).abs().max().item(), rel=1e-6)
    assert at["norm_l2"]["mean"] == pytest.approx(np.mean([np.linalg.norm(j, 2) for j in full.numpy()]))
    assert at["norm_max"]["mean"] == pytest.approx(np.mean([np.abs(j).sum(1).max() for j in full.numpy()]))
    assert at["radial"] < 1e-12


# Theorem 3


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_two_layers_are_one_circuit_of_twice_the_qubits(encoding):
    """Registers of 4 qubits side by side: their states' product, one unitary of all gates, all 8 readouts."""
    torch.manual_seed(0)
    layers = [QuantumLayer(build_circuit(4, encoding)).double() for _ in range(2)]
    x, z = draw(3, 16), draw(3, 32, seed=1).tanh()
    registers = [reference.encode(v.numpy(), 4, encoding) for v in (x, z[:, :16] + x)]
    states = np.stack([np.kron(a, b) for a, b in zip(registers[0].T, registers[1].T)], axis=1)
    gates, theta = [], np.concatenate([layer.full_theta().detach().numpy() for layer in layers])
    for number in range(2):
        for gate, wires, index in reference.circuit(4):
            shifted = None if index is None else index + number * reference.n_parameters(4)
            gates.append((gate, tuple(4 * number + wire for wire in wires), shifted))
    readouts = (reference.readout_signs(8) @ np.abs(reference.run(tuple(gates), theta, states)) ** 2).T
    block = construction.BlockNetwork(layers, x)(z).detach().numpy()
    np.testing.assert_allclose(block, np.repeat(readouts, 4, axis=1), atol=1e-12)


@pytest.mark.parametrize("kind", ["amplitude", "angle", "tanh"])
@pytest.mark.parametrize("n_layers", [2, 4])
def test_block_network_equals_the_untied_one_to_round_off(kind, n_layers):
    torch.manual_seed(1)
    found = construction.measure(n_layers, kind, 4, 5, torch.Generator().manual_seed(0))
    for name in ("output_difference", "all_blocks_difference", "residual_after_L", "jacobian_power_L"):
        assert found[name] <= 1e-14, name
    assert found["jacobian_power_L_minus_1"] > 1e-4
    assert found["solver_steps"] == n_layers


def test_block_network_minds_the_order_of_its_layers():
    torch.manual_seed(1)
    layers = [TanhLayer(16, 16).double() for _ in range(3)]
    x = draw(4, 16)
    z = start = torch.zeros(4, 48, dtype=torch.float64)
    f = construction.tanh_blocks(layers).bind(x)
    for _ in range(3):
        z = f(z)
    right = construction.BlockNetwork(layers, x).untied(start[:, :16])[-1]
    wrong = construction.BlockNetwork(layers[::-1], x).untied(start[:, :16])[-1]
    assert torch.allclose(z[:, 32:], right, atol=1e-14) and (z[:, 32:] - wrong).abs().max() > 1e-2


# first experiments


def test_spread_of_ends():
    nan = float("nan")
    ends = torch.tensor([[[nan, nan], [1.0, 0.0]], [[2.0, 0.0], [1.0, 0.0]], [[2.0, 3.0], [nan, nan]]])
    assert first_experiments._spread(ends).tolist() == [3.0, 0.0]


def test_steps_to_a_level():
    trace = torch.tensor([0.5**k for k in range(8)], dtype=torch.float64).unsqueeze(1) * torch.tensor([1.0, 1e-2, 1e3])
    found = first_experiments._reached(trace, 0.1)
    assert found["share"] == pytest.approx(2 / 3) and found["mean_steps"] == (4 + 0) / 2
    assert first_experiments._reached(trace, 1e-9) == {"residual": 1e-9, "share": 0.0, "mean_steps": None}


def test_every_solver_finds_the_same_fixed_points():
    torch.manual_seed(0)
    found = first_experiments.fixed_points("amplitude", 5, 1, 1, torch.Generator().manual_seed(0))
    assert set(found["solvers"]) == {"Picard", "Anderson", "Broyden", "Newton"} and found["n_solves"] == 10
    assert found["solvers"]["Newton"]["converged"] == 1 and found["share_with_one_fixed_point"] == 1
    assert found["solvers"]["Newton"]["steps"] < found["solvers"]["Picard"]["steps"]


def test_convergence_follows_a_known_contraction():
    """z -> tanh(z / 2), from near 0: Picard halves the state, and with it the residual, at each step."""
    s = subject("--model", "classical_narrow")
    with torch.no_grad():
        s.model.layer.w.copy_(0.5 * torch.eye(4))
        s.model.layer.u.zero_()
        s.model.layer.u[:, :4] = torch.eye(4)
    s.x.mul_(1e-6)
    picard = first_experiments.convergence(s)["solvers"]["Picard"]["quantiles"]["0.5"]
    # after k steps z = (2 - 2^(1 - k)) x, f(z) - z = 2^-k x
    expected = [2.0**-k / (2 - 2 ** (1 - k)) for k in range(1, 12)]
    assert picard[:11] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("flags", [(), ("--amplitude_encoder", "False")])
def test_implicit_gradient_is_the_finite_differences(flags):
    s = subject(*flags, n_images=3)
    before = [p.clone() for p in s.model.parameters()]
    found = first_experiments.gradient(s, 3, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(before, s.model.parameters()))
    assert found["n_images"] == 3 and max(found["against_finite_differences"].values()) < 1e-8
    assert found["forward_tolerance"]["1e-01"] > found["forward_tolerance"]["1e-08"]
    assert found["sixty_layers"] < 1e-6


# ablations


def test_start_of_the_parameters_is_rescaled():
    s = subject()
    before = s.model.layer.theta.clone()
    ablations.rescale(s.model, None)
    assert torch.equal(s.model.layer.theta, before)
    ablations.rescale(s.model, math.pi / 4)
    torch.testing.assert_close(s.model.layer.theta.detach(), before / 4)


def test_an_ablation_changes_what_it_names():
    found = {(v.ablation, v.label): v for v in ablations.variants()}
    assert len(found) == len(ablations.CAPS) + len(ablations.SCALES) + len(ablations.WEIGHTS)
    settings = next(iter(subjects.wanted("digits", 0, "").values()))
    splits = {0: load_features("digits", 4, 4, 0, "", "cpu")}
    cap_1, heavy = (ablations.measure(found[key], settings, splits, 2, [0])
                    for key in (("solver cap", "1"), ("Jacobian weight", "2")))  # fmt: skip
    assert cap_1["solver_steps"]["mean"] == 1 < heavy["solver_steps"]["mean"]
    assert cap_1["acc"]["std"] is None and 0.25 < cap_1["acc"]["mean"] <= 1


# all of it


def test_everything_is_kept_and_read_back(tmp_path, monkeypatch):
    figures = theory.run(tmp_path, 0, "", plan=FAST)
    assert set(figures) == {"overlap", "solver_residuals", "contraction", "ablations"}
    text = (tmp_path / "theory.md").read_text()
    assert text.count("\n## ") == 8 and "nan" not in text
    page = to_html(text)
    assert page.count("<h3") == 8 and page.count("<h2") == 1 and page.count("<table>") == 8 and "#" not in page
    parts = sorted(path.stem for path in tmp_path.glob("*.json"))
    assert parts == ["ablations", "construction", "contraction", "convergence", "fixed_points", "gradient", "overlaps"]
    content = json.loads((tmp_path / "gradient.json").read_text())
    assert content["made_from"]["seed"] == 0 and content["device"].startswith("cpu") and "git_commit" in content

    def never(*arguments):
        raise AssertionError("measured again")

    # interrupted before the gradient: the rest is not measured again
    (tmp_path / "gradient.json").unlink()
    monkeypatch.setattr(first_experiments, "gradient", lambda *a: {"measured": "anew"} | content["measured"][0])
    for module in (overlaps, contraction, construction, ablations):
        monkeypatch.setattr(module, "measure", never)
    theory.run(tmp_path, 0, "", plan=FAST)
    assert json.loads((tmp_path / "gradient.json").read_text())["measured"][0]["measured"] == "anew"
    with pytest.raises(AssertionError, match="measured again"):
        theory.run(tmp_path, 1, "", plan=FAST)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`reproduce.py theory` in this process, writing into tmp_path."""
    monkeypatch.setattr(logging.getLogger("qdeq"), "handlers", [])  # the command adds one of its own
    folders = ["--results_dir", str(tmp_path / "results"), "--images_dir", str(tmp_path / "images")]
    return lambda *flags: reproduce.main(["theory", *folders, *map(str, flags)])


def test_the_command_writes_results_and_vector_and_pixel_figures(command, tmp_path, monkeypatch, capsys):
    def measured(out, seed, data_dir, runs, plan):
        assert (seed, runs, plan.dataset) == (3, [], "digits")
        out.mkdir(parents=True)
        (out / "theory.md").write_text("# All is well\n")
        return {"overlap": draw_overlaps(overlaps.measure(20, torch.Generator().manual_seed(0)))}

    monkeypatch.setattr(theory, "run", measured)
    command("--dataset", "digits", "--seed", 3)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"overlap.svg", "overlap.png"}
    assert "# All is well" in capsys.readouterr().out


def test_the_command_ends_with_one_line_where_it_cannot_go_on(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "Plan", lambda dataset: replace(FAST, dataset=dataset))
    (tmp_path / "mnist.npz").write_text("no archive")
    for flags, words in ((("--data_dir", tmp_path), "corrupt"),
                         (("--dataset", "digits", "--runs", tmp_path), "no checkpoint")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            command(*flags)
        error = capsys.readouterr().err
        assert end.value.code == 1 and error.count("\n") == 1 and words in error


def test_an_interrupted_command_says_that_it_goes_on(command, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(theory, "run", interrupted)
    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 130 and "the same command goes on" in capsys.readouterr().out


def test_a_run_folder_is_looked_at(tmp_path):
    train_here("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--max_step", 30, "--device", "cpu",
               "--tensorboard", "False", "--work_dir", tmp_path, "--name", "mine")  # fmt: skip
    found = subjects.of_run(tmp_path / "mine", "", 20)
    assert found.state == "run mine" and found.x.shape == (20, 16) and found.x.dtype == torch.float64
    assert found.name == "digits, 4 classes, 4 qubits, amplitude" and 0 <= found.test_acc <= 1
    train_here("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--max_step", 2, "--model", "linear",
               "--device", "cpu", "--tensorboard", "False", "--work_dir", tmp_path, "--name", "other")  # fmt: skip
    with pytest.raises(SettingsError, match="no bounds for --model linear"):
        subjects.of_run(tmp_path / "other", "", 20)
