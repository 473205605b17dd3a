"""Expectation values as an experiment gives them: from a finite number of shots.

A shot is a preparation of the equilibrium and one reading. Strings that agree spin by spin (Z Z and Z I, say) are
read off the same shot; Z and X are not, so they take separate preparations, each with its own budget. What is
measured is unbiased; a function of it, such as a cost's nudge, need not be.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qep.pauli import parity
from qep.system import Equilibrium, QuantumSystem

# columns: the eigenvectors of X and Y to the eigenvalues 1 and -1
EIGENVECTORS = {"X": ((1, 1), (1, -1)), "Y": ((1, 1), (1j, -1j))}
CHUNK = 2**22  # readings held at once


def measurement_bases(strings: Sequence[str]) -> dict[str, list[int]]:
    """Put strings together that one preparation measures: positions by basis, a letter X, Y or Z per spin.

    All strings of Z share a basis. Each other string joins the first of the others that it agrees with on every
    spin; spins that none of them reads are read in Z.
    """
    diagonal = [k for k, string in enumerate(strings) if not set(string) & set("XY")]
    bases: list[tuple[str, list[int]]] = []
    for k in sorted(set(range(len(strings))) - set(diagonal)):
        for i, (basis, which) in enumerate(bases):
            if all(a == b or "I" in (a, b) for a, b in zip(basis, strings[k])):
                merged = "".join(b if a == "I" else a for a, b in zip(basis, strings[k]))
                bases[i] = (merged, [*which, k])
                break
        else:
            bases.append((strings[k], [k]))
    named = {"Z" * len(strings[0]): diagonal} if diagonal else {}
    return named | {basis.replace("I", "Z"): which for basis, which in bases}


def sample_strings(
    psi: Tensor, basis: str, strings: Sequence[str], shots: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Read every spin along its letter of the basis, `shots` times, and average products of the readings.

    Args:
        psi: states, (B, D).
        basis: a letter X, Y or Z per spin.
        strings: that agree with the basis.
        shots: readings per sample, from 2.
        generator: of the readings.

    Returns:
        Mean of each string and unbiased variance of one reading, (B, len(strings)) each.
    """
    n_spins = len(basis)
    for spin, letter in enumerate(basis):
        if letter != "Z":
            rotation = torch.tensor(EIGENVECTORS[letter], device=psi.device).mH / 2**0.5
            dtype = torch.promote_types(psi.dtype, rotation.dtype)
            parts = psi.to(dtype).view(len(psi), 2**spin, 2, -1)
            psi = (rotation.to(dtype) @ parts).view(len(psi), -1)
    counts = _counts(psi.abs().square(), shots, generator)
    states = torch.arange(psi.shape[1], device=psi.device)
    masks = [sum(1 << (n_spins - 1 - spin) for spin, letter in enumerate(s) if letter != "I") for s in strings]
    signs = torch.stack([1.0 - 2.0 * parity(states & mask).double() for mask in masks], 1)
    mean = counts.double() @ signs / shots
    return mean, (1 - mean.square()) * shots / (shots - 1)


def _counts(probabilities: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """How often each basis state was read: (B, D) -> (B, D)."""
    counts = torch.zeros(probabilities.shape, dtype=torch.int64, device=probabilities.device)
    at_once = max(1, CHUNK // len(probabilities))
    for start in range(0, shots, at_once):
        n = min(at_once, shots - start)
        read = torch.multinomial(probabilities, n, replacement=True, generator=generator)
        counts.scatter_add_(1, read, torch.ones_like(read))
    return counts


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
    """How expectation values are read off an equilibrium."""

    @abstractmethod
    def measure(
        self, system: QuantumSystem, equilibrium: Equilibrium, wanted: Tensor, generator: torch.Generator | None
    ) -> Measured:
        """Measure at least the wanted observables.

        Args:
            system: whose equilibrium it is.
            equilibrium: of B samples.
            wanted: positions in the system's observables.
            generator: of the readings.
        """


class Exact(Measurement):
    """Infinitely many shots: the expectation values themselves."""

    def measure(
        self, system: QuantumSystem, equilibrium: Equilibrium, wanted: Tensor, generator: torch.Generator | None
    ) -> Measured:
        return Measured(equilibrium.expectations, torch.zeros_like(equilibrium.expectations))


@dataclass(frozen=True)
class Shots(Measurement):
    """Finitely many shots, each basis in preparations of its own.

    Attributes:
        shots: readings of a basis, per sample and measurement, from 2.
        budget: other numbers of readings, by basis.
        averages: independent measurements that are averaged.
    """

    shots: int
    budget: Mapping[str, int] = field(default_factory=dict)
    averages: int = 1

    def __post_init__(self):
        if min(self.shots, *self.budget.values(), 2) < 2 or self.averages < 1:
            raise ValueError(f"a measurement needs at least 2 shots and 1 average, got {self}")

    def measure(
        self, system: QuantumSystem, equilibrium: Equilibrium, wanted: Tensor, generator: torch.Generator | None
    ) -> Measured:
        if generator is None:
            raise ValueError("shots are random: give a generator")
        means = torch.full_like(equilibrium.expectations, torch.nan)
        errors = torch.full_like(means, torch.nan)
        for basis, which in system.bases.items():
            if not torch.isin(which, wanted).any():
                continue
            shots = self.budget.get(basis, self.shots)
            readings = [system.sample(equilibrium, basis, shots, generator) for _ in range(self.averages)]
            means[:, which] = torch.stack([mean for mean, _ in readings]).mean(0)
            variance = torch.stack([variance for _, variance in readings]).mean(0)
            errors[:, which] = (variance / (shots * self.averages)).sqrt()
        return Measured(means, errors)
