"""The study of hardware as Markdown, from the evaluations that are kept, and what circuits cost, by formula."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from reproduction.hardware_rows import (
    DEPOLARIZING, DEVICES, DRAWN, OTHERS, SHOTS, SHOTS_OF_TEN, SOLVERS, TEN, TOTALS, TRAINED, TRAINED_NOISE, TRAINED_SHOTS, WAYS, rows,
)  # fmt: skip
from utils.files import read_json
from utils.markdown import markdown_table
from utils.statistics import Spread, mean_and_spread

DASH = "-"
Kept = dict[str, list[dict]]  # by row: the contents of its seeds' files


def load(results_dir: Path) -> Kept:
    """What is kept, in the order of the study's rows; rows without a file are left out."""
    found: Kept = {}
    for _, row in rows():
        files = sorted((results_dir / row.name).glob("seed-*.json"))
        if files:
            found[row.name] = [read_json(path) for path in files]
    return found


def values(runs: Sequence[dict], suite: str, noise: str | None, of: Callable[[dict], float]) -> list[float]:
    """A number of every run that has the suite: under a noise, or for None without any."""
    picked = []
    for run in runs:
        if suite in run["suites"]:
            content = run["suites"][suite]["found"]
            entries = [content["ideal"]] if noise is None else [r for r in content["rows"] if r["noise"] == noise]
            picked += [of(entry) for entry in entries]
    return picked


def spread(found: Sequence[float], form: str, scale: float = 1.0) -> str:
    """Mean and sample standard deviation over seeds, or a dash."""
    return mean_and_spread(found).text(form, scale) if found else DASH


def dropped(runs: Sequence[dict], suite: str, noise: str, counted: bool = False) -> str:
    """Points lost on the same images, the mean over seeds with its 95 % interval over images.

    Seeds share their images, so what one image tells of them is not independent: the interval is as wide as the seeds' own
    are in the mean, which bounds it from above.
    """
    found = values(runs, suite, noise, lambda row: row["counted"] if counted else row)
    if not found:
        return DASH
    half = mean(row["drop_interval"][1] - row["drop"] for row in found)
    return f"{mean(row['drop'] for row in found):.2f} ± {half:.2f}"


def markdown(kept: Kept, transpiled: dict[str, dict], machines: dict[str, dict]) -> str:
    """All tables.

    Args:
        kept: of `load`.
        transpiled: what `hardware.py transpile` says of some rows.
        machines: what `hardware.py run` says of some rows.
    """
    trained = {row.name for row in TRAINED.rows}
    models = {name: runs for name, runs in kept.items() if "all gates" in _suites(runs)}
    parts = [
        ("A. Depolarising noise in the ansatz: test accuracy, %", _accuracies(models, "ansatz", DEPOLARIZING)),
        ("A. The same in the encoding too", _accuracies(models, "all gates", DEPOLARIZING)),
        ("A. Other channels, in the ansatz", _accuracies(models, "ansatz", OTHERS)),
        ("A. Five draws of over-rotations of 0.03 rad: test accuracy, %", _draws(kept)),
        ("A. Machines: ansatz alone", _accuracies(models, "ansatz", DEVICES)),
        ("A. Machines: ansatz and encoding", _accuracies(models, "all gates", DEVICES)),
        ("A. Points of accuracy lost, mean over seeds with its 95 % interval over the same images", _drops(models)),
        ("A. What noise does to the states, at depolarizing:1e-2 in the ansatz", _states(models)),
        ("A. Shots", _shots({name: runs for name, runs in kept.items() if name not in trained})),
        ("A. Solvers: at most eleven evaluations of f by counting, stopped at the floor of the shots", _solvers(kept)),
        ("A. Mitigation, ansatz alone noisy, exact expectation values: test accuracy, %", _mitigation(kept)),
        ("A. Ten qubits, noise in the ansatz: test accuracy, %", _ten(kept)),
        ("A. Measured once, then classical", _surrogates(kept)),
        ("B. Trained under noise, with shots, and without", _trained({n: r for n, r in kept.items() if n in trained})),
        ("B. Gradients with shots at trained models: cosine with the exact gradient", _gradients(kept)),
        ("C. Cost, by formula", _costs()),
        ("D. Compiled for machines", _transpiled(transpiled)),
        ("D. Compiled, routed and read by counting on a simulated machine", _on_machines(kept, machines)),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts if table)


