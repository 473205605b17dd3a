"""The table of Eqs. 6 to 56: all rows in the paper's order, as data and as Markdown."""

import re
from collections import Counter

import torch

from theory import appendix_a, appendix_a_contraction, appendix_b, appendix_b_sines, appendix_c, appendix_d, trials
from theory.equations import CORRECTED, FAILS, HOLDS, Equation
from utils.markdown import markdown_table

APPENDICES = (appendix_a, appendix_a_contraction, appendix_b, appendix_b_sines, appendix_c, appendix_d)
PLACES = {"Obs. 2": 5, "after 13": 13.5, "end of A": 22.5}  # of what has no number
NOTATION = """\
f(z; x) = E r(z + x): r_k readouts of M_k after S_z, which encodes, and U; E, the lift, repeats each readout.
M~ = U^+ M U. w is M's largest less its smallest eigenvalue: 2 of a Pauli string, 1 of a projector. rho, rho' are the
states of z, z'; F = |<z|z'>|^2; T = ||rho - rho'||_1 / 2, the trace distance, sqrt(1 - F) here. d = ||z - z'||_2; d_k
and o_k are the distance and the overlap on wire k. For amplitudes z and z' are unit vectors, unless lengths are spoken
of."""
VERDICTS = f"""\
- **{HOLDS}**: the statement as printed is true under the assumptions of the text around it.
- **{CORRECTED}**: it is not, but a corrected one is, and so is what the paper draws from it.
- **{FAILS}**: what the paper draws from it is false too."""


def all_equations() -> list[Equation]:
    """Every row, in the paper's order."""
    rows = [equation for appendix in APPENDICES for equation in appendix.EQUATIONS]
    return sorted(rows, key=lambda row: float(PLACES.get(row.number, row.number)))


def measure(generator: torch.Generator) -> list[dict]:
    """All rows as data, on random circuits and pairs; circuits' parameters come from torch's global generator."""
    tried_on = trials.draw(generator)
    return [equation.measure(tried_on) for equation in all_equations()]


def other_verdicts(generator: torch.Generator, **layers) -> dict[str, str]:
    """Verdicts on the circuits of given layers on four wires, by encoding, where they are others than on random ones."""
    if not layers:
        return {}
    on_random, on_layers = trials.draw(generator), trials.draw(generator, **layers)
    found = {row.number: [row.check(tried_on).verdict() for tried_on in (on_random, on_layers)] for row in all_equations()}
    return {number: on_layer for number, (on_circuit, on_layer) in found.items() if on_layer != on_circuit}


def counts(rows: list[dict]) -> Counter:
    """How many of Eqs. 6 to 56 have each verdict; what has no number is not counted."""
    return Counter(row["verdict"] for row in rows if row["equation"].isdigit())


def markdown(measured: dict) -> str:
    """The page of the equations: table, proofs, what is found on models.

    Args:
        measured: "rows" as of `measure`, "models" as of `on_models.measure`.
    """
    rows = measured["rows"]
    found = counts(rows)
    summary = ", ".join(f"{found[verdict]} {verdict}" for verdict in (HOLDS, CORRECTED, FAILS))
    table = markdown_table(
        ["equation", "says", "verdict", "counterexample: left, right", "corrected", "violated by at most: printed",
         "corrected", "remark"],
        [[row["equation"], _escaped(row["says"]), row["verdict"], _counterexample(row), _escaped(row["correction"]),
          _number(row["printed"]), _number(row["corrected"]), _escaped(row["remark"])] for row in rows],
    )  # fmt: skip
    proofs = "\n".join(
        f"- **{row['equation']}** {_escaped(' '.join(row['proof']))}" for row in rows if len(row["proof"]) > 0
    )
    return (
        f"# Eqs. 6 to 56, one by one\n\n{_escaped(NOTATION)}\n\n{VERDICTS}\n\nOf the {sum(found.values())} equations: "
        f"{summary}. Violations are the largest left less right side over pairs of inputs, encodings, random circuits of "
        "three ansaetze on four wires, the pair of the counterexamples and basis states; below 0 a margin, 0 or about 1e-16 "
        f"attained. Verdicts are computed from them by `theory/equations.py`; {_on_trained(measured['trained'])}\n\n{table}\n\n## Proofs of the corrected statements\n\n{proofs}\n\n"
        f"{_models(measured['models'])}\n"
    )


def _on_trained(others: dict[str, str]) -> str:
    if not others:
        return "with the circuits of the trained four-qubit models they are the same."
    told = ", ".join(f"Eq. {number}: {verdict}" for number, verdict in others.items())
    return f"with the circuits of the trained four-qubit models other ones for {told}."


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is, also in a table; entities where not all dialects take a backslash."""
    entities = text.replace("<", "&lt;").replace(">", "&gt;").replace("~", "&#126;")
    return re.sub(r"([|*_\[\]])", r"\\\1", entities)


def _counterexample(row: dict) -> str:
    if "counterexample" not in row:
        return ""
    found = row["counterexample"]
    return f"{_escaped(found['text'])}: {found['left']:.4g}, {found['right']:.4g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _models(models: list[dict]) -> str:
    lengths, slopes = [], []
    for entry in models:
        found = entry["renormalisation"]
        name = [entry["subject"], entry["state"]]
        if found is not None:
            pairs = [f"{found['pairs'][kind]['mean']:.2f}, {found['pairs'][kind]['largest']:.2f}"
                     for kind in ("anywhere", "lifted readouts")]  # fmt: skip
            lengths.append([*name, f"{found['shortest']:.2f} to {found['longest']:.2f}", f"{found['mean_factor']:.2f}",
                            f"{found['largest_factor']:.2f}", *pairs])  # fmt: skip
        steps = entry["steps"].values()
        slopes.append([*name, *(f"{entry['slopes'][number]['mean']:.2f}, {_percent(entry['slopes'][number])}"
                                for number in ("18", "19", "20")),
                       *(f"{100 * start['share_of_steps']:.1f} %, {100 * start['share_of_images']:.1f} %"
                         for start in steps)])  # fmt: skip
    return (
        "## On models: renormalisation\n\n"
        "Amplitude encoding sees v / |v|, v = z + x. How long v is at the equilibria, the factor 1 / |v| on small "
        "distances there, and the factor on distances of pairs of states with z drawn at random, which know of the model its "
        "lift and images alone (mean, largest). Below 1 renormalising brings states closer, so it helps.\n\n"
        + markdown_table(["model", "state", "length of v", "1 / length, mean", "largest", "pairs anywhere",
                          "pairs of lifted readouts"], lengths)
        + "\n\n## On models: slopes and steps\n\n"
        "At the equilibria, per unit of the encoded vector (of length 1 under amplitudes): the longest gradient of a "
        "readout (Eq. 18), the l2 norm over sqrt(K) (Eq. 19), the max norm (Eq. 20); mean over images, and the share "
        "of images above 1, where the equation as printed is violated. Last, how many Picard steps are no "
        "shorter than the one before (Eq. 21), and on how many images there is one.\n\n"
        + markdown_table(["model", "state", "Eq. 18", "Eq. 19", "Eq. 20", "Eq. 21 violated, from z = 0",
                          "from random readouts"], slopes)
    )  # fmt: skip


def _percent(found: dict) -> str:
    return f"{100 * found['share_above_1']:.0f} %"
