"""Eqs. 23 to 34 and 43 to 46: how much encoded states overlap, for amplitudes and for angles.

Notation as in `results/paper/theory/equations.md`. For amplitudes the overlap is an equality, 1 - d^2/2, so a lower
bound by the sine needs a larger c. For angles a proof takes the place of the paper's figure: each of at most four
rotations moves a qubit by half its change, so one wire's overlap is at least cos d, and products of cosines obey
prod cos d_k >= cos sqrt(sum d_k^2).
"""

import math

import torch
from torch import Tensor

from circuits.circuit import build_circuit
from engines.statevector import applied
from theory.equations import Equation, Gaps
from theory.overlaps import amplitude_states, angle_states
from theory.trials import N_WIRES, Sample, Trials

AMPLITUDE_C = 1 / math.sin(1)  # the least c with 1 - d^2/2 >= 1 - c/2 sin d^2 for all d <= 1
ANGLE_C = 2 * (1 - math.cos(1)) / math.sin(1)  # the least with cos d >= 1 - c/2 sin d^2 for all d <= 1


def strided(v: Tensor) -> Tensor:
    """Angles of each wire as the circuit takes them, entries k, k + Q, ...: (N, Q L) to (Q, N, L)."""
    return v.unflatten(1, (-1, N_WIRES)).permute(2, 0, 1)


def consecutive(v: Tensor) -> Tensor:
    """Angles of each wire as printed, four entries in a row: (N, 4 Q) to (Q, N, 4)."""
    return v.unflatten(1, (N_WIRES, -1)).transpose(0, 1)


def _product_states(groups: Tensor) -> Tensor:
    """Qubits side by side: (Q, N, L) angles to (N, 2^Q)."""
    state = torch.ones(groups.shape[1], 1, dtype=torch.complex128)
    for angles in groups:
        state = (state.unsqueeze(2) * angle_states(angles).unsqueeze(1)).flatten(1)
    return state


def _wires(s: Sample) -> tuple[Tensor, Tensor]:
    """Overlap and distance of each wire's qubit: (Q, N) each."""
    groups = zip(strided(s.v), strided(s.w))
    pairs = [((angle_states(a).conj() * angle_states(b)).sum(1).abs(), (a - b).norm(dim=1)) for a, b in groups]
    overlaps, distances = zip(*pairs)
    return torch.stack(overlaps), torch.stack(distances)


def _sine_gap(s: Sample, c: float) -> Tensor:
    """By how much the overlap lies below 1 - c/2 sin d^2: (N, 1)."""
    return 1 - c / 2 * s.distance.square().sin() - s.overlap


def equation_23(trials: Trials) -> Gaps:
    amplitude, angle = trials.amplitude, trials.angle
    printed = max(_sine_gap(amplitude, 1).max().item(), _sine_gap(angle, 2).max().item())
    corrected = max(_sine_gap(amplitude, AMPLITUDE_C).max().item(), _sine_gap(angle, ANGLE_C).max().item())
    return Gaps(printed, corrected, max(_squares_gap(amplitude), _squares_gap(angle)))


def _squares_gap(s: Sample) -> float:
    """1 - F - d^2, which Eq. 17 needs to be at most 0."""
    return (s.infidelity - s.distance.square()).max().item()


def _inner(s: Sample) -> Tensor:
    return (s.v * s.w).sum(1, keepdim=True)


def equation_24(trials: Trials) -> Gaps:
    return Gaps((trials.amplitude.overlap - _inner(trials.amplitude).abs()).abs().max().item())


def equation_25(trials: Trials) -> Gaps:
    gaps = []
    for s in trials.circuits:
        lengths = s.v.square().sum(1, keepdim=True) + s.w.square().sum(1, keepdim=True)
        gaps.append((s.distance.square() - (lengths - 2 * _inner(s))).abs().max().item())
    return Gaps(max(gaps))


def equation_26(trials: Trials) -> Gaps:
    s = trials.amplitude
    return Gaps((s.distance.square() - (2 - 2 * _inner(s))).abs().max().item())


def equation_27(trials: Trials) -> Gaps:
    """Also for pairs more than sqrt(2) apart: v and -w."""
    s = trials.amplitude
    far = (s.v + s.w).norm(dim=1, keepdim=True)
    gaps = [(s.overlap - (1 - distance.square() / 2).abs()).abs() for distance in (s.distance, far)]
    return Gaps(torch.cat(gaps).max().item())


