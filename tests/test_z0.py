"""Where solves begin (--z0) and how many steps solvers learn from (--f_memory): values, gradients, what a run remembers."""

import re

import pytest
import torch
from torch.nn.functional import cross_entropy

import evaluate_qdeq
from circuits.circuit import build_circuit
from conftest import assert_same, train_here
from deq import SolverSettings, solve
from models.depth import Equilibrium, Stack
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer
from problems import normal, with_spectral_norm
from runs import checkpoint
from runs.checkpoint import CheckpointError
from test_model import TIGHT, flat_gradient, make_batch
from test_training_step import CPU, DIGITS, begin
from training.evaluation import depth_of
from training.previous import ENTRY, Previous
from training.settings import Settings
from typed import parse

PREVIOUS = ("--z0", "previous", "--batch_size", 200, "--f_tol", 1e-6, "--rand_f_thres_delta", 0)  # three steps an epoch


def model_of(encoding: str = "amplitude", readout: str = "z", **of_layer) -> QDEQModel:
    torch.manual_seed(3)
    circuit = build_circuit(4, encoding, readout=readout, n_random_operations=12)
    return QDEQModel(QuantumLayer(circuit, **of_layer), 4).double().eval()


# x


@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_with_amplitudes_f_at_x_is_f_at_zero(encoding, gain):
    """(1 + g) x and x normalise to one state; as angles they are not the same."""
    x, _ = make_batch()
    f = model_of(encoding, z_gain=gain).layer.bind(x)
    assert torch.allclose(f(x), f(torch.zeros_like(x)), atol=1e-12) == (encoding == "amplitude")


@pytest.mark.parametrize("readout, lift", [("z", "repeat"), ("zz", "projection"), ("zz", "interpolate"), ("pauli2", "auto")])
def test_x_begins_at_the_state_nearest_to_it(readout, lift):
    """Against LAPACK's least squares; 30 readouts reach x itself, by the shortest r, and it is as if begun at zero."""
    model = model_of(readout=readout, lift=lift)
    x, _ = make_batch()
    e = model.layer.lift(torch.eye(model.layer.n_units, dtype=x.dtype)).T
    r0 = torch.linalg.lstsq(e, x.T, driver="gelsd").solution.T
    at_once = SolverSettings("broyden", 0)
    p = model(x, Equilibrium(at_once, at_once, from_x=True))
    if readout == "pauli2":  # more readouts than z has numbers: the solve is that of z, which is read once more
        torch.testing.assert_close(p.solver.z, x)
        torch.testing.assert_close(p.z, model.layer(x, x))
    else:
        torch.testing.assert_close(p.r, r0)
    first, second = (model(x, Stack(n, from_x=True)).z for n in (1, 2))
    torch.testing.assert_close(first, model.layer(r0 @ e.T, x))
    torch.testing.assert_close(second, model.layer(first, x))
    assert torch.allclose(first, model(x, Stack(1)).z) == (readout == "pauli2")


