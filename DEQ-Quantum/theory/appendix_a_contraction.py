"""Observation 2, Eqs. 14 to 22 and the end of Appendix A: from distances of states to contraction and a fixed point.

Notation as in `results/paper/theory/equations.md`. Delta <= w T (`appendix_a.py`) and T <= ||z - z'|| for both
encodings (`appendix_b.py`) give the constant w, 2 for a Pauli matrix, and no smaller one does: the qubit whose Z and X are
read and encoded again as amplitudes squares the complex number z (`squared`), of slope 2 on the unit circle.
"""

import math

import torch
from torch import Tensor

from engines.statevector import X, Z
from theory.appendix_a import WIDTH_PROOF, both, largest
from theory.appendix_b import AMPLITUDE_C, ANGLE_C, equation_23, sixty_degrees
from theory.equations import Equation, Gaps
from theory.trials import Trials, expectations, moved, qubit, width


ONE_RY_C = 0.3  # cos(d/2) >= 1 - c/2 sin d^2 for d <= 1


def squared(z: Tensor) -> Tensor:
    """f of one qubit, amplitudes (N, 2) in, <Z> and <X> out: (a + ib)^2 for a unit vector (a, b)."""
    psi = torch.nn.functional.normalize(z).to(torch.complex128)
    return expectations(torch.stack([Z, X]), psi)


def turned(z: Tensor, read: Tensor) -> Tensor:
    """<M> of one qubit after RY(z): (N,) and (2, 2) to (N,)."""
    psi = torch.stack([(z / 2).cos(), (z / 2).sin()], dim=1).to(torch.complex128)
    return expectations(read.unsqueeze(0), psi)[:, 0]


def observation_2(trials: Trials) -> Gaps:
    z = trials.qubit.v
    printed = (squared(z) - squared(z.flip(1))).norm() - (z - z.flip(1)).norm()
    # Brouwer: what is to be shown is that f maps the cube of readouts into itself, continuously
    beyond = largest(expectations(s.paulis, psi).abs() - 1 for s in trials.all for psi in (s.psi, s.phi))
    return Gaps(printed.item(), beyond)


def _scalars(trials: Trials) -> tuple[Tensor, Tensor, Tensor]:
    """c, t = d^2 in (0, 1), an overlap that Eq. 14 allows: c = 1 in the first thousand, 2 in the next, then to 10."""
    t = trials.uniform[0]
    c = torch.cat([torch.ones(1000), torch.full((1000,), 2.0), 10 * trials.uniform[1, 2000:]]).double()
    least = (1 - c / 2 * t.sin()).clamp_min(0)
    return c, t, least + (1 - least) * trials.uniform[2]


def equation_15(trials: Trials) -> Gaps:
    c, t, overlap = _scalars(trials)
    border = trials.uniform[3, :1000].clamp_min(0.1)  # c sin d^2 = 2, orthogonal states
    c, t = torch.cat([c, 2 / border.sin()]), torch.cat([t, border])
    gap = (1 - torch.cat([overlap, 0 * border]).square()) - (1 - (1 - c / 2 * t.sin()).square())
    allowed = c * t.sin() <= 2 + 1e-14
    return Gaps(gap.max().item(), gap[allowed].max().item(), gap[:2000].max().item())


def equation_16(trials: Trials) -> Gaps:
    c, t, _ = _scalars(trials)
    left, s = 1 - (1 - c / 2 * t.sin()).square(), t.sin()
    printed, corrected = (c * s - factor * s.square() for factor in (c**4 / 4, c**2 / 4))
    return Gaps((left - printed).abs().max().item(), (left - corrected).abs().max().item(), (left - c * t).max().item())


def equation_17(trials: Trials) -> Gaps:
    c, t, _ = _scalars(trials)
    s = t.sin()
    steps = [c * s - c**power / 4 * s.square() - c * s for power in (2, 4)]
    return Gaps(largest([*steps, c * s - c * t]))


def equation_18(trials: Trials) -> Gaps:
    printed = largest(moved(s, m) - s.distance for s in (trials.amplitude, trials.qubit) for m in both(s))
    corrected = largest(moved(s, m) - width(m) * s.distance for s in trials.all for m in both(s))
    # Eq. 14 holds with c < 1 for one RY: angles -d/2 and d/2, |+><+| read
    d = trials.uniform[0]
    plus = (torch.eye(2) + X) / 2
    of_root = (turned(d / 2, plus) - turned(-d / 2, plus)).abs() - math.sqrt(ONE_RY_C) * d
    return Gaps(printed, math.inf if (of_root > 0).any() else corrected, printed)  # "subcontractive" is what is drawn from it


