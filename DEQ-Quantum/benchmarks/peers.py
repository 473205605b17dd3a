"""`deq` beside torchdeq, jaxopt and optimistix: forward and backward, at one tolerance and at one accuracy.

Same f, same relative tolerance, same cap, float32, one process, contestants in turn. torchdeq goes on until the worst
sample is done and answers with f of its best iterate, so that at one tolerance its gradients may be the more exact
ones; hence the second comparison, where each contestant gets the loosest tolerance of `TOLERANCES` at which value
and gradient are right to `ACCURACY`. Errors are those against a float64 stack of layers (`peer_problems.py`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from statistics import median

from torch import Tensor
from tqdm import tqdm

from benchmarks.memory import peak_bytes
from benchmarks.peer_libraries import (
    IN_JAX,
    LIBRARIES,
    OURS,
    OWN,
    SEQUENCE_LAYERS,
    SOLVERS,
    TORCHDEQ,
)  # fmt: skip
from benchmarks.peer_problems import PeerProblem, peer_problems
from benchmarks.peer_steps import measure_steps
from benchmarks.peer_training import train_in_turn
from benchmarks.record import Record
from benchmarks.timing import Series, interleave, one_cpu, ratio
from deq import ConvergenceWarning
from runs.log import bar_size

TOLERANCE = 1e-4
ACCURACY = 1e-3
TOLERANCES = tuple(10 ** (-step / 4) for step in range(6, 25))
SEQUENCE_STEPS = 100
JAX_ON_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


@dataclass
class Contestant:
    """One library with one solver on one problem.

    Attributes:
        library, solver: of the row.
        problem: what it solves.
        at: tolerance to a function that does a forward and a backward pass and gives z* and the gradient.
        errors: by tolerance, the relative errors of value and gradient and the share of samples that met it.
    """

    library: str
    solver: str
    problem: PeerProblem
    at: Callable[[float], Callable[[], tuple[Tensor, tuple[Tensor, ...]]]]
    errors: dict[float, dict] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return f"{self.problem.name}, {self.solver}, {self.library}"

    def measure(self, tolerance: float, answer: tuple[Tensor, tuple[Tensor, ...]]) -> dict:
        """Errors at that tolerance, against the float64 answer."""
        if tolerance not in self.errors:
            z, gradient = self.at(tolerance)()
            f = self.problem.f(tuple(p.detach().double() for p in self.problem.parameters), self.problem.x.double())
            gap = (f(z.double()) - z.double()).flatten(1).norm(dim=1) / z.double().flatten(1).norm(dim=1)
            self.errors[tolerance] = {
                "value_error": _relative([z], [answer[0]]),
                "gradient_error": _relative(gradient, answer[1]),
                "converged": (gap <= tolerance).double().mean().item(),
            }
        return self.errors[tolerance]

    def loosest(self, answer: tuple[Tensor, tuple[Tensor, ...]]) -> float | None:
        """The loosest tolerance that is accurate enough; None: none is."""
        for tolerance in TOLERANCES:
            errors = self.measure(tolerance, answer)
            if max(errors["value_error"], errors["gradient_error"]) <= ACCURACY:
                return tolerance
        return None


def _relative(found, exact) -> float:
    """||found - exact|| / ||exact|| over all tensors."""
    gap = sum((a.detach().double() - b).square().sum() for a, b in zip(found, exact))
    return (gap / sum(b.square().sum() for b in exact)).sqrt().item()


def measure_peers(record: Record) -> None:
    """Every problem by every solver of every library that is installed: sections `peers` and `sequence`.

    And the training step of the quantum model, by us and in JAX.
    """
    o = record.options
    if o.threads == 1:  # before JAX is imported; torch's threads are set already
        os.environ.setdefault("XLA_FLAGS", JAX_ON_ONE_THREAD)
    record.content["xla_flags"] = os.environ.get("XLA_FLAGS")
    with one_cpu(o.threads == 1):  # JAX's own threads, which no flag of its bounds, share it
        _measure_libraries(record)
        measure_steps(record)


def _measure_libraries(record: Record) -> None:
    """The sections `peers` and `sequence`."""
    o = record.options
    warnings.simplefilter("ignore", ConvergenceWarning)
    libraries = {name: LIBRARIES[name] for name in OWN}
    for name in (TORCHDEQ, *IN_JAX):
        try:
            __import__(name)
            libraries[name] = LIBRARIES[name]
            record.content[name] = version(name)
        except ImportError as error:
            record.content["notes"].append(f"no comparison with {name}: {error} (see requirements-peers.txt)")
    rows = record.content["peers"] = []
    problems = peer_problems(o.seed, o.batch_size)
    for problem in tqdm(problems, "peers", leave=False, disable=None, **bar_size()):
        answer = problem.answer()
        for solver in SOLVERS:
            made = {name: make(problem, solver) for name, make in libraries.items()}
            contestants = [Contestant(name, solver, problem, at) for name, at in made.items() if at is not None]
            rows.extend(_rows(contestants, answer, record))
    _measure_sequence(record, libraries)


def _measure_sequence(record: Record, libraries: dict[str, Callable]) -> None:
    """The toy sequence task, trained through ours and torchdeq, into the section `sequence`."""
    equilibria = {name: SEQUENCE_LAYERS[name]() for name in (OURS, TORCHDEQ) if name in libraries}
    o = record.options
    record.content["sequence"] = train_in_turn(equilibria, o.seed, o.batch_size, SEQUENCE_STEPS)


def _rows(contestants: list[Contestant], answer, record: Record) -> list[dict]:
    """One row per contestant: at `TOLERANCE` and at `ACCURACY`, with how its times compare with our faster ones."""
    tolerances = {c.label: c.loosest(answer) for c in contestants}
    at_tolerance = _times({c.label: c.at(TOLERANCE) for c in contestants}, record)
    accurate = {c.label: c.at(tolerances[c.label]) for c in contestants if tolerances[c.label] is not None}
    at_accuracy = _times(accurate, record) if accurate else {}
    own = {c.label for c in contestants if c.library in OWN}
    rows = []
    for c in contestants:
        row = {"problem": c.problem.name, "solver": c.solver, "library": c.library,
               "at_tolerance": {**at_tolerance[c.label], **c.measure(TOLERANCE, answer)},
               "peak_bytes": None if c.library in IN_JAX else peak_bytes(c.at(TOLERANCE), record.device)}  # fmt: skip
        if c.label in at_accuracy:
            tolerance = tolerances[c.label]
            row["at_accuracy"] = {**at_accuracy[c.label], **c.measure(tolerance, answer), "tolerance": tolerance}
        for section, times in (("at_tolerance", at_tolerance), ("at_accuracy", at_accuracy)):
            ours = min(
                (label for label in times if label in own), key=lambda label: times[label]["median"], default=None
            )
            if c.label not in own and c.label in times and ours is not None:
                row[section]["ours_is_faster"] = ratio(times[c.label], times[ours])
        rows.append(row)
    return rows


def _times(calls: dict[str, Callable], record: Record) -> dict[str, dict]:
    series: dict[str, Series] = {}
    for _ in interleave(calls, record.options.repetitions, record.device, series):
        pass
    return {label: series[label].summary() for label in calls}


def summary(rows: list[dict], library: str) -> list[str]:
    """Markdown: how many times faster ours is than a library by solver, medians over the problems and extremes."""
    lines = [f"| solver | at one tolerance, times faster than {library} | at one accuracy |", "|---|---|---|"]
    for solver in SOLVERS:
        cells = []
        for section in ("at_tolerance", "at_accuracy"):
            own = [row for row in rows if (row["library"], row["solver"]) == (library, solver)]
            found = [row[section]["ours_is_faster"] for row in own if "ours_is_faster" in row.get(section, {})]
            ratios = [entry["ratio"] for entry in found]
            cells.append(f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-")
        lines.append(f"| {solver} | {' | '.join(cells)} |")
    return lines


def table_rows(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table on screen and of the page of results."""
    header = ["problem, solver, library", "ms", "ours faster", "converged", "gradient error",
              "ms, equal accuracy", "ours faster", "tolerance", "peak MiB"]  # fmt: skip
    cells = []
    for row in rows:
        cell = [f"{row['problem']}, {row['solver']}, {row['library']}"]
        for section in ("at_tolerance", "at_accuracy"):
            found = row.get(section)
            if found is None:
                cell += ["not reached", "", ""]
                continue
            faster = found.get("ours_is_faster")
            spread = "" if faster is None else "{ratio:.2f} ({lowest:.2f} to {highest:.2f})".format(**faster)
            cell += [f"{1e3 * found['median']:.2f}", spread]
            if section == "at_tolerance":
                cell += [f"{100 * found['converged']:.0f} %", f"{found['gradient_error']:.1e}"]
            else:
                cell += [f"{found['tolerance']:.1e}"]
        cell += ["-" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:.2f}"]
        cells.append(cell)
    return header, cells


def sequence_rows(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of the toy sequence task."""
    cells = [
        [row["library"], f"{100 * row['accuracy']:.1f} %", f"{row['loss']:.4f}", f"{1e3 * row['seconds_per_step']:.2f}"]
        for row in rows
    ]
    return ["sequence task, anderson", "accuracy", "last loss", "ms a step"], cells
