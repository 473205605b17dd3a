"""The classifier: inject, find the equilibrium (or stack layers), dropout, ReLU, linear head.

Sections 3.2 and 3.3 of Schleich et al. (arXiv 2410.23940). Every value of f repeats n_wires readouts n_wires times,
so the solve runs in the space of the readouts, z = lift(r); Broyden, Anderson and Picard take the same iterates
there as in the space of z (tested), and Newton solves n_wires x n_wires systems. The Jacobian loss is that of f in
the space of z, as in the paper.

`EquilibriumClassifier` asks no more of a layer than the face in `models/layer.py`, so baselines go the same way.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from circuits.circuit import build_circuit
from deq import SolverResult, SolverSettings, equilibrium, hutchinson_jacobian_loss, spectral_radius, unroll
from models.layer import BoundLayer, CompiledLayer
from models.quantum_layer import QuantumLayer


@dataclass(frozen=True)
class Depth:
    """How the layer is made deep: an equilibrium (n_layer = 0), or n_layer weight-tied layers.

    Attributes:
        n_layer: 0 for the equilibrium, L for DIRECT-L and the warm-up.
        forward, backward: solvers of the equilibrium and of its gradient.
    """

    n_layer: int = 0
    forward: SolverSettings = SolverSettings("broyden", 10, 1e-3)
    backward: SolverSettings = SolverSettings("broyden", 10, 1e-3)


@dataclass
class Prediction:
    """What one pass reports.

    Attributes:
        logits: (B, n_classes).
        z: (B, n_units * copies), n_wires^2 for the quantum layer: the equilibrium or the last layer's output.
        res: (B,) mean over the entries of |f(z) - z| / |z|, the measure of the paper's tables.
        res_rel: (B,) ||f(z) - z|| / ||z||.
        jac_loss: scalar, 0 where it was not asked for.
        solver: the equilibrium's solver result, None for a stack of layers.
    """

    logits: Tensor
    z: Tensor
    res: Tensor
    res_rel: Tensor
    jac_loss: Tensor
    solver: SolverResult | None


class EquilibriumClassifier(nn.Module):
    """A layer made deep, and a head on its equilibrium.

    Args:
        layer: the layer, a module with the face of `models.layer.Layer`.
        head: (B, n_units * copies) to (B, n_classes).
        dropout: probability of dropping an entry of the equilibrium in training (one mask per pass, which is what
            the released code's variational dropout amounts to on a state without a sequence).
    """

    def __init__(self, layer: nn.Module, head: nn.Module, dropout: float = 0.0):
        super().__init__()
        self.layer = layer
        self.head = head
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        depth: Depth,
        compiled: CompiledLayer | None = None,
        with_jac_loss: bool = False,
        generator: torch.Generator | None = None,
    ) -> Prediction:
        """Classify a batch.

        Args:
            x: (B, D) features, D = n_wires^2 for the quantum layer.
            depth: equilibrium or stack of layers.
            compiled: `self.layer.compile()` where one compilation serves several batches.
            with_jac_loss: also estimate ||J_f||_F^2 / numel(z) at the equilibrium (one random vector).
            generator: of dropout and of the estimate, on x's device.
        """
        f = (compiled or self.layer.compile()).bind(x)
        h = f.reduced()
        r0 = x.new_zeros(x.shape[0], self.layer.n_units)
        if depth.n_layer:
            r, solver = unroll(h, r0, depth.n_layer), None
            with torch.no_grad():
                h_r = h(r)
        else:
            r, solver = equilibrium(h, r0, *self._in_readout_space(depth))
            h_r = solver.f_z
        z = self.layer.lift(r)
        jac_loss = x.new_zeros(())
        if with_jac_loss:
            at_z = _AtLifted(f, h, self.layer.copies) if hasattr(h, "vjp") else f
            jac_loss = hutchinson_jacobian_loss(at_z, z.detach(), n_vectors=1, generator=generator)
        logits = self.classify(z, generator)
        res, res_rel = residuals(r.detach(), h_r)
        return Prediction(logits, z, res, res_rel, jac_loss, solver)

    def classify(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits of an equilibrium, (B, n_units * copies) to (B, n_classes): dropout, ReLU, head."""
        return self.head(torch.relu(self._drop(z, generator)))

    def spectral_radius(self, f: BoundLayer, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Modulus of the largest eigenvalue of df/dz at an equilibrium z = lift(r), per sample: (B,).

        df/dz = E K and dh/dr = K E share their eigenvalues but for zeros, so where h offers its exact Jacobian the
        answer is exact; else it comes from power iteration with random starts.
        """
        h = f.reduced()
        if not hasattr(h, "jacobian"):
            return spectral_radius(f, z.detach(), generator=generator)
        with torch.no_grad():
            return torch.linalg.eigvals(h.jacobian(z[:, :: self.layer.copies])).abs().amax(-1)

    def _in_readout_space(self, depth: Depth) -> tuple[SolverSettings, SolverSettings]:
        """The solvers' settings for r: ||z|| = sqrt(copies) ||r||, which only an absolute tolerance notices."""
        forward = depth.forward
        if forward.stop_mode == "abs":
            forward = replace(forward, tol=forward.tol * self.layer.copies**-0.5)
        return forward, depth.backward

    def _drop(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.dropout == 0:
            return z
        kept = torch.rand(z.shape, generator=generator, device=z.device) >= self.dropout
        return z * kept / (1 - self.dropout)


class _AtLifted:
    """f for callers whose every z is a lift(r): v^T df/dz by way of h, which has most of it already."""

    def __init__(self, f: BoundLayer, h, copies: int):
        self.f, self.h, self.copies = f, h, copies

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)

    def vjp(self, z: Tensor, v: Tensor) -> Tensor:
        return self.h.vjp(z[:, :: self.copies], v.unflatten(-1, (-1, self.copies)).sum(-1))


class QDEQModel(EquilibriumClassifier):
    """Quantum deep equilibrium classifier.

    Args:
        n_wires: qubits, even, from 4; inputs have n_wires^2 features.
        n_classes: width of the head.
        encoding: "amplitude" or "angle".
        engine: "compiled" or "torchquantum".
        trainable_gates: "all" or "released".
        dropout: as above.
    """

    def __init__(
        self,
        n_wires: int,
        n_classes: int,
        encoding: str = "amplitude",
        engine: str = "compiled",
        trainable_gates: str = "all",
        dropout: float = 0.05,
    ):
        layer = QuantumLayer(build_circuit(n_wires, encoding), engine, trainable_gates)
        super().__init__(layer, nn.Linear(n_wires**2, n_classes), dropout)


def residuals(r: Tensor, h_r: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's residual and the relative one, per sample; 0/0 is 0.

    The first averages element-wise ratios (denominators from 1e-9), so single entries near zero dominate it. Both are
    the same in the space of readouts as in that of z, which repeats them.

    Args:
        r: (B, n) iterate.
        h_r: (B, n) the layer's value there.

    Returns:
        (B,) mean of |h(r) - r| / |r|, and (B,) ||h(r) - r|| / ||r||.
    """
    difference = h_r - r
    elementwise = difference.abs() / r.abs().clamp_min(1e-9)
    norm = difference.norm(dim=-1)
    return elementwise.mean(-1), torch.where(norm == 0, 0.0, norm / r.norm(dim=-1))
