"""The command line of `benchmark.py`. Torch-free, so that --help and a wrong flag do not wait for it."""

import argparse

from circuits.encodings import ENCODINGS
from utils.command_line import LARGEST_SEED, OneLineParser, integer, number, path
from utils.files import REPOSITORY

EXAMPLES = """examples:
  the ratio that results/benchmark/README.md states, with what it was measured on:
    python benchmark.py step --json step.json
  the same for 4 wires and a batch of 64, in seconds:
    python benchmark.py step --n_wires 4 --batch_size 64 --repetitions 3
  every solver on both engines, to a residual of 1e-5:
    python benchmark.py solve --max_steps 30 --tol 1e-5
  time and memory against the size of the circuit, with a picture:
    python benchmark.py scaling --wires 4 6 8 10 12 --seconds 60
  memory against the number of gates:
    python benchmark.py memory --json memory.json
  deq beside torchdeq, jaxopt, optimistix (requirements-peers.txt):
    python benchmark.py peers --json peers.json
  throughput against processes:
    python benchmark.py ranks --ranks 2 --wires 4 10 14
  three seeds side by side, as train_qdeq.py --seeds trains them:
    python benchmark.py seeds --seeds 3 --wires 4 10 --models amplitude classical

All contestants run in one process and take turns, round by round, so that whatever else the machine does hits all
of them; medians over the rounds are compared. Ctrl-C ends a benchmark early: what was measured is shown and saved.
Exit status: 0 done; 1 a wrong result or an error; 2 a wrong flag; 130 interrupted."""


WIRES = integer(4, 28, even=True)
COUNT = integer(1)
OPERATIONS = integer(0, 1_000_000)


def _common(repetitions: int) -> argparse.ArgumentParser:
    """Flags of every benchmark."""
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--batch_size", type=COUNT, default=256, metavar="N", help="samples a step (default: 256)")
    add(
        "--repetitions", type=COUNT, default=repetitions, metavar="N", help=f"rounds (default: {repetitions})"
    )
    add("--seed", type=integer(0, LARGEST_SEED), default=1111, metavar="N",
        help="of parameters, features and random vectors (default: 1111)")  # fmt: skip
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA where there is one")
    add("--threads", type=integer(1, 4096), metavar="N", help="CPU threads of torch (default: torch's own choice)")
    add("--json", type=path, metavar="FILE", help="also write everything measured, every time included")
    return common


