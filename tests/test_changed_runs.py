"""What becomes of a run whose settings or results are damaged, that is killed before it began, whose length, device or
disk changes, or that learns nothing, for both training commands."""

import csv
import json
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest

import killed_runs
from killed_runs import Command, Killed, flip, numbers, rewrite
from runs import folder
from runs.folder import RunFolder
from runs.state import TrainingState
from runs.tracking import CsvLog

command, line = killed_runs.command, killed_runs.line  # fixtures


# config.json and results.json


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100000, "\xff", None])
def test_unreadable_settings_are_made_anew_from_the_checkpoint(command, content, capsys):
    run = command.kill_after(4)
    saved = json.loads((run / "config.json").read_text())
    (run / "config.json").unlink()
    if content is not None:
        (run / "config.json").write_bytes(content.encode("latin-1"))
    command.resume()
    assert "config.json" in capsys.readouterr().out
    made = json.loads((run / "config.json").read_text())
    assert {**made, "restart": False, "restart_dir": ""} == saved
    assert numbers(run) == numbers(command.train(name="whole"))


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100000, '{"stars": 1}', '{"lr": "fast"}', '{"seed": null}',
                                     '{"lr": NaN}', '{"optim": ["Adam"]}', '{"epochs": true}', '{"epochs": -1}'])  # fmt: skip
def test_senseless_settings_without_a_checkpoint_are_one_line(command, content, line):
    run = command.folder / "r"
    run.mkdir()
    (run / "config.json").write_text(content)
    assert "config.json" in line(command.resume)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"steps": 7}', "null"])
def test_results_that_are_none_are_measured_again(command, content, capsys):
    run = command.train()
    whole = numbers(run)
    (run / "results.json").write_text(content)
    command.resume()
    assert "measured again" in capsys.readouterr().out
    assert numbers(run) == whole


def test_the_results_of_fewer_steps_go_with_the_first_new_one(command):
    run = command.train()
    before = (run / "results.json").read_bytes()
    for name in ("start_tracking", "timed"):  # it cannot go on, or is killed, before a step
        with command.monkeypatch.context() as patch:
            patch.setattr(TrainingState, name, Mock(side_effect=Killed))
            with pytest.raises(Killed):
                command.resume("--max_step", 12)
        assert (run / "results.json").read_bytes() == before
    with command.monkeypatch.context() as patch:
        patch.setattr(TrainingState, "save_last", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            command.resume("--max_step", 12)
    assert not (run / "results.json").exists()
    command.resume()
    assert json.loads((run / "results.json").read_text())["steps"] == 12


# what changes around a run


@pytest.mark.parametrize("scheduler", ["cosine", "constant"])
@pytest.mark.parametrize("steps", [12, 6])
def test_a_schedule_of_another_length_is_said_and_marked(command, scheduler, steps, capsys):
    run = command.kill_after(4, "--scheduler", scheduler)
    capsys.readouterr()
    command.resume("--max_step", steps)
    said = [text for text in capsys.readouterr().out.splitlines() if "learning rate" in text]
    remarks = json.loads((run / "results.json").read_text())["remarks"]
    with (run / "metrics.csv").open(newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file) if row["event"] == "train"]
    wanted = f"over {steps} steps in place of 8: the learning rate goes from {rates[3]:.3g} to {rates[4]:.3g}"
    assert len(said) == len(remarks) == (scheduler == "cosine")
    assert all(wanted in text and text.count("after step 4") for text in said + remarks)


def test_a_remark_outlives_a_further_stop(command):
    run = command.kill_after(4, "--scheduler", "cosine")
    with command.monkeypatch.context() as patch:
        patch.setattr(TrainingState, "finish", Mock(side_effect=Killed))
        with pytest.raises(Killed):
            command.resume("--max_step", 12)
    command.resume()
    (remark,) = json.loads((run / "results.json").read_text())["remarks"]
    assert "12 steps in place of 8" in remark


def test_another_device_is_said_and_marked(command, capsys):
    run = command.kill_after(4)
    rewrite(run / "checkpoint_last.pt", device="cuda")
    capsys.readouterr()
    command.resume()
    (remark,) = json.loads((run / "results.json").read_text())["remarks"]
    assert remark == "after step 4: resumed on cpu, until then on cuda: numbers differ by round-off"
    assert remark in capsys.readouterr().out


@pytest.fixture(scope="module")
def angles(tmp_path_factory) -> Path:
    """A run of the angle encoding, short of its last steps."""
    with pytest.MonkeyPatch.context() as patch:
        return Command("qdeq", tmp_path_factory.mktemp("angles"), patch).kill_after(2, "--amplitude_encoder", "False")


