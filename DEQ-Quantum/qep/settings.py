"""Every setting of a QEP run, and its command line; the QDEQ settings' counterpart. Torch-free: --help is quick."""

import argparse
from dataclasses import dataclass

from data_settings import SIDE, DataSettings
from runs.command_line import CommandLine, parse_settings, settings_parser
from runs.settings import BaseSettings, OptimisationSettings, RunSettings, SettingsError, changed, setting

GROUPS = {
    "task": "what is learnt",
    "system": "the quantum system, and how its ground state is found",
    "gradient": "how the gradient is measured",
    "optimisation": "how parameters are trained",
    "run": "where a run is kept and watched",
}
CLASSIFICATION = ("digits", "mnist")
# system's size, and data where there is no data set: spins or oscillators, training samples
DEFAULT_SIZES = {"xor": (4, 4), "teacher": (6, 64), "digits": (8, 0), "mnist": (8, 0), "oscillators": (6, 128)}
COSTS = {
    "xor": ("squared", "observable"),
    "teacher": ("squared", "observable"),
    "oscillators": ("squared", "observable"),
    "digits": ("cross_entropy", "squared", "observable"),
    "mnist": ("cross_entropy", "squared", "observable"),
}
NUDGED = ("centred", "positive", "negative")
LARGEST, LARGEST_DENSE, LARGEST_HOLOMORPHIC = 16, 12, 8  # spins; the second is ground_states.py's, which imports torch


EXAMPLES = """examples:
  four samples, a few seconds:
    python train_qep.py --task xor --epochs 300 --eval-interval 50
  MNIST-4 on eight spins, with the gradient's cosine to the exact one every 20 steps:
    python train_qep.py --task mnist --n_train 4000 --epochs 5 --compare 20
  the same gradient from 1000 shots of each preparation:
    python train_qep.py --task mnist --n_train 4000 --epochs 5 --shots 1000 --beta 0.3
  linear regression on coupled oscillators:
    python train_qep.py --task oscillators --epochs 200
  continue a run after Ctrl-C or a crash:
    python train_qep.py --restart --restart_dir ../runs/NAME"""


@dataclass
class TaskSettings(DataSettings):
    """What is learnt: read by learning/tasks.py."""

    task: str = setting("mnist", "task", "xor; teacher: the outputs of a random system; digits, mnist: pooled images; "
                        "oscillators: linear regression", tuple(DEFAULT_SIZES))
    num_classes: int = changed(DataSettings, "num_classes", default=4, group="task", help="of digits and mnist: 2 "
                               "(digits 3, 6), 4 (0, 3, 6, 9) or all 10")
    side: int = setting(4, "task", "digits and mnist: images are pooled to side x side features; even, from 4",
                        at_least=4, at_most=SIDE)
    n_train: int = setting(0, "task", "training samples, the first so many; 0: all (teacher: 64, oscillators: 128)",
                           at_least=0, at_most=1_000_000)
    data_dir: str = changed(DataSettings, "data_dir", group="task", help="folder of the cached mnist.npz (default: "
                            "$QDEQ_DATA, else data in the repository)")

    @property
    def n_samples(self) -> int:
        """Number of training samples; 0: all that the data set has."""
        return self.n_train or DEFAULT_SIZES[self.task][1]

    @property
    def n_outputs(self) -> int:
        if self.task in CLASSIFICATION:
            return self.num_classes
        return 2 if self.task == "teacher" else 1

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.side % 2:
            raise SettingsError(f"--side must be an even number from 4 to {SIDE}, got {self.side}")
        if self.task == "xor" and self.n_train:
            raise SettingsError("--n_train: xor has its four samples")
        return warnings


@dataclass
class SystemSettings(BaseSettings):
    """The quantum system, and how its ground state is found: read by learning/tasks.py and the estimators."""

    n_spins: int = setting(0, "system", "spins, or oscillators (0: xor 4, teacher 6, images 8, oscillators 6); the "
                           "last ones are the outputs, one per class", at_least=0, at_most=LARGEST)
    graph: str = setting("all", "system", "couplings: all pairs, layered (hidden with outputs), chain",
                         ("all", "layered", "chain"))
    spread: float = setting(0.0, "system", "standard deviation of initial couplings and biases of spins (0: xor 0.5, "
                            "else 0.1)", at_least=0)
    solver: str = setting("auto", "system", "ground states: dense eigh, krylov (products only, to 16 spins), auto: "
                          "dense to 6 spins", ("auto", "dense", "krylov"))
    tol: float = setting(1e-7, "system", "relative residual at which the Krylov solver stops", positive=True)
    gap_tol: float = setting(1e-2, "system", "smaller gaps count as degenerate", positive=True)
    on_degenerate: str = setting("error", "system", "samples without a single ground state: end the run, or leave "
                                 "them out of the update and count them", ("error", "skip"))


