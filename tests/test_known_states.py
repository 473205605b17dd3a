"""--keep_states: states that are found once are those that every step would find, and what changes them is refused."""

import pytest
import torch

import evaluate_qdeq
from conftest import assert_same, train_here
from dataset import Split
from deployment.command_line import parse_command_line as hardware_options
from deployment.costing import costs
from runs import checkpoint
from runs.settings import SettingsError
from test_training_step import DIGITS, begin
from training import equilibrium_settings, evaluation, known_states, memory
from training.evaluation import depth_of, evaluate, measure
from training.known_states import KnownStates
from training.settings import Settings
from typed import parse
from utils.files import read_json

HEAD_ALONE = ("--trainable_gates", "none", "--rand_f_thres_delta", 0, "--batch_size", 200)
KEPT = "--n_wires 4 --num_classes 4 --trainable_gates none --keep_states"
WAYS = {
    "the paper's lift": (),
    "more readouts than inputs": ("--readout", "xyz_strings", "--z_gain", 3),
    "layers": ("--mode", "direct", "--n_layer", 2, "--readout", "zz"),
    "a solve cut short": ("--f_thres", 1, "--z_gain", 3),
}


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS)
def test_a_run_takes_the_steps_that_it_takes_without(flags, parts, monkeypatch):
    """Over two epochs and with dropout: every number that is logged, the parameters, and the validation, over their parts."""
    monkeypatch.setattr(known_states, "PART", 50)
    monkeypatch.setattr(evaluation, "BATCH", 40)
    own = (*HEAD_ALONE, *flags, "--batch_chunk", parts, "--spectral_radius_mode")
    known, plain = begin(*own, "--keep_states"), begin(*own)
    known.find_states()
    known.model.forward = None  # nobody asks for it again
    for number, (batch, same) in enumerate(zip(known.batches(), plain.batches())):
        if number == 6:
            break
        known.train_step(*batch)
        plain.train_step(*same)
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(dict(known.model.named_parameters())[name], parameter, rtol=1e-5, atol=1e-6)
    assert known.state.meter.sums == pytest.approx(plain.state.meter.sums, rel=1e-4)
    assert known.state.meter.sums.get("solver_steps", 0) == plain.state.meter.sums.get("solver_steps", 0)
    for _ in range(2):  # the second time with the radii of the first
        here = known.evaluate(known.splits.val, known=known.known["val"])
        there = plain.evaluate(plain.splits.val)
        assert here.metrics == pytest.approx(there.metrics, rel=1e-4) and "spectral_radius" in here.metrics
        assert torch.equal(here.predictions, there.predictions)
        known.model.spectral_radius = None  # nor for these
    assert known.model.training


def test_images_that_failed_are_told_as_a_pass_tells_them():
    run = begin(*HEAD_ALONE, "--readout", "xyz_strings", "--dropout", 0)
    x, y, depth = run.splits.val.features.clone(), run.splits.val.labels, depth_of(run.settings)
    x[3, 5], x[7, 0] = torch.nan, torch.inf
    states = KnownStates(run.model, x, depth, "these images")
    run.model.eval()
    which = torch.tensor([3, 4, 7, 2])
    known, plain = measure(states.of(which), y[which]), measure(run.model(x[which], depth), y[which])
    assert known.keys() == plain.keys()
    for name, values in plain.items():
        torch.testing.assert_close(known[name], values, rtol=1e-4, atol=1e-6, equal_nan=True)
    assert states.of(which).failed.tolist() == [True, False, True, False]
    assert states.of(torch.tensor([4, 2])).failed.tolist() == [False, False]
    failing = Split(x, y)
    here, there = (evaluate(run.model, failing, depth, 10, known=k) for k in (KnownStates(run.model, x[:10], depth, ""), None))
    assert torch.equal(here.predictions, there.predictions) and here.metrics == pytest.approx(there.metrics, rel=1e-4)


def test_a_run_that_is_resumed_is_the_run_it_would_have_been(tmp_path):
    """Bit for bit; states are found anew, and counted as time of training."""
    flags = (*DIGITS, *HEAD_ALONE, "--keep_states", "--readout", "zz", "--eval-interval", 2, "--work_dir", tmp_path)
    train_here(*flags, "--max_step", 8, "--name", "whole")
    train_here(*flags, "--max_step", 5, "--name", "stopped")
    before = checkpoint.load(tmp_path / "stopped" / "checkpoint_last.pt")["seconds_of_states"]
    train_here(*flags, "--max_step", 8, "--name", "stopped", "--restart")
    whole, stopped = (checkpoint.load(tmp_path / name / "checkpoint_last.pt") for name in ("whole", "stopped"))
    for entry in ("model", "optimizer", "best", "meter"):
        assert_same(stopped[entry], whole[entry])
    assert stopped["seconds_of_states"] > before > 0
    results = read_json(tmp_path / "stopped" / "results.json")
    assert results["train_seconds"] == pytest.approx(stopped["seconds"] + stopped["seconds_of_states"])
    assert results["seconds_per_step"] == pytest.approx(stopped["seconds"] / 8)
    assert (tmp_path / "whole" / "log.txt").read_text().count("states of 576 images found") == 1


