"""The command line of a run, built from the fields of `Settings`; flags that the released code only accepts."""

import argparse
import os
import sys
from dataclasses import dataclass, fields

from training.settings import BaseSettings, Settings, SettingsError, flag_of

GROUPS = {
    "data": "what is classified",
    "model": "the layer and what is built from it",
    "equilibrium": "how z* = f(z*; x) and its gradient are found",
    "optimisation": "how parameters are trained",
    "run": "where a run is kept and watched",
}
# left over in the released code from the language model it grew out of; they do nothing there either
IDLE_FLAGS = ("--init", "--not_tied", "--pre_lnorm", "--wnorm", "--clip_nonemb")


def boolean(text: str) -> bool:
    """True or False from a command line, where `bool("False")` would be True."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected True or False, got {text!r}")
    return values[text.lower()]


class OneLineParser(argparse.ArgumentParser):
    """Errors in one line, with where to read on."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """A parser whose destinations are the fields of `Settings`; flags that were not given are absent."""
    parser = OneLineParser(
        prog="train_qdeq.py",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a quantum deep equilibrium classifier, or its explicit counterpart of L layers.",
        epilog="""examples:
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
    python train_qdeq.py --restart --restart_dir ../runs/NAME""",
    )
    add_settings(parser, Settings, GROUPS)
    for flag in IDLE_FLAGS:
        parser.add_argument(flag, nargs="?", const=True, help=argparse.SUPPRESS)
    return parser


def add_settings(parser: argparse.ArgumentParser, kind: type[BaseSettings], groups: dict[str, str]) -> None:
    """Give a parser a flag for every field of a settings dataclass, and --cuda.

    Args:
        parser: its flags that are not given stay absent if its argument_default is SUPPRESS.
        kind: the dataclass.
        groups: what each of its fields' groups is about; "run" is one of them.
    """
    groups = {name: parser.add_argument_group(name, about) for name, about in groups.items()}
    for f in fields(kind):
        flag, text = flag_of(f), f.metadata["help"]
        if f.default != "" and f.default is not False:
            text += f" (default: {f.default})"
        options = {"dest": f.name, "help": text}
        if f.type is bool and f.default is False:
            options["action"] = "store_true"
        elif f.type is bool:
            options |= {"type": boolean, "metavar": "{True,False}"}
        else:
            options |= {"type": f.type, "choices": f.metadata["choices"]}
            if not f.metadata["choices"]:
                options["metavar"] = {int: "N", float: "X", str: "TEXT"}[f.type]
        spellings = dict.fromkeys([flag, f"--{f.name}"])
        groups[f.metadata["group"]].add_argument(*spellings, **options)
    groups["run"].add_argument("--cuda", action="store_true", help="use CUDA; falls back to the CPU with a warning")


@dataclass
class CommandLine:
    """What a user asked for: the settings, which of them the flags named, and warnings to show."""

    settings: BaseSettings
    given: dict
    warnings: list[str]


def parse_command_line(
    arguments: list[str] | None = None,
    parser: argparse.ArgumentParser | None = None,
    kind: type[BaseSettings] = Settings,
) -> CommandLine:
    """Read a command line; ends the program with one line on stderr if its settings cannot work.

    Args:
        arguments: None: the program's own.
        parser: one that `add_settings` gave the flags of `kind`; None: train_qdeq.py's.
        kind: the dataclass to fill.
    """
    parser = parser or build_parser()
    given = vars(parser.parse_args(arguments))
    warnings = []
    for flag in IDLE_FLAGS:
        if given.pop(flag[2:], None) is not None:
            warnings.append(f"{flag} does nothing, here as in the released code")
    prefer_cuda = given.pop("cuda", False)
    try:
        if "epochs" in given and given.get("max_step"):
            raise SettingsError("--epochs and --max_step both set the length of the run: give one of them")
        if given.get("restart") and given.get("load"):
            raise SettingsError("--load starts anew and --restart continues: give one of them")
        if prefer_cuda and given.get("device") == "cpu":
            raise SettingsError("--cuda and --device cpu contradict each other")
        settings = kind(**given)
        warnings += settings.validate()
    except SettingsError as error:
        parser.error(str(error))
    if prefer_cuda:
        import torch  # here, so that --help and errors do not wait for it

        settings.device = given["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        if settings.device == "cpu":
            warnings.append("--cuda: there is no CUDA device here, running on the CPU")
    return CommandLine(settings, given, warnings)


def share_cores() -> None:
    """Let (GNU) OpenMP's threads fall asleep soon while they wait for each other; call it before torch is imported.

    By default they spin for long, and where another process needs one of the cores a step of 30 ms then takes a
    second, because the thread that is waited for is not scheduled. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def fail(message: object) -> None:
    """End the program with one line on stderr and exit status 1."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(1)