def equation_19(trials: Trials) -> Gaps:
    samples = (trials.amplitude, trials.qubit)
    ratios = [moved(s, m).norm(dim=1, keepdim=True) / s.distance / math.sqrt(len(m)) for s in samples for m in both(s)]
    corrected = largest(moved(s, m).norm(dim=1, keepdim=True) - width(m).norm() * s.distance
                         for s in trials.all for m in both(s))  # fmt: skip
    # drawn from it: no contraction in the l2 norm, so some ratio exceeds 1
    return Gaps(largest(ratios) - 1, corrected, 1 - largest(ratios))


def equation_20(trials: Trials) -> Gaps:
    gaps, corrected = [], []
    for s in (trials.amplitude, trials.qubit):
        apart = (s.v - s.w).abs().amax(1)
        for m in both(s):
            gaps.append(moved(s, m).amax(1) - apart)
            corrected.append(moved(s, m).amax(1, keepdim=True) - width(m).max() * s.distance)
    return Gaps(largest(gaps), largest(corrected), largest(gaps))


def _steps_of_squaring() -> tuple[float, float]:
    """||f(f(z)) - f(z)|| and ||f(z) - z|| at (4/5, 3/5): 6/5 and sqrt(2/5)."""
    z = qubit().v
    once = squared(z)
    return (squared(once) - once).norm().item(), (once - z).norm().item()


def equation_21(trials: Trials) -> Gaps:
    after, before = _steps_of_squaring()
    return Gaps(after - before, conclusion=after - before)


def equation_22(trials: Trials) -> Gaps:
    z = 2 * math.pi * trials.uniform[3]
    once = turned(z, _turned_z())
    left = (turned(once, _turned_z()) - once).abs()
    printed, corrected = ((turned(once, read) - turned(z, read)).abs() for read in (Z, _turned_z()))
    return Gaps((left - printed).abs().max().item(), (left - corrected).abs().max().item())


def end_of_a(trials: Trials) -> Gaps:
    """Vectors of any length: chords of the directions against 2 d / (||v|| + ||v'||)."""
    lengths = 3 * trials.uniform[:2, : len(trials.amplitude.v), None] + 1e-3
    lengths = torch.stack([lengths[0], torch.cat([lengths[0, :10], lengths[1, 10:]])])  # it is attained at equal lengths
    v, w = lengths[0] * trials.amplitude.v, lengths[1] * torch.nn.functional.normalize(trials.angle.v)
    chord = (v / v.norm(dim=1, keepdim=True) - w / w.norm(dim=1, keepdim=True)).norm(dim=1)
    bound = 2 * (v - w).norm(dim=1) / (v.norm(dim=1) + w.norm(dim=1))
    return Gaps((chord - bound).max().item())


def _of_pair(left, right):
    return lambda: (left(qubit()).item(), right(qubit()).item())


def _quarter_turn() -> tuple[float, float]:
    """f(z) = -sin z, and at z = pi / 2 the two sides of Eq. 22 with M: 1 + sin 1 and cos 1."""
    z = torch.tensor([math.pi / 2], dtype=torch.float64)
    once = turned(z, _turned_z())
    return (turned(once, _turned_z()) - once).abs().item(), (turned(once, Z) - turned(z, Z)).abs().item()


def _turned_z() -> Tensor:
    """RY(pi / 2)^+ Z RY(pi / 2)."""
    half = math.pi / 4
    u = torch.tensor([[math.cos(half), -math.sin(half)], [math.sin(half), math.cos(half)]], dtype=torch.complex128)
    return u.mH @ Z @ u


