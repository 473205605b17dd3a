"""End to end: train_qep.py on every task, its run folder, resuming after a stop, and what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import SCRIPTS, user_environment
from conftest import train_qep_here as train_here
from qep.learning.evaluation import affine_map, least_squares, linear_classifier
from qep.learning.tasks import Samples, build_task
from qep.settings import QEPSettings, parse_command_line
from wandb_reader import read_offline_run

QUICK = ("--device", "cpu", "--tensorboard", "False")
TIMES = ("date", "train_seconds", "seconds_per_sample", "peak_memory_mb", "name", "settings", "sha256")


def rows_of(run: Path, event: str) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["event"] == event]


def results_of(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


# tasks


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["centred", "positive", "negative", "holomorphic", "exact"])
def test_xor_is_solved(tmp_path, estimator):
    train_here("--task", "xor", "--epochs", 200, "--eval-interval", 50, "--estimator", estimator, "--work_dir",
               tmp_path, "--name", "x", *QUICK)  # fmt: skip
    results = results_of(tmp_path / "x")
    # one-sided differences err by O(beta), and so do the weights they lead to
    bound = 2e-2 if estimator in ("positive", "negative") else 1e-3
    assert results["test_acc"] == 1.0 and results["test_cost"] < bound < results["first_val_cost"]


def test_teacher_is_imitated(tmp_path):
    train_here("--task", "teacher", "--epochs", 60, "--n_spins", 4, "--lr", 0.05, "--eval-interval", 20, "--compare",
               10, "--work_dir", tmp_path, "--name", "t", *QUICK)  # fmt: skip
    results = results_of(tmp_path / "t")
    assert results["test_cost"] < results["first_val_cost"] / 100
    assert results["cosine_min"] > 0.99 and results["n_train"] == 64


@pytest.mark.slow
@pytest.mark.parametrize("cost, bound", [("squared", 1.1), ("observable", None)])
def test_regression_reaches_the_closed_form(tmp_path, cost, bound):
    train_here("--task", "oscillators", "--epochs", 150, "--cost", cost, "--scheduler", "cosine", "--work_dir",
               tmp_path, "--name", "o", *QUICK)  # fmt: skip
    results = results_of(tmp_path / "o")
    assert results["map_distance"] < 0.05
    if bound is not None:  # the observable's cost has the quantum variance besides
        assert results["test_cost"] < bound * results["least_squares_test_cost"]


@pytest.mark.slow
def test_digits_are_learnt_from_exact_and_from_measured_gradients(tmp_path):
    flags = ("--task", "digits", "--n_spins", 6, "--lr", 0.05, "--max_step", 24, "--batch_size", 32, "--work_dir",
             tmp_path, *QUICK)  # fmt: skip
    train_here(*flags, "--name", "exact", "--eval-interval", 12, "--compare", 6)
    train_here(*flags, "--name", "shots", "--shots", 400, "--shots_x", 200, "--averages", 2, "--beta", 0.3)
    for name in ("exact", "shots"):
        results = results_of(tmp_path / name)
        assert results["test_acc"] > 0.85  # four classes: chance is 0.25
        assert results["linear_test_acc"] > 0.9
    assert results_of(tmp_path / "exact")["cosine_min"] > 0.999


@pytest.mark.parametrize("cost", ["cross_entropy", "squared", "observable"])
def test_every_cost_of_images_falls_along_its_gradient(tmp_path, cost):
    train_here("--task", "digits", "--n_spins", 5, "--cost", cost, "--optim", "SGD", "--lr", 0.1, "--max_step", 12,
               "--batch_size", 64, "--work_dir", tmp_path, "--name", "c", *QUICK)  # fmt: skip
    results = results_of(tmp_path / "c")
    assert results["test_cost"] < 0.95 * results["first_val_cost"] and results["test_acc"] > 0.4


def test_targets_of_every_cost_name_the_same_class():
    labelled, signed = (build_task(QEPSettings(task="digits", n_spins=5, cost=cost)) for cost in ("", "observable"))
    assert signed.test.targets.unique().tolist() == [-1, 1] and (signed.test.targets.sum(1) == -2).all()
    outputs = labelled.system.outputs(labelled.system.equilibrium(labelled.test.inputs).expectations)
    verdicts = [task.correct(outputs, task.test.targets) for task in (labelled, signed)]
    assert torch.equal(*verdicts) and torch.equal(verdicts[0], outputs.argmax(1) == labelled.test.targets)


@pytest.mark.slow
def test_real_mnist_is_learnt(tmp_path):
    data = os.environ.get("QDEQ_DATA")
    if not data or not (Path(data) / "mnist.npz").exists():
        pytest.skip("mnist.npz is not here")
    train_here("--task", "mnist", "--n_train", 512, "--epochs", 2, "--lr", 0.05, "--n_spins", 6, "--work_dir", tmp_path,
               "--name", "m", "--data_dir", data, *QUICK)  # fmt: skip
    assert results_of(tmp_path / "m")["test_acc"] > 0.8


# the run folder


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """A short run with every tracker."""
    work_dir = tmp_path_factory.mktemp("qep")
    train_here("--task", "teacher", "--n_spins", 4, "--n_train", 32, "--batch_size", 8, "--epochs", 5, "--compare", 2,
               "--log-interval", 5, "--eval-interval", 10, "--wandb", "offline", "--name", "whole", "--work_dir",
               work_dir, "--device", "cpu", pictures=True)  # fmt: skip
    return work_dir / "whole"


def test_run_folder_is_complete(finished_run):
    for name in "config.json metrics.csv log.txt checkpoint_last.pt checkpoint_best.pt curves.png".split():
        assert (finished_run / name).stat().st_size > 0, name
    assert not list(finished_run.glob("*.tmp")) and list(finished_run.glob("tensorboard/events*"))
    results = results_of(finished_run)
    wanted = (
        "task n_spins estimator beta shots seed epochs test_cost train_seconds seconds_per_sample n_parameters torch"
    )
    assert {*wanted.split(), "device", "git_commit", "date", "settings"} <= set(results)
    train, val, test = (rows_of(finished_run, event) for event in ("train", "val", "test"))
    assert [int(row["train_step"]) for row in train] == [5, 10, 15, 20]
    assert [int(row["train_step"]) for row in val] == [0, 10, 20]
    positive = ("train_cost", "train_gap", "grad_norm", "cosine", "lr", "seconds_per_sample")
    assert all(float(row[name]) > 0 for row in train for name in positive)
    assert float(test[0]["test_cost"]) == results["test_cost"]
    best = min(val, key=lambda row: float(row["val_cost"]))
    assert results["best_val_step"] == int(best["train_step"])
    assert results["first_val_cost"] == float(val[0]["val_cost"])


def test_offline_wandb_run_holds_the_csv_values(finished_run):
    config, history, summary, tags = read_offline_run(finished_run)
    assert config["task"] == "teacher" and set(tags) == {"qep", "teacher"}
    for event, names in (("train", ["train_cost", "cosine", "grad_norm"]), ("val", ["val_cost", "val_gap"])):
        logged = [item for item in history if names[0] in item]
        for row, item in zip(rows_of(finished_run, event), logged, strict=True):
            assert all(item[name] == pytest.approx(float(row[name]), rel=1e-6) for name in names)
    assert summary["test_cost"] == results_of(finished_run)["test_cost"]


RESUMED = ("--task", "digits", "--n_spins", 5, "--batch_size", 16, "--max_step", 120, "--compare", 4,
           "--log-interval", 7, "--eval-interval", 15, "--shots", 50, "--beta", 0.3, "--scheduler", "cosine",
           *QUICK)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    work_dir = tmp_path_factory.mktemp("uninterrupted")
    train_here(*RESUMED, "--work_dir", work_dir, "--name", "u")
    return work_dir / "u"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_run_ends_with_the_same_numbers(number, uninterrupted, tmp_path, capsys):
    command = [sys.executable, SCRIPTS / "train_qep.py", *RESUMED, "--work_dir", tmp_path, "--name", "s"]
    process = subprocess.Popen(list(map(str, command)), env=user_environment(), stdout=subprocess.PIPE, text=True)
    run = tmp_path / "s"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:  # somewhere in the middle, at no step in particular
        if (run / "metrics.csv").exists() and len(rows_of(run, "val")) >= 3:
            break
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number), output
    assert not (run / "results.json").exists()
    train_here("--restart", "--restart_dir", run)
    assert "continuing" in capsys.readouterr().out
    ours, theirs = results_of(run), results_of(uninterrupted)
    assert {k: v for k, v in ours.items() if k not in TIMES} == {k: v for k, v in theirs.items() if k not in TIMES}
    for event in ("train", "val", "test"):
        one, other = rows_of(run, event), rows_of(uninterrupted, event)
        for row in one + other:
            for name in ("seconds_per_step", "seconds_per_sample", "peak_memory_mb"):
                row.pop(name)
        assert one == other
    last, reference = (torch.load(r / "checkpoint_last.pt", weights_only=True) for r in (run, uninterrupted))
    for name, value in reference["model"].items():
        assert torch.equal(last["model"][name], value), name
    train_here("--restart", "--restart_dir", run)
    assert "has finished" in capsys.readouterr().out and results_of(run) == ours


def test_same_seed_same_run_other_seed_other_run(tmp_path):
    flags = ("--task", "teacher", "--n_spins", 4, "--max_step", 4, "--shots", 20, "--work_dir", tmp_path, *QUICK)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_here(*flags, "--seed", seed, "--name", name)
    a, b, c = (results_of(tmp_path / name)["test_cost"] for name in "abc")
    assert a == b != c


# degenerate ground states and other refusals


def test_a_small_gap_ends_the_run_in_one_line_or_is_counted(tmp_path, capsys):
    flags = ("--task", "xor", "--max_step", 3, "--gap_tol", 1.5, "--work_dir", tmp_path, *QUICK)
    with pytest.raises(SystemExit) as end:
        train_here(*flags)
    error = capsys.readouterr().err
    assert end.value.code == 1 and error.count("\n") == 1 and "--on_degenerate skip" in error
    train_here(*flags, "--on_degenerate", "skip", "--name", "skip")
    results = results_of(tmp_path / "skip")
    assert 0 < results["skipped_samples"] < 12 and results["test_degenerate"] > 0
    assert "degenerate ground state" in (tmp_path / "skip" / "log.txt").read_text()


def test_a_step_without_usable_samples_moves_nothing(tmp_path):
    with pytest.raises(SystemExit) as end:
        train_here("--task", "xor", "--max_step", 2, "--gap_tol", 50, "--on_degenerate", "skip", "--work_dir", tmp_path,
                   "--name", "n", *QUICK)  # fmt: skip
    assert end.value.code == 1
    results = results_of(tmp_path / "n")
    assert results["skipped_samples"] == 8 and results["test_cost"] == results["first_val_cost"]


@pytest.mark.parametrize("flags, named", [
    ("--beta 0", "--beta"), ("--lr -1", "--lr"), ("--shots 1", "--shots"), ("--shots_x 1 --shots 5", "--shots"),
    ("--estimator exact --shots 10", "--shots"), ("--estimator holomorphic --n_spins 9", "--estimator"),
    ("--solver dense --n_spins 13", "--solver"), ("--n_spins 17", "--n_spins"), ("--n_spins 3", "--n_spins"),
    ("--task xor --cost cross_entropy", "--cost"), ("--task xor --n_train 3", "--n_train"), ("--side 5", "--side"),
    ("--restart_dir x", "--restart"), ("--task fly", "--task"), ("--epochs 1 --max_step 3", "--epochs"),
    ("--averages 0", "--averages"), ("--seed -1", "--seed"), ("--optim RAdam", "--optim"), ("--name a/b", "--name"),
    ("--gap_tol 0", "--gap_tol"), ("--num_classes 3", "--num_classes"), ("--mode implicit", "--mode"),
])  # fmt: skip
def test_what_cannot_work_ends_in_one_line(flags, named, capsys):
    with pytest.raises(SystemExit) as end:
        parse_command_line(flags.split())
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and named in error


def test_settings_without_effect_are_warned_of():
    for flags, named in (("--averages 3", "--averages"), ("--eta_min 0.1", "--eta_min"), ("--shots_x 9", "--shots_x")):
        (warning,) = parse_command_line(flags.split()).warnings
        assert named in warning
    assert parse_command_line(["--shots", "10", "--averages", "3"]).warnings == []


def test_a_contradicting_restart_is_refused(tmp_path, capsys):
    train_here("--task", "xor", "--max_step", 2, "--work_dir", tmp_path, "--name", "r", *QUICK)
    with pytest.raises(SystemExit):
        train_here("--restart", "--restart_dir", tmp_path / "r", "--beta", 0.5)
    assert "--beta 0.5 contradicts" in capsys.readouterr().err


def test_a_checkpoint_of_another_system_is_refused_in_one_line(tmp_path, capsys):
    for n_spins in (4, 5):
        train_here("--task", "xor", "--max_step", 1, "--n_spins", n_spins, "--work_dir", tmp_path, "--name", n_spins,
                   *QUICK)  # fmt: skip
    shutil.copy(tmp_path / "5" / "checkpoint_last.pt", tmp_path / "4")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        train_here("--restart", "--restart_dir", tmp_path / "4", "--max_step", 2)
    error = capsys.readouterr().err
    assert end.value.code == 1 and error.count("\n") == 1 and "another run" in error
    assert not any(flag in error for flag in ("--model", "--n_wires", "--trainable_gates"))


@pytest.mark.slow
def test_missing_data_is_one_line(run_script, tmp_path):
    process = run_script("train_qep.py", "--data_dir", tmp_path / "no", "--work_dir", tmp_path / "runs", check=False,
                         http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9")  # fmt: skip
    assert process.returncode == 1 and process.stderr.strip().count("\n") == 0 and "mnist" in process.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("script", ["train_qep.py"])
def test_help_does_not_wait_for_torch(script):
    look = f"""
