"""Eqs. 6 to 13: the difference of two readouts is bounded by how far apart the states are.

Notation as in `results/paper/theory/equations.md`. The bound that holds for every observable is Delta <= w T, with w
the width of its spectrum and T the trace distance: Eq. 13 for projectors, w = 1, and Eq. 12 for Pauli strings, w = 2.
"""

import torch
from torch import Tensor

from theory.equations import Equation, Gaps
from theory.trials import Sample, Trials, basis_states, density, moved, observables_of, trace_norm, width


def largest(values) -> float:
    return max(value.max().item() for value in values)


def both(s: Sample) -> tuple[Tensor, Tensor]:
    return s.paulis, s.projectors


@torch.no_grad()
def readouts(s: Sample, inputs: Tensor) -> Tensor:
    return s.layer.compile().bind(torch.zeros_like(inputs)).circuit.readouts(inputs)


def equation_6(trials: Trials) -> Gaps:
    gaps = []
    for s in trials.circuits:
        evolved = s.unitary @ density(s.psi) @ s.unitary.mH
        traces = torch.einsum("kij,nji->nk", observables_of(s.layer), evolved).real
        gaps.append((traces - readouts(s, s.v)).abs())
    return Gaps(largest(gaps))


def equation_7(trials: Trials) -> Gaps:
    gaps = []
    for s in trials.circuits:
        delta = moved(s, s.paulis)
        norm = (readouts(s, s.v) - readouts(s, s.w)).norm(dim=1)
        gaps += [norm - delta.sum(1), delta.amax(1) - norm]
    return Gaps(largest(gaps))


def equation_8(trials: Trials) -> Gaps:
    return Gaps(largest(((readouts(s, s.v) - readouts(s, s.w)).abs() - moved(s, s.paulis)).abs()
                         for s in trials.circuits))  # fmt: skip


def equation_9(trials: Trials) -> Gaps:
    gaps = []
    for s in trials.circuits:
        traces = torch.einsum("kij,nji->nk", s.paulis, s.difference).real.abs()
        spectra = [torch.linalg.eigvalsh(m) for m in (s.paulis, observables_of(s.layer))]
        gaps += [(traces - moved(s, s.paulis)).abs(), (spectra[0] - spectra[1]).abs()]
    return Gaps(largest(gaps))


def _in_eigenbasis(s: Sample, observables: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (K, D), and differences of the probabilities of the eigenstates (N, K, D)."""
    values, vectors = torch.linalg.eigh(observables)
    p, q = (torch.einsum("kdl,nd->nkl", vectors.conj(), psi).abs().square() for psi in (s.psi, s.phi))
    return values, p - q


def equation_10(trials: Trials) -> Gaps:
    gaps = []
    for s in trials.all:
        for m in both(s):
            values, difference = _in_eigenbasis(s, m)
            gaps.append(((values * difference).sum(2).abs() - moved(s, m)).abs())
    return Gaps(largest(gaps))


def equation_11(trials: Trials) -> Gaps:
    gaps = []
    for s in trials.all:
        for m in both(s):
            values, difference = _in_eigenbasis(s, m)
            gaps.append(moved(s, m) - values.abs().amax(1) * difference.abs().sum(2))
    return Gaps(largest(gaps))


def equation_12(trials: Trials) -> Gaps:
    printed = largest((trace_norm(s.difference) - s.infidelity.sqrt()).abs() for s in trials.all)
    corrected = largest((trace_norm(s.difference) / 2 - s.infidelity.sqrt()).abs() for s in trials.all)
    bound = largest(moved(s, m) - 2 * s.infidelity.sqrt() for s in trials.all for m in both(s))
    return Gaps(printed, max(corrected, bound), bound)


def equation_13(trials: Trials) -> Gaps:
    printed = largest(moved(s, s.projectors) - s.infidelity.sqrt() for s in trials.all)
    general = largest(moved(s, m) - width(m) * s.infidelity.sqrt() for s in trials.all for m in both(s))
    return Gaps(printed, general)


def after_13(trials: Trials) -> Gaps:
    """Basis states 0 and 1 lie sqrt(2) apart, and Z reads 2."""
    delta, apart = _basis_states()
    printed = delta - apart
    return Gaps(printed, largest(moved(s, m) - width(m) for s in trials.all for m in both(s)), printed)


def _basis_states() -> tuple[float, float]:
    """Delta of Z between |0> and |1>, and their distance."""
    s = basis_states()
    return moved(s, s.paulis).item(), s.distance.item()


def _norm_of_basis_states() -> tuple[float, float]:
    s = basis_states()
    return trace_norm(s.difference).item(), s.infidelity.sqrt().item()


WIDTH_PROOF = (
    "Replace M by M - m 1, m the middle of its spectrum: tr(M~ (rho - rho')) stays, as tr(rho - rho') = 0.",
    "M - m 1 has the norm w / 2.",
    "Hoelder: |tr(A B)| <= ||A|| ||B||_1, and ||rho - rho'||_1 = 2 T. So |Delta| <= w T.",
)
EQUATIONS = (
    Equation("6", "a readout is r(z) = tr(M U S_z |0><0| S_z^+ U^+)", equation_6,
             remark="the engine against density matrices; amplitudes encode no zero vector"),
    Equation("7", "||f - f'|| lies between the largest and the sum of its entries' differences", equation_7),
    Equation("8", "Delta = |r(z) - r(z')| is such an entry", equation_8),
    Equation("9", "Delta = |tr(M~ (rho - rho'))|, M~ = U^+ M U with M's spectrum", equation_9),
    Equation("10", "Delta = |sum_l m_l (p_l - p'_l)|, p_l = |<l|z>|^2 for M~'s eigenstates l", equation_10),
    Equation("11", "Delta <= ||M|| sum_l |p_l - p'_l|", equation_11,
             remark="the sum is twice the total variation distance"),
    Equation(
        "12", "Delta <= 2 ||M|| ||rho - rho'||_tr, and that norm is sqrt(1 - F)", equation_12,
        ("|0> and |1>: ||rho - rho'||_1 is not sqrt(1 - F)", _norm_of_basis_states),
        "with the trace distance T = ||rho - rho'||_1 / 2 = sqrt(1 - F)",
        ("rho - rho' has rank 2 and no trace, so eigenvalues l and -l.",
         "tr (rho - rho')^2 = 2 - 2 F = 2 l^2. So l = sqrt(1 - F) = T, and ||rho - rho'||_1 = 2 l.",
         "Delta <= ||M|| ||rho - rho'||_1 = 2 ||M|| T."),
    ),
    Equation(
        "13", "Delta <= ||M|| sqrt(1 - F) for basis-state projectors", equation_13,
        correction="in general Delta <= w sqrt(1 - F), w the largest less the smallest eigenvalue of M",
        proof=WIDTH_PROOF, remark="not for Paulis, where w = 2 ||M|| is attained by Z, |0> and |1>",
    ),
    Equation(
        "after 13", "Delta <= ||M|| <= 1, so inputs more than 1 apart always come closer", after_13,
        ("amplitudes (1, 0) and (0, 1), Z read: Delta > ||z - z'||", _basis_states),
        "true of projectors; a Pauli matrix moves by up to 2, so only inputs more than 2 apart always come closer",
        ("Delta <= w T <= w.",),
    ),
)  # fmt: skip
