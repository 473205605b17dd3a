"""What damage to a run's checkpoints does to the run, for both training commands.

Nothing is lost that can be rebuilt, no run ends with other numbers unsaid, and what cannot go on ends in one line.
"""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

import evaluate_qdeq
import killed_runs
from conftest import assert_same
from killed_runs import Command, Killed, flip, numbers, rewrite
from runs import checkpoint
from runs.state import TrainingState

command, line = killed_runs.command, killed_runs.line  # fixtures


# the last checkpoint


@pytest.mark.parametrize("kind", ["qdeq", "linear", "qep"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "entry"])
def test_a_damaged_last_checkpoint_costs_steps_and_no_number(kind, damage, tmp_path, monkeypatch, capsys):
    if kind == "qdeq" and damage != "flip":
        return
    command = Command(kind, tmp_path, monkeypatch)
    whole, run = command.train(name="whole"), command.kill_after(6)
    last = run / "checkpoint_last.pt"
    if damage == "gone":
        last.unlink()
    elif damage == "entry":
        rewrite(last, step=float("nan"))
    elif damage == "flip":
        flip(last)
    else:
        last.write_bytes(last.read_bytes()[:300] if damage == "cut" else b"")
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    capsys.readouterr()
    command.resume()
    shown = capsys.readouterr().out
    (told,) = [text for text in shown.splitlines() if "checkpoint_last.pt" in text]
    assert told.endswith("the run goes back to step 4, that of checkpoint_previous.pt") and "after step 4" in shown
    assert numbers(run) == numbers(whole)
    assert before["checkpoint_previous.pt"] != (run / "checkpoint_previous.pt").read_bytes()
    assert [checkpoint.load(run / f"checkpoint_{name}.pt")["step"] for name in ("last", "previous")] == [8, 6]


def test_a_finished_run_goes_back_too_and_ends_with_the_same_numbers(command):
    run = command.train()
    whole = numbers(run)
    flip(run / "checkpoint_last.pt")
    command.resume()
    assert numbers(run) == whole and checkpoint.load(run / "checkpoint_last.pt")["step"] == 8


def test_a_run_that_went_back_and_is_killed_again_still_has_a_checkpoint(command):
    whole, run = command.train(name="whole"), command.kill_after(6)
    flip(run / "checkpoint_last.pt")
    real = os.replace

    def kill(source, target):
        if Path(target).name == "checkpoint_last.pt" and ".tmp" in str(source):
            raise Killed
        real(source, target)

    with command.monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(Killed):
            command.resume()
    assert checkpoint.load(run / "checkpoint_last.pt")["step"] == 4
    command.resume()
    assert numbers(run) == numbers(whole)


def test_without_any_usable_checkpoint_it_is_said_what_removing_them_costs(command, line):
    run = command.kill_after(4)
    for name in ("last", "previous"):
        flip(run / f"checkpoint_{name}.pt")
    error = line(command.resume)
    assert "checkpoint_last.pt" in error and "checkpoint_previous.pt" in error and "restarts at step 0" in error
    for name in ("last", "previous"):
        (run / f"checkpoint_{name}.pt").unlink()
    command.resume()
    assert numbers(run) == numbers(command.train(name="whole"))


# the best checkpoint


@pytest.mark.parametrize("damage", ["flip", "gone", "of another run"])
@pytest.mark.parametrize("finished", [False, True])
def test_a_damaged_best_checkpoint_is_written_anew_on_resume(command, damage, finished, capsys):
    run = command.train() if finished else command.kill_after(6)
    best = run / "checkpoint_best.pt"
    wanted = checkpoint.load(best)
    if damage == "flip":
        flip(best)
    elif damage == "of another run":
        rewrite(best, model={name: value + 1 for name, value in wanted["model"].items()})
    else:
        best.unlink()
    with command.monkeypatch.context() as patch:
        if not finished:  # right before the first step
            patch.setattr(TrainingState, "timed", Mock(side_effect=Killed))
            with pytest.raises(Killed):
                command.resume()
        else:
            command.resume()
    shown = capsys.readouterr().out
    assert ("checkpoint_best.pt" in shown and "written anew" in shown) == (damage != "of another run")
    for name in ("model", "best"):
        assert_same(checkpoint.load(best)[name], wanted[name])
    command.resume()
    assert numbers(run) == numbers(command.train(name="whole"))


