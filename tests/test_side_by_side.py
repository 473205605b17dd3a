"""Several models side by side: each step is that of every run alone, whatever differs between them but their settings."""

from copy import deepcopy

import pytest
import torch

from circuits.circuit import build_circuit
from conftest import assert_same
from engines import make_engine
from models.lift import Repeat
from runs import checkpoint
from runs.folder import find_run
from training.command_line import parse_command_line
from training.evaluation import load_splits
from training.loop import Training
from training.side_by_side import SideBySide

DIGITS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 48, "--device", "cpu",
          "--tensorboard", "False")  # fmt: skip
CPU, SEEDS = torch.device("cpu"), (0, 1, 2)
JAC_LOSS = ("--jac_loss_weight", 0.8, "--jac_loss_freq", 0.5)
NEWTON = ("--f_solver", "newton", "--b_solver", "exact")


def begin(*flags: object) -> list[Training]:
    """Trainings on the digits in double precision, one for each seed, at their first step; nothing is written."""
    commands = parse_command_line(list(map(str, (*DIGITS, *flags, "--seeds", *SEEDS)))).several
    trainings = [Training(find_run(c), load_splits(c.settings, CPU), CPU) for c in commands]
    for training in trainings:
        training.model.double()
    return trainings


def batches_of(training: Training):
    for x, *others in training.batches():
        yield x.double(), *others


def compare(alone: list[Training], joint: list[Training], tolerance: float = 1e-9) -> None:
    for a, b in zip(alone, joint):
        close = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(b.model.state_dict(), a.model.state_dict(), **close)
        torch.testing.assert_close(b.state.optimizer.state_dict(), a.state.optimizer.state_dict(), **close)
        assert b.state.meter.counts == a.state.meter.counts
        means = a.state.meter.means()
        # near zeros of r the mean of ratios is as large as what rounds there
        assert b.state.meter.means() == pytest.approx(means, rel=1e-4, abs=tolerance)
        assert (int(b.failed), b.state.skipped, b.state.step) == (int(a.failed), a.state.skipped, a.state.step)
        if a.previous is not None:
            assert a.previous.r.any()
            torch.testing.assert_close(b.previous.r, a.previous.r, **close)


# the circuit


