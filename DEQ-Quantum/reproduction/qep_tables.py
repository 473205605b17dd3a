"""Markdown tables of finished QEP runs and of the time study, from their JSON files. Torch-free."""

from utils.markdown import markdown_table
from utils.statistics import mean_and_spread

# what makes two runs the same but for the seed
SAME = ("task", "num_classes", "n_spins", "graph", "cost", "estimator", "beta", "shots", "epochs", "n_train")
NEEDED = {*SAME, "seed", "test_cost", "first_val_cost", "seconds_per_sample", "cosine_min"}
HEADER = ("task", "size", "gradient", "test accuracy, %", "test cost", "cost at start", "smallest cosine", "classical",
          "ms a sample", "seeds")  # fmt: skip
METHODS = {"exact": "exact response", "holomorphic": "QEP holomorphic"}
DASH = "-"


def run_table(results: list[dict]) -> str:
    """One row for runs that differ in their seed only, in the order in which their first runs come."""
    rows: dict[tuple, list[dict]] = {}
    for result in results:
        rows.setdefault(tuple(result[name] for name in SAME), []).append(result)
    return markdown_table(HEADER, map(_row, rows.values()))


def _row(runs: list[dict]) -> list[str]:
    first = runs[0]

    def cell(name: str, form: str, scale: float = 1.0) -> str:
        return mean_and_spread([run[name] for run in runs]).text(form, scale) if name in first else DASH

    classical = DASH
    if "linear_test_acc" in first:
        classical = f"linear classifier {cell('linear_test_acc', '.2f', 100)} %"
    elif "least_squares_test_cost" in first:
        classical = f"least squares {cell('least_squares_test_cost', '.2e')}"
    compared = [run["cosine_min"] for run in runs if run["cosine_min"] is not None]
    n_classes = first["num_classes"]
    return [
        f"{first['task']}, {n_classes} classes" if n_classes else first["task"],
        f"{first['n_spins']}",
        _method(first),
        cell("test_acc", ".2f", 100),
        cell("test_cost", ".2e"),
        cell("first_val_cost", ".2e"),
        f"{min(compared):.5f}" if compared else DASH,
        classical,
        cell("seconds_per_sample", ".2f", 1e3),
        ", ".join(str(run["seed"]) for run in runs),
    ]


def _method(run: dict) -> str:
    if run["estimator"] == "exact":
        return METHODS["exact"]
    name = METHODS.get(run["estimator"], f"QEP {run['estimator']}")
    shots = f", {run['shots']} shots" if run["shots"] else ""
    return f"{name}, beta {run['beta']:g}{shots}"


def time_table(points: list[dict]) -> str:
    """Milliseconds per sample by number of spins, a column per solver and estimator."""
    columns = list(dict.fromkeys((p["solver"], p["estimator"]) for p in points))
    found = {(p["n_spins"], p["solver"], p["estimator"]): 1e3 * p["median"] for p in points}
    names = {"centred": "QEP centred", "exact": "exact response"}
    rows = [
        [str(n), *(f"{found[n, s, e]:.3g}" if (n, s, e) in found else DASH for s, e in columns)]
        for n in sorted({p["n_spins"] for p in points})
    ]
    return markdown_table(["spins", *(f"{names[e]}, {s}, ms" for s, e in columns)], rows)
