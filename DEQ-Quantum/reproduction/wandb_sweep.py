"""A grid as the YAML file that `wandb sweep` takes: its agents call train_qdeq.py with the flags that the sweep has.

Written without a network; `wandb sweep` itself needs wandb's server. Knows points and wandb's file format only.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from reproduction.grid import Point
from reproduction.jobs import SWITCHES
from training.command_line import parse_command_line
from utils.files import write_text


def wandb_sweep(points: Sequence[Point], seeds: Sequence[int], fixed: Sequence[str], project: str) -> dict:
    """The sweep's configuration.

    Args:
        points: of a grid.
        seeds: of the runs.
        fixed: flags that every run has.
        project: wandb's.
    """
    settings = [parse_command_line(list(point.flags)).settings for point in points]
    values = {name: list(dict.fromkeys(_value(name, getattr(s, name)) for s in settings)) for name in points[0].values}
    return {
        "program": "DEQ-Quantum/train_qdeq.py",
        "project": project,
        "method": "grid",
        "metric": {"name": "val_acc", "goal": "maximize"},
        "parameters": {name: {"values": choices} for name, choices in (values | {"seed": list(seeds)}).items()},
        # a flag that is either there or not is left out where it is false
        "command": ["${env}", "${interpreter}", "${program}", *fixed, "${args_no_boolean_flags}"],
    }


def _value(name: str, value: object) -> object:
    """As wandb passes it on: of the true and false only what stands alone on a command line is one to wandb too."""
    return str(value) if isinstance(value, bool) and name not in SWITCHES else value


def write_wandb_sweep(config: dict, path: Path) -> None:
    """Write it, with how to start it."""
    head = "# at the root of the repository: wandb sweep THIS_FILE, and on any machine the `wandb agent` that it names\n"
    write_text(path, head + yaml.safe_dump(config, sort_keys=False))