def _suites(runs: Sequence[dict]) -> set[str]:
    return {name for run in runs for name in run["suites"]}


def _labelled(kept: Kept, cells: Callable[[str, list[dict]], list[str]]) -> list[list[str]]:
    return [[runs[0]["label"], *cells(name, runs), str(len(runs))] for name, runs in kept.items()]


def _accuracies(kept: Kept, suite: str, noises: Sequence[str]) -> str:
    def cells(_: str, runs: list[dict]) -> list[str]:
        return [spread(values(runs, suite, noise, lambda row: row["acc"]), ".2f", 100) for noise in (None, *noises)]

    return markdown_table(["model", "no noise", *map(_short, noises), "seeds"], _labelled(kept, cells))


def _draws(kept: Kept) -> str:
    """Of each model over the draws, each the mean over seeds."""
    lines = []
    for runs in kept.values():
        if DRAWN.name in _suites(runs):
            places = [("ansatz", "coherent:0.03"), *((DRAWN.name, noise) for noise in DRAWN.noises)]
            means = [mean(values(runs, *place, lambda row: row["acc"])) for place in places]
            lines.append([runs[0]["label"], *(f"{100 * value:.2f}" for value in means), spread(means, ".2f", 100)])
    return markdown_table(["model", *map(str, range(len(DRAWN.noises) + 1)), "mean ± over draws"], lines) if lines else ""


def _surrogates(kept: Kept) -> str:
    lines = []
    for runs in kept.values():
        for number in range(len(runs[0].get("surrogate", []))):
            found = [run["surrogate"][number] for run in runs]
            lines.append([
                runs[0]["label"], f"{found[0]['circuits']:,}", f"{found[0]['shots']:,}", f"{found[0]['all_shots']:,}",
                spread([one["acc"] for one in found], ".2f", 100), spread([one["noisy_acc"] for one in found], ".2f", 100),
                spread([one["error"] for one in found], ".1f", 100),
            ])  # fmt: skip
    header = ["model", "circuits, once", "shots of each", "in all", "accuracy, %", "of exact observables, %",
              "distance from the exact state, %"]  # fmt: skip
    return markdown_table(header, lines) if lines else ""


def _told(found: Sequence[float | None]) -> list[float]:
    return [value for value in found if value is not None]


def _drops(kept: Kept) -> str:
    places = [("ansatz", "depolarizing:1e-2"), ("all gates", "depolarizing:1e-2"), ("ansatz", "device:manila"),
              ("all gates", "device:manila"), ("all gates", "device:aachen")]  # fmt: skip
    header = ["model", *(f"{_short(noise)}, {suite}" for suite, noise in places), "seeds"]
    return markdown_table(header, _labelled(kept, lambda _, runs: [dropped(runs, *place) for place in places]))


def _states(kept: Kept) -> str:
    def cells(_: str, runs: list[dict]) -> list[str]:
        def of(name: str, noise: str | None = "depolarizing:1e-2") -> list[float]:
            return values(runs, "ansatz", noise, lambda row: row[name])

        steps = [s for s in values(runs, "ansatz", "depolarizing:1e-2", lambda row: row.get("solver_steps")) if s]
        return [
            spread(of("shift"), ".1f", 100), spread(of("shift_predicted"), ".1f", 100),
            spread(of("prediction_error"), ".1f", 100), spread(of("res_rel", None), ".1e"), spread(of("res_rel"), ".1e"),
            spread(steps, ".1f"), spread(of("spectral_radius", None), ".3f"), spread(of("spectral_radius"), ".3f"),
        ]  # fmt: skip

    header = ["model", "shift of the state, %", "first order says, %", "its error, %", "`res_rel` without", "with noise",
              "solver steps", "spectral radius without", "with noise", "seeds"]  # fmt: skip
    return markdown_table(header, _labelled(kept, cells))


