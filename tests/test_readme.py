"""The README keeps its word: its code runs, its commands parse, its tables and files are there."""

import json
import re
import shlex
import subprocess
import sys

import pytest

import benchmarks.command_line
import reproduction.command_line
from conftest import REPOSITORY, SCRIPTS, user_environment
from models.table import MODELS, build_model
from training.command_line import parse_command_line
from training.settings import Settings

README = (REPOSITORY / "README.md").read_text()


def test_the_example_of_an_own_layer_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(code.strip().splitlines()) <= 12
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True,
                             env=user_environment(PYTHONPATH=str(SCRIPTS)), timeout=120)  # fmt: skip
    assert process.returncode == 0, process.stderr
    converged, residual, gradient, backward_residual = process.stdout.split()
    assert converged == "True" and float(residual) < 1e-3
    assert float(gradient) > 0 and float(backward_residual) <= 1e-6


def test_training_commands_parse():
    commands = re.findall(r"train_qdeq\.py (--[^`\n|]+)", README)
    assert commands
    for command in commands:
        if command != "--help":
            parse_command_line(shlex.split(command))


@pytest.mark.parametrize("script, parse", [("reproduce", reproduction.command_line.parse_command_line),
                                           ("benchmark", benchmarks.command_line.parse_command_line)])  # fmt: skip
def test_other_commands_parse(script, parse):
    commands = re.findall(rf"(?:`|python (?:DEQ-Quantum/)?){script}\.py ([^`\n#]+?)\s*(?:`|#|$)", README, re.M)
    assert len(commands) > 2
    for command in commands:
        parse(shlex.split(command))


def test_speeds_are_those_of_the_committed_benchmark():
    measured = json.loads((REPOSITORY / "results" / "benchmark" / "step.json").read_text())
    medians = [
        1e3 * measured["step"]["times"][name]["median"]
        for name in ("torchquantum, broyden, in z-space", "compiled, broyden", "compiled, newton+exact")
    ]
    table = README.split("| training step | ms | times faster |")[1].split("\n\n")[0]
    shown = re.findall(r"\| ([\d.]+) \| ([\d.]+) \|$", table, re.M)
    assert shown == [(f"{ms:.3g}" if ms > 100 else f"{ms:.1f}", f"{medians[0] / ms:.3g}") for ms in medians]


def test_accuracies_with_released_gates_are_those_of_the_table():
    table = json.loads((REPOSITORY / "results" / "paper" / "table2" / "table.json").read_text())
    rows = {row["row"]: row["test_acc"] for row in table["rows"]}
    shown = re.findall(r"(?:IMPLICIT reaches|and DIRECT-1) ([\d.]+) ± ([\d.]+) % \(paper ([\d.]+)\)", README)
    measured = [rows[f"released_{model}"] for model in ("implicit", "direct-1")]
    assert shown == [tuple(f"{acc[key]:.2f}" for key in ("mean", "std", "paper")) for acc in measured]


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@[A-Z0-9]+@|TODO|TBD", README)


def test_linked_files_and_scripts_exist():
    names = re.findall(r'(?:src="|\]\()(?!http)([^")#]+)', README) + re.findall(r"bash (bash_scripts/\w+\.sh)", README)
    assert names
    for name in names:
        assert (REPOSITORY / name).exists(), name


def test_parameter_counts_of_the_baselines_are_the_models():
    rows = re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| (\d+) \| (\d+) \|$", README, re.M)
    assert [row[0] for row in rows] == list(MODELS)
    for name, *counts in rows:
        for n, count in zip((4, 10), counts):
            model = build_model(Settings(model=name, n_wires=n, num_classes=n))
            assert sum(p.numel() for p in model.parameters()) == int(count), name
