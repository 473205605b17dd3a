"""Are two ways to compute the same equal, and to what tolerance."""

from torch import Tensor

from benchmarks.step import SETTINGS, Problem, Step, Variant

# a solver's result is known to its own tolerance and no better, so two results need not agree further
SOLVER_TOLERANCE = SETTINGS["broyden"].forward.tol
# Broyden's backward solve in z takes other iterates than in the readouts: either gradient is off by its own share
GRADIENT_TOLERANCE_ACROSS_SPACES = 10 * SOLVER_TOLERANCE
# one call of f has round-off only
F_TOLERANCE = 1e-4


def difference(a: Tensor, b: Tensor) -> float:
    """||a - b|| / ||b||, Frobenius norms; 0/0 is 0."""
    distance = (a - b).norm().item()
    return distance / b.norm().item() if distance else distance


def verdict(
    variant: str, reference: str, differences: dict[str, float], tolerances: dict[str, float]
) -> dict:
    """One row of an equality table; a NaN is never equal."""
    equal = all(differences[name] <= tolerances[name] for name in tolerances)
    return {"of": variant, "and": reference, **differences, "tolerances": tolerances, "equal": equal}


def compare_steps(variants: list[Variant], problem: Problem) -> list[dict]:
    """Loss, gradient and equilibrium of one step, variant against variant of the same solver setting.

    Dropout is off, parameters, batch and the Jacobian loss's random vector are the same. Gradients are compared
    parameter by parameter, circuit and head, and the largest difference counts.

    Args:
        variants: those to compare; each one with TorchQuantum's step of its setting in the space of readouts.
        problem: circuit and batch.
    """
    seen = {variant: _observe(variant, problem) for variant in variants}
    rows = []
    for variant, (loss, gradients, z) in seen.items():
        reference = Variant("torchquantum", variant.setting)
        if variant == reference or reference not in seen:
            continue
        loss_0, gradients_0, z_0 = seen[reference]
        differences = {
            "loss": difference(loss, loss_0),
            "gradient": max(difference(g, g_0) for g, g_0 in zip(gradients, gradients_0, strict=True)),
            "equilibrium": difference(z, z_0),
        }
        tolerances = dict.fromkeys(differences, SOLVER_TOLERANCE)
        if variant.in_z:
            tolerances["gradient"] = GRADIENT_TOLERANCE_ACROSS_SPACES
        rows.append(verdict(variant.label, reference.label, differences, tolerances))
    return rows


def _observe(variant: Variant, problem: Problem) -> tuple[Tensor, list[Tensor], Tensor]:
    step = Step(variant, problem, dropout=0.0)
    loss, z, _ = step.losses_backward()
    return loss, [parameter.grad for parameter in step.model.parameters()], z
