"""Time and peak memory of a step for circuits of growing size, leaving out what would take too long or too much."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.memory import peak_bytes
from benchmarks.step import Problem, Step, Variant
from benchmarks.timing import BLOCK_SECONDS, WARM_UP_CALLS, Series, interleave, seconds_per_call
from runs.machine import free_bytes

SHARE_OF_FREE_MEMORY = 0.8
MEBI = 2.0**20
# the profiled call of the memory meter, which also carries the profiler, weighs as this many
MEMORY_CALLS = 4


@dataclass
class _Last:
    """What the last, smaller point of a contestant took."""

    problem: Problem
    seconds: float
    bytes: int


class Sweep:
    """Goes through problems from small to large and measures every contestant on each.

    Args:
        by: "wires" or "operations", what grows.
        repetitions: rounds of timing; 0 measures memory only.
        limit_seconds: for one contestant on one problem.
        points: filled during the sweep, one entry per contestant and problem.
    """

    def __init__(self, by: str, repetitions: int, limit_seconds: float, points: list[dict]):
        self.by, self.repetitions, self.limit_seconds, self.points = by, repetitions, limit_seconds, points
        self._last: dict[str, _Last] = {}

    def run(self, problems: list[Problem], variants_of: Callable[[Problem], list[Variant]]) -> Iterable[str]:
        """Measure; yields words for the progress bar, once per problem.

        Args:
            problems: from small to large.
            variants_of: the contestants on a problem.
        """
        for problem in problems:
            yield f"{problem.n_wires} wires, {problem.n_operations} operations"
            entries = {variant.label: self._entry(variant, problem) for variant in variants_of(problem)}
            steps = {}
            for variant in variants_of(problem):
                entry = entries[variant.label]
                if "skipped" not in entry:
                    steps[variant.label] = self._warm_up(variant, problem, entry)
            self._time({label: step for label, step in steps.items() if step is not None}, problem, entries)

    def _entry(self, variant: Variant, problem: Problem) -> dict:
        entry = {
            "by": self.by,
            "n_wires": problem.n_wires,
            "n_operations": problem.n_operations,
            "label": variant.label,
        }
        reason = self._too_much(variant, problem)
        if reason is not None:
            entry["skipped"] = reason
        self.points.append(entry)
        return entry

    def _too_much(self, variant: Variant, problem: Problem) -> str | None:
        """Why not to try this point, judged by the contestant's last one; None: try.

        Both engines' work and memory grow at most as 2^n_wires n_wires^2 n_operations does.
        """
        last = self._last.get(variant.label)
        if last is None:
            return None
        growth = _size(problem) / _size(last.problem)
        seconds = self._seconds(growth * last.seconds)
        if seconds > self.limit_seconds:
            return f"about {seconds:.0f} s expected, more than --seconds {self.limit_seconds:g}"
        wanted, free = growth * last.bytes, SHARE_OF_FREE_MEMORY * free_bytes(problem.device)
        if wanted > free:
            return f"about {wanted / MEBI:.0f} MiB expected, {free / MEBI:.0f} MiB can be had"
        return None

    def _seconds(self, per_call: float) -> float:
        """A point's time from that of one call."""
        return (WARM_UP_CALLS + MEMORY_CALLS) * per_call + self.repetitions * max(BLOCK_SECONDS, per_call)

    def _warm_up(self, variant: Variant, problem: Problem, entry: dict) -> Step | None:
        """The step, called before and its peak memory measured; None where that was too long or too much."""
        try:
            step = Step(variant, problem)
            seconds_per_call(step, 1, problem.device)
            seconds = seconds_per_call(step, 1, problem.device)
            step.optimizer.zero_grad()
            entry["peak_bytes"] = peak_bytes(step, problem.device)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error):
                raise
            entry["skipped"] = "out of memory"
            return None
        self._last[variant.label] = _Last(problem, seconds, entry["peak_bytes"])
        if self.repetitions and self._seconds(seconds) > self.limit_seconds:
            entry["skipped"] = f"{seconds:.1f} s a step: too long for --seconds {self.limit_seconds:g}"
            return None
        return step

    def _time(self, steps: dict[str, Step], problem: Problem, entries: dict[str, dict]) -> None:
        if not self.repetitions or not steps:
            return
        series: dict[str, Series] = {}
        try:
            for _ in interleave(steps, self.repetitions, problem.device, series):
                pass
        finally:
            for label, times in series.items():
                entries[label]["times"] = times.summary()


def _size(problem: Problem) -> float:
    return 2.0**problem.n_wires * problem.n_wires**2 * max(1, problem.n_operations)


def flatness(points: list[dict]) -> dict[str, dict]:
    """Largest over smallest peak memory of every contestant, over the operations it was measured at."""
    found = {}
    for label in dict.fromkeys(point["label"] for point in points):
        peaks = {
            p["n_operations"]: p["peak_bytes"] for p in points if p["label"] == label and "peak_bytes" in p
        }
        if peaks:
            ratio = max(peaks.values()) / min(peaks.values())
            found[label] = {"from": min(peaks), "to": max(peaks), "ratio": ratio}
    return found
