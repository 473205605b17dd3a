"""Two measurements of the estimators themselves: their error against beta and shots, and their time against size.

Error: relative distance to the exact gradient, ||g - g*|| / ||g*||, root mean square over random problems and, with
shots, repetitions. The bias falls with beta, the noise of S shots grows as 1 / (beta sqrt(S)): in between lies the
best beta. Time: seconds per sample of one gradient, from 6 to 14 spins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.timing import Series, interleave
from qep.costs import Cost, CrossEntropy, SquaredError
from qep.estimators import QEP, ExactResponse, GradientEstimator, Holomorphic
from qep.ground_states import DENSE_LIMIT, Diagonalisation, GroundStateError
from qep.hamiltonians import TransverseFieldIsing, couplings
from qep.measurement import Shots
from qep.oracles import AutogradEigh, FiniteDifferences
from utils.seeds import generator

SPREAD = 0.3
N_INPUTS = 4
MOST_STATES = 2**14  # numbers in the ground states of a batch, which sets its size
DENSE_SAMPLES = 2  # dense solves take samples one by one anyway


@dataclass(frozen=True)
class Problem:
    """A random Ising model, a batch, and a cost."""

    system: TransverseFieldIsing
    x: Tensor
    targets: Tensor
    cost: Cost

    def gradient(self, estimator: GradientEstimator, shots: torch.Generator | None = None) -> Tensor:
        """The whole gradient, as one vector."""
        return estimator(self.system, self.x, self.targets, self.cost, shots).flat


def regression(n_spins: int, seed: int, number: int, n_samples: int = 8) -> Problem:
    """Squared error of two outputs with random targets, on an all-to-all model that is diagonalised densely."""
    draw = generator(seed, "gradient error", number)
    system = TransverseFieldIsing(n_spins, couplings("all", n_spins, 2), N_INPUTS, range(n_spins),
                                  (n_spins - 2, n_spins - 1), Diagonalisation("dense"), generator=draw,
                                  spread=SPREAD)  # fmt: skip
    x = torch.randn(n_samples, N_INPUTS, dtype=torch.float64, generator=draw)
    targets = 2 * torch.rand(n_samples, 2, dtype=torch.float64, generator=draw) - 1
    return Problem(system, x, targets, SquaredError())


def measure_bias(problems: list[Problem], betas: list[float]) -> Iterator[dict]:
    """Errors of all estimators with exact expectation values, beta by beta; first those that have no beta (None).

    A point where a nudge is so strong that the ground state is lost is left out.

    Yields:
        {"estimator", "beta", "error"}.
    """
    exact = [problem.gradient(ExactResponse()) for problem in problems]
    for name, oracle in (("autograd", AutogradEigh()), ("finite differences", FiniteDifferences())):
        errors = [_relative(problem.gradient(oracle), g) for problem, g in zip(problems, exact)]
        yield {"estimator": name, "beta": None, "error": _rms(errors)}
    for beta in betas:
        estimators = {kind: QEP(kind, beta) for kind in ("positive", "negative", "centred")}
        estimators["holomorphic"] = Holomorphic(beta, points=4)
        for name, estimator in estimators.items():
            try:
                errors = [_relative(problem.gradient(estimator), g) for problem, g in zip(problems, exact)]
            except GroundStateError:
                continue
            yield {"estimator": name, "beta": beta, "error": _rms(errors)}


def measure_shots(
    problems: list[Problem], betas: list[float], shots: list[int], repetitions: int, seed: int
) -> Iterator[dict]:
    """Errors with finitely many shots of each measurement setting; points left out as in `measure_bias`.

    Yields:
        {"estimator", "shots", "beta", "error"}.
    """
    exact = [problem.gradient(ExactResponse()) for problem in problems]
    for kind in ("centred", "positive"):
        for n in shots:
            for beta in betas:
                estimator = QEP(kind, beta, Shots(n))
                errors = []
                try:
                    for number, (problem, g) in enumerate(zip(problems, exact)):
                        draw = generator(seed, f"{kind} {n} {beta}", number)
                        errors += [_relative(problem.gradient(estimator, draw), g) for _ in range(repetitions)]
                except GroundStateError:
                    continue
                yield {"estimator": kind, "shots": n, "beta": beta, "error": _rms(errors)}


def best_betas(rows: list[dict]) -> list[dict]:
    """The row of the smallest error for each estimator and number of shots."""
    best: dict[tuple, dict] = {}
    for row in rows:
        key = row["estimator"], row["shots"]
        if key not in best or row["error"] < best[key]["error"]:
            best[key] = row
    return list(best.values())


def measure_times(sizes: list[int], largest_dense: int, repetitions: int, seed: int) -> Iterator[dict]:
    """Seconds per sample of one gradient of cross-entropy with four outputs.

    Args:
        sizes: numbers of spins, from 5.
        largest_dense: dense diagonalisation too, up to so many spins.
        repetitions: rounds; the median counts.
        seed: of parameters and inputs.

    Yields:
        {"n_spins", "solver", "estimator", "batch", "seconds_per_sample", ...} with the extremes over the rounds.
    """
    for n in sizes:
        calls, batches = {}, {}
        for solver in ("krylov", "dense"):
            if solver == "dense" and n > min(largest_dense, DENSE_LIMIT):
                continue
            batch = DENSE_SAMPLES if solver == "dense" else max(1, MOST_STATES >> n)
            problem = _classification(n, solver, batch, seed)
            for name, estimator in (("centred", QEP()), ("exact", ExactResponse())):
                calls[solver, name] = lambda p=problem, e=estimator: p.gradient(e)
                batches[solver, name] = batch
        series: dict[tuple, Series] = {}
        for _ in interleave(calls, repetitions, torch.device("cpu"), series):
            pass
        for (solver, name), found in series.items():
            summary, batch = found.summary(), batches[solver, name]
            seconds = {key: summary[key] / batch for key in ("median", "lowest", "highest")}
            yield {"n_spins": n, "solver": solver, "estimator": name, "batch": batch, **seconds}


def _classification(n: int, solver: str, batch: int, seed: int) -> Problem:
    draw = generator(seed, "times", n)
    n_inputs = 16
    system = TransverseFieldIsing(n, couplings("all", n, 4), n_inputs, range(n), range(n - 4, n),
                                  Diagonalisation(solver, 1e-7), generator=draw, spread=SPREAD)  # fmt: skip
    x = torch.randn(batch, n_inputs, dtype=torch.float64, generator=draw)
    return Problem(system, x, torch.randint(4, (batch,), generator=draw), CrossEntropy())


def _relative(found: Tensor, exact: Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


def _rms(errors: list[float]) -> float:
    return (sum(error**2 for error in errors) / len(errors)) ** 0.5
