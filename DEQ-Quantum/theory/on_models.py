"""What the appendices conjecture of models, measured on them: renormalisation, slopes, steps that do not shrink.

Renormalisation (end of Appendix A). Amplitude encoding sees v / ||v||, v = z + x. Its derivative is the projection
beside v over ||v||, so near an equilibrium distances of inputs change by up to 1 / ||v||; between pairs by at most
2 / (||v|| + ||v'||).
Slopes (Eqs. 18 to 20). How far readouts move, at the equilibria, by a small step of the encoded vector, of length 1
under amplitudes: the gradient's largest length, the largest row sum. The equations say at most 1.
Steps (Eq. 21). Along Picard's iteration from z = 0 and from random readouts: how often a step is no shorter than the
one before it, once it is not round-off.

It measures and knows no verdicts; `appendix_a_contraction.py` has those.
"""

import torch
from torch import Tensor

from deq import batch_jacobian
from theory import bounds
from theory.contraction import SOLVED, draw_pairs
from theory.subjects import TIGHT, Subject

N_STEPS = 10
STILL = 1e-8  # steps shorter than this are round-off in part


@torch.no_grad()
def measure(subject: Subject, n_pairs: int, generator: torch.Generator) -> dict:
    """One model with an encoding that there are bounds for.

    Args:
        subject: the model and its images.
        n_pairs: of states for every image and kind.
        generator: of the states.
    """
    solution = subject.model(subject.x, TIGHT)
    solved = solution.res_rel < SOLVED
    v = (solution.z + subject.x)[solved]
    return {
        "subject": subject.name,
        "state": subject.state,
        "n_images": len(v),
        "renormalisation": _renormalisation(subject, v, n_pairs, generator),
        "slopes": _slopes(subject, v),
        "steps": _steps(subject, generator),
    }


def _renormalisation(subject: Subject, v: Tensor, n_pairs: int, generator: torch.Generator) -> dict | None:
    """Lengths at the equilibria, and by how much distances between pairs of states change; None for angles."""
    if subject.settings.encoding != "amplitude":
        return None
    lengths = v.norm(dim=1)
    pairs = {}
    for kind, (z, other) in draw_pairs(subject, n_pairs, generator).items():
        first, second = z + subject.x, other + subject.x
        norms = first.norm(dim=-1), second.norm(dim=-1)
        chord = (first / norms[0].unsqueeze(-1) - second / norms[1].unsqueeze(-1)).norm(dim=-1)
        factor, bound = chord / (first - second).norm(dim=-1), 2 / (norms[0] + norms[1])
        pairs[kind] = {
            "mean": factor.mean().item(),
            "largest": factor.max().item(),
            "share_above_1": (factor > 1).double().mean().item(),
            "largest_bound": bound.max().item(),
            "violations": int((factor > bound + 1e-9).sum()),
        }
    return {
        "shortest": lengths.min().item(),
        "mean_length": lengths.mean().item(),
        "longest": lengths.max().item(),
        "mean_factor": (1 / lengths).mean().item(),
        "largest_factor": (1 / lengths).max().item(),
        "share_above_1": (lengths < 1).double().mean().item(),
        "pairs": pairs,
    }


def _slopes(subject: Subject, v: Tensor) -> dict:
    """Jacobians of the readouts in what is encoded: Eq. 18 the longest gradient, 19 l2 norm / sqrt(K), 20 row sum."""
    f, lift = subject.model.layer.bind(torch.zeros_like(v)), subject.model.layer.lift
    jacobian = lift.readouts(batch_jacobian(f, v).mT).mT
    if subject.settings.encoding == "amplitude":
        jacobian = jacobian * v.norm(dim=1).view(-1, 1, 1)
    gradients = jacobian.norm(dim=2)
    values = {
        "18": gradients.amax(1),
        "19": torch.linalg.matrix_norm(jacobian, 2) / jacobian.shape[1] ** 0.5,
        "20": torch.linalg.matrix_norm(jacobian, float("inf")),
    }
    limit = bounds.slope_bounds(subject.settings.encoding, v, lift.readouts(f(v)))
    if subject.settings.encoding == "amplitude":
        limit = limit * v.norm(dim=1, keepdim=True)
    return {
        "violations": int((gradients > limit + 1e-9).sum()),
        **{
            number: {
                "mean": found.mean().item(),
                "largest": found.max().item(),
                "share_above_1": (found > 1).double().mean().item(),
            }
            for number, found in values.items()
        },
    }


def _steps(subject: Subject, generator: torch.Generator) -> dict:
    """Share of steps that Eq. 21 forbids, by start, and of images that have one."""
    layer, x = subject.model.layer, subject.x
    f = layer.bind(x)
    draws = 2 * torch.rand(len(x), layer.n_units, generator=generator, dtype=torch.float64) - 1
    result = {}
    for start, z in (("zero", torch.zeros(len(x), layer.width).double()), ("random readouts", layer.lift(draws))):
        lengths = []
        for _ in range(N_STEPS + 1):
            after = f(z)
            lengths.append((after - z).norm(dim=1))
            z = after
        lengths = torch.stack(lengths)
        counted = lengths[1:] > STILL
        grown = (lengths[1:] >= lengths[:-1]) & counted
        result[start] = {
            "n_steps": int(counted.sum()),
            "share_of_steps": grown.sum().item() / max(1, counted.sum().item()),
            "share_of_images": grown.any(0).double().mean().item(),
        }
    return result
