"""The theory's checks: their bounds against states and circuits simulated elsewhere, and that each check can fail."""

import math

import numpy as np
import pytest
import torch
from torch.autograd.functional import jacobian

import reference
from dataset import load_features
from models.table import build_model
from theory import ablations, bounds, contraction, first_experiments, overlaps, subjects
from training.command_line import parse_command_line


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def subject(*flags: str, n_images: int = 5, seed: int = 0) -> subjects.Subject:
    """A four-qubit model, or another that the flags name, with normal features."""
    torch.manual_seed(seed)
    settings = parse_command_line(["--n_wires", "4", "--num_classes", "4", *flags]).settings
    model = build_model(settings).double().eval()
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
    readouts = s.model.layer.bind(torch.zeros_like(s.x)).circuit.readouts
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


# first experiments


def test_spread_of_ends():
    nan = float("nan")
    none = [nan, nan]
    ends = torch.tensor([[none, [1.0, 0.0], [0.0, 0.0], none, none],
                         [[2.0, 0.0], [1.0, 0.0], [3.0, 0.0], [5.0, 5.0], none],
                         [[2.0, 3.0], none, [-1.0, 0.0], none, none]])  # fmt: skip
    spread = first_experiments._spread(ends)
    assert spread[:3].tolist() == [3.0, 0.0, 4.0]  # the third: between two ends neither of which is the first
    assert spread[3:].isnan().all()


@pytest.mark.parametrize("max_steps, n_compared", [(0, 0), (40, 5)])
def test_samples_without_two_ends_are_left_out(monkeypatch, max_steps, n_compared):
    torch.manual_seed(0)
    monkeypatch.setattr(first_experiments, "TIGHT_STEPS", max_steps)
    monkeypatch.setattr(first_experiments, "SOLVERS", ("newton",))
    found = first_experiments.fixed_points("amplitude", 5, 1, 1, torch.Generator().manual_seed(0))
    assert (found["n_samples"], found["n_samples_with_two_ends"]) == (5, n_compared)
    assert found["share_with_one_fixed_point"] == (1 if n_compared else None)
    assert n_compared or found["largest_distance_between_ends"] is None


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


@pytest.mark.slow
def test_an_ablation_changes_what_it_names():
    found = {(v.ablation, v.label): v for v in ablations.variants()}
    assert len(found) == len(ablations.CAPS) + len(ablations.SCALES) + len(ablations.WEIGHTS)
    settings = next(iter(subjects.wanted("digits", 0, "").values()))
    splits = {0: load_features("digits", 4, 4, 0, "", "cpu")}
    cap_1, heavy = (ablations.measure(found[key], settings, splits, 2, [0])
                    for key in (("solver cap", "1"), ("Jacobian weight", "2")))  # fmt: skip
    assert cap_1["solver_steps"]["mean"] == 1 < heavy["solver_steps"]["mean"]
    assert cap_1["acc"]["std"] is None and 0.25 < cap_1["acc"]["mean"] <= 1