@pytest.mark.parametrize("words, said", [
    ("", "give a circuit's --trainable_gates none"), ("--trainable_gates released", "--trainable_gates none"),
    ("--model linear --trainable_gates none", "give a circuit's --trainable_gates none"),
    *((f"--trainable_gates none {words}", said) for words, said in [
        ("--shots 100", "leave out --shots"), ("--gradient shift", "leave out --gradient shift"),
        ("--n_layer 1 --pretrain_steps 3", "leave out --pretrain_steps"), ("--z0 previous", "leave out --z0 previous"),
        ("--jac_loss_freq 0.5 --jac_loss_weight 1", "leave out --jac_loss_freq"), ("--seeds 0 1", "use --seed, once for each"),
    ]),
])  # fmt: skip
def test_states_that_change_are_not_kept(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        parse(f"--n_wires 4 --num_classes 4 {words} --keep_states")
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and "--keep_states" in error and said in error


def test_what_a_step_draws_does_not_bind_states_that_are_kept():
    """Caps and the Jacobian loss of a step: one is not drawn, the other is not of layers."""
    assert parse(f"{KEPT} --f_thres 1").warnings == []
    assert parse(f"{KEPT} --rand_f_thres_delta 0").warnings == ["--rand_f_thres_delta has no effect with --keep_states"]
    words = "--mode direct --n_layer 1 --jac_loss_weight 1 --jac_loss_freq 1"
    assert parse(f"{KEPT} {words}").warnings == ["--jac_loss_weight has no effect with --mode direct"]
    run = begin("--trainable_gates", "none", "--keep_states", "--f_thres", 1)
    run.find_states()
    for _, batch in zip(range(4), run.batches()):  # some draw 2 steps off
        run.train_step(*batch)


@pytest.mark.parametrize("model", ["wang2022", "west2024", "dilip2022", "dilip2022_mps"])
def test_a_model_without_a_head_needs_its_gates(model, capsys):
    with pytest.raises(SystemExit):
        parse(f"--model {model} --trainable_gates none")
    assert f"--trainable_gates none leaves nothing to train of --model {model}" in capsys.readouterr().err


def test_validation_uses_what_is_kept_of_as_many_images_as_it_looks_at(monkeypatch):
    run = begin(*HEAD_ALONE, "--keep_states", "--batch_size", 16, "--max_eval_steps", 2)
    seen = []
    monkeypatch.setattr(KnownStates, "__init__", lambda self, model, features, depth, what: seen.append(len(features)))
    run.find_states()
    assert seen == [len(run.splits.train), 32]
    asked = []
    monkeypatch.setattr(run, "evaluate", lambda *given: asked.append(given))
    with pytest.raises(AttributeError):  # there is no evaluation
        run.validate()
    assert asked == [(run.splits.val, 32, run.known["val"])]


def test_states_that_do_not_fit_are_refused(monkeypatch):
    run = begin(*HEAD_ALONE, "--keep_states", "--readout", "zz")
    run.find_states()
    n_bytes = sum(values.numel() * values.element_size() for known in run.known.values() for values in vars(known._found).values())
    monkeypatch.setattr(memory, "free_bytes", lambda device: n_bytes)
    memory.refuse_states_that_cannot_fit(run.settings, run.splits)
    monkeypatch.setattr(memory, "free_bytes", lambda device: n_bytes - 10_000)
    with pytest.raises(SettingsError, match=r"--keep_states: the states of 576 images take 0.0 GB and 0.0 GB are free"):
        memory.refuse_states_that_cannot_fit(run.settings, run.splits)


def test_a_run_of_kept_states_is_evaluated_in_many_processes_and_costed(tmp_path, monkeypatch):
    """What only its training may not have does not bind what is done with it afterwards."""
    train_here(*DIGITS, *HEAD_ALONE, "--keep_states", "--max_step", 2, "--work_dir", tmp_path, "--name", "kept")
    assert costs(hardware_options(["cost", "--run", str(tmp_path / "kept"), "--trainable_gates", "all"]))
    monkeypatch.setattr(equilibrium_settings, "world_size", lambda: 2)
    found, _, _ = evaluate_qdeq.measure(evaluate_qdeq.parse_command_line([str(tmp_path / "kept"), "--device", "cpu"]))
    trained = read_json(tmp_path / "kept" / "results.json")
    assert found["acc"] == trained["test_acc"]


def test_several_processes_do_not_keep_states(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SettingsError, match="one process and one way: leave out torchrun"):
        Settings(n_wires=4, num_classes=4, trainable_gates="none", keep_states=True).validate()