def _shots(kept: Kept) -> str:
    lines = []
    for name, runs in kept.items():
        for noise in ("none", "device:manila"):
            for shots in sorted({*SHOTS, *TOTALS, *SHOTS_OF_TEN}):
                def of(key: str, noise: str = noise, suite: str = f"{shots} shots") -> list[float]:
                    return values(runs, suite, noise, lambda row: row["counted"][key])

                if accuracies := of("acc"):
                    circuits = circuits_of_images(runs, f"{shots} shots", noise)
                    lines.append([
                        runs[0]["label"], noise, str(shots), f"{mean(circuits):.1f}", spread(accuracies, ".2f", 100),
                        Spread(mean(stds), None).text(".2f", 100) if (stds := _told(of("acc_std"))) else DASH,
                        dropped(runs, f"{shots} shots", noise, counted=True),
                        spread(of("res_fresh"), ".1e"), spread(of("res_floor"), ".1e"), spread(of("error"), ".1f", 100),
                    ])  # fmt: skip
    header = ["model", "noise", "shots a circuit", "circuits an image", "accuracy, %", "of draws, ±", "drop, points (95 %)",
              "residual, fresh shots", "its floor", "distance from the exact state, %"]  # fmt: skip
    return markdown_table(header, lines)


def circuits_of_images(runs: Sequence[dict], suite: str, noise: str) -> list[float]:
    """That a prediction takes, the mean: one a layer; of an equilibrium one a step of its sample's solve and its start."""
    found = [run["suites"][suite]["found"] for run in runs if suite in run["suites"]]
    steps = values(runs, suite, noise, lambda row: row["counted"]["solver_steps"])
    return [content["n_layer"] or n + 1 for content, n in zip(found, steps)]


def _mitigation(kept: Kept) -> str:
    lines = []
    for runs in kept.values():
        for noise in DEVICES if "mitigation" in _suites(runs) else ():
            def of(way: str, key: str, noise: str = noise) -> list[float]:
                return [
                    found[key]
                    for entry in values(runs, "mitigation", noise, lambda row: row["mitigated"])
                    for found in entry
                    if found["mitigation"] == way
                ]

            without = [spread(values(runs, "mitigation", which, lambda row: row["acc"]), ".2f", 100)
                       for which in (None, noise)]  # fmt: skip
            lines.append([runs[0]["label"], _short(noise), *without, *(spread(of(way, "acc"), ".2f", 100) for way in WAYS)])
    return markdown_table(["model", "machine", "no noise", "noisy", *WAYS], lines)


def _solvers(kept: Kept) -> str:
    lines = []
    for runs in kept.values():
        for solver in SOLVERS:
            for shots in SHOTS:
                suite = f"{solver}, {shots} shots"
                if suite in _suites(runs):
                    def of(key: str, suite: str = suite) -> list[float]:
                        return values(runs, suite, "none", lambda row: row["counted"][key])

                    circuits = circuits_of_images(runs, suite, "none")
                    lines.append([
                        runs[0]["label"], solver, str(shots), f"{mean(circuits):.1f}", spread(of("error"), ".1f", 100),
                        spread(of("res_fresh"), ".1e"), spread(of("res_floor"), ".1e"), spread(of("acc"), ".2f", 100),
                    ])  # fmt: skip
    header = ["model", "solver", "shots a circuit", "circuits an image", "distance from the exact state, %",
              "residual, fresh shots", "its floor", "accuracy, %"]  # fmt: skip
    return markdown_table(header, lines) if lines else ""


def _ten(kept: Kept) -> str:
    ten = {name: runs for name, runs in kept.items() if TEN.name in _suites(runs)}
    return _accuracies(ten, TEN.name, TEN.noises) if ten else ""