def test_an_x_that_repeats_as_z_does_begins_as_zero_does():
    """Then it is a state E r itself, and the first layer sees its direction."""
    model = model_of()
    x = model.layer.lift(torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    torch.testing.assert_close(model(x, Stack(3, from_x=True)).logits, model(x, Stack(3)).logits)


def test_the_gradient_of_an_equilibrium_does_not_depend_on_where_its_solve_began():
    model = model_of()
    x, y = make_batch()
    begin_at = 0.5 * torch.randn(len(x), 4, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    at_x = Equilibrium(TIGHT.forward, TIGHT.backward, from_x=True)
    found = [model(x, TIGHT), model(x, at_x), model(x, TIGHT, r0=begin_at)]
    assert not torch.allclose(found[0].solver.trace[0], found[1].solver.trace[0])
    gradients = [flat_gradient(cross_entropy(p.logits, y), model) for p in found]
    assert gradients[0].norm() > 1e-3
    for p, gradient in zip(found[1:], gradients[1:]):
        assert p.solver.converged.all()
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-8, atol=1e-10)
    again = model(x, Equilibrium(SolverSettings("broyden", 5, 1e-6), TIGHT.backward), r0=found[0].r)
    assert not again.solver.steps.any() and torch.equal(again.r, found[0].r)
    with pytest.raises(ValueError, match=re.escape("r0 must have shape (8, 4), got (3, 4)")):
        model(x, TIGHT, r0=begin_at[:3])


# previous


@pytest.mark.parametrize("parts", [1, 3])
def test_every_image_begins_where_it_last_came_to(parts):
    """Over three epochs, held against a table kept beside; nothing that is drawn changes."""
    slow = (*PREVIOUS, "--batch_chunk", parts, "--lr", 1e-4)
    run, plain = begin(*slow), begin(*slow, "--z0", "zero")
    forward, passed, kept = run.model.forward, [], {}

    def recorded(*arguments, **named):
        passed.append((named.get("r0"), forward(*arguments, **named)))
        return passed[-1][1]

    run.model.forward = recorded
    steps = [[], []]
    for number, (batch, same) in enumerate(zip(run.batches(), plain.batches())):
        if number == 9:
            break
        assert torch.equal(batch[0], same[0]) and len(batch) == 3
        passed.clear()
        run.train_step(*batch)
        plain.train_step(*same)
        began, found = (torch.cat(of_parts) for of_parts in zip(*((r0, p.r) for r0, p in passed)))
        places = batch[2].tolist()
        assert torch.equal(began, torch.stack([kept.get(place, torch.zeros(4)) for place in places]))
        kept |= dict(zip(places, found))
        if number == 2:  # no image has come up twice
            assert_same(dict(run.model.state_dict()), dict(plain.model.state_dict()))
        for each, one in zip(steps, (run, plain)):
            each.append(one.state.meter.sums["solver_steps"])
    assert len(kept) == len(run.splits.train) and steps[0][2] == steps[1][2]
    assert steps[0][-1] - steps[0][2] < 0.9 * (steps[1][-1] - steps[1][2])
    passed.clear()
    run.evaluate(run.splits.val)
    assert [r0 for r0, _ in passed] == [None]  # at zero, as the depth says


def test_an_image_that_failed_and_warm_up_layers_leave_nothing_to_begin_at():
    run = begin(*PREVIOUS, "--n_layer", 1, "--pretrain_steps", 1)
    batches = run.batches()
    run.train_step(*next(batches))
    assert run.previous.state() == {}
    x, y, which = next(batches)
    x[3, 5] = torch.nan
    run.train_step(x, y, which)
    r = run.previous.r[which]
    assert not r[3].any() and r[[k for k in range(len(y)) if k != 3]].any(1).all()
    assert int((run.previous.r != 0).any(1).sum()) == len(y) - 1


def test_a_run_that_is_resumed_begins_where_it_would_have(tmp_path):
    """Bit for bit; a checkpoint without the entry loads, and one of other images is refused in one line."""
    flags = (*DIGITS, *PREVIOUS, "--eval-interval", 2, "--work_dir", tmp_path)
    train_here(*flags, "--max_step", 8, "--name", "whole")
    train_here(*flags, "--max_step", 5, "--name", "stopped")
    train_here(*flags, "--max_step", 8, "--name", "stopped", "--restart")
    whole, stopped = (checkpoint.load(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "stopped"))
    assert whole[ENTRY].dtype == torch.float32 and whole[ENTRY].any(1).all()
    for entry in ("model", "optimizer", "best", "meter", ENTRY):
        assert_same(stopped[entry], whole[entry])
    remembered, path = Previous(*whole[ENTRY].shape), tmp_path / "a.pt"
    remembered.load_state({}, CPU, path)
    assert remembered.r is None and not remembered.of(torch.arange(3), torch.zeros(1)).any()
    for damaged in (whole[ENTRY][1:], whole[ENTRY].double(), whole[ENTRY] * torch.nan, [0.0]):
        with pytest.raises(CheckpointError, match="entry previous_r is not of this run's images"):
            remembered.load_state({ENTRY: damaged}, CPU, path)


# memory


def broyden_of_limited_memory(f, z, n_steps: int, memory: int) -> list[torch.Tensor]:
    """Broyden's own Jacobian B, a dense matrix, anew -I after so many updates; residuals of all iterates."""
    eye = torch.eye(z.shape[1], dtype=z.dtype).expand(len(z), -1, -1)
    b, updates, g = -eye, 0, f(z) - z
    residuals = [g.norm(dim=1) / z.norm(dim=1)]
    for _ in range(n_steps):
        dz = -torch.linalg.solve(b, g)
        z, before = z + dz, g
        g = f(z) - z
        residuals.append(g.norm(dim=1) / z.norm(dim=1))
        if updates == memory:
            b, updates = -eye, 0
        else:
            missed = (g - before) - (b @ dz.unsqueeze(2)).squeeze(2)
            b = b + missed.unsqueeze(2) * dz.unsqueeze(1) / dz.square().sum(1).view(-1, 1, 1)
            updates += 1
    return residuals


def anderson_of_limited_memory(f, z, n_steps: int, memory: int) -> list[torch.Tensor]:
    """The latest differences combined by least squares; residuals of all iterates."""
    zs, gs = [z], [f(z) - z]
    for _ in range(n_steps):
        step = gs[-1]
        if len(zs) > 1:
            dz, dg = (torch.stack([b - a for a, b in zip(v, v[1:])][-memory:], 2) for v in (zs, gs))
            step = step - ((dz + dg) @ torch.linalg.lstsq(dg, gs[-1].unsqueeze(2)).solution).squeeze(2)
        zs.append(zs[-1] + step)
        gs.append(f(zs[-1]) - zs[-1])
    return [g.norm(dim=1) / z.norm(dim=1) for z, g in zip(zs, gs)]


@pytest.mark.parametrize("solver, width, memory", [
    ("broyden", 4, 2), ("broyden", 4, 5), ("broyden", 12, 3), ("broyden", 12, 1), ("anderson", 12, 2), ("anderson", 12, 3),
])  # fmt: skip
def test_a_solver_learns_from_so_many_steps(solver, width, memory):
    """Of four numbers Broyden keeps pairs with a memory of 2 and its matrix with 5: both start anew."""
    n_steps, settings = 9, Settings(f_solver=solver, f_memory=memory, f_thres=9, f_tol=1e-14)
    w, b = with_spectral_norm(normal(width, width, seed=5), 1.3), normal(3, width, seed=6)
    f, z0 = lambda z: torch.tanh(z @ w.T) + b, 0.1 * normal(3, width, seed=7)  # noqa: E731
    plain = {"broyden": broyden_of_limited_memory, "anderson": anderson_of_limited_memory}[solver]
    found = solve(f, z0, depth_of(settings).forward).trace
    expected = [torch.stack(plain(f, z0, n_steps, m)) for m in (memory, n_steps)]
    torch.testing.assert_close(found, expected[0], rtol=1e-6, atol=1e-10)
    assert not torch.allclose(found[-1], expected[1][-1], rtol=1e-2)


def test_without_a_memory_of_its_own_a_solver_has_the_one_it_had():
    x, _ = make_batch()
    model = model_of(readout="zz")
    for solver, own in (("broyden", 100), ("anderson", 5)):
        found = [model(x, depth_of(Settings(f_solver=solver, f_memory=n, f_tol=1e-9))).r for n in (0, own, 2)]
        assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


# flags


def said_of(words: str, capsys) -> str:
    with pytest.raises(SystemExit) as end:
        parse(words)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.count("\n") == 1
    return said


@pytest.mark.parametrize("words, said", [
    ("--z0 previous --mode direct --n_layer 2", "--z0 previous is of equilibria, and --mode direct has none"),
    ("--z0 x --model classical_narrow", "has 100 numbers with --model classical_narrow, and z has 10: use --z0 zero"),
    ("--z0 x --dataset states:a.npz --n_wires 4", "--dataset states:a.npz, and z has 4: use --z0 zero"),
    ("--z0 one", "--z0"),
    ("--f_memory 3 --f_solver newton", "--f_memory 3 is of --f_solver broyden and anderson, and newton keeps no steps"),
    ("--f_memory 3 --f_solver fixed_point", "use --f_memory 0"),
    ("--f_memory -1", "--f_memory"),
])  # fmt: skip
def test_what_cannot_begin_or_be_kept_is_refused_in_one_line(words, said, capsys):
    assert said in said_of(words, capsys)


@pytest.mark.parametrize("words", [
    "", "--mode direct --n_layer 2", "--injection concatenate", "--injection concatenate --amplitude_encoder False",
    "--model classical", "--model alam2021", "--model alam2021_vae", "--model west2024_head --n_wires 9 --ansatz su4",
    "--model kiwit2025 --n_wires 11 --ansatz su4 --readout marginal", "--readout pauli2", "--lift interpolate",
])  # fmt: skip
def test_x_is_for_all_whose_z_is_as_wide(words):
    assert parse(f"{words} --z0 x").warnings == []


def test_what_has_no_effect_is_said():
    assert parse("--model linear --z0 previous --f_memory 2").warnings == [
        "--f_memory has no effect with --model linear", "--z0 has no effect with --model linear"
    ]  # fmt: skip
    assert parse("--mode direct --n_layer 1 --f_memory 2").warnings == ["--f_memory has no effect with --mode direct"]


def test_settings_of_before_have_zero_and_the_solvers_own_memory():
    saved = Settings(seed=3).to_dict()
    del saved["z0"], saved["f_memory"]
    settings = Settings.from_dict(saved)
    assert (settings.z0, settings.f_memory) == ("zero", 0)
    depth = depth_of(settings)
    assert depth == Equilibrium(SolverSettings("broyden", 10, 1e-3), SolverSettings("broyden", 10, 1e-3))
    assert depth_of(Settings(z0="previous")) == depth and depth_of(Settings(z0="x")).from_x


def test_an_evaluation_has_no_previous(capsys):
    with pytest.raises(SystemExit):
        evaluate_qdeq.parse_command_line(["runs/a", "--z0", "previous"])
    assert "--z0 previous is of training" in capsys.readouterr().err
