"""What `theory/` measured, as Markdown: for every check the statement, then its numbers."""

from theory.equations import CORRECTED, FAILS, HOLDS
from theory.equations_table import counts
from utils.markdown import markdown_table
from utils.statistics import Spread


def markdown(parts: dict, kept: dict[str, dict]) -> str:
    """The whole report.

    Args:
        parts: what each part measured, by name.
        kept: the file of each part, by name: seed, plan and facts of the machine.
    """
    sections = [
        _origin(kept),
        _overlaps(parts["overlaps"]),
        _ratios(parts["contraction"]),
        _jacobians(parts["contraction"]),
        _construction(parts["construction"]),
        _fixed_points(parts["fixed_points"]),
        _convergence(parts["convergence"]),
        _gradient(parts["gradient"]),
        _ablations(parts["ablations"]),
        _equations(parts["equations"]),
    ]
    return "\n\n".join(sections) + "\n"


def table(header: list[str], rows: list[list]) -> str:
    """A Markdown table; floats with three significant digits."""
    return markdown_table(header, [[_cell(value) for value in row] for row in rows])


def _cell(value) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _origin(kept: dict[str, dict]) -> str:
    first = next(iter(kept.values()))["made_from"]
    rows = [
        [name, part["git_commit"], part["torch"], part["device"], part["date"], part["seconds"]]
        for name, part in kept.items()
    ]
    return (
        f"# Checks of the theory\n\nSeed {first['seed']}, data set {first['plan']['dataset']}. All in float64 but the "
        "ablations. Each part was measured at the commit beside it.\n\n"
        + table(["part", "commit", "torch", "machine", "date", "seconds"], rows)
    )


def _overlaps(overlaps: dict) -> str:
    rows = [
        [encoding, bound["bound"], found["n_pairs"], bound["pairs_below"], bound["least_margin"]]
        for encoding, found in overlaps.items()
        for bound in found["bounds"]
    ]
    return (
        "## Overlap of encoded states (Fig. 4)\n\n"
        "d is the distance of the encoded vectors in R^4, at most 1. For angle encoding (one qubit, four rotations) "
        "the paper's bound follows from cos^2(d), derived in `theory/bounds.py`. For amplitude encoding only the "
        "distance beside the longer vector counts; the paper's bound is shown there for comparison and does not hold "
        "for short vectors.\n\n"
        + table(["encoding", "lower bound", "pairs", "pairs below it", "least overlap - bound"], rows)
    )


def _ratios(contraction: list[dict]) -> str:
    rows = [
        [entry["subject"], entry["state"], ratio["norm"], ratio["pairs"], ratio["mean"], ratio["largest"],
         _percent(ratio["share_below_1"]), ratio["largest_bound"], ratio["violations"]]
        for entry in contraction
        for ratio in entry["ratios"]
    ]  # fmt: skip
    first = contraction[0]
    return (
        "## Is f a contraction? Pairs of states\n\n"
        f"The ratio ||f(z) - f(z')|| / ||z - z'|| for {first['n_pairs']} pairs of states for each of "
        f"{first['n_images']} test images, each beside its own upper bound from `theory/bounds.py`: with v = z + x, "
        "amplitude encoding, |r_k - r'_k| <= 2 ||z - z'|| / max(||v||, ||v'||); angle encoding, |r_k - r'_k| <= "
        "2 sin(s), s = half the l2 norm over wires of the summed |z - z'|; n times that in the l2 norm. Classical: "
        "||W||.\n\n"
        + table(
            ["model", "state", "norm", "pairs", "mean", "largest", "below 1", "largest bound", "bound violated"], rows
        )
    )


def _jacobians(contraction: list[dict]) -> str:
    rows = []
    for entry in contraction:
        at = entry["at_equilibrium"]
        rows.append(
            [entry["subject"], entry["state"], _percent(entry["test_acc"]), at["n_images"],
             at["spectral_radius"]["mean"], at["spectral_radius"]["largest"],
             _percent(at["spectral_radius"]["share_below_1"]), at["norm_l2"]["mean"], at["norm_l2"]["largest"],
             at["norm_l2"]["mean_bound"], at["norm_max"]["mean"], at["norm_max"]["mean_bound"],
             at["norm_l2"]["violations"] + at["norm_max"]["violations"], at["radial"]]
        )  # fmt: skip
    return (
        "## The Jacobian at the equilibria\n\n"
        "J = df/dz, exact, at the images that Newton solves to a relative residual of 1e-9. Bounds: the gradient of "
        "readout k is at most 2 sqrt(1 - r_k^2) / ||v|| long (amplitude) or sqrt(n (1 - r_k^2)) (angle); f repeats it "
        "n times. Amplitude encoding sees directions only, so J (z + x) = 0. The l2 norm is what the worst direction "
        "of z sees, and random pairs hardly ever meet that: their largest ratio above is a low estimate of the "
        "Lipschitz constant. A spectral radius below 1 is enough for Picard to converge near the equilibrium; a norm "
        "below 1 everywhere would make the equilibrium unique.\n\n"
        + table(
            ["model", "state", "accuracy on the images", "images solved", "spectral radius, mean", "largest", "below 1",
             "l2 norm of J, mean", "largest", "mean bound", "max norm of J, mean", "mean bound", "bound violated",
             "length of J v / v"],
            rows,
        )
    )  # fmt: skip