import runpy, sys
sys.argv = [{script!r}, "--help"]
try:
    runpy.run_path({script!r}, run_name="__main__")
finally:
    print("heavy:", [name for name in ("torch", "numpy", "matplotlib", "wandb") if name in sys.modules])
"""
    process = subprocess.run([sys.executable, "-c", look], cwd=SCRIPTS, capture_output=True, text=True)
    assert process.returncode == 0 and process.stdout.endswith("heavy: []\n"), process.stderr


# what a run is compared with


def test_least_squares_and_the_networks_own_map():
    task = build_task(QEPSettings(task="oscillators", n_spins=4))
    best, cost = least_squares(task.train, task.test)
    inputs = torch.cat([task.train.inputs, torch.ones(len(task.train), 1, dtype=torch.float64)], 1)
    normal = torch.linalg.solve(inputs.mT @ inputs, inputs.mT @ task.train.targets)
    assert torch.allclose(best, normal) and 0 < cost < 0.02
    outputs = task.system.outputs(task.system.equilibrium(task.test.inputs).expectations)[:, :1]
    found = affine_map(task)
    assert torch.allclose(task.test.inputs @ found[:-1] + found[-1], outputs)


def test_linear_classifier_separates_what_is_separable():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]], dtype=torch.float64)
    labels = torch.arange(90) % 3
    inputs = centres[labels] + 0.5 * torch.randn(90, 2, dtype=torch.float64, generator=generator)
    assert linear_classifier(Samples(inputs, labels), Samples(inputs, labels), 3) > 0.97
    signs = 2.0 * torch.nn.functional.one_hot(labels, 3).double() - 1
    assert linear_classifier(Samples(inputs, signs), Samples(inputs, labels), 3) > 0.97