@dataclass
class GradientSettings(BaseSettings):
    """How the gradient is measured: read by learning/loop.py."""

    estimator: str = setting("centred", "gradient", "QEP with nudges beta and -beta (centred), beta and 0 "
                             "(positive), 0 and -beta (negative), or on a complex circle (holomorphic); exact: "
                             "first-order perturbation theory", (*NUDGED, "holomorphic", "exact"))
    beta: float = setting(0.05, "gradient", "strength of the nudge", at_least=1e-9, at_most=1e9)
    cost: str = setting("", "gradient", "cross_entropy and squared: functions of expectation values; observable: "
                        "sum_o (O_o - y_o)^2 itself (default: cross_entropy for images, else squared)",
                        ("", "cross_entropy", "squared", "observable"))
    scale: float = setting(4.0, "gradient", "cross_entropy: logits are scale * <Z_o>", positive=True)
    shots: int = setting(0, "gradient", "shots per preparation; 0: exact expectation values", at_least=0,
                         at_most=10_000_000)
    shots_x: int = setting(0, "gradient", "shots of preparations that are not measured in Z alone; 0: as --shots",
                           at_least=0, at_most=10_000_000)
    averages: int = setting(1, "gradient", "independent measurements that are averaged", at_least=1)
    compare: int = setting(0, "gradient", "steps between comparisons with the exact gradient (their cosine); 0: none",
                           at_least=0)

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.shots and self.estimator not in NUDGED:
            raise SettingsError(f"--estimator {self.estimator} is computed, not measured: leave --shots at 0")
        if 1 in (self.shots, self.shots_x):
            raise SettingsError("--shots and --shots_x must be 0 or at least 2: one shot has no spread")
        if not self.shots:
            given = [name for name, idle in (("shots_x", 0), ("averages", 1)) if getattr(self, name) != idle]
            warnings += [f"--{name} has no effect without --shots" for name in given]
        return warnings


@dataclass
class QEPOptimisationSettings(OptimisationSettings):
    """How parameters are trained, with the defaults of small systems."""

    optim: str = changed(OptimisationSettings, "optim", choices=("Adam", "SGD"))
    lr: float = changed(OptimisationSettings, "lr", default=0.02)
    scheduler: str = changed(OptimisationSettings, "scheduler", choices=("constant", "cosine"))
    batch_size: int = changed(OptimisationSettings, "batch_size", default=64)
    epochs: int = changed(OptimisationSettings, "epochs", default=10)
    seed: int = changed(OptimisationSettings, "seed", help="of parameters, data, batches and shots")


@dataclass
class QEPSettings(RunSettings, QEPOptimisationSettings, GradientSettings, SystemSettings, TaskSettings):
    """Settings of one run of train_qep.py. Fields are the flags; `help` says what each does."""

    name: str = changed(RunSettings, "name", help="name of the run (default: made from task, estimator and seed)")

    @property
    def run_name(self) -> str:
        """--name, or one made from what was chosen."""
        return self.name or f"qep_{self.task}_{self.estimator}_seed{self.seed}"

    @property
    def tags(self) -> list[str]:
        """What Weights & Biases files the run under."""
        return ["qep", self.task]

    @property
    def size(self) -> int:
        """Number of spins or oscillators."""
        return self.n_spins or DEFAULT_SIZES[self.task][0]

    @property
    def cost_kind(self) -> str:
        return self.cost or COSTS[self.task][0]

    @property
    def initial_spread(self) -> float:
        return self.spread or (0.5 if self.task == "xor" else 0.1)

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.cost_kind not in COSTS[self.task]:
            raise SettingsError(f"--cost {self.cost} is for images; --task {self.task} takes {COSTS[self.task]}")
        smallest = self.n_outputs + (0 if self.task in CLASSIFICATION else 1)
        if not smallest <= self.size <= LARGEST:
            raise SettingsError(f"--n_spins must lie from {smallest} to {LARGEST} for this task, got {self.size}")
        spins = self.task != "oscillators"
        if spins and self.solver == "dense" and self.size > LARGEST_DENSE:
            raise SettingsError(f"--solver dense ends at {LARGEST_DENSE} spins; use krylov")
        if spins and self.estimator == "holomorphic" and self.size > LARGEST_HOLOMORPHIC:
            raise SettingsError(f"--estimator holomorphic ends at {LARGEST_HOLOMORPHIC} spins; use centred")
        return warnings


def build_parser() -> argparse.ArgumentParser:
    """A parser whose destinations are the fields of `QEPSettings`; flags that were not given are absent."""
    about = "Train a quantum system at its ground state by quantum equilibrium propagation."
    return settings_parser("train_qep.py", about, EXAMPLES, QEPSettings, GROUPS)


def parse_command_line(arguments: list[str] | None = None) -> CommandLine:
    """Read a command line; ends the program with one line on stderr if its settings cannot work."""
    return parse_settings(arguments, build_parser(), QEPSettings)
