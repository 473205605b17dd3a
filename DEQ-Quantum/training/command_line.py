"""The command line of train_qdeq.py: the flags of `Settings`, and those that the released code accepts and ignores."""

import argparse
from dataclasses import dataclass

from runs.command_line import CommandLine, command_line_of, settings_parser
from training.settings import Settings
from utils.command_line import LARGEST_SEED, integer
from utils.launch import world_size

GROUPS = {
    "data": "what is classified",
    "model": "the layer and what is built from it",
    "equilibrium": "how z* = f(z*; x) and its gradient are found",
    "hardware": "noise and shots of a quantum computer, in training, validation and test",
    "optimisation": "how parameters are trained",
    "run": "where a run is kept and watched",
}
# left over in the released code from the language model it grew out of; they do nothing there either
IDLE_FLAGS = ("--init", "--not_tied", "--pre_lnorm", "--wnorm", "--clip_nonemb")
EXAMPLES = """examples:
  a first run, no download, under a minute:
    python train_qdeq.py --dataset digits --num_classes 4 --n_wires 4 --batch_size 64 --epochs 50
  the paper's MNIST-10 equilibrium model, and the same with the fast exact solvers:
    python train_qdeq.py --num_classes 10 --n_wires 10 --jac_loss_weight 0.8 --jac_loss_freq 1
    python train_qdeq.py --num_classes 10 --n_wires 10 --f_solver newton --b_solver exact
  five weight-tied layers; a warm-up of 1875 steps through one layer, then the equilibrium:
    python train_qdeq.py --mode direct --n_layer 5
    python train_qdeq.py --mode implicit --n_layer 1 --pretrain_steps 1875
  baselines: a classical equilibrium model; principal components as angles, one layer; a linear classifier:
    python train_qdeq.py --model classical
    python train_qdeq.py --model alam2021 --mode direct --n_layer 1
    python train_qdeq.py --model linear
  under exact noise, and with equilibria from 1024 shots of every circuit:
    python train_qdeq.py --num_classes 4 --n_wires 4 --noise depolarizing:1e-2
    python train_qdeq.py --num_classes 4 --n_wires 4 --noise depolarizing:1e-2,readout:0.02 --shots 1024
  three seeds side by side, each a run of its own:
    python train_qdeq.py --seeds 0 1 2
  continue a run after Ctrl-C or a crash:
    python train_qdeq.py --restart --restart_dir ../runs/NAME"""


@dataclass
class TrainingCommand(CommandLine):
    """What a user asked for, of one run, or of the first of several.

    Attributes:
        seeds: of --seeds.
        several: what each of them asks for; empty without --seeds.
    """

    seeds: list[int]
    several: list[CommandLine]


def build_parser() -> argparse.ArgumentParser:
    """A parser whose destinations are the fields of `Settings`; flags that were not given are absent."""
    about = "Train a quantum deep equilibrium classifier, or its explicit counterpart of L layers."
    parser = settings_parser("train_qdeq.py", about, EXAMPLES, Settings, GROUPS)
    _add_several(parser)
    for flag in IDLE_FLAGS:
        parser.add_argument(flag, nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def _add_several(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("several runs", "side by side in one process, which differ in their seed alone")
    group.add_argument("--seeds", type=integer(0, LARGEST_SEED), nargs="+", metavar="N",
                       help="a run for each of these, as --seed N would make it, and resume it")  # fmt: skip
    group.add_argument("--names", nargs="+", metavar="TEXT", help="their names, as --name (default: as of --seed N)")


def parse_command_line(arguments: list[str] | None = None) -> TrainingCommand:
    """Read a command line; ends the program with one line on stderr if its settings cannot work."""
    parser = build_parser()
    given = vars(parser.parse_args(arguments))
    seeds, names = given.pop("seeds", []), given.pop("names", [])
    if wrong := _wrong_with_several(seeds, names, given):
        parser.error(wrong)
    own = [{"seed": seed} for seed in seeds] or [{}]
    if names:
        own = [one | {"name": name} for one, name in zip(own, names)]
    commands = [command_line_of(given | one, parser, Settings, IDLE_FLAGS) for one in own]
    first = commands[0]
    return TrainingCommand(first.settings, first.given, first.warnings, seeds, commands if seeds else [])


def _wrong_with_several(seeds: list[int], names: list[str], given: dict) -> str:
    """What is wrong with the flags of several runs, "" where nothing is."""
    if not seeds:
        return "--names are those of --seeds: give --seeds, or --name" if names else ""
    if len(set(seeds)) < len(seeds) or len(set(names)) < len(names):
        return "--seeds and --names name each run once"
    if names and len(names) != len(seeds):
        return f"--names has {len(names)} names for {len(seeds)} --seeds: give one for each"
    for name, remedy in (("seed", "give one of them"), ("name", "use --names"), ("debug", "use --seed"),
                         ("restart_dir", "use --restart, and --work_dir and --names as at the start")):  # fmt: skip
        if name in given:
            return f"--{name} is of one run, --seeds of several: {remedy}"
    if given.get("keep_states"):
        return "--keep_states is of one run, --seeds of several: use --seed, once for each"
    if given.get("shots"):
        return "--shots are drawn for one run, --seeds has several: use --seed, once for each"
    return "--seeds trains in one process: start it without torchrun, or use --seed" if world_size() > 1 else ""