@pytest.mark.parametrize("flags, said", [
    (("--amplitude_encoder", "False"), ""), (("--amplitude_encoder", "False", "--mode", "direct", "--n_layer", 1), ""),
    ((), "--amplitude_encoder False, here True"),
])  # fmt: skip
def test_parameters_of_another_circuit_are_said(angles, flags, said, tmp_path, monkeypatch, capsys):
    run = Command("qdeq", tmp_path, monkeypatch).kill_after(2, "--load", angles, *flags)
    lines = [text for text in capsys.readouterr().out.splitlines() if "--load" in text]
    assert len(lines) == bool(said) and all(said in text and str(angles) in text for text in lines)
    assert ("trained with another circuit" in (run / "log.txt").read_text()) == bool(said)


@pytest.mark.parametrize("what", ["other shapes", "of train_qep.py", "damaged", "wrong entry", "missing"])
def test_parameters_that_cannot_be_loaded_are_one_line(angles, what, tmp_path, monkeypatch, line):
    path = tmp_path / "a.pt"
    shutil.copy(angles / "checkpoint_best.pt", path)
    if what == "of train_qep.py":
        path = Command("qep", tmp_path, monkeypatch).kill_after(2)
    elif what == "damaged":
        flip(path)
    elif what == "wrong entry":
        rewrite(path, model=[1])
    elif what == "missing":
        path = tmp_path / "nothing.pt"
    flags = ("--n_wires", 6) if what == "other shapes" else ()
    error = line(Command("qdeq", tmp_path, monkeypatch).train, "--load", path, *flags, name="new")
    assert str(path) in error and "--" in error and not (tmp_path / "new").exists()


# runs that were killed before they began, and what they left


@pytest.mark.parametrize("left", [[], ["log.txt"], [".config.json.1234567.tmp"], ["log.txt", ".config.json.1234567.tmp"]])
def test_a_run_killed_before_its_settings_begins_in_its_own_folder(command, left):
    run = command.folder / "r"
    run.mkdir()
    for name in left:
        (run / name).write_text("{" if name.endswith("tmp") else "")
    command.train("--restart")
    assert [p.name for p in command.folder.iterdir()] == ["r"] and (run / "results.json").exists()
    assert not [p.name for p in run.iterdir() if p.name.endswith(".tmp")]


@pytest.mark.parametrize("moment", ["mkdir", "lock", "config"])
def test_a_new_run_killed_at_any_moment_begins_in_its_own_folder(command, moment):
    with command.monkeypatch.context() as patch:
        if moment == "mkdir":
            patch.setattr(RunFolder, "_acquire", Mock(side_effect=Killed))
        elif moment == "lock":
            patch.setattr(folder, "remove_leftovers", Mock(side_effect=Killed))
        else:
            patch.setattr(os, "replace", Mock(side_effect=Killed))
        for _ in range(2):
            with pytest.raises(Killed):
                command.train("--restart")
    command.train("--restart")
    assert [p.name for p in command.folder.iterdir()] == ["r"]


def test_a_folder_of_something_else_is_no_run_to_restart(command, line):
    (command.folder / "r").mkdir()
    (command.folder / "r" / "thesis.tex").write_text("mine")
    assert "--restart" in line(command.train, "--restart")
    assert [p.name for p in command.folder.rglob("*")] == ["r", "thesis.tex"]


def test_leftovers_are_removed_where_a_run_resumes(command):
    run = command.kill_after(4)
    for name in (".curves.png.1234567.tmp", ".results.json.1234567.tmp"):
        (run / name).write_text("half")
    command.resume()
    assert not list(run.glob(".*"))


# runs that learn nothing, and disks that are full


def test_a_run_that_learnt_nothing_fails_and_keeps_what_it_measured(command, line):
    flags = {"linear": ("--optim", "SGD", "--lr", 1e30, "--weight_decay", 1e30, "--clip", 0),
             "qep": ("--gap_tol", 50, "--on_degenerate", "skip")}[command.kind]  # fmt: skip
    error = line(command.train, *flags)
    results = json.loads((command.folder / "r" / "results.json").read_text())
    assert error == f"error: the run has learnt nothing: {results['failure']}\n"
    assert line(command.resume) == error  # it has finished, and failed
    whole = command.train(name="whole")
    assert json.loads((whole / "results.json").read_text())["failure"] is None


@pytest.mark.parametrize("name", ["metrics.csv", "results.json", "checkpoint_last.pt", "checkpoint_best.pt"])
def test_a_full_disk_is_one_line_that_names_the_file(command, name, line):
    run, whole = command.kill_after(4), command.train(name="whole")
    full, real = OSError(28, "No space left on device"), os.replace

    def replace(source, target):
        if Path(target).name == name:
            raise full
        real(source, target)

    with command.monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        if name == "checkpoint_best.pt":
            (run / name).unlink()
        error = line(command.resume)
        assert str(run / name) in error and "No space left on device" in error and "--restart" in error
        patch.undo()
        patch.setattr(CsvLog, "log", Mock(side_effect=full))  # such an error names no file
        error = line(command.resume)
        assert str(run) in error and "No space left on device" in error and "--restart" in error
    command.resume()
    assert numbers(run) == numbers(whole)
