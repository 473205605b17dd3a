"""The command line of `hardware.py`. Torch-free, so that --help and a wrong flag do not wait for it."""

import argparse
from dataclasses import fields

from hardware.cost import DELAY_US, MOST_CIRCUITS
from runs.command_line import add_flag, read_options
from training.equilibrium_settings import OF_SOLVER
from training.settings import Settings
from utils.command_line import LARGEST, LARGEST_SEED, OneLineParser, integer, number, path, shown

FORMATS = ("qasm3", "qiskit", "json")
MITIGATIONS = ("readout", "zne", "rescale", "head")
SAME = "same"  # as --noise
WITH_VALUES_OF_THEIR_OWN = ("noise", "encoding_noise", "shots")  # called as settings of a run
# what a cost depends on
OF_COST = ("model", "n_wires", "amplitude_encoder", "mode", "n_layer", "trainable_gates", "ansatz", "n_random_operations",
           "n_blocks", "readout", "f_thres", "b_solver", "jac_loss_weight", "jac_loss_freq", "pretrain_steps", "batch_size",
           "epochs", "max_step")  # fmt: skip
NOISE_HELP = """noise, joined by commas:
  depolarizing:TWO[,ONE]     rho -> (1 - p) rho + p I/d after gates on two wires and on one (default: a tenth)
  damping:T1,T2[,ONE,TWO]    amplitude and phase damping: us, us, gate times in ns (default: 36,350)
  readout:P10[,P01]          chance of reading 1 for 0, and 0 for 1 (default: the same)
  coherent:SIGMA[,SEED]      over-rotations, one angle a wire and a pair of wires, in radians
  device:NAME | FILE.json    a machine's calibrated medians; `hardware.py devices` lists them
  idle                       damping also while a wire waits
  x0.3                       all of it 0.3 times as strong
  none
Gates are those of the circuit in native gates: RZ (without error), SX, X and one gate on two wires."""
EXAMPLES = """examples:
  a trained model under noise, its equilibrium beside that without:
    python hardware.py evaluate --run ../runs/NAME --noise depolarizing:1e-3 depolarizing:1e-2 device:manila
  the same by counting:
    python hardware.py evaluate --run ../runs/NAME --noise none device:manila --shots 1024
  what mitigation brings back, one way after another:
    python hardware.py evaluate --run ../runs/NAME --noise device:quito --mitigate readout readout+rescale readout+rescale+head
  many runs at once, with means over seeds and a picture:
    python hardware.py sweep --runs ../runs/paper/table1/amplitude_*/seed-? --noise none depolarizing:1e-3 depolarizing:1e-2 --json sweep.json
  its equilibrium to round-off, where the prediction of first order can be seen:
    python hardware.py evaluate --run ../runs/NAME --noise depolarizing:1e-4 --f_solver newton --f_thres 50 --f_tol 1e-6
  its 136 or 5050 numbers measured once, by 256 or 10,000 circuits, and then no quantum computer:
    python hardware.py surrogate --run ../runs/NAME --noise device:manila --shots 4096
  what it takes on a quantum computer, of a run or of a model that there is not yet:
    python hardware.py cost --run ../runs/NAME
    python hardware.py cost --n_wires 10 --shots 1024
    python hardware.py cost --n_wires 4 --shots 20000 --device manila
  its circuit for other programs, in OpenQASM 3:
    python hardware.py export --run ../runs/NAME
  its equilibria from counts, on a machine that Aer simulates, and what the circuit costs there:
    python hardware.py run --run ../runs/NAME --device manila --shots 4096 --images 100
    python hardware.py transpile --run ../runs/NAME --device manila sherbrooke --seeds 5
  what machines are known, and one made anew from the installed snapshots:
    python hardware.py devices
    python hardware.py devices --make manila

Exit status: 0 done; 1 an error; 2 a wrong flag; 130 interrupted."""


def noise(text: str):
    """A `hardware.noise.Noise` from --noise."""
    from hardware.noise import NoiseError, parse_noise  # here: --help does not wait for numpy

    try:
        return parse_noise(text)
    except NoiseError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def encoding_noise(text: str):
    """What --encoding_noise names: `SAME`, or a `hardware.noise.Noise`; None for "none"."""
    return None if text == "none" else SAME if text == SAME else noise(text)


def mitigation(text: str) -> tuple[str, ...]:
    """Ways of --mitigate that go together, in the order of `MITIGATIONS`."""
    ways = text.split("+")
    if unknown := [way for way in ways if way not in MITIGATIONS]:
        raise argparse.ArgumentTypeError(f"{shown(unknown[0])} is not known; known, joined by +: {', '.join(MITIGATIONS)}")
    return tuple(way for way in MITIGATIONS if way in ways)


