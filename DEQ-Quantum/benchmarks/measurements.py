"""The benchmarks of `benchmark.py`: each measures into a `Record`, whole or until it is interrupted."""

from collections.abc import Callable

from tqdm import tqdm

from benchmarks import equality, one_f
from benchmarks.peers import measure_peers
from benchmarks.pictures import draw_scaling
from benchmarks.ranks import measure_ranks
from benchmarks.record import Record
from benchmarks.scaling import Sweep, flatness
from benchmarks.seeds import measure_seeds
from benchmarks.step import VARIANTS, Problem, Step, Variant
from deq import SolverSettings, solve
from figures import save_figure
from runs.log import bar_size

# TorchQuantum's curve where circuits grow
REFERENCE = Variant("torchquantum", "broyden")
# both ways to the observables, beside what the engine chooses, where wires grow
WAYS = tuple(Variant("compiled", "newton+exact", way=way) for way in ("columns", "cones"))
SOLVERS = ("broyden", "anderson", "fixed_point", "newton")


def measure_step(record: Record) -> None:
    """One training step by every variant, and one call of f by every simulator; are they equal."""
    o = record.options
    problem = record.problem(o.n_wires, encoding=o.encoding)
    variants = [variant for variant in VARIANTS if variant.engine in record.engines]
    record.content["equality"] = equality.compare_steps(variants, problem)

    pennylane_layer = None
    try:
        from benchmarks.pennylane_layer import VERSION, PennyLaneLayer

        pennylane_layer, record.content["pennylane"] = PennyLaneLayer, VERSION
    except ImportError as error:
        record.content["notes"].append(f"no comparison with PennyLane: {error} (see requirements-benchmark.txt)")
    found = one_f.simulators(record.engines, problem, pennylane_layer)
    record.content["one_f_equality"] = one_f.compare(found)

    size = f"{o.n_wires} wires, {o.encoding}, batch {o.batch_size}"
    steps = {variant.label: Step(variant, problem) for variant in variants}
    pairs = {
        (slow.label, fast.label)
        for slow in variants
        for fast in variants
        if (slow.engine, fast.engine) == ("torchquantum", "compiled")
    }
    record.time("step", f"a training step, {size}", steps, pairs)
    record.time("one_f", f"one call of f, {size}", one_f.calls(found, problem), one_f.pairs(found))


def measure_solve(record: Record) -> None:
    """The forward solve by every solver on both engines, in the space of the readouts."""
    o = record.options
    problem = record.problem(o.n_wires)
    x, _ = problem.batch
    r0 = x.new_zeros(o.batch_size, o.n_wires)
    calls: dict[str, Callable[[], object]] = {}
    record.content["solves"] = []
    for engine in record.engines:
        layer = problem.layer(engine)
        calls[f"{engine}, bind"] = lambda layer=layer: layer.bind(x).reduced()
        h = layer.bind(x).reduced()
        for name in SOLVERS:
            settings = SolverSettings(name, o.max_steps, o.tol)
            calls[f"{engine}, {name}"] = lambda h=h, settings=settings: solve(h, r0, settings)
            result = solve(h, r0, settings)
            record.content["solves"].append(
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
    record.time("solve", title, calls, {(f"torchquantum, {name}", f"compiled, {name}") for name in SOLVERS})


def _sweep(record: Record, by: str, problems: list[Problem], largest_reference: int, repetitions: int) -> None:
    """Measure steps of growing problems into the section `points`."""

    def variants(problem: Problem) -> list[Variant]:
        size = problem.n_wires if by == "wires" else problem.n_operations
        reference = [REFERENCE] if size <= largest_reference and REFERENCE.engine in record.engines else []
        ways = WAYS if by == "wires" else ()
        return [*reference, *(variant for variant in VARIANTS if variant.engine == "compiled"), *ways]

    sweep = Sweep(by, repetitions, record.options.seconds, record.content["points"])
    bar = tqdm(sweep.run(problems, variants), by, len(problems), leave=False, disable=None, **bar_size())
    for size in bar:
        bar.set_postfix_str(size)


def _by_operations(record: Record, repetitions: int) -> None:
    o = record.options
    problems = [record.problem(o.n_wires, n_operations=n) for n in sorted(set(o.operations))]
    _sweep(record, "operations", problems, o.reference_operations, repetitions)


def measure_scaling(record: Record) -> None:
    """Seconds and memory of a step against wires and against operations, and the picture of both."""
    o = record.options
    record.content["points"] = []
    problems = [record.problem(n) for n in sorted(set(o.wires))]
    _sweep(record, "wires", problems, o.reference_wires, o.repetitions)
    _by_operations(record, o.repetitions)
    figure = draw_scaling(record.content)
    for suffix in (".png", ".svg"):
        save_figure(figure, o.plot.with_suffix(suffix))


def measure_memory(record: Record) -> None:
    """Peak memory of a step against operations."""
    record.content["points"] = []
    try:
        _by_operations(record, repetitions=0)
    finally:
        record.content["flatness"] = flatness(record.content["points"])


MEASUREMENTS = {
    "step": measure_step,
    "solve": measure_solve,
    "scaling": measure_scaling,
    "memory": measure_memory,
    "peers": measure_peers,
    "ranks": measure_ranks,
    "seeds": measure_seeds,
}