def test_a_best_checkpoint_that_goes_in_mid_run_does_not_lose_the_run(command):
    save = TrainingState.save_last

    def lose(state, **more):
        save(state, **more)
        state.folder.best_path.unlink()

    with command.monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save_last", lose)
        run = command.train()
    assert numbers(run) == numbers(command.train(name="whole"))


@pytest.mark.parametrize("best_step, to_come", [(6, True), (4, True), (8, False), (4, False)])
def test_an_older_checkpoint_without_the_best_says_at_once_what_is_lost(command, best_step, to_come, capsys):
    """It is rebuilt where it is the last state; else the best counts anew, or the last state is tested."""
    run = command.kill_after(6 if to_come else 8)
    last = checkpoint.load(run / "checkpoint_last.pt")
    del last["best_model"]
    last["best"] = {**last["best"], "step": best_step}
    checkpoint.save(run / "checkpoint_last.pt", last)
    (run / "checkpoint_best.pt").unlink()
    with command.monkeypatch.context() as patch:
        patch.setattr(TrainingState, "start_tracking", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            command.resume()
    shown = capsys.readouterr().out
    if best_step == last["step"]:
        assert_same(checkpoint.load(run / "checkpoint_best.pt")["model"], last["model"])
        assert "written anew" in shown
    else:
        then = "the best validation is counted anew" if to_come else "the test takes those of the last step"
        assert f"the best parameters, of step {best_step}, are lost, and {then}" in shown
    command.resume()
    results = json.loads((run / "results.json").read_text())
    assert len(results["remarks"]) == (best_step != last["step"])
    assert results["best_val_step"] == (8 if best_step != last["step"] or not to_come else results["best_val_step"])


def test_an_older_checkpoint_takes_its_best_from_the_other_file(command):
    run = command.kill_after(6)
    last = checkpoint.load(run / "checkpoint_last.pt")
    for name in ("best_model", "device", "remarks"):
        del last[name]
    torch.save(last, run / "checkpoint_last.pt")  # without a checksum
    command.resume()
    assert numbers(run) == numbers(command.train(name="whole"))


# checkpoints and settings that do not belong to the run

FOREIGN = {
    "linear": [("--seed", 5), ("--lr", 0.1), ("--model", "classical"), ("--optim", "SGD"), ("--batch_size", 16),
               ("--amplitude_encoder", "False"), ("--weight_decay", 0.1), ("--scheduler", "cosine"), ("--n_wires", 6)],
    "qep": [("--seed", 5), ("--lr", 0.1), ("--optim", "SGD"), ("--estimator", "exact"), ("--shots", 9), ("--spread", 1),
            ("--scheduler", "cosine"), ("--task", "teacher"), ("--n_spins", 5)],
}  # fmt: skip


def test_a_checkpoint_of_another_run_is_refused_with_the_setting_that_differs(command, line):
    run = command.kill_after(4)
    for number, (flag, value) in enumerate(FOREIGN[command.kind]):
        other = command.kill_after(4, flag, value, name=f"other-{number}")
        shutil.copy(other / "checkpoint_last.pt", run)
        before = {p.name: p.read_bytes() for p in run.iterdir()}
        error = line(command.resume)
        ours = json.loads((run / "config.json").read_text())[flag[2:]]
        assert f"{flag} {value}" in error.replace(f"{value}.0", f"{value}") and f"config.json has {ours}" in error
        assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_a_checkpoint_of_the_other_command_is_refused(command, line, monkeypatch, tmp_path):
    run = command.kill_after(4)
    other = Command({"linear": "qep", "qep": "linear"}[command.kind], tmp_path / "theirs", monkeypatch)
    theirs = other.kill_after(4)
    shutil.copy(theirs / "checkpoint_last.pt", run)
    error = line(command.resume)
    assert "checkpoint_last.pt is of another command" in error
    shutil.copy(theirs / "config.json", run)  # and a whole folder of it
    error = line(command.resume)
    assert "config.json" in error or "of another command" in error


ENTRIES = {
    "both": [("step", -1), ("step", 2.0), ("step", 10**30), ("best", [1]), ("best", {"step": "2"}), ("best", {"step": 2}),
             ("meter", {}), ("meter", {"sums": {"a": 1.0}, "counts": {"a": 0}}), ("seconds", float("nan")),
             ("seconds", "1"), ("steps_timed", True), ("skipped", float("nan")), ("wandb_id", 3), ("learning_rate", {}),
             ("learning_rate", {"best_loss": 1.0, "stalled": float("nan"), "decay": 1.0}), ("settings", [1]),
             ("settings", {"max_step": "8", "epochs": 1}), ("model", {"a": 1}), ("model", {}), ("optimizer", 3),
             ("optimizer", {}), ("optimizer", {"state": {}, "param_groups": [{"params": [0, 1], "lr": 0.1}]}),
             ("best_model", {"a": torch.ones(1)}), ("best_model", 3), ("device", 1), ("remarks", "x")],
    "linear": [("failed", float("nan")), ("failed", "1")],
    "qep": [("first", {"acc": 1.0}), ("first", 3), ("samples_timed", 0.5), ("cosines", [None]), ("cosines", 3)],
}  # fmt: skip


def test_entries_of_a_wrong_type_shape_or_range_are_refused_in_one_line(command, line):
    run = command.kill_after(2)
    last = run / "checkpoint_last.pt"
    content = checkpoint.load(last)
    for name, value in ENTRIES["both"] + ENTRIES[command.kind]:
        checkpoint.save(last, {**content, name: value})
        assert "checkpoint_last.pt" in line(command.resume), name


def test_the_state_of_another_optimiser_is_one_line(command, line):
    run = command.kill_after(2)
    last = checkpoint.load(run / "checkpoint_last.pt")
    shapes = [p["exp_avg"].shape for p in last["optimizer"]["state"].values()]
    parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    other = torch.optim.SGD(parameters, lr=0.1)
    wrong_shape = {n: {**s, "exp_avg": torch.ones(7, 7)} for n, s in last["optimizer"]["state"].items()}
    no_history = {n: {"step": s["step"]} for n, s in last["optimizer"]["state"].items()}
    for state in (other.state_dict(), last["optimizer"] | {"state": wrong_shape},
                  last["optimizer"] | {"state": no_history}):  # fmt: skip
        checkpoint.save(run / "checkpoint_last.pt", {**last, "optimizer": state})
        assert "checkpoint_last.pt holds no state of this run's --optim Adam" in line(command.resume)


@pytest.mark.parametrize("which", ["best", "last"])
def test_an_evaluation_of_a_damaged_checkpoint_is_one_line(which, tmp_path, monkeypatch, line):
    run = Command("linear", tmp_path, monkeypatch).kill_after(2)
    path = run / f"checkpoint_{which}.pt"
    options = evaluate_qdeq.parse_command_line([str(run), "--checkpoint", which])
    for name, value in (("settings", [1]), ("settings", {}), ("model", 3), ("step", "1"), ("best", {"step": None})):
        content = checkpoint.load(path)
        if name in content:
            checkpoint.save(path, content | {name: value})
            assert f"checkpoint_{which}.pt" in line(evaluate_qdeq.main, options)
            checkpoint.save(path, content)
    flip(path)
    assert f"checkpoint_{which}.pt" in line(evaluate_qdeq.main, options)


# other files


def test_a_setting_that_no_number_depends_on_and_that_has_changed_is_told(command, capsys):
    run = command.kill_after(6)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"wandb_project": "qdep"}))
    capsys.readouterr()
    command.resume()
    assert "config.json has --wandb_project qdep, and the last checkpoint qdeq" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["config.json", "log.txt", "checkpoint_last.pt"])
def test_a_folder_in_the_place_of_a_file_is_named(command, line, name):
    run = command.kill_after(6)
    (run / name).unlink()
    (run / name).mkdir()
    assert name in line(command.resume)
