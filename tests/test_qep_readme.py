"""The page on quantum equilibrium propagation keeps its word: example, numbers, honest files."""

import json
import re
from statistics import mean

import pytest

from conftest import REPOSITORY
from readme_pages import examples, numbers, run_example

PAGE = "results/qep/README.md"
FILES = sorted((REPOSITORY / "results" / "qep").rglob("*.json"))


def kept(name: str) -> dict:
    return json.loads((REPOSITORY / "results" / "qep" / name).read_text())


def runs(task: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in FILES if path.parent.name == task]


def test_the_example_runs():
    *_, example = examples("README.md")
    printed = run_example(example)
    assert printed.startswith("tensor([") and "grad_fn" not in printed


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(path.parts[-2:]))
def test_results_say_where_they_come_from(path):
    content = json.loads(path.read_text())
    assert {"seed", "git_commit", "date", "device", "torch"} <= set(content)
    assert re.fullmatch(r"[0-9a-f]{12}", content["git_commit"])  # committed source, nothing changed


def test_tasks_are_learnt():
    assert all(run["test_acc"] == 1 for run in runs("xor"))
    assert all(run["test_cost"] < run["first_val_cost"] / 100 for run in runs("teacher"))
    assert all(run["test_acc"] >= 0.92 for run in runs("mnist4"))
    seeds = {estimator: [run["seed"] for run in runs("mnist4") if run["estimator"] == estimator]
             for estimator in ("centred", "exact")}  # fmt: skip
    assert seeds["centred"] == seeds["exact"] == [0, 1, 2]


def test_accuracies_of_the_first_page():
    centred, exact = ([run for run in runs("mnist4") if run["estimator"] == name] for name in ("centred", "exact"))
    accuracies = [mean(run["test_acc"] for run in group) for group in (centred, exact)]
    accuracies.append(mean(run["linear_test_acc"] for run in centred))
    assert numbers("README.md", "eight spins") == [f"{100 * accuracy:.2f}" for accuracy in accuracies]


def test_tasks_are_described():
    (n_train,) = {run["n_train"] for run in runs("mnist4")}
    (epochs,) = {run["epochs"] for run in runs("mnist4")}
    assert numbers(PAGE, "MNIST-4:") == [f"{epochs:.0f}", f"{n_train:,}"]
    distances = [100 * run["map_distance"] for run in runs("oscillators")]
    assert numbers(PAGE, "Oscillators:") == [f"{min(distances):.1f}", f"{max(distances):.1f}"]
    assert {run["beta"] for run in runs("xor")} == {float(numbers(PAGE, "expectation values are exact")[0])}


def test_errors_with_shots():
    best = {row["shots"]: row for row in kept("gradient_error.json")["best"] if row["estimator"] == "centred"}
    few, many = best[min(best)], best[max(best)]
    expected = [f"{few['beta']:g}", str(few["shots"]), f"{100 * few['error']:.0f}",
                f"{many['beta']:g}", f"{many['shots']:,}", f"{100 * many['error']:.1f}"]  # fmt: skip
    assert numbers(PAGE, "drowns it") == expected


def test_times():
    points = {p["n_spins"]: p["median"] for p in kept("time.json")["points"]
              if (p["solver"], p["estimator"]) == ("krylov", "centred")}  # fmt: skip
    few, many = min(points), max(points)
    expected = [str(few), str(many), str(2 ** (many - few)), f"{points[many] / points[few]:.0f}"]
    assert numbers(PAGE, "state space grows")[:4] == expected
