"""The README's section on quantum equilibrium propagation keeps its word: tables, commands, example, honest files."""

import json
import re
import shlex
import subprocess
import sys
import textwrap

import pytest

import reproduce
from conftest import REPOSITORY, SCRIPTS, user_environment
from reproduction.command_line import parse_command_line

SECTION = (REPOSITORY / "README.md").read_text().split("## Quantum equilibrium propagation\n")[1].split("\n## ")[0]
FILES = sorted((REPOSITORY / "results" / "qep").rglob("*.json"))


@pytest.mark.parametrize("pattern", re.findall(r"<!-- study_qep\.py table (\S+) -->", SECTION))
def test_tables_are_those_of_the_committed_files(pattern, capsys):
    files = sorted(map(str, REPOSITORY.glob(pattern)))
    reproduce.main(["qep", "table", *files])
    assert f"<!-- study_qep.py table {pattern} -->\n\n{capsys.readouterr().out.strip()}\n" in SECTION


def test_commands_parse():
    commands = re.findall(r"^    python DEQ-Quantum/study_qep\.py (.*)$", SECTION, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        parse_command_line(["qep", *shlex.split(command)])


def test_the_example_runs():
    (code,) = re.findall(r"((?:^(?:    .*)?\n)+)\Z", SECTION + "\n", re.MULTILINE)
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=REPOSITORY, capture_output=True,
                             text=True, env=user_environment(PYTHONPATH=str(SCRIPTS)), timeout=600)  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("tensor([") and "grad_fn" not in process.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_results_say_where_they_come_from(path):
    content = json.loads(path.read_text())
    assert {"seed", "git_commit", "date", "device", "torch"} <= set(content)
    assert re.fullmatch(r"[0-9a-f]{12}", content["git_commit"])  # committed source, nothing changed


def test_what_the_section_claims_is_in_the_files():
    runs = [json.loads(path.read_text()) for path in FILES if path.parent.name in ("xor", "teacher", "mnist4")]
    by_task = {task: [run for run in runs if run["task"] == task] for task in ("xor", "teacher", "mnist")}
    assert all(run["test_acc"] == 1 for run in by_task["xor"])
    assert all(run["test_cost"] < run["first_val_cost"] / 100 for run in by_task["teacher"])
    assert all(run["test_acc"] >= 0.92 for run in by_task["mnist"])
    seeds = {estimator: [run["seed"] for run in by_task["mnist"] if run["estimator"] == estimator]
             for estimator in ("centred", "exact")}  # fmt: skip
    assert seeds["centred"] == seeds["exact"] == [0, 1, 2]
