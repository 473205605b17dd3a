"""Is f a contraction? Measured on pairs of states and by its Jacobian, beside the bounds of `theory/bounds.py`.

Pairs of states z, z' for every image: anywhere in the cube [-1, 1]^D; lifted readouts, as all states of a solve from
z = 0 are; and neighbours, 1e-3 apart. The ratio ||f(z) - f(z')|| / ||z - z'|| is taken in the l2 and in the max norm. A
largest ratio is a lower estimate of a Lipschitz constant; a bound is an upper one.
"""

import torch
from torch import Tensor

from deq import batch_jacobian
from models.classical_layers import TanhLayer
from theory import bounds
from theory.subjects import TIGHT, Subject

NEAR = 1e-3
ROUND_OFF = 1e-9  # of a ratio between neighbours: differences of 1e-3 lose three digits
SOLVED = 1e-9  # relative residual of what counts as an equilibrium
NORMS = {"l2": 2, "max": float("inf")}


def draw_pairs(subject: Subject, n_pairs: int, generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of states by kind, each two tensors (n_pairs, B, D)."""
    layer, n_images = subject.model.layer, len(subject.x)

    def cube(width: int) -> Tensor:
        return 2 * torch.rand(n_pairs, n_images, width, generator=generator, dtype=torch.float64) - 1

    first = cube(layer.width)
    step = torch.randn(first.shape, generator=generator, dtype=torch.float64)
    return {
        "anywhere": (first, cube(layer.width)),
        "lifted readouts": (layer.lift(cube(layer.n_units)), layer.lift(cube(layer.n_units))),
        "neighbours": (first, first + NEAR * step / step.norm(dim=-1, keepdim=True)),
    }


@torch.no_grad()
def measure(subject: Subject, n_pairs: int, generator: torch.Generator) -> dict:
    """Ratios and bounds of a subject over pairs; spectral radii and norms of the Jacobian at the equilibria.

    Args:
        subject: the model and its images.
        n_pairs: of states, for every image and kind.
        generator: of the states.
    """
    model, x = subject.model, subject.x
    f = model.layer.bind(x)
    ratios = []
    for kind, (z, other) in draw_pairs(subject, n_pairs, generator).items():
        moved = torch.stack([f(a) - f(b) for a, b in zip(z, other)])
        for norm, order in NORMS.items():
            ratio = moved.norm(order, dim=-1) / (z - other).norm(order, dim=-1)
            bound = _pair_bound(subject, z + x, other + x, norm) / (z - other).norm(order, dim=-1)
            ratios.append(
                {
                    "pairs": kind,
                    "norm": norm,
                    "mean": ratio.mean().item(),
                    "largest": ratio.max().item(),
                    "share_below_1": (ratio < 1).double().mean().item(),
                    "largest_bound": bound.max().item(),
                    "violations": int((ratio > bound + ROUND_OFF).sum()),
                }
            )
    return {
        "subject": subject.name,
        "state": subject.state,
        "test_acc": subject.test_acc,
        "n_images": len(x),
        "n_pairs": n_pairs,
        "ratios": ratios,
        "at_equilibrium": _at_equilibrium(subject),
    }


def _pair_bound(subject: Subject, v: Tensor, other: Tensor, norm: str) -> Tensor:
    """Upper bound on ||f(z) - f(z')|| for inputs (n_pairs, B, D): (n_pairs, B)."""
    if isinstance(subject.model.layer, TanhLayer):
        w = subject.model.layer.w
        order = NORMS[norm]
        return torch.linalg.matrix_norm(w, order) * (v - other).norm(order, dim=-1)
    flat = v.flatten(0, 1), other.flatten(0, 1)
    bound = bounds.readout_difference_bound(subject.settings.encoding, *flat).view(v.shape[:2])
    return subject.model.layer.n_units * bound if norm == "l2" else bound


def _at_equilibrium(subject: Subject) -> dict:
    """Spectral radius, spectral norm and largest row sum of df/dz at the equilibria, with bounds on the norms."""
    model = subject.model
    p = model(subject.x, TIGHT)
    solved = p.res_rel < SOLVED
    x, z = subject.x[solved], p.z[solved]
    f = model.layer.bind(x)
    jacobian = batch_jacobian(f, z)
    # df/dz and the Jacobian in the space of readouts share their eigenvalues but for zeros
    reduced = batch_jacobian(f.reduced(), model.layer.lift.readouts(z))
    measures = {
        "spectral_radius": torch.linalg.eigvals(reduced).abs().amax(-1),
        "norm_l2": torch.linalg.matrix_norm(jacobian, 2),
        "norm_max": torch.linalg.matrix_norm(jacobian, float("inf")),
    }
    upper = _slope_bounds(subject, z + x, z)
    summary = {
        name: {
            "mean": values.mean().item(),
            "largest": values.max().item(),
            "share_below_1": (values < 1).double().mean().item(),
        }
        for name, values in measures.items()
    }
    for name, bound in upper.items():
        summary[name] |= {
            "mean_bound": bound.mean().item(),
            "largest_bound": bound.max().item(),
            "violations": int((measures[name] > bound + ROUND_OFF).sum()),
        }
    return {
        "n_images": len(x),
        "norm_of_v": (z + x).norm(dim=1).mean().item(),
        "radial": _radial(subject, jacobian, z + x),
        **summary,
    }


def _slope_bounds(subject: Subject, v: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Upper bounds on ||df/dz||_2 and ||df/dz||_max per image, (B,) each."""
    layer = subject.model.layer
    if isinstance(subject.model.layer, TanhLayer):
        slopes = 1 - z.square().amin(-1)
        return {f"norm_{norm}": slopes * torch.linalg.matrix_norm(layer.w, order) for norm, order in NORMS.items()}
    slopes = bounds.slope_bounds(subject.settings.encoding, v, layer.lift.readouts(z))
    return {
        "norm_l2": layer.lift.copies**0.5 * slopes.norm(dim=-1),
        "norm_max": v.shape[1] ** 0.5 * slopes.amax(-1),
    }


def _radial(subject: Subject, jacobian: Tensor, v: Tensor) -> float | None:
    """Largest |J v| / |v| under amplitude encoding, where f depends on v's direction only: 0 to round-off."""
    if subject.settings.encoding != "amplitude":
        return None
    return ((jacobian @ v.unsqueeze(-1)).squeeze(-1).norm(dim=-1) / v.norm(dim=-1)).max().item()