def build_parser() -> argparse.ArgumentParser:
    """One sub-command for each thing to do; its name is in `command`."""
    parser = OneLineParser(
        prog="hardware.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Trained models on the terms of quantum hardware.",
        epilog=EXAMPLES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_evaluate(commands)
    _add_sweep(commands)
    _add_surrogate(commands)
    _add_cost(commands)
    _add_export(commands)
    _add_run(commands)
    _add_transpile(commands)
    _add_devices(commands)
    return parser


def of_run() -> argparse.ArgumentParser:
    """Flags of commands that read a trained run."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--run", type=path, required=True, metavar="DIR", help="run folder of train_qdeq.py")
    parent.add_argument("--checkpoint", choices=("best", "last"), default="best", help="parameters (default: best)")
    return parent


def _add_evaluate(commands) -> None:
    about = "accuracy, residual and shift of the equilibrium under exact noise, beside the model without"
    command = commands.add_parser(
        "evaluate", help=about, description=about.capitalize() + ".", epilog=NOISE_HELP, parents=[of_run()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    _add_conditions(command)
    command.add_argument("--json", type=path, metavar="FILE",
                         help="(default: hardware_evaluation.json in the run folder)")  # fmt: skip


def _add_sweep(commands) -> None:
    about = "many trained runs under the same noises: means and spreads of runs that differ in their seed alone, a picture"
    command = commands.add_parser(
        "sweep", help=about, description=about.capitalize() + ".", epilog=NOISE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("--runs", type=path, nargs="+", required=True, metavar="DIR", help="folders of train_qdeq.py")
    command.add_argument("--checkpoint", choices=("best", "last"), default="best", help="parameters (default: best)")
    _add_conditions(command)
    command.add_argument(
        "--json", type=path, required=True, metavar="FILE",
        help="all that is measured, and a picture beside it; runs that it holds are not measured again unless they were "
        "trained again",
    )  # fmt: skip


def _add_conditions(command: argparse.ArgumentParser) -> None:
    """Flags of commands that put trained models under noise."""
    command.add_argument("--noise", type=noise, nargs="+", required=True, metavar="TEXT",
                         help="of the ansatz, one or more")  # fmt: skip
    command.add_argument("--encoding_noise", type=encoding_noise, metavar="TEXT",
                         help="of the encoding's gates, in each, or same: as --noise (default: none); slow for "
                         "amplitudes")  # fmt: skip
    command.add_argument("--shots", type=integer(1), metavar="N",
                         help="of every circuit, besides exact expectation values (default: these alone)")  # fmt: skip
    command.add_argument(
        "--mitigate", type=mitigation, nargs="+", default=[], metavar="WAY+WAY",
        help="also with exact expectation values and: readout, inverted bits; zne, extrapolated to no noise from the "
        "ansatz once and three times; rescale, every readout on a line fitted to 20 training images, inside f; head, "
        "trained again on 2,000 noisy states",
    )  # fmt: skip
    _add_draws_and_images(command)


def _add_draws_and_images(command: argparse.ArgumentParser) -> None:
    """Flags of commands that classify images by counting."""
    command.add_argument("--repeat", type=integer(1), default=3, metavar="N", help="draws of the shots (default: 3)")
    command.add_argument("--seed", type=integer(0, LARGEST_SEED - LARGEST), default=0, metavar="N",
                         help="of the first draw (default: 0)")  # fmt: skip
    command.add_argument("--split", choices=("test", "val", "train"), default="test", help="images (default: test)")
    command.add_argument("--max_images", type=integer(1), metavar="N", help="only the first so many (default: all)")
    for f in fields(Settings):
        if f.name in (*OF_SOLVER, "data_dir", "device"):
            add_flag(command, f)
    command.set_defaults(device="auto")


def _add_surrogate(commands) -> None:
    about = "the circuit's observables measured once, then every image classified without it"
    command = commands.add_parser(
        "surrogate", help=about, description=about.capitalize() + ".", epilog=NOISE_HELP, parents=[of_run()],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("--noise", type=noise, default="none", metavar="TEXT", help="of the ansatz (default: none)")
    command.add_argument("--shots", type=integer(1), default=4096, metavar="N", help="of every circuit (default: 4096)")
    _add_draws_and_images(command)
    command.add_argument("--json", type=path, metavar="FILE",
                         help="(default: hardware_surrogate.json in the run folder)")  # fmt: skip


def _add_cost(commands) -> None:
    about = "circuits, shots, rounds, jobs and hours of a model, of a run or of flags, without running it"
    command = commands.add_parser("cost", help=about, description=about.capitalize() + ".")
    command.add_argument("--run", type=path, metavar="DIR", help="run folder of train_qdeq.py (default: as flags say)")
    command.add_argument("--shots", type=integer(1), metavar="N", help="of every circuit (default: the run's, or 1024)")
    command.add_argument("--device", dest="machine", metavar="NAME",
                         help="or FILE.json: whose circuits and shots of a job, and time between two shots, these are "
                         "(default: no machine's)")  # fmt: skip
    command.add_argument("--delay_us", type=number(0, above=True), metavar="X",
                         help=f"between two shots (default: the --device's, or {DELAY_US:g})")  # fmt: skip
    command.add_argument("--max_circuits", type=integer(1), metavar="N",
                         help=f"of a job (default: the --device's, or {MOST_CIRCUITS}, as of newer machines)")  # fmt: skip
    command.add_argument("--images", type=integer(1), default=10_000, metavar="N",
                         help="that are classified (default: 10000)")  # fmt: skip
    command.add_argument("--train_images", type=integer(1), default=48_000, metavar="N",
                         help="of an epoch, where --max_step does not say how long training is (default: 48000)")  # fmt: skip
    for f in fields(Settings):
        if f.name in OF_COST:
            add_flag(command, f)
    command.add_argument("--json", type=path, metavar="FILE", help="what the tables hold (default: nowhere)")


def _add_export(commands) -> None:
    about = "a trained circuit with its numbers, free angles for the encoding, and the head, as files"
    command = commands.add_parser("export", help=about, description=about.capitalize() + ".", parents=[of_run()])
    command.add_argument("--format", choices=FORMATS, default="qasm3",
                         help="circuit.qasm (OpenQASM 3), circuit.qpy (Qiskit's own), or neither beside "
                         "model.json, which has all (default: qasm3)")  # fmt: skip
    command.add_argument("--out", type=path, metavar="DIR", help="(default: export in the run folder)")


def _add_run(commands) -> None:
    about = "equilibria from counts alone, on a machine that Qiskit Aer simulates with the noise of its snapshot"
    command = commands.add_parser("run", help=about, description=about.capitalize() + ".", parents=[of_run()])
    command.add_argument(
        "--device", dest="machine", default="manila", metavar="NAME", help="with a snapshot (default: manila)"
    )
    command.add_argument("--shots", type=integer(1), default=4096, metavar="N", help="of every circuit (default: 4096)")
    command.add_argument("--images", type=integer(1), default=100, metavar="N", help="the first so many (default: 100)")
    command.add_argument("--optimization_level", type=int, choices=range(4), default=3, help="(default: 3)")
    command.add_argument("--seed", type=integer(0), default=0, metavar="N", help="of compiler and shots (default: 0)")
    command.add_argument("--split", choices=("test", "val", "train"), default="test", help="images (default: test)")
    for f in fields(Settings):
        if f.name in (*OF_SOLVER, "data_dir"):
            add_flag(command, f)
    command.add_argument("--json", type=path, metavar="FILE",
                         help="(default: hardware_run_DEVICE.json in the run folder)")  # fmt: skip


def _add_transpile(commands) -> None:
    about = "two-qubit gates, depth, duration and estimated success on machines, encoding and ansatz apart"
    command = commands.add_parser("transpile", help=about, description=about.capitalize() + ".", parents=[of_run()])
    command.add_argument("--device", dest="machines", nargs="+", default=["manila"], metavar="NAME",
                         help="with snapshots (default: manila)")  # fmt: skip
    command.add_argument("--optimization_level", type=int, nargs="+", choices=range(4), default=[0, 1, 2, 3],
                         metavar="N", help="(default: 0 1 2 3)")  # fmt: skip
    command.add_argument("--seeds", type=integer(1), default=20, metavar="N", help="of the compiler (default: 20)")
    command.add_argument("--json", type=path, metavar="FILE",
                         help="(default: hardware_transpile.json in the run folder)")  # fmt: skip


def _add_devices(commands) -> None:
    about = "the machines that --noise device:NAME knows"
    command = commands.add_parser("devices", help=about, description=about.capitalize() + ".")
    command.add_argument("--make", nargs="+", default=[], metavar="NAME",
                         help="write the files of these anew, from the snapshots in qiskit-ibm-runtime")  # fmt: skip
    command.add_argument("--package", type=path, metavar="DIR",
                         help="where another release was put by pip install --no-deps --target DIR")  # fmt: skip


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read a command line; ends the program with one line on stderr if it is wrong."""
    parser = build_parser()
    options = read_options(parser, Settings, arguments, own=WITH_VALUES_OF_THEIR_OWN)
    if options.command == "devices" and options.package and not options.make:
        parser.error(f"--package {shown(options.package)} is where --make reads: name the machines to make")
    if wrong := _not_writable(options):
        parser.error(wrong)
    return options


def _not_writable(options: argparse.Namespace) -> str:
    """Why a command could not write its results, before anything is computed; "" where it can."""
    file, out = getattr(options, "json", None), getattr(options, "out", None)
    if out is not None and out.exists() and not out.is_dir():
        return f"--out {out} is a file: name a folder"
    if file is None:
        return ""
    if file.is_dir():
        return f"--json {file} is a folder: name a file in it"
    if not file.parent.is_dir():
        return f"--json {file} lies in no folder: make {file.parent} first, or name another file"
    if options.command == "sweep" and file.suffix.lower() == ".png":
        return f"--json {file} would be overwritten by the picture beside it: name it {file.stem}.json"
    return ""