def _trained(kept: Kept) -> str:
    places = ((None, "no noise"), (TRAINED_NOISE, TRAINED_NOISE), ("device:manila", "manila"), ("device:quito", "quito"))

    def cells(_: str, runs: list[dict]) -> list[str]:
        exact = [spread(values(runs, "ansatz", noise, lambda row: row["acc"]), ".2f", 100) for noise, _ in places]
        suite = f"{TRAINED_SHOTS} shots"
        counted = values(runs, suite, "none", lambda row: row["counted"]["acc"])
        radius = values(runs, "ansatz", None, lambda row: row["spectral_radius"])
        return [*exact, spread(counted, ".2f", 100), spread(radius, ".3f")]

    header = ["model", *(title for _, title in places), f"{TRAINED_SHOTS} shots", "spectral radius", "seeds"]
    return markdown_table(header, _labelled(kept, cells)) if kept else ""


def gradients(kept: Kept) -> dict[tuple[str, str], list[dict]]:
    """Cosines by model and way to the gradient: {"shots", "circuits", "cosines" of all seeds and draws}."""
    found: dict[tuple[str, str], list[dict]] = {}
    for runs in kept.values():
        entries = [entry for run in runs for entry in run.get("gradients", [])]
        for way in dict.fromkeys(entry["way"] for entry in entries):
            for shots in SHOTS:
                same = [entry for entry in entries if (entry["way"], entry["shots"]) == (way, shots)]
                if same:
                    found.setdefault((runs[0]["label"], way), []).append({
                        "shots": shots, "circuits": mean(entry["circuits"] for entry in same),
                        "cosines": [cosine for entry in same for cosine in entry["cosines"]],
                    })  # fmt: skip
    return found


def _gradients(kept: Kept) -> str:
    lines = [
        [label, way, f"{entries[0]['circuits']:.0f}", *(spread(entry["cosines"], ".3f") for entry in entries)]
        for (label, way), entries in gradients(kept).items()
    ]
    header = ["model", "gradient", "circuits an image", *(f"{shots} shots" for shots in SHOTS)]
    return markdown_table(header, lines) if lines else ""


def _costs() -> str:
    from deployment.command_line import parse_command_line  # here: what is measured needs neither
    from deployment.costing import costs, tables

    parts = []
    for title, flags in (
        ("MNIST-4, 4 qubits, amplitude", ["--n_wires", "4", "--images", "3957", "--train_images", "19000"]),
        ("MNIST-4, 4 qubits, angle", ["--n_wires", "4", "--images", "3957", "--train_images", "19000",
                                      "--amplitude_encoder", "False"]),
        ("MNIST-10, 10 qubits, amplitude", ["--n_wires", "10"]),
    ):  # fmt: skip
        parts.append(f"{title}:\n\n{tables(costs(parse_command_line(['cost', *flags])))}")
    return "\n\n".join(parts)


def _transpiled(found: dict[str, dict]) -> str:
    lines = [
        [f"{content['encoding']}, {content['n_wires']} qubits", row["device"], str(row["optimization_level"]), row["part"],
         f"{row['two_qubit_gates']:g}", f"{row['depth']:g}", f"{row['duration_us']:.1f}", f"{row['success']:.2f}",
         str(row["compilations"])]
        for content in found.values()
        for row in content["rows"]
    ]  # fmt: skip
    header = ["circuit", "machine", "level", "part", "two-qubit gates", "depth", "duration, us", "success", "compilations"]
    return markdown_table(header, lines) if lines else ""


def _on_machines(kept: Kept, found: dict[str, dict]) -> str:
    lines = [
        [kept[row][0]["label"], f"{content['device']} ({content['calibrated']})", str(content["shots"]), str(content["images"]),
         f"{100 * content['acc']:.0f}", f"{100 * content['ideal_acc']:.0f}", f"{100 * content['error']:.0f}"]
        for row, content in found.items() if row in kept
    ]  # fmt: skip
    header = ["model", "machine", "shots of each circuit", "images", "accuracy, %", "without noise, %",
              "distance from the state without noise, %"]  # fmt: skip
    return markdown_table(header, lines) if lines else ""


def _short(noise: str) -> str:
    return noise.removeprefix("depolarizing:").removeprefix("device:")
