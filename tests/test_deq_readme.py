"""Every example of deq's page runs, and its tables name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import deq
from benchmarks.peers import summary
from conftest import REPOSITORY
from deq import SolverStatus
from deq.settings import SOLVERS

PAGE = (Path(deq.__file__).parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=[str(number) for number in range(len(EXAMPLES))])
def test_every_example_runs(example):
    torch.manual_seed(1)
    exec(compile(example, "README.md", "exec"), {"__name__": "example"})


def test_the_numbers_are_those_of_the_committed_results():
    rows = json.loads((REPOSITORY / "results/benchmark/peers.json").read_text())["peers"]
    assert "\n".join(summary(rows, "torchdeq")) in PAGE


def test_the_tables_name_every_status_and_every_solver():
    for status in SolverStatus:
        assert f"`{status.name}`" in PAGE
    for solver in SOLVERS:
        assert f"`{solver}`" in PAGE
