"""`test.sh quick` keeps, of all that a user runs, one test from end to end."""

import ast
from pathlib import Path

import pytest

from conftest import SCRIPTS

FOLDER = Path(__file__).parent
END_TO_END = {
    "train_qdeq.py": "scripts::test_quickstart",
    "train_qdeq.py --restart": "training_step::test_skipped_steps_of_before_a_restart_count_and_the_end_is_one_line",
    "evaluate_qdeq.py": "training::test_a_checkpoint_of_the_warmup_is_evaluated_through_its_layers",
    "evaluate_qdeq.py, a baseline": "baselines::test_a_checkpoint_from_before_there_were_baselines_is_evaluated",
    "train_qep.py": "qep_training::test_run_folder_is_complete",
    "make_states.py": "quantum_data::test_a_file_is_made_and_a_run_trains_on_it",
    "reproduce.py": "reproduction_rows::test_dry_run_prints_commands_that_parse_and_writes_nothing",
    "reproduce.py figures": "reproduction_figures::test_figures_command_writes_vector_and_pixels",
    "reproduce.py theory": "theory_command::test_a_run_folder_is_looked_at",
    "benchmark.py": "benchmark::test_solve",
    "hardware.py": "hardware_command::test_the_drop_is_of_pairs_and_machines_name_their_dates",
    "setup.sh": "setup::test_first_run_installs_and_the_second_does_nothing",
    "pip install .": "package::test_deq_solves_and_differentiates_where_only_torch_is",
    "the first page": "readme::test_the_first_pages_examples_run",
    "same_runs.py": "same_runs::test_checkouts_are_run_and_compared",
}


def names_by_speed(file: str) -> dict[bool, set[str]]:
    """The names of a file's tests, by whether they are marked slow."""
    tree = ast.parse((FOLDER / file).read_text())
    of_the_file = any(isinstance(node, ast.Assign) and "mark.slow" in ast.unparse(node) for node in tree.body)
    names = {True: set(), False: set()}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            names[of_the_file or any("mark.slow" in ast.unparse(mark) for mark in node.decorator_list)].add(node.name)
    return names


@pytest.mark.parametrize("what", END_TO_END)
def test_a_test_from_end_to_end_is_quick(what):
    file, name = END_TO_END[what].split("::")
    assert name in names_by_speed(f"test_{file}.py")[False]


def test_every_command_has_one():
    commands = {path.name for path in SCRIPTS.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert commands and commands <= set(END_TO_END)