def equation_28(trials: Trials) -> Gaps:
    s = trials.amplitude
    return Gaps((s.overlap - (1 - s.distance.square() / 2)).abs().max().item())


def equation_29(trials: Trials) -> Gaps:
    s = trials.amplitude
    return Gaps(_sine_gap(s, 1).max().item(), _sine_gap(s, AMPLITUDE_C).max().item(), _squares_gap(s))


def equation_30(trials: Trials) -> Gaps:
    s = trials.angle
    operations, size = s.layer.circuit.encoding.operations, 2**N_WIRES
    columns = torch.eye(size, dtype=torch.complex128).view(size, *(2,) * N_WIRES)
    gaps = []
    for v, w, overlap in zip(s.v[:20], s.w[:20], s.overlap[:20]):
        first, second = (applied(operations, angles, columns).flatten(1).T for angles in (v, w))
        gaps.append(((first.mH @ second)[0, 0].abs() - overlap).abs().item())
    return Gaps(max(gaps))


def equation_31(trials: Trials) -> Gaps:
    s = trials.angle
    printed, corrected = ((_product_states(group(s.v)) - s.psi).abs().max().item() for group in (consecutive, strided))
    return Gaps(printed, corrected)


def equation_32(trials: Trials) -> Gaps:
    return Gaps((_product_states(strided(trials.angle.w)) - trials.angle.phi).abs().max().item())


def equation_33(trials: Trials) -> Gaps:
    overlaps, _ = _wires(trials.angle)
    return Gaps((overlaps.prod(0) - trials.angle.overlap[:, 0]).abs().max().item())


