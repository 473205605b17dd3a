"""Means of what a training measures between two entries of its log."""

from torch import Tensor


class Meter:
    """Means since the last log entry; part of the checkpoint, so that a resumed entry is whole."""

    def __init__(self, state: dict | None = None):
        # sums stay on the device: a GPU is not waited for to add to them
        self.sums: dict[str, Tensor | float] = dict(state["sums"]) if state else {}
        self.counts: dict[str, int] = dict(state["counts"]) if state else {}

    def add(self, name: str, values: Tensor) -> None:
        self.add_sum(name, values.detach().double().sum(), values.numel())

    def add_sum(self, name: str, total: Tensor | float, count: int) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + total
        self.counts[name] = self.counts.get(name, 0) + count

    def means(self) -> dict[str, float]:
        return {name: float(self.sums[name]) / self.counts[name] for name in self.sums}

    def state(self) -> dict:
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "counts": dict(self.counts)}
