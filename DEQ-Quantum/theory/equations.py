"""Eqs. 6 to 56 of arXiv 2410.23940 (Observation 2, Appendices A to D), one verdict each, computed and not asserted.

Each equation has a check that returns gaps: by how much a statement is violated at worst over random circuits and
encodings and its counterexample, at most round-off where it is true.

    holds                     the statement as printed is true under the assumptions of the text around it
    holds with a correction   it is not, but a corrected one is, and so is what the paper draws from it
    fails                     what the paper draws from it is false too

This module knows what a verdict is; the statements are in `appendix_a.py` to `appendix_d.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from theory.trials import Trials

ROUND_OFF = 1e-11
HOLDS, CORRECTED, FAILS = "holds", "holds with a correction", "fails"


class CorrectionError(Exception):
    """A corrected statement that is violated itself."""


@dataclass(frozen=True)
class Gaps:
    """Largest violations: left - right of an inequality, |left - right| of an equality.

    Attributes:
        printed: of the statement as printed.
        corrected: of the corrected statement; None where there is none.
        conclusion: of what the paper draws from it; None: the corrected statement is that.
    """

    printed: float
    corrected: float | None = None
    conclusion: float | None = None

    def verdict(self) -> str:
        """One of the three.

        Raises:
            CorrectionError: the statement is false and no true one is put in its place.
        """
        if self.corrected is not None and not self.corrected <= ROUND_OFF:
            raise CorrectionError(f"the corrected statement is violated by {self.corrected:.3g}")
        if self.printed <= ROUND_OFF:
            return HOLDS
        if self.conclusion is not None and not self.conclusion <= ROUND_OFF:
            return FAILS
        if self.corrected is None:
            raise CorrectionError(f"violated by {self.printed:.3g}, and there is no corrected statement")
        return CORRECTED


@dataclass(frozen=True)
class Equation:
    """What the table says of one equation.

    Attributes:
        number: as in the paper; or the place in the text.
        says: the statement, in our notation (`results/paper/theory/equations.md` explains it).
        check: measures the gaps.
        counterexample: the smallest to the printed statement, and its two sides, computed.
        correction: the corrected statement.
        proof: of the corrected statement, in at most five lines.
        remark: what else is worth knowing.
    """

    number: str
    says: str
    check: Callable[[Trials], Gaps]
    counterexample: tuple[str, Callable[[], tuple[float, float]]] | None = None
    correction: str = ""
    proof: tuple[str, ...] = ()
    remark: str = ""

    def measure(self, trials: Trials) -> dict:
        """The row of the table as data."""
        gaps = self.check(trials)
        row = {"equation": self.number, "says": self.says, "verdict": gaps.verdict(), **vars(gaps)}
        if self.counterexample is not None:
            text, sides = self.counterexample
            left, right = sides()
            row["counterexample"] = {"text": text, "left": left, "right": right}
        return row | {"correction": self.correction, "proof": list(self.proof), "remark": self.remark}