def _construction(construction: list[dict]) -> str:
    rows = [
        [case["layers"], case["n_wires"], case["n_layers"], case["output_difference"], case["all_blocks_difference"],
         case["one_circuit_difference"], case["residual_after_L"], case["solver_steps"],
         case["jacobian_power_L_minus_1"], case["jacobian_power_L"]]
        for case in construction
    ]  # fmt: skip
    return (
        "## Theorem 3: L different layers are one weight-tied block network\n\n"
        "F(z; x) = (f_1(0; x), f_2(z_1; x), ..., f_L(z_{L-1}; x)), applied L times from z = 0, against "
        "f_L(... f_1(0)). The result is F's equilibrium, and J_F^L = 0.\n\n"
        "What is compared is computed independently. Amplitude and angle: F is built from the engine's layers; the "
        "untied network is simulated gate by gate on state vectors (`engines/statevector.py`), which share only the list "
        "of gates with the engine, and so is, up to 12 qubits, F as one circuit of L n_wires qubits. Tanh: F is one "
        "layer with a block matrix, the untied network the formula tanh(W z + U x). The last four columns are of F "
        "alone; that F(z) - z and J^L are exactly 0 is the construction's shape, not round-off.\n\n"
        + table(
            ["layers", "n_wires", "L", "difference from the untied network: output", "all layers",
             "difference from one circuit", "largest entry of F(z) - z", "Picard steps", "largest entry of J^(L-1)",
             "of J^L"],
            rows,
        )
    )  # fmt: skip


def _fixed_points(fixed_points: list[dict]) -> str:
    rows = [
        [entry["encoding"], name, entry["n_solves"], _percent(found["converged"]), found["steps"],
         f"{entry['n_samples_with_two_ends']} of {entry['n_samples']}",
         _percent(entry["share_with_one_fixed_point"]), entry["largest_distance_between_ends"]]
        for entry in fixed_points
        for name, found in entry["solvers"].items()
    ]  # fmt: skip
    return (
        "## First experiment: fixed points on synthetic data\n\n"
        "Random four-qubit circuits and normal features; every solver from z = 0 and from random starts, to a relative "
        "residual of 1e-12. A sample has one fixed point, as far as these solves can tell, if all that converged, by "
        "any solver, end within 1e-9 of each other. Samples with fewer than two ends say nothing of this and are left "
        "out of the last two columns.\n\n"
        + table(
            ["encoding", "solver", "solves", "converged", "mean steps", "samples with two ends",
             "of them with one fixed point", "largest distance between ends"],
            rows,
        )
    )  # fmt: skip


def _convergence(convergence: list[dict]) -> str:
    rows = []
    for entry in convergence:
        for name, found in entry["solvers"].items():
            rows.append([entry["subject"], entry["state"], name, *map(_steps_to, found["levels"])])
    levels = [f"to {level['residual']:.0e}" for level in convergence[0]["solvers"]["Picard"]["levels"]]
    return (
        "## Second experiment: convergence of the solvers\n\n"
        "Mean steps from z = 0 to a relative residual, and the share of test images that get there in 30 steps.\n\n"
        + table(["model", "state", "solver", *levels], rows)
    )


def _steps_to(level: dict) -> str:
    if level["mean_steps"] is None:
        return "never"
    return f"{level['mean_steps']:.1f} ({_percent(level['share'])})"


def _gradient(gradient: list[dict]) -> str:
    rows = [
        [entry["subject"], entry["state"], entry["n_images"], *entry["against_finite_differences"].values(),
         entry["sixty_layers"],
         *entry["forward_tolerance"].values()]
        for entry in gradient
    ]  # fmt: skip
    first = gradient[0]
    header = ["model", "state", "images", *first["against_finite_differences"], "60 layers"]
    header += [f"forward to {tolerance}" for tolerance in first["forward_tolerance"]]
    return (
        "## Third experiment: the implicit gradient against finite differences\n\n"
        f"Relative error of the slope of the loss along {first['n_directions']} random directions in parameter space, "
        "by backward solver; relative difference of the gradient through 60 explicit layers from the implicit one; and "
        "of the implicit gradient where Broyden's forward solve stops at a relative residual. Images on which Newton "
        "and Broyden do not agree on the fixed point are left out. Where the spectral radius of an image exceeds 1, "
        "neither Picard's backward iteration nor 60 layers converge, and their columns show it.\n\n"
        + table(header, rows)
    )


def _ablations(ablations: list[dict]) -> str:
    def spread(entry: dict, name: str, form: str, scale: float = 1.0) -> str:
        return Spread(**entry[name]).text(form, scale)

    rows = [
        [entry["ablation"], entry["label"], spread(entry, "acc", ".2f", 100), spread(entry, "loss", ".3f"),
         spread(entry, "res_rel", ".1e"), spread(entry, "solver_steps", ".1f"), spread(entry, "spectral_radius", ".3f"),
         spread(entry, "ms_per_step", ".1f")]
        for entry in ablations
    ]  # fmt: skip
    first = ablations[0]
    return (
        "## Ablations\n\n"
        f"Four classes, 4 qubits, amplitude encoding, learning rate 0.05, {first['epochs']} epochs, mean ± standard "
        f"deviation over seeds {', '.join(map(str, first['seeds']))}; one thing changed at a time. Milliseconds are "
        "those of the processor.\n\n"
        + table(
            ["changed", "to", "test accuracy, %", "test loss", "relative residual", "solver steps", "spectral radius",
             "ms a step"],
            rows,
        )
    )  # fmt: skip


def _equations(equations: dict) -> str:
    rows = equations["rows"]
    found = counts(rows)
    listed = [[verdict, found[verdict], ", ".join(row["equation"] for row in rows if row["verdict"] == verdict)]
              for verdict in (CORRECTED, FAILS)]  # fmt: skip
    return (
        "## Eqs. 6 to 56\n\n"
        f"Each of the {sum(found.values())} equations of Observation 2 and Appendices A to D was checked; {found[HOLDS]} "
        "hold as printed. `equations.md` has them all, with counterexamples, corrections and proofs.\n\n"
        + table(["verdict", "equations", "which, with places in the text"], listed)
    )