PAIR = "one qubit, amplitudes (4/5, 3/5) and (3/5, 4/5)"
EQUATIONS = (
    Equation(
        "Obs. 2", "f contracts, and therefore has a fixed point", observation_2,
        (f"{PAIR}, Z and X read, f(z) = z^2: ||f - f'|| > ||z - z'||",
         lambda: ((squared(qubit().v) - squared(qubit().w)).norm().item(), qubit().distance.item())),
        "f has a fixed point: always under angles; under amplitudes if no z = E r, r in [-1, 1]^K, has z + x = 0. It "
        "need be neither unique nor attracting",
        ("Readouts of Pauli strings lie in [-1, 1], so f maps the compact convex set C = E [-1, 1]^K into itself.",
         "Encoding by angles is continuous everywhere, by amplitudes wherever z + x is not 0.",
         "So f is continuous on C, and Brouwer's theorem gives z* = f(z*).",
         "z -> z^2 has the fixed point 1, of slope 2: Picard leaves it."),
        "the contraction itself fails: Eqs. 18 to 21",
    ),
    Equation(
        "14", "|<z|z'>| >= 1 - c/2 sin d^2, with c = 1 for amplitudes and c = 2 for angles", equation_23,
        ("amplitudes, d = 1, 60 degrees: |<z|z'>| < 1 - sin(1)/2", sixty_degrees),
        f"c = 1/sin 1 = {AMPLITUDE_C:.4f} for amplitudes, the least possible; for angles, four rotations a wire, "
        f"already c = 2 (1 - cos 1)/sin 1 = {ANGLE_C:.4f}",
        ("See Eqs. 29 and 46.",),
    ),
    Equation(
        "15", "hence 1 - F <= 1 - (1 - c/2 sin d^2)^2, for any c > 0", equation_15,
        ("orthogonal states, d^2 = pi/6, c = 8: 1 - F > the right side", lambda: (1.0, 1 - (1 - 4 * 0.5) ** 2)),
        "for c sin d^2 <= 2, as for c = 1 and 2",
        ("Squaring keeps an inequality between numbers that are not negative.",),
    ),
    Equation(
        "16", "... = c sin d^2 - c^4/4 sin^2 d^2", equation_16,
        ("c = 2, d^2 = pi/6: 1 - (1 - 1/2)^2 is not the right side", lambda: (0.75, 2 * 0.5 - 2**4 / 4 * 0.25)),
        "c^2/4 in place of c^4/4; both are the same for c = 1", ("1 - (1 - a)^2 = 2 a - a^2 with a = c/2 sin d^2.",),
    ),
    Equation("17", "... <= c sin d^2 <= c d^2", equation_17, remark="it bounds the square of T"),
    Equation(
        "18", "|f(z) - f(z')| <= c ||M|| d, c = 1 for amplitudes", equation_18,
        (f"{PAIR}, Z read: Delta > d", _of_pair(lambda s: moved(s, s.paulis), lambda s: s.distance)),
        "Delta <= sqrt(c) w d, and <= w d for unit amplitudes, and angles of at most four rotations a wire; w = 2 for "
        "Paulis, so no contraction follows",
        (*WIDTH_PROOF, "Where Eq. 14 holds with c, T^2 <= c d^2 (Eq. 17). Unit amplitudes: T^2 = d^2 - d^4/4 <= d^2.",
         "Angles: T <= sin d, Eq. 46. w is sharp: amplitudes (cos a, sin a) at a = 45 degrees: <Z> = cos 2a, slope 2."),
        "Eq. 13 enters, true of projectors only; and Eq. 17 bounds the square, so c < 1 gives sqrt(c) > c, not c",
    ),
    Equation(
        "19", "||f - f'||_2 <= sqrt(sum_k ||M_k||^2) d", equation_19,
        (f"K = 1, {PAIR}, Z read", _of_pair(lambda s: moved(s, s.paulis), lambda s: s.distance)),
        "sqrt(sum_k w_k^2) in place of it; the lift, which repeats each readout m times, costs sqrt(m) besides",
        ("Sum the squares of Eq. 18's corrected bounds.",),
        "its conclusion stands: no contraction in the l2 norm",
    ),
    Equation(
        "20", "||f - f'||_max <= max_k ||M_k|| ||z - z'||_max", equation_20,
        (f"{PAIR}, |0><0| read: Delta > ||z - z'||_max",
         _of_pair(lambda s: moved(s, s.projectors), lambda s: (s.v - s.w).abs().max())),
        "||f - f'||_max <= max_k w_k ||z - z'||_2, at most sqrt(D) max_k w_k ||z - z'||_max",
        ("Eq. 18's corrected bound is of every entry, and its right side has the l2 norm.",
         "In D dimensions the l2 norm is up to sqrt(D) times the max norm."),
        "it fails for projectors too; no norm makes f subcontractive",
    ),
    Equation(
        "21", "||f(f(z)) - f(z)|| < ||f(z) - z|| unless z is a fixed point", equation_21,
        ("f(z) = z^2 at (4/5, 3/5): 6/5 > sqrt(2/5)", _steps_of_squaring),
        "false in general, and not needed: Brouwer's theorem gives the fixed point (Obs. 2)",
        ("Where it is true it is enough: on a compact set ||f(z) - z|| takes its least value, say at z0;",
         "were z0 no fixed point, f(z0) would have less."),
        "how often models violate it: table below",
    ),
    Equation(
        "22", "||f(f(z)) - f(z)|| = |tr(M (|f(z)><f(z)| - |z><z|))|, one observable", equation_22,
        ("RY(z), U = RY(pi/2), Z read, z = pi/2", _quarter_turn),
        "M~ = U^+ M U in place of M", ("Eq. 9 with z' = f(z).",),
    ),
    Equation(
        "end of A", "making lengths 1 before encoding changes distances", end_of_a,
        correction="||v/|v| - v'/|v'||| <= 2 ||v - v'|| / (|v| + |v'|): never longer if |v| + |v'| >= 2",
        proof=("With a, b the lengths and g the cosine between v and v',",
               "||v - v'||^2 - (a + b)^2/4 ||v/a - v'/b||^2 = (a - b)^2 (1 + g)/2 >= 0."),
        remark="by how much on models: table below",
    ),
)  # fmt: skip
