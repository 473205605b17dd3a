"""`reproduce.py sweep`: train every point of a grid or a list of flags with every seed, and show the table of them."""

import argparse
from pathlib import Path

from reproduction.grid import Point, points_of
from reproduction.jobs import Job
from reproduction.run_tables import run_unfinished, watched
from reproduction.sweep_table import build_sweep_table, write_sweep_table
from runs.settings import SettingsError
from training.command_line import parse_command_line


def run_sweep(options: argparse.Namespace) -> None:
    """Run what is not finished and show it; with --report only show it, with --wandb_sweep only write that file."""
    points, warnings = points_of(options.grid, options.point, _lines(options.list), options.train_flags)
    for warning in warnings:
        print(f"warning: {warning}")
    if options.wandb_sweep is not None:
        _write_wandb_sweep(points, options)
        return
    jobs = [_job(point, seed, options) for seed in options.seeds for point in points]
    folder = options.work_dir.resolve() / options.name
    if not options.report and not run_unfinished(jobs, options, folder):
        return
    content = build_sweep_table(options.name, points, jobs, options.train_flags)
    print(f"\n{write_sweep_table(content, folder)}\n\nwritten to {folder}")


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--list {path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _job(point: Point, seed: int, options: argparse.Namespace) -> Job:
    flags = (*point.flags, "--seed", str(seed), *watched(options, options.name, point.folder))
    settings = parse_command_line(list(flags)).settings
    path = options.work_dir.resolve() / options.name / point.folder / f"seed-{seed}"
    return Job(options.name, point.folder, point.label, seed, settings.epochs, flags, path, settings)


def _write_wandb_sweep(points: list[Point], options: argparse.Namespace) -> None:
    if options.point or options.list:
        raise SettingsError("--wandb_sweep: wandb's sweeps know grids: leave out --point and --list")
    from reproduction.wandb_sweep import wandb_sweep, write_wandb_sweep  # here: YAML comes with wandb

    fixed = [*options.train_flags, "--device", options.device, "--wandb", "online", "--wandb_project"]
    fixed += [options.wandb_project, "--wandb_group", options.name]
    if options.data_dir is not None:
        fixed += ["--data_dir", str(options.data_dir.resolve())]
    write_wandb_sweep(wandb_sweep(points, options.seeds, fixed, options.wandb_project), options.wandb_sweep)
    print(f"{len(points) * len(options.seeds)} runs; begin with: wandb sweep {options.wandb_sweep}")
