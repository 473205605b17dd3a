"""Eqs. 35 to 42: a product of 1 - sin a, 1 - sin b against 1 - sin(a + b). Trigonometry alone, no states.

The sign slip of Eq. 36 is not carried on: Eqs. 39 to 41 have another. What Eq. 45 needs is true with its condition put
right, tan(a/2) + tan(b/2) <= 1.
"""

import math

import torch
from torch import Tensor

from theory.equations import Equation, Gaps
from theory.trials import Trials


def _sines(trials: Trials) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """sin a, cos a, sin b, cos b of a, b in (0, 1)."""
    a, b = trials.uniform[:2]
    return a.sin(), a.cos(), b.sin(), b.cos()


def equation_35(trials: Trials) -> Gaps:
    sin_a, cos_a, sin_b, cos_b = _sines(trials)
    return Gaps(((trials.uniform[0] + trials.uniform[1]).sin() - (sin_a * cos_b + sin_b * cos_a)).abs().max().item())


def _used(trials: Trials) -> float:
    """Eq. 42 where Eq. 45 uses it: a + b <= 1."""
    a, b = trials.uniform[:2]
    return _product_gap(a * (1 - b), b * (1 - a)).max().item()


def _product_gap(a: Tensor, b: Tensor) -> Tensor:
    return 1 - (a + b).sin() - (1 - a.sin()) * (1 - b.sin())


def equation_36(trials: Trials) -> Gaps:
    sin_a, _, sin_b, _ = _sines(trials)
    left = (1 - sin_a) * (1 - sin_b)
    gaps = [(left - (1 - sin_a - sin_b + factor * sin_a * sin_b)).abs().max().item() for factor in (-2, 1)]
    return Gaps(*gaps, _used(trials))


def equation_38(trials: Trials) -> Gaps:
    """What is added is 0."""
    return equation_35(trials)


def equation_39(trials: Trials) -> Gaps:
    """The three terms of Eqs. 39 to 41 add up to the left side only with sin b / 2 and sin a / 2 in the brackets."""
    sin_a, cos_a, sin_b, cos_b = _sines(trials)
    left, first = (1 - sin_a) * (1 - sin_b), 1 - (trials.uniform[0] + trials.uniform[1]).sin()
    gaps = []
    for share in (1, 0.5):
        terms = first + sin_a * (cos_b + share * sin_b - 1) + sin_b * (cos_a + share * sin_a - 1)
        gaps.append((left - terms).abs().max().item())
    return Gaps(*gaps, _used(trials))


def equation_42(trials: Trials) -> Gaps:
    a, b = trials.uniform[:2]
    printed = _product_gap(a, b).max().item()
    wider = math.pi / 2 * torch.stack([a * (1 - b), b])  # a + b <= pi / 2
    equivalent = ((a / 2).tan() + (b / 2).tan() > 1) == (_product_gap(a, b) > 0)
    clear = _product_gap(a, b).abs() > 1e-14
    corrected = _product_gap(*wider).max().item() if not (~equivalent & clear).any() else math.inf
    return Gaps(printed, corrected, _used(trials))


def _pythagorean(factor: float, share: float | None = None) -> tuple[float, float]:
    """Both sides at sin a = sin b = 4/5, cos a = cos b = 3/5; share None: of Eq. 36, else of Eqs. 39 to 41."""
    sine, cosine = 0.8, 0.6
    right = 1 - 2 * sine + factor * sine**2
    if share is not None:
        right = 1 - 2 * sine * cosine + 2 * sine * (cosine + share * sine - 1)
    return (1 - sine) ** 2, right


def _at_7_13() -> tuple[float, float]:
    """tan(a/2) = 7/13: sin a = 91/109 and cos a = 60/109, so (18/109)^2 and (31/109)^2."""
    a = 2 * math.atan(7 / 13)
    return (1 - math.sin(a)) ** 2, 1 - math.sin(2 * a)


SLIP = "a = b = arcsin 4/5"
EXPANDED = ("Multiply out.",)
TERMS = ("(1 - sin a)(1 - sin b) = 1 - sin a - sin b + sin a sin b; subtract 1 - sin a cos b - sin b cos a.",
         "What is left is sin a (cos b - 1) + sin b (cos a - 1) + sin a sin b, split evenly.")  # fmt: skip
BRACKET = "half the sine in the bracket; it is then negative from tan(b/2) > 1/2 on, b > 0.93"
SUM = (f"{SLIP}: 1/25 is not the sum of Eqs. 39 to 41", lambda: _pythagorean(0, 1))
PROOF_42 = ("With s = sin a sin b, left - right = s - sin a (1 - cos b) - sin b (1 - cos a),",
            "which is s (1 - tan(a/2) - tan(b/2)), since (1 - cos b) / sin b = tan(b/2).",
            "So it holds, for a, b in (0, pi), just where tan(a/2) + tan(b/2) <= 1.",
            "tan is convex, so on a + b <= pi/2 the sum is largest at an end: tan 0 + tan(pi/4) = 1.")  # fmt: skip

EQUATIONS = (
    Equation("35", "sin(a + b) = sin a cos b + sin b cos a", equation_35),
    Equation("36", "(1 - sin a)(1 - sin b) = 1 - sin a - sin b - 2 sin a sin b", equation_36,
             (f"{SLIP}: 1/25 is not -47/25", lambda: _pythagorean(-2)), "+ sin a sin b", EXPANDED),
    Equation("37", "= 1 - sin a - sin b - 2 sin a sin b", equation_36,
             (f"{SLIP}: 1/25 is not -47/25", lambda: _pythagorean(-2)), "+ sin a sin b", EXPANDED),
    Equation("38", "+ sin a cos b + sin b cos a - sin(a + b)", equation_38, remark="adds 0"),
    Equation("39", "= 1 - sin(a + b)", equation_39, SUM, "with Eqs. 40 and 41 corrected", TERMS),
    Equation("40", "+ sin a (cos b + sin b - 1)", equation_39, SUM,
             f"+ sin a (cos b + sin b / 2 - 1): {BRACKET}", TERMS),
    Equation("41", "+ sin b (cos a + sin a - 1)", equation_39, SUM, "+ sin b (cos a + sin a / 2 - 1)", TERMS),
    Equation(
        "42", "(1 - sin a)(1 - sin b) >= 1 - sin(a + b) for a, b in (0, 1)", equation_42,
        ("tan(a/2) = tan(b/2) = 7/13, a = 0.988: 18^2 < 31^2, both over 109^2", _at_7_13),
        "for tan(a/2) + tan(b/2) <= 1, as wherever a + b <= pi/2; a = b = arcsin 4/5 is the border", PROOF_42,
    ),
)  # fmt: skip