def equation_34(trials: Trials) -> Gaps:
    """On every wire, and on qubits alone up to distance 1, along random directions and along those that turn most."""
    overlaps, distances = _wires(trials.angle)
    base, distance = 2 * math.pi * trials.uniform[:, : trials.uniform.shape[1] // 4].T, trials.uniform[0, -5000:, None]
    gaps = [1 - distances.square().sin() - overlaps]
    for direction in (trials.uniform[:, 5000:10000].T - 0.5, torch.ones(4).double() / 2):
        step = distance * direction / direction.norm(dim=-1, keepdim=True)
        for start in (base, torch.tensor([0.0, math.pi / 2, 0.0, 0.0]).double() + 0 * base):
            overlap = (angle_states(start).conj() * angle_states(start + step)).sum(1).abs()
            gaps.append(1 - distance[:, 0].square().sin() - overlap)
    return Gaps(max(gap.max().item() for gap in gaps))


def equation_44(trials: Trials) -> Gaps:
    _, distances = _wires(trials.angle)
    return Gaps(((1 - distances.square().sin()).prod(0) - trials.angle.overlap[:, 0]).max().item())


def equation_45(trials: Trials) -> Gaps:
    """For the pairs, and for four squared distances that add up to at most 1."""
    _, distances = _wires(trials.angle)
    shares = trials.uniform / trials.uniform.sum(0).clamp_min(1e-3)
    squares = (distances.square(), shares, shares * trials.uniform[0])
    gaps = [1 - t.sum(0).sin() - (1 - t.sin()).prod(0) for t in squares]
    return Gaps(max(gap.max().item() for gap in gaps))


def equation_46(trials: Trials) -> Gaps:
    s = trials.angle
    _, distances = _wires(s)
    same = (distances.square().sum(0) - s.distance[:, 0].square()).abs().max().item()
    return Gaps(max(same, _sine_gap(s, 2).max().item()), (s.distance.cos() - s.overlap).max().item())


def sixty_degrees() -> tuple[float, float]:
    """|<z|z'>| and 1 - sin(d^2) / 2 of (1, 0) and (1/2, sqrt(3)/2), d = 1."""
    v, w = amplitude_states(torch.tensor([[[1, 0]], [[1, math.sqrt(3)]]], dtype=torch.float64))
    return (v * w).sum().item(), 1 - (v - w).square().sum().sin().item() / 2


def _wire_of_entry_2() -> tuple[float, float]:
    """Counted from 1: in the circuit, and as printed."""
    operations = build_circuit(N_WIRES, "angle").encoding.operations
    (wire,) = (operation.wires[0] for operation in operations if operation.parameter == 1)
    return wire + 1.0, 1.0


UNIT = "for unit vectors"
PROOF_29 = ("Needed is t/2 <= c/2 sin t for t = d^2 in (0, 1], so c >= t / sin t.",
            "t / sin t rises, to 1 / sin 1 at t = 1: that c suffices, and no less does.",
            "Eq. 17 holds with c = 1 all the same: 1 - F = 1 - (1 - d^2/2)^2 = d^2 - d^4/4 <= d^2.")  # fmt: skip
PROOF_46 = ("A rotation by t moves a state by at most t/2 in the angle arccos |<.|.>|; four on a wire: by",
            "sum |t_l| / 2 <= d_k, so wire k overlaps by at least cos d_k.",
            "-log cos sqrt(u) is convex on [0, (pi/2)^2) and 0 at 0, so superadditive:",
            "prod_k cos d_k >= cos sqrt(sum_k d_k^2) = cos d, and T <= sin d <= d.",
            "cos d >= 1 - d^2/2 >= 1 - sin d^2, as sin t >= t/2 on [0, 1].")  # fmt: skip

EQUATIONS = (
    Equation(
        "23", "Eq. 14 once more, for d <= 1", equation_23,
        ("amplitudes, d = 1, 60 degrees: |<z|z'>| < 1 - sin(1)/2", sixty_degrees),
        f"c = 1/sin 1 = {AMPLITUDE_C:.4f} for amplitudes; c = {ANGLE_C:.4f} for angles", ("See Eqs. 29 and 46.",),
    ),
    Equation("24", f"amplitudes, {UNIT}: |<z|z'>| = |z . z'|", equation_24,
             remark="in the models z + x is no unit vector: end of A"),
    Equation("25", "d^2 = |z|^2 + |z'|^2 - 2 z . z'", equation_25),
    Equation("26", f"= 2 - 2 z . z' {UNIT}", equation_26),
    Equation("27", "so |<z|z'>| = |1 - d^2/2|", equation_27),
    Equation("28", "= 1 - d^2/2 for d <= 1", equation_28, remark="for d <= sqrt(2)"),
    Equation(
        "29", ">= 1 - sin(d^2)/2", equation_29,
        ("d = 1: 1/2 < 1 - sin(1)/2; and for every d in (0, 1]", sixty_degrees),
        "1 - d^2/2 >= 1 - sin(d^2) / (2 sin 1): c = 1/sin 1", PROOF_29, "sin t <= t is turned around",
    ),
    Equation("30", "angles: |<z|z'>| = |<0|S_z^+ S_z'|0>|", equation_30),
    Equation(
        "31", "wire k = 1, ..., Q is turned by entries 4k+1, ..., 4k+4 of z", equation_31,
        ("entry 2 of 16 turns wire 2, not wire 1; and counted from k = 1, k = Q has no entries", _wire_of_entry_2),
        "by entries k, k + Q, k + 2Q, ...: layer by layer, one rotation a wire", ("It is how the circuit is built.",),
        "any split of the entries serves Eqs. 32 to 46",
    ),
    Equation("32", "S_z is the tensor product of the wires' S", equation_32),
    Equation("33", "so overlaps multiply: |<z|z'>| = prod_k o_k", equation_33),
    Equation("34", "o_k >= 1 - sin d_k^2 for one wire, d_k <= 1 (numerical in the paper)", equation_34,
             correction="o_k >= cos d_k", proof=PROOF_46, remark="proved; n rotations a wire: cos(sqrt(n) d_k / 2)"),
    Equation("43", "Eq. 33 once more", equation_33),
    Equation("44", ">= prod_k (1 - sin d_k^2)", equation_44),
    Equation("45", ">= 1 - sin(sum_k d_k^2)", equation_45,
             remark="by Eq. 42 as corrected: the d_k^2 add up to d^2 <= 1"),
    Equation("46", "= 1 - sin d^2, c = 2", equation_46,
             correction="|<z|z'>| >= cos d, so T <= d as for amplitudes: the factor of 2 that c = 2 costs is not there",
             proof=PROOF_46, remark="n rotations a wire: T <= sqrt(n) d / 2"),
)  # fmt: skip
