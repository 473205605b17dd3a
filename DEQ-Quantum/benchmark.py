"""How fast, how large, and whether equal: the compiled engine against TorchQuantum.

    python DEQ-Quantum/benchmark.py step [--json FILE]     one training step, and one call of f (PennyLane's too)
    python DEQ-Quantum/benchmark.py solve                  the forward solve alone, every solver
    python DEQ-Quantum/benchmark.py scaling                seconds and memory against wires and operations
    python DEQ-Quantum/benchmark.py memory                 memory against operations

`--help` after any of them teaches its flags. Everything is measured in turn in one process; see benchmarks/timing.py.
"""

from benchmarks.command_line import parse_command_line
from utils.command_line import fail, share_cores

if __name__ == "__main__":
    COMMAND = parse_command_line()  # before the heavy imports: --help and a wrong flag do not wait for them
    share_cores()

import argparse
import os
import platform
from collections.abc import Callable
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

# the profiler's library announces itself on stderr unless it is told before it is loaded
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
from tqdm import tqdm

from benchmarks import equality, one_f, report
from benchmarks.scaling import Sweep, flatness
from benchmarks.step import VARIANTS, Problem, Step, Variant
from benchmarks.timing import Series, interleave, ratio
from deq import SolverSettings, solve
from figures import draw_scaling, save_figure
from runs.log import bar_size
from runs.machine import choose_device, environment
from runs.settings import SettingsError
from utils.files import write_json

# TorchQuantum's curve where circuits grow
REFERENCE = Variant("torchquantum", "broyden")
SOLVERS = ("broyden", "anderson", "fixed_point", "newton")
Call = Callable[[], object]


class Benchmark:
    """One command: what was asked, and what has been measured so far.

    Args:
        options: of the command line.

    Raises:
        SettingsError: CUDA where there is none.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.device = choose_device(options)
        if options.threads:
            torch.set_num_threads(options.threads)
        not_results = ("command", "json", "plot")
        self.content = {
            "benchmark": options.command,
            "complete": False,
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": options.seed,
            "threads": torch.get_num_threads(),
            "openmp_wait": {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")},
            "machine": _machine(),
            **environment(self.device),
            "arguments": {k: v for k, v in vars(options).items() if k not in not_results},
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
        """A circuit and a batch of this command's size, seed and device."""
        return Problem(n_wires, self.options.batch_size, self.options.seed, self.device, **options)

    def time(self, name: str, title: str, calls: dict[str, Call], pairs: Callable[[str, str], bool]) -> None:
        """Time contestants in turn into the section `name`, also if interrupted.

        Args:
            name: the section of the JSON file.
            title: of the table on screen.
            calls: contestants by label.
            pairs: whether to state how many times longer the first of two labels takes than the second.
        """
        series: dict[str, Series] = {}
        rounds = interleave(calls, self.options.repetitions, self.device, series)
        total = len(calls) * (1 + self.options.repetitions)
        try:
            for _ in tqdm(rounds, title, total, leave=False, disable=None, **bar_size()):
                pass
        finally:
            times = {label: series[label].summary() for label in calls if label in series}
            ratios = [
                {"slow": slow, "fast": fast, **ratio(times[slow], times[fast])}
                for slow in times
                for fast in times
                if slow != fast and pairs(slow, fast)
            ]
            self.content[name] = {"title": title, "times": times, "ratios": ratios} if times else {}


