"""Times of several contestants in one process, in turn, so that the machine's noise hits all of them alike.

A round times each contestant once, over a block of calls long enough for the clock; the next round begins with the
next contestant. What is compared are medians over the rounds; every time is kept.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import torch

BLOCK_SECONDS = 0.1
WARM_UP_CALLS = 2


@dataclass
class Series:
    """Times of one contestant.

    Attributes:
        calls: calls in a block.
        seconds: per call, one entry a round.
    """

    calls: int
    seconds: list[float] = field(default_factory=list)

    def summary(self, n_models: int = 1) -> dict:
        """Plain data for the JSON file: the median, the extremes and every time, per model of a call."""
        seconds = [each / n_models for each in self.seconds]
        spread = {"median": median(seconds), "lowest": min(seconds), "highest": max(seconds)}
        return {**spread, "calls": self.calls, "seconds": seconds}


def seconds_per_call(call: Callable[[], object], n_calls: int, device: torch.device) -> float:
    """Mean time of n_calls; on a GPU until its queue is empty, as a loop of training steps would fill it."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(n_calls):
        call()
    _wait(device)
    return (time.perf_counter() - began) / n_calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleave(
    contestants: dict[str, Callable[[], object]],
    repetitions: int,
    device: torch.device,
    series: dict[str, Series],
) -> Iterator[str]:
    """Time contestants round by round.

    Args:
        contestants: what to call, by label.
        repetitions: rounds; before the first, each contestant is called to warm up.
        device: where they run.
        series: filled round by round, so that whoever interrupts has what was measured.

    Yields:
        The label of what was just done: once per contestant for the warm-up, then once per block.
    """
    blocks: dict[str, int] = {}
    for label, call in contestants.items():
        seconds_per_call(call, WARM_UP_CALLS - 1, device)
        estimate = seconds_per_call(call, 1, device)
        blocks[label] = max(1, round(BLOCK_SECONDS / max(estimate, 1e-9)))
        yield label
    labels = list(contestants)
    for turn in range(repetitions):
        first = turn % len(labels)
        for label in labels[first:] + labels[:first]:
            seconds = seconds_per_call(contestants[label], blocks[label], device)
            series.setdefault(label, Series(blocks[label])).seconds.append(seconds)
            yield label


@contextmanager
def one_cpu(wanted: bool) -> Iterator[None]:
    """Keep this process, and the threads that it starts meanwhile, on one CPU, if wanted and where the system can."""
    if not wanted or not hasattr(os, "sched_setaffinity"):
        yield
        return
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


def ratio(slow: dict, fast: dict) -> dict:
    """How many times longer `slow` takes: the quotient of the medians, and the extremes over the rounds.

    Args:
        slow, fast: summaries of two series.
    """
    rounds = [a / b for a, b in zip(slow["seconds"], fast["seconds"])]
    return {"ratio": slow["median"] / fast["median"], "lowest": min(rounds), "highest": max(rounds)}
