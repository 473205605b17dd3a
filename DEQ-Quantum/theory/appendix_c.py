"""Eqs. 47 to 52: how tight the step from a readout's difference to the distance of states is.

Notation as in `results/paper/theory/equations.md`. The norm that the paper calls Tr is the trace distance throughout;
with w, the width of the spectrum, one bound takes the place of Eqs. 51 and 52, and both are attained.
"""

import torch
from torch import Tensor

from theory.appendix_a import WIDTH_PROOF, equation_9, equation_13
from theory.equations import Equation, Gaps
from theory.trials import Sample, Trials, basis_states, moved, trace_norm

NAME = "with the trace distance T, not the trace norm 2 T"


def _ends(s: Sample) -> tuple[Tensor, Tensor, Tensor]:
    """The spectrum of rho - rho' (N, D), and its states of the largest and least eigenvalue, (N, D) each."""
    values, vectors = torch.linalg.eigh(s.difference)
    return values, vectors[:, :, -1], vectors[:, :, 0]


def equation_48(trials: Trials) -> Gaps:
    """Form, and both candidates for lambda."""
    form, printed, corrected = [], [], []
    for s in trials.all:
        values, first, last = _ends(s)
        value = values[:, -1].view(-1, 1, 1)
        pair = first.unsqueeze(2) * first.conj().unsqueeze(1) - last.unsqueeze(2) * last.conj().unsqueeze(1)
        form.append((s.difference - value * pair).abs().max().item())
        norm = trace_norm(s.difference)[:, 0]
        printed.append((values[:, -1] - norm).abs().max().item())
        corrected.append((values[:, -1] - norm / 2).abs().max().item())
    return Gaps(max(printed), max(form + corrected))


def _resolved(trials: Trials, scale: float) -> float:
    """|Delta - |<xi_0|M~|xi_0> - <xi_1|M~|xi_1>| ||rho - rho'||_1 scale| at worst."""
    gaps = []
    for s in trials.all:
        _, first, last = _ends(s)
        for m in (s.paulis, s.projectors):
            means = [torch.einsum("ni,kij,nj->nk", xi.conj(), m, xi).real for xi in (first, last)]
            right = (means[0] - means[1]).abs() * trace_norm(s.difference) * scale
            gaps.append((moved(s, m) - right).abs().max().item())
    return max(gaps)


def equation_49(trials: Trials) -> Gaps:
    return Gaps(_resolved(trials, 1), _resolved(trials, 0.5))


def equation_51(trials: Trials) -> Gaps:
    """By the trace distance, which is the stronger reading."""
    gaps = [moved(s, m) - trace_norm(s.difference) for s in trials.all for m in (s.paulis, s.projectors)]
    return Gaps(max(gap.max().item() for gap in gaps))


def _lambda_and_norm() -> tuple[float, float]:
    difference = basis_states().difference
    return torch.linalg.eigvalsh(difference).max().item(), trace_norm(difference).item()


def _delta_and_twice() -> tuple[float, float]:
    """Delta, and the two means' difference times the trace norm."""
    s = basis_states()
    return moved(s, s.paulis).item(), 2 * trace_norm(s.difference).item()


BASIS = ("|0> and |1>, Z read: Delta = 2, not 4", _delta_and_twice)
EQUATIONS = (
    Equation("47", "Eq. 9 once more", equation_9),
    Equation(
        "48", "rho - rho' = lambda (|xi_0><xi_0| - |xi_1><xi_1|), lambda its trace norm", equation_48,
        ("|0> and |1>: lambda is 1, the trace norm 2", _lambda_and_norm), f"{NAME}: lambda = sqrt(1 - F)",
        ("The trace norm is the sum of absolute eigenvalues, lambda + lambda.",),
    ),
    Equation("49", "so Delta = |tr(M~ (|xi_0><xi_0| - |xi_1><xi_1|))| ||rho - rho'||_tr", equation_49, BASIS, NAME,
             ("Put Eq. 48 into Eq. 9.",)),
    Equation("50", "= the difference of <xi_0|M~|xi_0> and <xi_1|M~|xi_1>, times that norm", equation_49, BASIS, NAME,
             ("The trace is linear.",)),
    Equation("51", "Delta <= 2 ||M|| ||rho - rho'||_tr", equation_51, correction="Delta <= w T", proof=WIDTH_PROOF,
             remark="attained by Z, |0> and |1>; w < 2 ||M|| where M's spectrum is not symmetric"),
    Equation("52", "Delta <= ||M|| ||rho - rho'||_tr for a spectrum from 0 to ||M||", equation_13,
             correction="Delta <= w T", proof=WIDTH_PROOF, remark="attained by |0><0|, |0> and |1>"),
)  # fmt: skip
