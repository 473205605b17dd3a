"""The README's section on the theory says what the committed measurements say, and so does their report."""

import json
import re
import subprocess
import sys

from conftest import REPOSITORY, SCRIPTS
from theory.report import markdown

FOLDER = REPOSITORY / "results" / "paper" / "theory"
PARTS = ("overlaps", "contraction", "construction", "fixed_points", "convergence", "gradient", "ablations")
KEPT = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in PARTS}
MEASURED = {name: content["measured"] for name, content in KEPT.items()}
SECTION = (REPOSITORY / "README.md").read_text().split("## Checks of the theory\n")[1].split("\n## ")[0]
TEXT = re.sub(r"\s+", " ", SECTION.replace("**", ""))


def scientific(value: float, digits: int = 0) -> str:
    """As 2e-8, with so many digits after the point."""
    return re.sub(r"e-0", "e-", f"{value:.{digits}e}")


def states(subject: str) -> dict[str, dict]:
    """The Jacobian's measures at the equilibria of a model, untrained and trained."""
    return {entry["state"]: entry["at_equilibrium"] for entry in MEASURED["contraction"] if entry["subject"] == subject}


def test_the_report_is_that_of_the_committed_files():
    assert (FOLDER / "theory.md").read_text() == markdown(MEASURED, KEPT)


def test_results_say_where_they_come_from():
    for name, content in KEPT.items():
        assert re.fullmatch(r"[0-9a-f]{12}", content["git_commit"]), name  # committed source, nothing changed
        assert (
            content["made_from"]["seed"] == 0 and content["made_from"]["plan"] == KEPT["overlaps"]["made_from"]["plan"]
        )
    plan = KEPT["overlaps"]["made_from"]["plan"]
    assert (plan["dataset"], plan["epochs"], plan["ablation_epochs"]) == ("mnist", 5, 3)
    assert "after five epochs" in TEXT and "What the checks say, on MNIST, seed 0," in TEXT


def test_its_time_is_what_was_measured():
    words = f"about {sum(content['seconds'] for content in KEPT.values()) / 60:.0f} minutes of one core"
    command = [sys.executable, str(SCRIPTS / "reproduce.py"), "theory", "--help"]
    help_text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert words in TEXT and words in " ".join(help_text.split())


def test_overlaps():
    bounds = {encoding: found["bounds"] for encoding, found in MEASURED["overlaps"].items()}
    assert f"All {MEASURED['overlaps']['angle']['n_pairs']} random pairs of angle-encoded vectors" in TEXT
    assert not any(bound["pairs_below"] for bound in bounds["angle"])
    below = {bound["bound"]: bound["pairs_below"] for bound in bounds["amplitude"]}
    assert below.pop("1 - sin(d^2), the paper's") > 0 and not any(below.values())


def test_contraction():
    entries = MEASURED["contraction"]
    quantum = [entry["at_equilibrium"] for entry in entries if "qubits" in entry["subject"]]
    assert f"{entries[0]['n_images']} test images a model" in TEXT
    assert all(entry["at_equilibrium"]["n_images"] == entries[0]["n_images"] for entry in entries)
    assert not any(ratio["violations"] for entry in entries for ratio in entry["ratios"])
    assert not any(at[norm]["violations"] for at in quantum for norm in ("norm_l2", "norm_max"))
    assert all(at["norm_l2"]["largest_bound"] > 1 for at in quantum)
    norms = [at["norm_l2"]["mean"] for at in quantum]
    assert f"is {min(norms):.1f} to {max(norms):.1f} on average for the quantum models" in TEXT
    radii = [at["spectral_radius"]["mean"] for at in quantum]
    assert f"spectral radius is {min(radii):.2f} to {max(radii):.2f} on average" in TEXT
    ten = states("10 classes, 10 qubits, amplitude").values()
    assert "below 1 on all images with 10 qubits" in TEXT and all(
        at["spectral_radius"]["share_below_1"] == 1 for at in ten
    )
    amplitude, angle = (
        states(f"4 classes, 4 qubits, {encoding}")["trained, 5 epochs"]["spectral_radius"]["share_below_1"]
        for encoding in ("amplitude", "angle")
    )
    assert f"on {100 * amplitude:.0f} % (amplitude) and {100 * angle:.0f} % (angle) of those" in TEXT
    classical = states("4 classes, classical")["trained, 5 epochs"]
    norm = classical["norm_l2"]
    assert f"l2 norm of df/dz reaches {norm['largest']:.1f} ({norm['mean']:.1f} on average)" in TEXT
    assert "its spectral radius is below 1 on every image" in TEXT and classical["spectral_radius"]["share_below_1"] == 1


def test_fixed_points():
    amplitude, angle = MEASURED["fixed_points"]
    words = f"one fixed point in every one of {amplitude['n_samples']} random cases, angle encoding in "
    assert words + f"{100 * angle['share_with_one_fixed_point']:.2f} %" in TEXT
    assert amplitude["share_with_one_fixed_point"] == 1
    assert all(found["n_samples_with_two_ends"] == found["n_samples"] for found in (amplitude, angle))


def test_theorem_3():
    cases = MEASURED["construction"]
    differences = [case[name] for case in cases for name in ("all_blocks_difference", "one_circuit_difference")]
    largest = max(difference for difference in differences if difference is not None)
    (quoted,) = re.findall(r"holds to round-off \(at most (\S+),", TEXT)
    assert float(quoted) / 2 < largest <= float(quoted) < 1e-14
    assert all(case["solver_steps"] == case["n_layers"] for case in cases)
    assert not any(case["residual_after_L"] or case["jacobian_power_L"] for case in cases)


def test_gradient():
    errors = [found["against_finite_differences"] for found in MEASURED["gradient"]]
    largest = max(error[name] for error in errors for name in ("exact", "Broyden", "Anderson"))
    assert f"to {scientific(largest, 1)} or better with exact, Broyden and Anderson" in TEXT
    costs = [found["forward_tolerance"]["1e-03"] for found in MEASURED["gradient"]]
    assert f"1e-3 costs it {scientific(min(costs))} to {scientific(max(costs))}." in TEXT


def test_ablations():
    found = {(entry["ablation"], entry["label"]): entry for entry in MEASURED["ablations"]}
    accuracy = {label: 100 * found["solver cap", label]["acc"]["mean"] for label in ("1", "5", "10", "20")}
    first = MEASURED["ablations"][0]
    assert f"({first['epochs']} epochs of MNIST-4, {len(first['seeds'])} seeds)" in TEXT
    spread = 100 * found["solver cap", "1"]["acc"]["std"]
    words = f"costs {accuracy['10'] - accuracy['1']:.0f} points of accuracy against ten, with a spread of {spread:.0f}"
    assert words in TEXT
    alike = [accuracy[label] for label in ("5", "10", "20")]
    assert "five, ten and twenty lie within 2 points" in TEXT and max(alike) - min(alike) < 2
    radius = [found["Jacobian weight", label]["spectral_radius"]["mean"] for label in ("0", "2")]
    assert f"({radius[0]:.2f} to {radius[1]:.2f})" in TEXT
    zero = 100 * found["start of the parameters", "all zero"]["acc"]["mean"]
    assert f"even all at zero ({zero:.0f} %)" in TEXT
