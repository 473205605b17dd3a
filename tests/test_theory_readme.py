"""The page on the theory has the numbers of the committed measurements, and so does their report."""

import json
import re

import pytest

from conftest import REPOSITORY
from readme_pages import numbers
from reproduction.command_line import parse_command_line
from theory.report import markdown

PAGE = "results/paper/theory/README.md"
FOLDER = REPOSITORY / "results" / "paper" / "theory"
PARTS = ("overlaps", "contraction", "construction", "fixed_points", "convergence", "gradient", "ablations",
         "equations")  # fmt: skip
KEPT = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in PARTS}
MEASURED = {name: content["measured"] for name, content in KEPT.items()}


def scientific(value: float, digits: int = 0) -> str:
    """As 2e-8, with so many digits after the point."""
    return re.sub(r"e-0", "e-", f"{value:.{digits}e}")


def states(subject: str) -> dict[str, dict]:
    """The Jacobian's measures at the equilibria of a model, untrained and trained."""
    return {entry["state"]: entry["at_equilibrium"] for entry in MEASURED["contraction"] if entry["subject"] == subject}


def test_the_report_is_that_of_the_committed_files():
    assert (FOLDER / "theory.md").read_text() == markdown(MEASURED, KEPT)


def test_results_say_where_they_come_from():
    made_from = KEPT["overlaps"]["made_from"]
    for name, content in KEPT.items():
        assert re.fullmatch(r"[0-9a-f]{12}", content["git_commit"]), name  # committed source, nothing changed
        assert content["made_from"]["seed"] == made_from["seed"] and content["made_from"]["plan"] == made_from["plan"]
    plan = made_from["plan"]
    assert (plan["dataset"], plan["epochs"]) == ("mnist", 5)
    n_images = MEASURED["contraction"][0]["n_images"]
    assert numbers(PAGE, "On MNIST, seed") == [str(made_from["seed"]), str(n_images), str(plan["ablation_epochs"])]


def test_its_time_is_what_was_measured(capsys):
    minutes = f"{sum(content['seconds'] for content in KEPT.values()) / 60:.0f}"
    with pytest.raises(SystemExit):
        parse_command_line(["theory", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert numbers(PAGE, "one core") == [minutes] == re.findall(r"(\d+) minutes of one core", said)


def test_overlaps():
    bounds = {encoding: found["bounds"] for encoding, found in MEASURED["overlaps"].items()}
    assert numbers(PAGE, "random pairs")[0] == str(MEASURED["overlaps"]["angle"]["n_pairs"])
    assert not any(bound["pairs_below"] for bound in bounds["angle"])
    below = {bound["bound"]: bound["pairs_below"] for bound in bounds["amplitude"]}
    assert below.pop("1 - sin(d^2), the paper's") > 0 and not any(below.values())


def test_contraction():
    entries = MEASURED["contraction"]
    quantum = [entry["at_equilibrium"] for entry in entries if "qubits" in entry["subject"]]
    assert all(entry["at_equilibrium"]["n_images"] == entries[0]["n_images"] for entry in entries)
    assert not any(ratio["violations"] for entry in entries for ratio in entry["ratios"])
    assert not any(at[norm]["violations"] for at in quantum for norm in ("norm_l2", "norm_max"))
    assert all(at["norm_l2"]["largest_bound"] > 1 for at in quantum)  # "those of the quantum models exceed 1"
    ten = states("10 classes, 10 qubits, amplitude").values()
    assert all(at["spectral_radius"]["share_below_1"] == 1 for at in ten)  # "below 1 on all images with ten qubits"
    norms = [at["norm_l2"]["mean"] for at in quantum]
    radii = [at["spectral_radius"]["mean"] for at in quantum]
    shares = [
        states(f"4 classes, 4 qubits, {encoding}")["untrained"]["spectral_radius"]["share_below_1"]
        for encoding in ("amplitude", "angle")
    ]
    assert all(states(f"4 classes, 4 qubits, {encoding}")["trained, 5 epochs"]["spectral_radius"]["share_below_1"] == 1
               for encoding in ("amplitude", "angle"))  # fmt: skip
    expected = ["1", f"{min(norms):.1f}", f"{max(norms):.1f}", f"{min(radii):.2f}", f"{max(radii):.2f}", "1",
                *(f"{100 * share:.0f}" for share in shares), "1"]  # fmt: skip
    assert numbers(PAGE, "f is no contraction in norm") == expected


def test_contraction_of_the_classical_model():
    classical = states("4 classes, classical")["trained, 5 epochs"]
    norm = classical["norm_l2"]
    found = numbers(PAGE, "classical equilibrium model")
    assert found[-3:] == [f"{norm['largest']:.1f}", f"{norm['mean']:.1f}", "1"]
    assert classical["spectral_radius"]["share_below_1"] == 1


def test_fixed_points():
    amplitude, angle = MEASURED["fixed_points"]
    share = f"{100 * angle['share_with_one_fixed_point']:.2f}"
    assert numbers(PAGE, "one fixed point") == [str(amplitude["n_samples"]), share]
    assert amplitude["share_with_one_fixed_point"] == 1
    assert all(found["n_samples_with_two_ends"] == found["n_samples"] for found in (amplitude, angle))


def test_theorem_3():
    cases = MEASURED["construction"]
    differences = [case[name] for case in cases for name in ("all_blocks_difference", "one_circuit_difference")]
    largest = max(difference for difference in differences if difference is not None)
    (quoted,) = numbers(PAGE, "round-off")
    assert float(quoted) / 2 < largest <= float(quoted) < 1e-14
    assert all(case["solver_steps"] == case["n_layers"] for case in cases)
    assert not any(case["residual_after_L"] or case["jacobian_power_L"] for case in cases)


def test_gradient():
    errors = [found["against_finite_differences"] for found in MEASURED["gradient"]]
    largest = max(error[name] for error in errors for name in ("exact", "Broyden", "Anderson"))
    costs = [found["forward_tolerance"]["1e-03"] for found in MEASURED["gradient"]]
    expected = [scientific(largest, 1), "1e-3", scientific(min(costs)), scientific(max(costs))]
    assert numbers(PAGE, "finite differences") == expected


def test_ablations():
    found = {(entry["ablation"], entry["label"]): entry for entry in MEASURED["ablations"]}
    assert {entry["epochs"] for entry in found.values()} == {KEPT["overlaps"]["made_from"]["plan"]["ablation_epochs"]}
    accuracy = {label: 100 * found["solver cap", label]["acc"]["mean"] for label in ("1", "5", "10", "20")}
    alike = [accuracy[label] for label in ("5", "10", "20")]
    assert max(alike) - min(alike) < 2
    radii = [found["Jacobian weight", label]["spectral_radius"]["mean"] for label in ("0", "2")]
    assert radii[1] < 0.6 * radii[0]  # "halves"
    expected = [
        str(len(MEASURED["ablations"][0]["seeds"])),
        f"{accuracy['10'] - accuracy['1']:.0f}",
        f"{100 * found['solver cap', '1']['acc']['std']:.0f}",
        "2",
        "2",
        *(f"{radius:.2f}" for radius in radii),
        f"{100 * found['start of the parameters', 'all zero']['acc']['mean']:.0f}",
    ]
    assert numbers(PAGE, "Ablations") == expected
