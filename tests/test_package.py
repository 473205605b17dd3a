"""`pip install .` installs the package `deq`, which needs torch and nothing else of this repository or its tools.

The wheel is built offline from a copy of the sources, and used by an interpreter that finds the wheel's
files, torch and what torch itself requires: `python -I -S` reads no site-packages.
"""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from conftest import REPOSITORY, SCRIPTS

# f(z) = W z + x has the equilibrium (I - W)^-1 x, whose sum has the gradient (I - W)^-T 1
SOLVE = """
import sys
sys.path[:0] = sys.argv[1:3]
import importlib.util
found = [name for name in sys.argv[3:] if importlib.util.find_spec(name)]
assert not found, f"importable beside deq: {found}"

import torch
from deq import SolverSettings, equilibrium

W = torch.tensor([[0.3, 0.2], [-0.1, 0.4]], dtype=torch.float64)
x = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64, requires_grad=True)
settings = SolverSettings(max_steps=50, tol=1e-12)
z_star, _ = equilibrium(lambda z: z @ W.T + x, torch.zeros_like(x), settings, settings)
z_star.sum().backward()
inverse = torch.linalg.inv(torch.eye(2, dtype=torch.float64) - W)
assert (z_star - x @ inverse.T).abs().max() < 1e-10
assert (x.grad - inverse.sum(0)).abs().max() < 1e-10
"""


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def everything_in(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """A copy of the source files, without what tools leave beside them."""
    folder = tmp_path_factory.mktemp("sources") / "a clone"
    shutil.copytree(SCRIPTS, folder / SCRIPTS.name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    before = everything_in(sources)
    pip("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, sources)
    assert everything_in(sources) == before, "building left something behind"
    (path,) = folder.iterdir()
    return path


def requirements_of(name: str) -> set[str]:
    """The distributions that `name` needs here, itself included."""
    needed, waiting = set(), [name]
    while waiting:
        name = waiting.pop().lower()
        if name not in needed:
            needed.add(name)
            for line in distribution(name).requires or ():
                requirement = Requirement(line)
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    waiting.append(requirement.name)
    return needed


def link_distributions(names: set[str], folder: Path) -> None:
    """Put links to the files of installed distributions into `folder`, as if they were installed there alone."""
    folder.mkdir()
    for name in names:
        parts = distribution(name)
        for top in {file.parts[0] for file in parts.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(parts.locate_file(top))


def test_the_wheel_holds_deq_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read("qdeq_deq-0.1.0.dist-info/METADATA").decode().splitlines()
    sources = {f"deq/{path.name}" for path in (SCRIPTS / "deq").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == sources | {"deq/py.typed"}
    assert "qdeq_deq-0.1.0.dist-info/licenses/LICENSE" in names
    assert [line for line in metadata if line.startswith("Requires-Dist")] == ["Requires-Dist: torch"]
    assert {"Requires-Python: >=3.10", "License-Expression: MIT"} <= set(metadata)


def test_deq_solves_and_differentiates_where_only_torch_is(wheel, tmp_path):
    pip("install", "--no-deps", "--target", tmp_path / "installed", wheel)
    link_distributions(requirements_of("torch"), tmp_path / "torch_alone")
    rooms = [path.name for path in SCRIPTS.iterdir() if path.is_dir() and path.name not in ("deq", "__pycache__")]
    assert "circuits" in rooms and "models" in rooms
    command = [sys.executable, "-I", "-S", "-c", SOLVE, tmp_path / "installed", tmp_path / "torch_alone"]
    done = subprocess.run([*map(str, command), *rooms, "numpy", "torchquantum", "sklearn"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
