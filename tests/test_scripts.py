"""Every shipped script: its flags parse for each model, its help teaches, and its smoke run goes through."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import REPOSITORY, user_environment
from table_5 import TABLE_5, hyperparameters_of
from training.command_line import parse_command_line

# each script's column of Table 5
SCRIPTS = {
    "qdeq_mnist4": "mnist4",
    "qdeq_mnist": "mnist10",
    "qdeq_fashion_mnist": "fashion10",
    "qdeq_cifar10": "cifar10",
}
MODELS = ("implicit", "warmup", "direct-1", "direct-2", "direct-5", "direct-10")

CLASSICAL_RATE = 0.005  # of models without a circuit


def run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(REPOSITORY / "bash_scripts" / f"{script}.sh"), *map(str, arguments)]
    return subprocess.run(
        command, env=user_environment(**environment), capture_output=True, text=True, timeout=300, cwd="/"
    )


@pytest.fixture
def echo_python(tmp_path) -> str:
    """An interpreter that prints its arguments, one a line, instead of running them."""
    path = tmp_path / "echo_python"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("model", MODELS)
def test_train_flags_are_table_5(script, model, echo_python):
    process = run(script, "train", "--model", model, "--seed", 7, QDEQ_PYTHON=echo_python)
    program, *flags = process.stdout.splitlines()
    assert Path(program) == REPOSITORY / "DEQ-Quantum" / "train_qdeq.py"
    settings = parse_command_line(flags).settings
    assert settings.seed == 7  # further flags pass through
    assert settings.epochs == (25 if script == "qdeq_cifar10" else 100)
    assert settings.dataset == {"qdeq_fashion_mnist": "fashion_mnist", "qdeq_cifar10": "cifar10"}.get(script, "mnist")
    assert (settings.num_classes, settings.n_wires) == ((4, 4) if script == "qdeq_mnist4" else (10, 10))
    assert hyperparameters_of(settings) == TABLE_5[SCRIPTS[script]][model]
    kind = ("direct", int(model[7:])) if model.startswith("direct") else ("implicit", 1 if model == "warmup" else 0)
    assert (settings.mode, settings.n_layer) == kind


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("baseline", ("wang2022", "classical", "classical_narrow", "alam2021"))
def test_a_baseline_trains_as_the_papers_model_does(script, baseline, echo_python):
    for depth in MODELS:
        ours, theirs = (
            parse_command_line(
                run(script, "train", "--model", model, QDEQ_PYTHON=echo_python).stdout.splitlines()[1:]
            ).settings
            for model in (depth, f"{baseline}-{depth}")
        )
        assert theirs.model == baseline and theirs.name == ours.name.replace(depth, f"{baseline}-{depth}")
        if baseline.startswith("classical"):
            assert theirs.lr == CLASSICAL_RATE
            theirs.lr = ours.lr
        assert theirs.to_dict() | {"model": "qdeq", "name": ours.name} == ours.to_dict()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("model, scheduler", [("linear", "constant"), ("single_copy", "cosine")])
def test_models_without_depth_have_the_classical_models_learning_rate(script, model, scheduler, echo_python):
    flags = run(script, "train", "--model", model, QDEQ_PYTHON=echo_python).stdout.splitlines()[1:]
    command = parse_command_line(flags)
    assert command.settings.model == model and command.warnings == []
    assert (command.settings.lr, command.settings.scheduler) == (CLASSICAL_RATE, scheduler)


def test_given_length_replaces_the_scripts(echo_python):
    flags = run("qdeq_mnist", "train", "--max_step", 5, QDEQ_PYTHON=echo_python).stdout.splitlines()[1:]
    assert parse_command_line(flags).settings.max_step == 5


@pytest.mark.parametrize("where", [("--restart_dir", "{0}/mine"), ("--work_dir", "{0}", "--name", "mine"),
                                   ("--work_dir={0}", "--name=mine")])  # fmt: skip
def test_a_run_that_goes_on_knows_its_length_wherever_it_lies(where, tmp_path, echo_python):
    words = [word.format(tmp_path) for word in where]

    def has_length() -> bool:
        shown = run("qdeq_mnist4", "train", "--restart", *words, QDEQ_PYTHON=echo_python).stdout.splitlines()
        return "--epochs" in shown

    assert has_length() == ("--restart_dir" not in words)  # it has not begun
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert not has_length()


def test_eval_names_the_run(echo_python):
    shown = run("qdeq_cifar10", "eval", "--model", "direct-2", "--split", "val", QDEQ_PYTHON=echo_python).stdout
    assert shown.splitlines()[1:] == [str(REPOSITORY / "runs" / "cifar10_direct-2"), "--split", "val"]


def test_eval_says_which_of_several_runs_it_takes(tmp_path, echo_python):
    shutil.copytree(REPOSITORY / "bash_scripts", tmp_path / "bash_scripts")

    def evaluate(*words: object) -> subprocess.CompletedProcess:
        command = ["bash", str(tmp_path / "bash_scripts" / "qdeq_mnist.sh"), "eval", "--model", "direct-1", *map(str, words)]
        return subprocess.run(command, env=user_environment(QDEQ_PYTHON=echo_python), capture_output=True, text=True)

    first = tmp_path / "runs" / "mnist10_direct-1"
    for name in ("mnist10_direct-1", "mnist10_direct-10", "mnist10_direct-1-old"):  # other models, a user's own
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text("{}")
    assert evaluate().stderr == ""
    for suffix in (2, 10):
        first.with_name(f"{first.name}-{suffix}").mkdir()
        (first.with_name(f"{first.name}-{suffix}") / "config.json").write_text("{}")
    process = evaluate()
    assert process.stdout.splitlines()[1:] == [str(first)] and process.stderr.count("\n") == 1
    assert f"evaluating {first}, the first run" in process.stderr
    assert f"{first}-2" in process.stderr and f"{first}-10" in process.stderr and "--run" in process.stderr
    assert evaluate("--run", f"{first}-2").stderr == ""


@pytest.mark.parametrize("arguments", [(), ("fly",), ("train", "--model", "direct-3"), ("train", "--model"),
                                       ("train", "--model", "classical"), ("train", "--model", "classical-direct-3"),
                                       ("train", "--model", "fly-implicit")])  # fmt: skip
def test_misuse_ends_with_status_2(arguments, echo_python):
    process = run("qdeq_mnist", *arguments, QDEQ_PYTHON=echo_python)
    assert process.returncode == 2 and process.stdout == "" and process.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_teaches(script):
    process = run(script, "--help")
    assert process.returncode == 0 and "smoke" in process.stdout and "direct-10" in process.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script, model", list(zip(SCRIPTS, ("warmup", "implicit", "direct-2", "implicit"))))
def test_smoke(script, model, tiny_data, tmp_path):
    process = run(script, "smoke", "--model", model, QDEQ_DATA=str(tiny_data), TMPDIR=str(tmp_path))
    assert process.returncode == 0, process.stdout + process.stderr
    assert "test accuracy" in process.stdout and '"split": "test"' in process.stdout
    left = [name for name in os.listdir(tmp_path) if not name.startswith("torchinductor_")]  # torch's own cache
    assert not left


def test_quickstart_takes_a_length_of_either_kind(echo_python):
    shown = run("quickstart", "--max_step", 5, QDEQ_PYTHON=echo_python).stdout.splitlines()
    assert "--max_step" in shown and "--epochs" not in shown
    assert "--epochs" in run("quickstart", QDEQ_PYTHON=echo_python).stdout.splitlines()


def test_quickstart(tmp_path):
    process = run("quickstart", "--work_dir", tmp_path, "--epochs", 2)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "test accuracy" in process.stdout and str(tmp_path / "quickstart") in process.stdout
    assert (tmp_path / "quickstart" / "curves.png").exists()
