"""What a benchmark has measured so far: the content of its JSON file, filled while it runs."""

import argparse
import os
import platform
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import torch
from tqdm import tqdm

from benchmarks.step import Problem
from benchmarks.timing import Series, interleave, ratio
from runs.log import bar_size
from runs.machine import choose_device, environment

NOT_RESULTS = ("command", "json", "plot")


class Record:
    """One benchmark: what was asked, and what has been measured so far.

    Args:
        options: of the command line.

    Attributes:
        content: of the JSON file.

    Raises:
        SettingsError: CUDA where there is none.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.device = choose_device(options)
        if options.threads:
            torch.set_num_threads(options.threads)
        self.content = {
            "benchmark": options.command,
            "complete": False,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": options.seed,
            "threads": torch.get_num_threads(),
            "openmp_wait": {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")},
            "machine": machine(),
            **environment(self.device),
            "arguments": {k: v for k, v in vars(options).items() if k not in NOT_RESULTS},
            "notes": [],
        }

    @cached_property
    def engines(self) -> list[str]:
        """The engines that run here, the reference first; whoever does not ask does not wait for its import."""
        try:
            import engines.torchquantum  # noqa: F401  there is no TorchQuantum for Python 3.13
        except ImportError as error:
            self.content["notes"].append(f"no comparison with TorchQuantum: {error}")
            return ["compiled"]
        return ["torchquantum", "compiled"]

    def problem(self, n_wires: int, **options) -> Problem:
        """A circuit and a batch of this benchmark's size, seed and device."""
        return Problem(n_wires, self.options.batch_size, self.options.seed, self.device, **options)

    def time(
        self, name: str, title: str, calls: dict[str, Callable[[], object]], pairs: Collection[tuple[str, str]],
        models: Mapping[str, int] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        """Time contestants in turn into the section `name`, also if interrupted.

        Args:
            name: the section of the JSON file.
            title: of the table on screen.
            calls: contestants by label.
            pairs: labels (slow, fast) for which to state how many times longer the first takes than the second.
            models: by label how many models a call serves, where it is not one: times are per model.
        """
        series: dict[str, Series] = {}
        rounds = interleave(calls, self.options.repetitions, self.device, series)
        total = len(calls) * (1 + self.options.repetitions)
        try:
            for _ in tqdm(rounds, title, total, leave=False, disable=None, **bar_size()):
                pass
        finally:
            times = {label: series[label].summary(models.get(label, 1)) for label in calls if label in series}
            ratios = [
                {"slow": slow, "fast": fast, **ratio(times[slow], times[fast])}
                for slow in times
                for fast in times
                if (slow, fast) in pairs
            ]
            self.content[name] = {"title": title, "times": times, "ratios": ratios} if times else {}


def machine() -> str:
    """The processor's name and how many of them the system has."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{os.cpu_count()} x {name}"
