"""The timed work: one training step of the classifier, by either engine and either solver setting.

Section 3.3 of Schleich et al. (arXiv 2410.23940) with the Jacobian loss of Table 5: forward, residual, Jacobian
loss, backward, clip, Adam. Adam's learning rate is 0, so that every repetition and every contestant works on the
same parameters.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from circuits.ansatz import N_RANDOM_OPERATIONS
from circuits.circuit import Circuit, build_circuit
from deq import SolverResult, SolverSettings, equilibrium, hutchinson_jacobian_loss
from engines.compiled import CompiledEngine
from features import MEAN, STD
from models.depth import Equilibrium
from models.qdeq_model import QDEQModel, residual_measures
from models.quantum_layer import QuantumLayer
from runs.optim import clip_gradient, make_optimizer
from runs.settings import OptimisationSettings
from utils import seeds

N_CLASSES = 10
DROPOUT, JAC_LOSS_WEIGHT, CLIP = 0.05, 0.8, 0.25
# the flags' defaults, and `--f_solver newton --b_solver exact`
SETTINGS = {
    "broyden": Equilibrium(SolverSettings("broyden", 10, 1e-3), SolverSettings("broyden", 10, 1e-3)),
    "newton+exact": Equilibrium(SolverSettings("newton", 10, 1e-3), SolverSettings("exact", 10, 1e-3)),
}


@dataclass(frozen=True)
class Variant:
    """A way to take the step.

    Attributes:
        engine: "torchquantum" or "compiled".
        setting: key of SETTINGS.
        in_z: solve for the n_wires^2 entries of z, as the released code does, rather than for the n_wires readouts.
        way: of the compiled engine to its observables: all "columns", light "cones" or the "cheapest" of the two.
    """

    engine: str
    setting: str
    in_z: bool = False
    way: str = "cheapest"

    @property
    def label(self) -> str:
        way = "" if self.way == "cheapest" else f", {self.way}"
        return f"{self.engine}, {self.setting}" + (", in z-space" if self.in_z else "") + way


# the first is what the released code does
VARIANTS = (
    Variant("torchquantum", "broyden", in_z=True),
    *(Variant(engine, setting) for engine in ("torchquantum", "compiled") for setting in SETTINGS),
)


@dataclass(frozen=True)
class Problem:
    """A circuit and a batch.

    Attributes:
        n_wires: qubits; features are vectors of n_wires^2, or of n_wires components.
        batch_size: samples.
        seed: of parameters, features, labels and random vectors.
        device: where it all lies.
        n_operations: length of the circuit's random part.
        encoding: of `circuits.encodings.ENCODINGS`.
    """

    n_wires: int
    batch_size: int
    seed: int
    device: torch.device
    n_operations: int = N_RANDOM_OPERATIONS
    encoding: str = "amplitude"

    @cached_property
    def batch(self) -> tuple[Tensor, Tensor]:
        """Features (B, n_inputs), many dark pixels and some bright, scaled as MNIST's are, or standard normal; labels (B,)."""
        draw = seeds.generator(self.seed, "benchmark batch", 0)
        features = torch.randn(self.batch_size, self.circuit.n_inputs, generator=draw)
        if self.encoding != "components":
            features = ((0.45 * features).clamp(0, 1) - MEAN) / STD
        labels = torch.randint(N_CLASSES, (self.batch_size,), generator=draw)
        return features.to(self.device), labels.to(self.device)

    @property
    def circuit(self) -> Circuit:
        """The paper's, with this encoding."""
        return build_circuit(self.n_wires, self.encoding, n_random_operations=self.n_operations)

    def layer(self, engine: str, way: str = "cheapest") -> QuantumLayer:
        """The quantum layer; the same parameters for every engine."""
        seeds.seed_everything(self.seed)
        circuit = self.circuit
        return QuantumLayer(circuit, CompiledEngine(circuit, way) if engine == "compiled" else engine).to(self.device)

    def model(self, variant: Variant, dropout: float) -> QDEQModel:
        """The classifier on that layer; the same parameters for every variant."""
        return QDEQModel(self.layer(variant.engine, variant.way), N_CLASSES, dropout).to(self.device)


class Step:
    """A training step that can be taken again and again.

    Args:
        variant: which way.
        problem: of what.
        dropout: of the equilibrium; 0 to compare variants, which need not draw masks alike.
    """

    def __init__(self, variant: Variant, problem: Problem, dropout: float = DROPOUT):
        self.variant = variant
        self.depth = SETTINGS[variant.setting]
        self.model = problem.model(variant, dropout)
        self.x, self.y = problem.batch
        self.generator = seeds.generator(problem.seed, "benchmark step", 0, problem.device)
        self.optimizer = make_optimizer(self.model, OptimisationSettings(optim="Adam", lr=0.0))

    def __call__(self) -> None:
        """Take the step."""
        self.losses_backward()
        if math.isfinite(clip_gradient(self.model.parameters(), CLIP)):
            self.optimizer.step()

    def losses_backward(self) -> tuple[Tensor, Tensor, SolverResult]:
        """Forward and backward; leaves the gradients in the parameters.

        Returns:
            The loss, a scalar; the equilibrium (B, n_wires^2); the forward solve's result.
        """
        self.optimizer.zero_grad()
        forward = self._forward_in_z if self.variant.in_z else self._forward
        logits, z, jac_loss, solver = forward()
        loss = functional.cross_entropy(logits, self.y) + JAC_LOSS_WEIGHT * jac_loss
        loss.backward()
        return loss.detach(), z.detach(), solver

    def _forward(self) -> tuple[Tensor, Tensor, Tensor, SolverResult]:
        p = self.model(self.x, self.depth, with_jac_loss=True, generator=self.generator)
        return p.logits, p.z, p.jac_loss, p.solver

    def _forward_in_z(self) -> tuple[Tensor, Tensor, Tensor, SolverResult]:
        """What the model does, with every state a z of n_wires^2 entries."""
        f = self.model.layer.bind(self.x)
        z, solver = equilibrium(f, torch.zeros_like(self.x), self.depth.forward, self.depth.backward)
        jac_loss = hutchinson_jacobian_loss(f, z.detach(), generator=self.generator)
        logits = self.model.head(torch.relu(functional.dropout(z, self.model.dropout)))
        residual_measures(z.detach(), solver.f_z)
        return logits, z, jac_loss, solver
