"""The walls of the house: which rooms each room may know. A new arrow is a decision, taken here."""

import ast
import sys
from collections.abc import Iterator

import pytest

from conftest import SCRIPTS

DATA = {"angles", "autoencoder", "data_files", "data_settings", "dataset", "features", "given_images", "load_cifar",
        "load_digits", "load_mnist", "load_percolation", "own_data", "own_states"}  # fmt: skip
CIRCUIT = {"circuits", "engines", "deq", "models"}
TRAINING = DATA | CIRCUIT | {"runs", "training", "utils"}
MAY_KNOW = {
    "utils": set(),
    "deq": set(),
    "circuits": set(),
    "runs": {"utils"},
    **dict.fromkeys(DATA - {"given_images"}, DATA | {"runs", "utils"}),
    "given_images": {"data_settings"},
    "engines": {"circuits"},
    "hardware": {"circuits", "engines", "utils"},
    "models": {"circuits", "engines", "deq"},
    "training": (TRAINING | {"hardware"}) - {"training"},
    "deployment": TRAINING | {"hardware", "figures"},
    "qep": DATA | {"circuits", "runs", "utils"},
    "figures": CIRCUIT | {"utils"},
    "theory": TRAINING | {"figures"},
    "benchmarks": CIRCUIT | {"dataset", "features", "figures", "qep", "runs", "training", "utils"},
    "reproduction": TRAINING | {"benchmarks", "deployment", "hardware", "figures", "theory", "qep"},
}
COMMANDS = {"train_qdeq", "evaluate_qdeq", "train_qep", "make_states", "reproduce", "benchmark"}
ROOMS = {path.stem for path in SCRIPTS.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
OUTSIDE = {"circuits": {"numpy"}, "deq": {"torch"}, "engines": {"torch", "numpy", "torchquantum"}}


def imported(room: str) -> Iterator[tuple[str, str]]:
    """(file, first word of the module) of all imports in a room, also of those inside functions."""
    path = SCRIPTS / room
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield str(file), node.module.split(".")[0]
            elif isinstance(node, ast.Import):
                yield from ((str(file), alias.name.split(".")[0]) for alias in node.names)


def test_every_room_is_in_the_plan():
    assert ROOMS == set(MAY_KNOW) | COMMANDS


@pytest.mark.parametrize("room", sorted(MAY_KNOW))
def test_a_room_knows_no_more_than_it_may(room):
    found = {(file, name) for file, name in imported(room) if name in ROOMS - {room}}
    assert {name for _, name in found} <= MAY_KNOW[room], found


def test_nothing_imports_a_command():
    for room in ROOMS:
        assert not {name for _, name in imported(room)} & (COMMANDS - {room})


@pytest.mark.parametrize("room", OUTSIDE)
def test_lower_rooms_need_few_libraries(room):

    others = {name for _, name in imported(room)} - ROOMS - set(sys.stdlib_module_names) - {"__future__"}
    assert others <= OUTSIDE[room]
