"""The classifier: inject, find the equilibrium (or stack layers), dropout, ReLU, linear head.

Sections 3.2 and 3.3 of Schleich et al. (arXiv 2410.23940). Every value of f is a lifted readout, so the solve runs in the
space of the readouts, z = E r; Broyden, Anderson and Picard take the same iterates there as in the space of z (tested),
and Newton solves n_wires x n_wires systems. Where readouts are more than z has numbers, the
solve runs in the space of z. The Jacobian loss is that of f in the space of z, as in the paper.

`EquilibriumClassifier` takes any layer with the face in `layer.py`, so baselines go the same way.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from deq import SolverResult, batch_jacobian, hutchinson_jacobian_loss, spectral_radius
from deq.functional import needs_plain_operations
from deq.host import host_may_look
from deq.result import relative, sample_norm
from engines.protocol import ReadoutMap
from models.depth import Depth, Equilibrium, start_at
from models.layer import AtReadouts, Bound, Compiled, Layer, check_batch
from models.lift import Lift

FEW_ROWS = 50  # of a Jacobian, which take half as many products as power iteration does


@dataclass(frozen=True)
class Whole:
    """The batch that a part of it belongs to: what is random is drawn for all of it, whoever has the rest.

    Attributes:
        size: its samples.
        rows: of the part.
    """

    size: int
    rows: slice = field(default_factory=lambda: slice(None))

    def draw(
        self, distribution: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """The part's rows of random numbers for the whole, on the device and of the shape of `like` (B, ...)."""
        shape = (self.size, *like.shape[1:])
        return distribution(shape, generator=generator, dtype=dtype, device=like.device)[self.rows]

    def jac_loss(self, f: Bound, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """The estimate of ||J_f||_F^2 / numel(z) at z (B, width), from one random vector."""
        vectors = self.draw(torch.randn, z, generator, z.dtype).unsqueeze(0)
        return hutchinson_jacobian_loss(f, z, vectors=vectors)


@dataclass
class Prediction:
    """What one pass reports.

    Attributes:
        logits: (B, n_classes).
        z: (B, width), n_wires^2 for the quantum layer: the equilibrium or the last layer's output.
        r: (B, n_units), without gradient: the readouts that z lifts. Of more readouts than inputs z does not tell them.
        res: (B,) mean over the entries of |f(z) - z| / |z|, the measure of the paper's tables.
        res_rel: (B,) ||f(z) - z|| / ||z||.
        jac_loss: scalar, 0 where it was not asked for.
        solver: the equilibrium's solver result, None for a stack of layers.
        failed: (B,) samples without a finite input or state: their logits, z, r and residuals are NaN, and they give no
            gradient to anything shared. None where the host sees that there are none.
    """

    logits: Tensor
    z: Tensor
    r: Tensor
    res: Tensor
    res_rel: Tensor
    jac_loss: Tensor
    solver: SolverResult | None
    failed: Tensor | None = None


class EquilibriumClassifier(nn.Module):
    """A layer made deep, and a head on its equilibrium.

    Args:
        layer: f(z; x).
        head: (B, layer.width) to (B, n_classes); (B, layer.n_units) where heads read r (`lift.sees_state`).
        dropout: probability of dropping an entry of the equilibrium in training (one mask per pass, which is what
            the released code's variational dropout amounts to on a state without a sequence).
    """

    def __init__(self, layer: Layer, head: nn.Module, dropout: float = 0.0):
        super().__init__()
        self.layer = layer
        self.head = head
        self.dropout = dropout

    def forward(
        self,
        x: Tensor,
        depth: Depth,
        compiled: Compiled | None = None,
        with_jac_loss: bool = False,
        generator: torch.Generator | None = None,
        whole: Whole | None = None,
        r0: Tensor | None = None,
    ) -> Prediction:
        """Classify a batch.

        Args:
            x: (B, layer.n_inputs) features of the model's dtype on its device. Samples with a NaN or an inf have failed
                (see `Prediction`) and change nothing of the others; B may be 0.
            depth: equilibrium or stack of layers.
            compiled: `self.layer.compile()` where one compilation serves several batches.
            with_jac_loss: also estimate ||J_f||_F^2 / numel(z) at the equilibrium (one random vector).
            generator: of dropout and of the estimate, on x's device.
            whole: of which batch x is a part, where other processes have the rest; None: x is the batch.
            r0: (B, layer.n_units) where to begin, as at equilibria that are known; None: as the depth says.

        Raises:
            ValueError: x or r0 is of another shape, dtype or device; one line with what to do.
        """
        check_batch("x", x, self.layer.n_inputs, next(self.parameters(), None))
        whole = whole or Whole(len(x))
        lift = self.layer.lift
        failed = _not_finite(x)
        finite_x = _replaced(x, failed, 0.0)
        f = (compiled or self.layer.compile()).bind(finite_x)
        h = f.reduced()
        if r0 is None:
            r0 = start_at(depth, lift, finite_x)
        else:
            check_batch("r0", r0, self.layer.n_units, x, len(x))
        learns = torch.is_grad_enabled() and (self.layer.learns or x.requires_grad or needs_plain_operations())
        with torch.set_grad_enabled(learns):
            if isinstance(depth, Equilibrium) and _solves_in_states(h, lift):
                found = depth.run_in_states(f, lift, lift(r0))
            else:
                found = depth.in_units_of(lift.shrinking).run(h, r0)
        without_state = _not_finite(found.r)
        failed = without_state if failed is None else failed if without_state is None else failed | without_state
        reached = _replaced(found.r, failed, 0.0)
        z, r = lift(reached), reached.detach()
        jac_loss = x.new_zeros(())
        if with_jac_loss:
            at_r = f if h.vjp is None else AtReadouts(f, h, lift, r)
            jac_loss = whole.jac_loss(at_r, z.detach(), generator)
        logits = self.classify(z if lift.sees_state else reached, generator, whole)
        told = [_replaced(values, failed, math.nan) for values in (logits, z, r, *residual_measures(r, found.h_r))]
        return Prediction(*told, jac_loss, found.solver, failed)

    def classify(self, z: Tensor, generator: torch.Generator | None = None, whole: Whole | None = None) -> Tensor:
        """Logits of an equilibrium, (B, n) to (B, n_classes): dropout, ReLU, head.

        Args:
            z: the state, or r where the layer's lift is not the paper's (`sees_state`): none of many readouts is lost.
        """
        return self.head(torch.relu(self._drop(z, generator, whole)))

    def spectral_radius(
        self, f: Bound, z: Tensor, generator: torch.Generator | None = None, whole: Whole | None = None
    ) -> Tensor:
        """Modulus of the largest eigenvalue of df/dz at an equilibrium z = E r, per sample: (B,).

        df/dz = E K and dh/dr = K E share their eigenvalues but for zeros, so where h offers its exact Jacobian, or has few
        rows of one, the answer is exact; else it comes from power iteration with random starts. NaN where f or z is.
        """
        h, lift, z = f.reduced(), self.layer.lift, z.detach()
        few = lift.n <= FEW_ROWS and h.measured_again is None
        if h.jacobian is None and hasattr(f, "for_many"):
            with torch.no_grad():
                f = f.for_many()
        if h.jacobian is None and not few:
            start = (whole or Whole(len(z))).draw(torch.randn, z, generator, z.dtype)
            return spectral_radius(f, z, start=start)
        with torch.no_grad():
            if h.jacobian is not None:
                jacobians = h.jacobian(lift.readouts(z))
            elif getattr(f, "jacobian", None) is None:
                jacobians = batch_jacobian(h, lift.readouts(z))
            else:  # K E from E K
                jacobians = lift.transpose(lift.readouts(f.jacobian(z).mT).mT)
            failed = _not_finite(jacobians.flatten(1))
            return _replaced(torch.linalg.eigvals(_replaced(jacobians, failed, 0.0)).abs().amax(-1), failed, math.nan)

    def _drop(self, z: Tensor, generator: torch.Generator | None, whole: Whole | None = None) -> Tensor:
        if not self.training or self.dropout == 0:
            return z
        kept = (whole or Whole(len(z))).draw(torch.rand, z, generator) >= self.dropout
        return z * kept.to(z.dtype).div_(1 - self.dropout)


class QDEQModel(EquilibriumClassifier):
    """Quantum deep equilibrium classifier: a layer, usually a `QuantumLayer`, and a linear head on its state or readouts.

    Args:
        layer: f(z; x).
        n_classes: width of the head.
        dropout: as above.
    """

    def __init__(self, layer: Layer, n_classes: int, dropout: float = 0.05):
        super().__init__(layer, nn.Linear(layer.width if layer.lift.sees_state else layer.n_units, n_classes), dropout)


def _solves_in_states(h: ReadoutMap, lift: Lift) -> bool:
    """Whether r has more numbers than z and h offers nothing for it: no Jacobian, and no errors of its measurement."""
    return lift.n > lift.width and h.jacobian is None and h.measured_again is None


def _not_finite(values: Tensor) -> Tensor | None:
    """(B,) samples with an inf or a NaN among their (B, n) values; None where the host sees that there are none."""
    values = values.detach()
    looks = host_may_look(values)
    if looks and math.isfinite(values.sum()):  # then all of them are
        return None
    samples = ~values.isfinite().all(-1)
    return samples if not looks or samples.any() else None


def _replaced(values: Tensor, samples: Tensor | None, by: float) -> Tensor:
    """Values (B, ...), and a number in place of those of some samples (B,), which then receive no gradient."""
    if samples is None:
        return values
    return torch.where(samples.view(-1, *[1] * (values.dim() - 1)), by, values)


def residual_measures(r: Tensor, h_r: Tensor) -> tuple[Tensor, Tensor]:
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
    elementwise = (difference / r.abs().clamp_min(1e-9)).abs()
    return elementwise.mean(-1), relative(sample_norm(difference), r)
