"""The command line of train_qdeq.py: the flags of `Settings`, and those that the released code accepts and ignores."""

import argparse

from runs.command_line import CommandLine, parse_settings, settings_parser
from training.settings import Settings

GROUPS = {
    "data": "what is classified",
    "model": "the layer and what is built from it",
    "equilibrium": "how z* = f(z*; x) and its gradient are found",
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
  continue a run after Ctrl-C or a crash:
    python train_qdeq.py --restart --restart_dir ../runs/NAME"""


def build_parser() -> argparse.ArgumentParser:
    """A parser whose destinations are the fields of `Settings`; flags that were not given are absent."""
    about = "Train a quantum deep equilibrium classifier, or its explicit counterpart of L layers."
    parser = settings_parser("train_qdeq.py", about, EXAMPLES, Settings, GROUPS)
    for flag in IDLE_FLAGS:
        parser.add_argument(flag, nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def parse_command_line(arguments: list[str] | None = None) -> CommandLine:
    """Read a command line; ends the program with one line on stderr if its settings cannot work."""
    return parse_settings(arguments, build_parser(), Settings, IDLE_FLAGS)
