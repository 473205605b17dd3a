"""Three first experiments: fixed points on synthetic data, convergence of the solvers, the implicit gradient.

1. Random circuits, features drawn from a normal distribution: do different solvers from different starts end in the
   same fixed point?
2. The relative residual after each step of Picard, Anderson, Broyden and Newton, from z = 0, on images.
3. The implicit gradient of a loss against the slope of that loss by finite differences, for each backward solver, and
   its error where the forward solve stops early.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from circuits.circuit import build_circuit
from deq import SolverSettings, solve
from models.depth import Stack
from models.quantum_layer import QuantumLayer
from theory.subjects import TIGHT, Subject

SOLVERS = ("fixed_point", "anderson", "broyden", "newton")
LABELS = {"fixed_point": "Picard", "anderson": "Anderson", "broyden": "Broyden", "newton": "Newton"}
TRACE_STEPS = 30
LEVELS = (1e-3, 1e-6, 1e-10)
QUANTILES = (0.1, 0.5, 0.9)
TIGHT_STEPS, TIGHT_TOL = 200, 1e-12
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
# of the five-point rule: its own error is of order 1e-16 here, and round-off 1e-12 of a slope
DIFFERENCE_STEP = 1e-4


@torch.no_grad()
def fixed_points(encoding: str, n_samples: int, n_circuits: int, n_starts: int, generator: torch.Generator) -> dict:
    """The first experiment, on four qubits.

    Args:
        encoding: "amplitude" or "angle".
        n_samples: feature vectors.
        n_circuits: random settings of the circuit's parameters, from torch's global generator.
        n_starts: starts per sample, uniform in [-1, 1], besides z = 0.
        generator: of features and starts.

    Returns:
        Per solver: share of solves that met 1e-12, and mean steps. Over samples with two ends or more, by any solver
        and start that met 1e-12: how many those are, of how many; the largest distance between two ends of one sample,
        and the share of samples whose ends all agree to 1e-9 (None for both where no sample has two ends).
    """
    by_solver = {name: {"converged": [], "steps": []} for name in SOLVERS}
    spreads = []
    for _ in range(n_circuits):
        layer = QuantumLayer(build_circuit(4, encoding)).double()
        x = torch.randn(n_samples, 16, generator=generator, dtype=torch.float64)
        h = layer.bind(x).reduced()
        starts = [torch.zeros(n_samples, 4, dtype=torch.float64)]
        starts += [2 * torch.rand(n_samples, 4, generator=generator, dtype=torch.float64) - 1 for _ in range(n_starts)]
        ends = []
        for name in SOLVERS:
            for start in starts:
                result = solve(h, start, SolverSettings(name, TIGHT_STEPS, TIGHT_TOL))
                by_solver[name]["converged"].append(result.converged.double())
                by_solver[name]["steps"].append(result.steps.double())
                ends.append(torch.where(result.converged.unsqueeze(1), result.z, torch.nan))
        spreads.append(_spread(torch.stack(ends)))
    spread = torch.cat(spreads)
    compared = spread[~spread.isnan()]
    return {
        "encoding": encoding,
        "n_solves": n_circuits * n_samples * (n_starts + 1),
        "n_samples": len(spread),
        "n_samples_with_two_ends": len(compared),
        "solvers": {
            LABELS[name]: {key: torch.cat(values).mean().item() for key, values in of_solver.items()}
            for name, of_solver in by_solver.items()
        },
        "largest_distance_between_ends": compared.max().item() if len(compared) else None,
        "share_with_one_fixed_point": (compared < 1e-9).double().mean().item() if len(compared) else None,
    }


def _spread(ends: Tensor) -> Tensor:
    """Largest distance between two ends of a sample, NaN where it has no two: (S, B, n) to (B,).

    Args:
        ends: of S solves of B samples, NaN those that did not converge.
    """
    distances = (ends.unsqueeze(0) - ends.unsqueeze(1)).norm(dim=-1)
    n_ends = (~ends.isnan().any(-1)).sum(0)
    return torch.where(n_ends < 2, torch.nan, distances.nan_to_num(0).amax((0, 1)))


@torch.no_grad()
def convergence(subject: Subject) -> dict:
    """The second experiment, in the space of readouts as the classifier solves.

    Returns:
        Per solver: quantiles over images of the relative residual after 1, 2, ... steps, by quantile (z = 0 itself has
        none); and for each level the share of images that reach it within so many steps and the mean steps of those.
    """
    h = subject.model.layer.bind(subject.x).reduced()
    start = subject.x.new_zeros(len(subject.x), subject.model.layer.n_units)
    solvers = {}
    for name in SOLVERS:
        trace = solve(h, start, SolverSettings(name, TRACE_STEPS, 1e-15)).trace
        # the best so far: what a solve that stopped there would hand back
        best = trace.nan_to_num(nan=torch.inf).cummin(0).values
        padded = torch.cat([best, best[-1:].expand(TRACE_STEPS + 1 - len(best), -1)])
        quantiles = padded[1:].quantile(torch.tensor(QUANTILES, dtype=padded.dtype), dim=1)
        solvers[LABELS[name]] = {
            "quantiles": {str(q): [float(f"{v:.4g}") for v in line.tolist()] for q, line in zip(QUANTILES, quantiles)},
            "levels": [_reached(padded, level) for level in LEVELS],
        }
    return {"subject": subject.name, "state": subject.state, "n_images": len(subject.x), "solvers": solvers}


def _reached(trace: Tensor, level: float) -> dict:
    """How many samples of a falling trace (steps + 1, B) get to the level, and after how many steps on average."""
    below = trace <= level
    reached = below.any(0)
    steps = below.double().argmax(0)[reached]
    return {
        "residual": level,
        "share": reached.double().mean().item(),
        "mean_steps": steps.double().mean().item() if len(steps) else None,
    }


def gradient(subject: Subject, n_directions: int, generator: torch.Generator) -> dict:
    """The third experiment: the slope of a smooth loss of the equilibrium along random directions in parameter space.

    The loss is the cross-entropy of head(z*) with random labels, without ReLU, whose kink finite differences would
    cross. It is taken on those images for which Newton and Broyden from z = 0 agree on the fixed point, and finite
    differences follow that fixed point: their solves start there.

    Returns:
        How many images those are. Relative errors: of each backward solver's gradient along the directions, against
        finite differences; of the whole gradient, against that of tight solves, where the forward solve stops at a
        tolerance; and of the gradient through 60 explicit layers.
    """
    model = subject.model
    x, fixed_point = _agreed(subject)
    labels = torch.randint(subject.settings.num_classes, (len(x),), generator=generator)
    parameters = list(model.parameters())

    def loss(start: Tensor, depth) -> Tensor:
        found = depth.run(model.layer.bind(x).reduced(), start)
        return cross_entropy(model.head(model.layer.lift(found.r)), labels)

    def gradient_at(start: Tensor, depth) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss(start, depth), parameters)])

    directions = [
        [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters] for _ in range(n_directions)
    ]
    slopes = torch.stack([_slope(parameters, d, lambda: loss(fixed_point, TIGHT)) for d in directions])
    along = torch.stack([torch.cat([part.flatten() for part in d]) for d in directions])
    exact = gradient_at(fixed_point, TIGHT)
    backward, forward = {}, {}
    for name in ("exact", "broyden", "anderson", "fixed_point"):
        depth = replace(TIGHT, backward=SolverSettings(name, 1 if name == "exact" else 100, TIGHT_TOL))
        error = (along @ gradient_at(fixed_point, depth) - slopes).norm() / slopes.norm()
        backward[LABELS.get(name, name)] = error.item()
    zero = torch.zeros_like(fixed_point)
    for tolerance in TOLERANCES:
        depth = replace(TIGHT, forward=SolverSettings("broyden", 50, tolerance))
        forward[f"{tolerance:.0e}"] = ((gradient_at(zero, depth) - exact).norm() / exact.norm()).item()
    unrolled = gradient_at(zero, Stack(60))
    return {
        "subject": subject.name,
        "state": subject.state,
        "n_images": len(x),
        "n_directions": n_directions,
        "against_finite_differences": backward,
        "forward_tolerance": forward,
        "sixty_layers": ((unrolled - exact).norm() / exact.norm()).item(),
    }


@torch.no_grad()
def _agreed(subject: Subject) -> tuple[Tensor, Tensor]:
    """The images (B', D) on which Newton and Broyden end in the same fixed point, and that point (B', n_units)."""
    h = subject.model.layer.bind(subject.x).reduced()
    start = subject.x.new_zeros(len(subject.x), subject.model.layer.n_units)
    newton, broyden = (solve(h, start, SolverSettings(name, TIGHT_STEPS, TIGHT_TOL)) for name in ("newton", "broyden"))
    agreed = newton.converged & broyden.converged & ((newton.z - broyden.z).norm(dim=1) < 1e-9)
    return subject.x[agreed], newton.z[agreed]


@torch.no_grad()
def _slope(parameters: list[Tensor], direction: list[Tensor], loss: Callable[[], Tensor]) -> Tensor:
    """Derivative of the loss along a direction by the five-point rule; leaves the parameters as they were."""
    start = [p.clone() for p in parameters]

    def at(step: float) -> Tensor:
        for p, p0, d in zip(parameters, start, direction):
            p.copy_(p0 + step * d)
        return loss()

    e = DIFFERENCE_STEP
    slope = (8 * (at(e) - at(-e)) - (at(2 * e) - at(-2 * e))) / (12 * e)
    for p, p0 in zip(parameters, start):
        p.copy_(p0)
    return slope
