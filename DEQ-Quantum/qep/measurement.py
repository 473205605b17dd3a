"""Expectation values as an experiment gives them: from a finite number of shots.

A shot prepares the state once and measures every spin (or position) once. Strings that commute qubit by qubit (ZZ and
ZI, say) are measured in the same shot; strings that do not take separate settings, each with its own number of shots.
What is measured is unbiased; a function of it, such as a cost's nudge, need not be.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qep.states import State


@dataclass(frozen=True)
class Measured:
    """Measured expectation values, NaN where an observable was not asked for.

    Attributes:
        means: (B, K).
        standard_error: of the means, (B, K); 0 if exact.
    """

    means: Tensor
    standard_error: Tensor


class Measurement(ABC):
    """How expectation values are obtained from a state."""

    @abstractmethod
    def measure(self, state: State, generator: torch.Generator | None = None, wanted: Tensor | None = None) -> Measured:
        """Measure at least the wanted observables.

        Args:
            state: of B samples.
            generator: of the shots.
            wanted: positions of observables; None for all.
        """


class Exact(Measurement):
    """Infinitely many shots: the expectation values themselves."""

    def measure(self, state: State, generator: torch.Generator | None = None, wanted: Tensor | None = None) -> Measured:
        return Measured(state.expectations, torch.zeros_like(state.expectations))


@dataclass(frozen=True)
class Shots(Measurement):
    """Finitely many shots, separate ones for each measurement setting.

    Attributes:
        shots: of a setting, per sample and measurement, from 2.
        budget: other numbers of shots, by setting.
        averages: independent measurements that are averaged.
    """

    shots: int
    budget: Mapping[str, int] = field(default_factory=dict)
    averages: int = 1

    def __post_init__(self):
        if min(self.shots, *self.budget.values(), 2) < 2 or self.averages < 1:
            raise ValueError(f"a measurement needs at least 2 shots and 1 average, got {self}")

    def measure(self, state: State, generator: torch.Generator | None = None, wanted: Tensor | None = None) -> Measured:
        if generator is None:
            raise ValueError("shots are random: give a generator")
        n_observables = sum(len(members) for members in state.bases.values())
        means = state.energy.new_full((len(state.energy), n_observables), torch.nan)
        errors = torch.full_like(means, torch.nan)
        for basis, members in state.bases.items():
            if wanted is not None and not torch.isin(members, wanted).any():
                continue
            shots = self.budget.get(basis, self.shots)
            found = [state.sample(basis, shots, generator) for _ in range(self.averages)]
            means[:, members] = torch.stack([mean for mean, _ in found]).mean(0)
            variance = torch.stack([variance for _, variance in found]).mean(0)
            errors[:, members] = (variance / (shots * self.averages)).sqrt()
        return Measured(means, errors)
