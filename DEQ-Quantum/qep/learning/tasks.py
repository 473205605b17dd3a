"""What a system can be asked to learn: its data, its cost, the system itself, and when outputs count as right.

XOR and a random teacher on small Ising models; digits and MNIST with pooled features as fields on all spins, one
output spin per class; linear regression on a network of oscillators, whose best solution has a closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dataset import Split, load_features
from qep.costs import Cost, CrossEntropy, SquaredError, SquaredPositions, SquaredSpins
from qep.ground_states import Diagonalisation
from qep.hamiltonians import TransverseFieldIsing, couplings
from qep.oscillators import OscillatorNetwork
from qep.settings import QEPSettings
from qep.system import QuantumSystem
from utils.seeds import generator

XOR_TARGET = 0.8
TEACHER_SPREAD = 0.5
TEACHER_INPUTS, REGRESSION_INPUTS = 4, 3
N_HELD_OUT = 256  # validation and test samples of the teacher and the regression, each
NOISE = 0.1  # of the regression's targets


@dataclass(frozen=True)
class Samples:
    """Inputs (N, n_inputs), float64, and the cost's targets (N, ...)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Task:
    """What is learnt, and by which system.

    Attributes:
        system: with its initial parameters.
        cost: of its outputs.
        train, val, test: samples.
        correct: whether outputs (B, n_outputs) are right for targets, (B,); None where there is no right or wrong.
        classes: names of the classes; empty where there are none.
    """

    system: QuantumSystem
    cost: Cost
    train: Samples
    val: Samples
    test: Samples
    correct: Callable[[Tensor, Tensor], Tensor] | None = None
    classes: tuple[int, ...] = ()


def build_task(s: QEPSettings, device: torch.device | str = "cpu") -> Task:
    """The task of a run.

    Raises:
        DataError: images that cannot be had.
    """
    build = {"xor": _xor, "teacher": _teacher, "oscillators": _regression}
    return build.get(s.task, _images)(s, device)


def size_warnings(s: QEPSettings, task: Task) -> list[str]:
    """Settings that ask for more samples than there are, which takes all of them: one line each, with both numbers."""
    found = len(task.train)
    return [f"--n_train {s.n_train} is more than the {found} training samples: all are used"] if s.n_train > found else []


def _ising(
    s: QEPSettings, device: torch.device | str, n_inputs: int, driven: range, stream: str, spread: float
) -> TransverseFieldIsing:
    return TransverseFieldIsing(
        n_spins=s.size,
        edges=couplings(s.graph, s.size, s.n_outputs),
        n_inputs=n_inputs,
        input_spins=driven,
        output_spins=range(s.size - s.n_outputs, s.size),
        diagonalisation=Diagonalisation(s.solver, s.tol, s.gap_tol),
        device=device,
        generator=generator(s.seed, stream, 0),
        spread=spread,
    )


def _sign_matches(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.sign() == targets.sign()).all(-1)


def _xor(s: QEPSettings, device: torch.device | str) -> Task:
    """Inputs of 1 and -1 drive the hidden spins; the output should be -0.8 x1 x2: 1 itself needs the gap to close."""
    inputs = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64, device=device)
    samples = Samples(inputs, -XOR_TARGET * inputs.prod(-1, keepdim=True))
    system = _ising(s, device, 2, range(s.size - 1), "parameters", s.initial_spread)
    cost = SquaredSpins() if s.cost_kind == "observable" else SquaredError()
    return Task(system, cost, samples, samples, samples, _sign_matches)


def _teacher(s: QEPSettings, device: torch.device | str) -> Task:
    """Targets are the outputs of a system of the same form with random parameters."""
    every_spin = range(s.size)
    teacher = _ising(s, device, TEACHER_INPUTS, every_spin, "teacher", TEACHER_SPREAD)
    system = _ising(s, device, TEACHER_INPUTS, every_spin, "parameters", s.initial_spread)
    splits = []
    for split, n in enumerate((s.n_samples, N_HELD_OUT, N_HELD_OUT)):
        stream = generator(s.seed, "teacher inputs", split)
        inputs = torch.randn(n, TEACHER_INPUTS, dtype=torch.float64, generator=stream).to(device)
        splits.append(Samples(inputs, teacher.outputs(teacher.equilibrium(inputs).expectations)))
    return Task(system, SquaredSpins() if s.cost_kind == "observable" else SquaredError(), *splits)


def _images(s: QEPSettings, device: torch.device | str) -> Task:
    """Pooled features drive all spins through trainable weights; the largest output names the class."""
    splits = load_features(s.task, s.num_classes, s.side, s.seed, s.data_folder, device)
    labelled = s.cost_kind == "cross_entropy"

    def samples(split: Split, n: int | None = None) -> Samples:
        labels = split.labels[:n]
        return Samples(
            split.features[:n].double(), labels if labelled else 2.0 * one_hot(labels, s.num_classes).double() - 1
        )

    def correct(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.argmax(-1) == (targets if labelled else targets.argmax(-1))

    cost = {"cross_entropy": CrossEntropy(s.scale), "squared": SquaredError(), "observable": SquaredSpins()}
    system = _ising(s, device, s.side**2, range(s.size), "parameters", s.initial_spread)
    train, val, test = samples(splits.train, s.n_samples or None), samples(splits.val), samples(splits.test)
    return Task(system, cost[s.cost_kind], train, val, test, correct, splits.classes)


def _regression(s: QEPSettings, device: torch.device | str) -> Task:
    """Inputs push all oscillators but the last; the mean of the last should be an affine function of them."""
    draw = generator(s.seed, "regression", 0)
    slope = torch.randn(REGRESSION_INPUTS, 1, dtype=torch.float64, generator=draw)
    splits = []
    for n in (s.n_samples, N_HELD_OUT, N_HELD_OUT):
        inputs = torch.randn(n, REGRESSION_INPUTS, dtype=torch.float64, generator=draw)
        noise = NOISE * torch.randn(n, 1, dtype=torch.float64, generator=draw)
        splits.append(Samples(inputs.to(device), (inputs @ slope + 0.5 + noise).to(device)))
    system = OscillatorNetwork(
        s.size,
        couplings(s.graph, s.size, 1),
        REGRESSION_INPUTS,
        range(s.size - 1),
        [s.size - 1],
        gap_tol=s.gap_tol,
        device=device,
        generator=generator(s.seed, "parameters", 0),
    )
    return Task(system, SquaredPositions() if s.cost_kind == "observable" else SquaredError(), *splits)