def _add_n_wires(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n_wires", type=WIRES, default=10, metavar="N", help="qubits, even (default: 10)")


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    """Flags of the benchmarks that go through circuits of growing size."""
    add = parser.add_argument
    add("--operations", type=OPERATIONS, nargs="+", default=[50, 100, 200, 400, 800], metavar="N",
        help="random operations of the circuit (default: 50 100 200 400 800)")  # fmt: skip
    add("--reference_operations", type=OPERATIONS, default=200, metavar="N",
        help="TorchQuantum's step too, up to so many operations (default: 200)")  # fmt: skip
    add("--seconds", type=number(0, above=True), default=120.0, metavar="X",
        help="leave out a point that would take longer, and say so (default: 120)")  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The parser; the benchmark's name is in `command`."""
    parser = OneLineParser(
        prog="benchmark.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="How fast, how large, and whether equal: the compiled engine against TorchQuantum.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{step,solve,scaling,memory,peers,ranks,seeds}")

    def command(name: str, about: str, description: str, repetitions: int) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=about, description=description, parents=[_common(repetitions)])

    step = command(
        "step",
        "one training step, both engines, both solver settings; are the results equal",
        "Time a full training step (forward, residual, Jacobian loss, backward, clip, Adam) and one call of f, the "
        "latter also by PennyLane where it is installed (requirements-benchmark.txt). Loss, gradient and equilibrium "
        "of the engines are compared; beyond the tolerance in the table the exit status is 1.",
        10,
    )
    _add_n_wires(step)
    step.add_argument("--encoding", choices=tuple(ENCODINGS), default="amplitude",
                      help="how features enter: n_wires^2 amplitudes or angles, or n_wires components (default: amplitude)")  # fmt: skip
    solve = command(
        "solve",
        "the forward solve alone: broyden, anderson, fixed_point, newton",
        "Time the search for the equilibrium, without gradient, once f is bound to the batch; binding is a row of "
        "its own.",
        10,
    )
    _add_n_wires(solve)
    solve.add_argument("--max_steps", type=integer(1, 100_000), default=10, metavar="N", help="solver steps (default: 10)")
    solve.add_argument(
        "--tol",
        type=number(0, above=True),
        default=1e-3,
        metavar="X",
        help="relative residual that stops (default: 1e-3)",
    )
    scaling = command(
        "scaling",
        "seconds and memory of a step against wires and operations, with a picture",
        "Time a training step, and measure its peak memory, for growing circuits: first the wires at 50 random "
        "operations, with all columns and with light cones beside what the engine chooses, then the operations at "
        "--n_wires wires.",
        5,
    )
    _add_n_wires(scaling)
    scaling.add_argument("--wires", type=WIRES, nargs="+", default=[4, 6, 8, 10, 12, 14, 16, 18, 20], metavar="N",
                         help="qubits, even (default: 4 6 ... 20)")  # fmt: skip
    scaling.add_argument("--reference_wires", type=integer(0, 28), default=10, metavar="N",
                         help="TorchQuantum's step too, up to so many wires (default: 10)")  # fmt: skip
    scaling.add_argument("--plot", type=path, default=REPOSITORY / "images" / "scaling.png", metavar="FILE",
                         help="the picture; .png and .svg are both written (default: images/scaling.png)")  # fmt: skip
    _add_sizes(scaling)
    memory = command(
        "memory",
        "peak memory of a step against operations",
        "Measure the peak memory of a training step: tensors held at once beyond those there before (not the "
        "process's memory).",
        1,
    )
    _add_n_wires(memory)
    _add_sizes(memory)
    peers = command(
        "peers",
        "deq beside torchdeq, jaxopt, optimistix, and the quantum model's training step beside JAX",
        "Time a forward and a backward pass through equilibria by deq, torchdeq, jaxopt and optimistix "
        "(requirements-peers.txt), at one tolerance and at one accuracy of the gradient, on layers that have nothing to do with "
        "circuits; train a sequence model; and time the quantum model's training step beside a plain JAX program's.",
        5,
    )
    peers.set_defaults(batch_size=32, threads=1)
    ranks = command(
        "ranks",
        "a training step by one process and by several",
        "Time a training step by one process, and by several that share out its batch, or the circuit's columns too, as "
        "torchrun starts them (train_qdeq.py --shard).",
        5,
    )
    ranks.add_argument("--ranks", type=integer(2, 64), default=2, metavar="N", help="processes (default: 2)")
    ranks.add_argument("--wires", type=WIRES, nargs="+", default=[4, 10, 14], metavar="N",
                       help="qubits, even (default: 4 10 14)")  # fmt: skip
    seeds = command(
        "seeds",
        "a training step of one run, of several in turn, and of several side by side",
        "Time the training step of runs that differ in their seed alone: one, several in turn, and several side by side "
        "(train_qdeq.py --seeds). Their gradients are compared; beyond the tolerance the exit status is 1.",
        5,
    )
    seeds.add_argument("--seeds", type=integer(2, 64), default=3, metavar="N", help="runs (default: 3)")
    seeds.add_argument("--wires", type=WIRES, nargs="+", default=[4, 10], metavar="N", help="qubits, even (default: 4 10)")
    seeds.add_argument("--models", choices=("amplitude", "angle", "classical"), nargs="+", default=["amplitude"],
                       help="the quantum model by its encoding, or the classical one (default: amplitude)")  # fmt: skip
    return parser


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it cannot work."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    # before anything is measured, not after
    for flag in ("json", "plot"):
        file = getattr(options, flag, None)
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            parser.error(f"--{flag}: cannot write the file {file}")
    if options.command == "scaling" and options.plot.suffix not in (".png", ".svg"):
        parser.error(f"--plot: expected a .png or .svg file, got {options.plot.name!r}")
    return options