def _machine() -> str:
    """The processor's name and how many of them the system has."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{os.cpu_count()} x {name}"


def _reference_to_compiled(slow: str, fast: str) -> bool:
    return slow.startswith("torchquantum") and fast.startswith("compiled")


def benchmark_step(b: Benchmark) -> None:
    """One training step by every variant, and one call of f by every simulator; are they equal."""
    o = b.options
    problem = b.problem(o.n_wires)
    variants = [variant for variant in VARIANTS if variant.engine in b.engines]
    b.content["equality"] = equality.compare_steps(variants, problem)

    pennylane_layer = None
    try:
        from benchmarks.pennylane_layer import VERSION, PennyLaneLayer

        pennylane_layer, b.content["pennylane"] = PennyLaneLayer, VERSION
    except ImportError as error:
        b.content["notes"].append(f"no comparison with PennyLane: {error} (see requirements-benchmark.txt)")
    found = one_f.simulators(b.engines, problem, pennylane_layer)
    b.content["one_f_equality"] = one_f.compare(found)

    size = f"{o.n_wires} wires, batch {o.batch_size}"
    steps = {variant.label: Step(variant, problem) for variant in variants}
    b.time("step", f"a training step, {size}", steps, _reference_to_compiled)
    b.time("one_f", f"one call of f, {size}", one_f.calls(found, problem), one_f.comparable)


def benchmark_solve(b: Benchmark) -> None:
    """The forward solve by every solver on both engines, in the space of the readouts."""
    o = b.options
    problem = b.problem(o.n_wires)
    x, _ = problem.batch
    r0 = x.new_zeros(o.batch_size, o.n_wires)
    calls: dict[str, Call] = {}
    b.content["solves"] = []
    for engine in b.engines:
        layer = problem.layer(engine)
        calls[f"{engine}, bind"] = lambda layer=layer: layer.bind(x).reduced()
        h = layer.bind(x).reduced()
        for name in SOLVERS:
            settings = SolverSettings(name, o.max_steps, o.tol)
            calls[f"{engine}, {name}"] = lambda h=h, settings=settings: solve(h, r0, settings)
            result = solve(h, r0, settings)
            b.content["solves"].append(
                {
                    "label": f"{engine}, {name}",
                    "steps_mean": result.steps.double().mean().item(),
                    "steps_max": int(result.steps.max()),
                    "n_f_evals": result.n_f_evals,
                    "n_jacobians": result.n_jacobians,
                    "residual_median": result.rel_residual.median().item(),
                    "residual_worst": result.rel_residual.max().item(),
                    "converged": result.converged.double().mean().item(),
                }
            )
    title = f"forward solve, {o.n_wires} wires, batch {o.batch_size}"
    same_solver = {(f"torchquantum, {name}", f"compiled, {name}") for name in SOLVERS}
    b.time("solve", title, calls, lambda slow, fast: (slow, fast) in same_solver)


def _sweep(b: Benchmark, by: str, problems: list[Problem], largest_reference: int, repetitions: int) -> None:
    """Measure steps of growing problems into the section `points`."""

    def variants(problem: Problem) -> list[Variant]:
        size = problem.n_wires if by == "wires" else problem.n_operations
        reference = [REFERENCE] if size <= largest_reference and REFERENCE.engine in b.engines else []
        return reference + [variant for variant in VARIANTS if variant.engine == "compiled"]

    sweep = Sweep(by, repetitions, b.options.seconds, b.content["points"])
    bar = tqdm(sweep.run(problems, variants), by, len(problems), leave=False, disable=None, **bar_size())
    for size in bar:
        bar.set_postfix_str(size)


def _by_operations(b: Benchmark, repetitions: int) -> None:
    o = b.options
    problems = [b.problem(o.n_wires, n_operations=n) for n in sorted(set(o.operations))]
    _sweep(b, "operations", problems, o.reference_operations, repetitions)


def benchmark_scaling(b: Benchmark) -> None:
    """Seconds and memory of a step against wires and against operations, and the picture of both."""
    o = b.options
    b.content["points"] = []
    problems = [b.problem(n) for n in sorted(set(o.wires))]
    _sweep(b, "wires", problems, o.reference_wires, o.repetitions)
    _by_operations(b, o.repetitions)
    figure = draw_scaling(b.content)
    for suffix in (".png", ".svg"):
        save_figure(figure, o.plot.with_suffix(suffix))


def benchmark_memory(b: Benchmark) -> None:
    """Peak memory of a step against operations."""
    b.content["points"] = []
    try:
        _by_operations(b, repetitions=0)
    finally:
        b.content["flatness"] = flatness(b.content["points"])


COMMANDS = {
    "step": benchmark_step,
    "solve": benchmark_solve,
    "scaling": benchmark_scaling,
    "memory": benchmark_memory,
}


def main(options: argparse.Namespace) -> int:
    """The command: measures, shows, saves. Returns the exit status."""
    interrupted = False
    try:
        benchmark = Benchmark(options)
        try:
            COMMANDS[options.command](benchmark)
            benchmark.content["complete"] = True
        except KeyboardInterrupt:
            interrupted = True
        content = benchmark.content
        print(report.text(content))
        if options.json is not None:
            write_json(options.json, content)
    except (SettingsError, ValueError, OSError) as error:
        fail(error)
    if interrupted:
        return 130
    rows = content.get("equality", []) + content.get("one_f_equality", [])
    return 0 if all(row["equal"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main(COMMAND))
