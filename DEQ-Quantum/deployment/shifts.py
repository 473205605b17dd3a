"""How far noise moves states: found, and to first order.

Noise that changes h by dh moves an equilibrium r* = h(r*) by (I - J)^-1 dh, J = dh/dr, and the output of L layers by d_L,
d_l = J(r_(l-1)) d_(l-1) + dh(r_(l-1)). Where readouts are more than z has numbers, the states are z in place of r, and f is h.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from deployment.differences import finite_mean
from engines.protocol import ReadoutMap
from models.depth import Depth, Stack
from models.layer import Bound, Layer


def smaller_space(layer: Layer, x: Tensor) -> tuple[ReadoutMap | Bound, Callable[[Tensor], Tensor]]:
    """The layer at x as a map of what has fewer numbers, r or z = E r, and what readouts (B, K) are there."""
    with torch.no_grad():  # for a gradient in the gates' angles a thousand noisy observables would keep gigabytes
        f = layer.bind(x)
    return (f, layer.lift) if layer.n_units > layer.width else (f.reduced(), lambda r: r)


def shift(depth: Depth, quiet: ReadoutMap | Bound, noisy: ReadoutMap | Bound, r: Tensor, r_noisy: Tensor) -> dict[str, float]:
    """How far noise moves the states, relative to their length: found, and to first order.

    Args:
        depth: equilibrium or stack.
        quiet, noisy: h, or f (`smaller_space`), without and with noise, for the first images.
        r, r_noisy: (B, K) where the model came to without and with it.
    """
    with torch.no_grad():
        if isinstance(depth, Stack):
            at, first_order = torch.zeros_like(r), torch.zeros_like(r)
            for _ in range(depth.n_layers):
                pushed = (jacobian(quiet, at) @ first_order.unsqueeze(-1)).squeeze(-1)
                first_order = pushed + noisy(at) - quiet(at)
                at = quiet(at)
        else:
            j = jacobian(quiet, r)
            first_order = torch.linalg.solve(torch.eye(r.shape[1]).to(j) - j, noisy(r) - quiet(r))
        found = r_noisy - r
        return {
            "shift": finite_mean(found.norm(dim=1) / r.norm(dim=1)),
            "shift_predicted": finite_mean(first_order.norm(dim=1) / r.norm(dim=1)),
            "prediction_error": finite_mean((first_order - found).norm(dim=1) / found.norm(dim=1)),
            "spectral_radius": finite_mean(radius(jacobian(noisy, r_noisy))),
        }


def jacobian(h: ReadoutMap | Bound, r: Tensor) -> Tensor:
    """dh_k/dr_j at r (B, K): (B, K, K), in closed form where h has one, else by one backward pass for every k."""
    with torch.enable_grad():
        if getattr(h, "jacobian", None) is not None:  # f has none
            return h.jacobian(r).detach()
        r = r.detach().requires_grad_()
        values = h(r)
        rows = [torch.autograd.grad(values[:, k].sum(), r, retain_graph=True)[0] for k in range(r.shape[1])]
    return torch.stack(rows, 1)


def radius(jacobians: Tensor) -> Tensor:
    """Spectral radii (B,) of (B, K, K)."""
    return torch.linalg.eigvals(jacobians).abs().amax(-1)