@pytest.mark.parametrize("n_wires", [4, 6])
def test_circuits_side_by_side_are_each_of_them(n_wires):
    """Values and gradient of all that a compiled circuit offers, run by run of the samples."""
    circuit, lift, n, size = build_circuit(n_wires), Repeat(n_wires, n_wires), len(SEEDS), 4
    engine = make_engine("compiled", circuit).to(torch.float64)
    draw = torch.Generator().manual_seed(0)
    thetas = torch.randn(n, circuit.n_parameters, generator=draw, dtype=torch.float64, requires_grad=True)
    v, w, r = (torch.randn(n * size, k, generator=draw, dtype=torch.float64)
               for k in (circuit.n_inputs, circuit.n_readouts, circuit.n_readouts))  # fmt: skip

    def values(compiled, rows: slice) -> list[torch.Tensor]:
        h = compiled.along(v[rows], lift)
        values = [compiled.readouts(v[rows]), compiled.vjp(v[rows], w[rows])]
        return [*values, h(r[rows]), h.jacobian(r[rows]), h.vjp(r[rows], w[rows])]

    together = values(engine.compile_several(thetas), slice(None))
    each = [values(engine.compile(theta), slice(k * size, (k + 1) * size)) for k, theta in enumerate(thetas)]
    each = [torch.cat(parts) for parts in zip(*each)]
    torch.testing.assert_close(together, each, rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(sum(value.square().sum() for value in found), thetas)[0] for found in (together, each)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


# the step


WAYS = {
    "broyden": JAC_LOSS,
    "newton": (*JAC_LOSS, *NEWTON),
    "picard, absolute": ("--f_solver", "fixed_point", "--b_solver", "fixed_point", "--stop_mode", "abs"),
    "backward anderson": ("--b_solver", "anderson"),
    "layers": ("--mode", "direct", "--n_layer", 2),
    "warm-up": ("--n_layer", 2, "--pretrain_steps", 2, *JAC_LOSS),
    "parts": ("--batch_chunk", 3, *JAC_LOSS),
    "from x": ("--z0", "x", "--f_memory", 2),
    "from before": ("--z0", "previous", "--batch_size", 200, "--batch_chunk", 2, *JAC_LOSS),
    "6 wires": ("--n_wires", 6, *JAC_LOSS),
    "angle": ("--amplitude_encoder", "False", *JAC_LOSS),
    "frozen blocks": ("--trainable_gates", "released"),
    "nothing but the head": ("--trainable_gates", "none"),
    "no clip": ("--clip", 0, "--dropout", 0),
    "classical": ("--model", "classical", "--lr", 0.005, *JAC_LOSS, *NEWTON),
    "linear": ("--model", "linear"),
    "single copy": ("--model", "single_copy"),
    "no head": ("--model", "wang2022"),
    "components": ("--model", "alam2021"),
    "another engine": ("--engine", "statevector", "--f_thres", 3, "--b_thres", 2, "--f_tol", 1, "--b_tol", 1),
}


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_a_step_of_several_runs_is_the_step_of_each(flags):
    """Their caps, Jacobian losses, masks, batches and splits differ; in double precision nothing else does."""
    alone, joint = begin(*flags), begin(*flags)
    together = SideBySide(joint)
    own, theirs = [batches_of(t) for t in alone], [batches_of(t) for t in joint]
    n_steps = 2 if "statevector" in flags else 5
    assert flags == WAYS["layers"] or len({t.draws(step)[0] for t in alone for step in range(1, n_steps + 1)}) > 1
    for _ in range(n_steps):
        for training, batches in zip(alone, own):
            training.train_step(*next(batches))
        assert together.train_step([next(batches) for batches in theirs]) == [True] * len(joint)
    compare(alone, joint)


@pytest.mark.parametrize("optim", ["SGD", "Adagrad", "RMSprop", "RAdam"])
def test_every_optimiser_moves_several_runs_as_each(optim):
    flags = ("--optim", optim, "--weight_decay", 0.01, "--model", "classical_narrow", "--lr", 0.005)
    alone, joint = begin(*flags), begin(*flags)
    for training in (*alone, *joint):  # Adagrad makes its state with the optimiser, in single precision
        training.model.float()
    together = SideBySide(joint)
    own, theirs = [t.batches() for t in alone], [t.batches() for t in joint]
    for _ in range(4):
        for training, batches in zip(alone, own):
            training.train_step(*next(batches))
        together.train_step([next(batches) for batches in theirs])
    compare(alone, joint, tolerance=1e-4)


def test_a_learning_rate_of_its_own_and_a_skipped_step_are_of_one_run_alone():
    """The second run's images are not finite in one step, and its rate is halved in another; counters then differ."""
    flags = ("--scheduler", "dev_perf", "--lr", 0.01)
    alone, joint = begin(*flags), begin(*flags)
    together = SideBySide(joint)
    own, theirs = [batches_of(t) for t in alone], [batches_of(t) for t in joint]
    taken = []
    for number in range(6):
        batches = [next(each) for each in own]
        assert_same([next(each) for each in theirs], batches)
        if number == 2:
            batches[1] = (torch.full_like(batches[1][0], float("nan")), batches[1][1])
        if number == 4:
            for training in (alone[1], joint[1]):
                training.state.learning_rate.decay = 0.5
        for training, batch in zip(alone, batches):
            training.train_step(*batch)
        taken.append(together.train_step(batches))
        for training, is_taken in zip(joint, taken[-1]):
            if not is_taken:
                training.skip(training.state.step)
    assert taken == [[True, number != 2, True] for number in range(6)]
    assert [t.state.skipped for t in joint] == [0, 1, 0]
    compare(alone, joint)


def test_a_run_goes_on_alone_and_with_others_from_the_same_state():
    """Side by side, then each alone, then two of them side by side: as alone throughout."""
    alone, joint = begin(), begin()
    own, theirs = [batches_of(t) for t in alone], [batches_of(t) for t in joint]
    for chosen in (SEEDS, (0,), (1,), (2,), (0, 2)):
        together = SideBySide([joint[k] for k in chosen])
        for _ in range(2):
            for k in chosen:
                alone[k].train_step(*next(own[k]))
            if len(chosen) > 1:
                together.train_step([next(theirs[k]) for k in chosen])
            else:
                joint[chosen[0]].train_step(*next(theirs[chosen[0]]))
    compare(alone, joint)


def test_a_checkpoint_holds_one_run_and_no_memory_of_others(tmp_path):
    alone, joint = begin()[0], begin()
    SideBySide(joint).train_step([next(batches_of(t)) for t in joint])
    alone.train_step(*next(batches_of(alone)))
    sizes = []
    for number, training in enumerate((alone, joint[0])):
        path = tmp_path / f"{number}.pt"
        content = {"model": training.model.state_dict(), "optimizer": training.state.optimizer.state_dict()}
        before = deepcopy(content)
        checkpoint.save(path, content)
        assert_same(content, before)
        found = checkpoint.load(path)
        assert_same(dict(found["model"]), dict(content["model"]))
        assert_same(found["optimizer"], content["optimizer"])
        sizes.append(path.stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 200
