"""A trained model with and without noise on the same images: what is lost, and how far its states move."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dataset import Split
from deployment.classical import evaluation_of_units, refuse_noise_of_gates
from deployment.command_line import SAME
from deployment.differences import drop, finite_mean
from deployment.mitigating import evaluate as evaluate_mitigated
from deployment.mitigating import prepare
from deployment.sampled import sampled
from deployment.shifts import jacobian, radius, shift, smaller_space
from deployment.states import States, states, summary
from deployment.trained import TIGHT, Trained, read_trained
from engines.protocol import ReadoutMap
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.mitigation import MitigatedEngine
from hardware.noise import Noise, NoiseError
from hardware.shift_engine import ShiftEngine
from hardware.shots import ShotEngine
from models.classical_layers import TanhLayer
from models.depth import Depth, Stack
from models.layer import Bound
from models.qdeq_model import EquilibriumClassifier
from runs.machine import choose_device, environment
from training.equilibrium_settings import OF_SOLVER
from training.evaluation import BATCH, load_splits
from utils.files import write_json
from utils.markdown import markdown_table
from utils.statistics import Spread

OF_JACOBIANS = BATCH  # images whose states and Jacobians are compared


@dataclass(frozen=True)
class Condition:
    """Under what a model is evaluated.

    Attributes:
        noise: as results name it.
        exact: the engine of infinitely many shots; where nothing is noisy the model's own takes its place.
        counting: engines of finitely many, one for each draw; none where none is asked for. Newton's measure Jacobians.
        mitigated: engines by combination of --mitigate, before they are calibrated.
    """

    noise: Noise
    exact: NoisyEngine
    counting: tuple[ShotEngine | ShiftEngine, ...] = ()
    mitigated: dict[tuple[str, ...], MitigatedEngine] = field(default_factory=dict)


def run_evaluate(options: Namespace) -> None:
    """`hardware.py evaluate`: measures, writes its JSON, prints a table."""
    content = evaluate_run(options)
    write_json(options.json or options.run / "hardware_evaluation.json", content)
    print(table(content))


def prepared(options: Namespace) -> tuple[Trained, list[Condition]]:
    """What a command line names, before anything is computed; a classical model has no conditions.

    Raises:
        CheckpointError, SettingsError, NoiseError, UnsupportedCircuit: one line, where the run cannot be evaluated so.
    """
    trained = read_trained(options, (*OF_SOLVER, "data_dir", "device"), classical_too=True)
    classical = isinstance(trained.model.layer, TanhLayer)
    noisy_amplitudes = options.encoding_noise and trained.settings.encoding == "amplitude"
    if options.shots and takes_newton(trained.depth) and (classical or noisy_amplitudes):
        raise NoiseError(
            "--f_solver newton measures its Jacobian by --shots of a circuit, of amplitudes without --encoding_noise: "
            "choose another solver"
        )
    if classical:
        refuse_noise_of_gates(trained, options)
        return trained, []
    return trained, [condition(trained, noise, options) for noise in options.noise]


def evaluate_run(options: Namespace) -> dict:
    """What a command line asks of one run, as its JSON holds it."""
    trained, conditions = prepared(options)
    device = torch.device(choose_device(trained.settings))
    splits = load_splits(trained.settings, torch.device("cpu")).to(device)
    split = getattr(splits, options.split)
    split = Split(split.features[: options.max_images], split.labels[: options.max_images])
    asked = options.encoding_noise
    if isinstance(trained.model.layer, TanhLayer):
        content = evaluation_of_units(trained, split, options)
    else:
        content = evaluation(trained, split, conditions, splits.train)
    return content | {
        "run": options.run.name,
        "seed": trained.settings.seed,
        "checkpoint": options.checkpoint,
        "split": options.split,
        "encoding_noise": asked if asked in (None, SAME) else asked.describe(),
        **environment(device),
    }


def condition(trained: Trained, noise: Noise, options: Namespace) -> Condition:
    """Engines of everything that is asked for under one noise.

    Raises:
        NoiseError, UnsupportedCircuit: what this model's circuit cannot have.
    """
    of_encoding = noise if options.encoding_noise == SAME else options.encoding_noise or NO_NOISE
    circuit = trained.model.layer.circuit
    counting = [
        ShotEngine(circuit, options.shots, noise, of_encoding, options.seed + k)
        for k in range(options.repeat if options.shots else 0)
    ]
    return Condition(
        noise,
        NoisyEngine(circuit, noise, of_encoding),
        tuple(map(ShiftEngine, counting) if takes_newton(trained.depth) else counting),
        {ways: prepare(trained.model, noise, of_encoding, ways) for ways in options.mitigate},
    )


def evaluation(trained: Trained, split: Split, conditions: Sequence[Condition], train: Split) -> dict:
    """The model without noise, and under each condition; on the split's device.

    Args:
        trained: its model's engine is put back at the end.
        split: features and labels.
        conditions: one row each.
        train: images for what is calibrated.
    """
    model, depth = trained.model.to(split.features.device), trained.depth
    own = model.layer.engine
    ideal = states(model, split, depth)
    compared = ideal.r[:OF_JACOBIANS].isfinite().all(1).nonzero().flatten()
    x = split.features[compared]
    quiet, of_readouts = smaller_space(model.layer, x)
    compared_states = of_readouts(ideal.r[compared])
    rows = []
    for condition in conditions:
        try:
            row = _row(model, split, depth, condition, ideal, quiet, compared)
        finally:
            model.layer.engine = own
        found = [
            evaluate_mitigated(model, depth, engine, ways, train, split, ideal.measured["acc"])
            for ways, engine in condition.mitigated.items()
        ]
        rows.append(row | ({"mitigated": found} if found else {}))
    return trained.describe(split) | {
        "images_of_shift": len(x),
        "ideal": summary(ideal) | {"spectral_radius": finite_mean(radius(jacobian(quiet, compared_states)))},
        "rows": rows,
    }


def _row(
    model: EquilibriumClassifier, split: Split, depth: Depth, condition: Condition, ideal: States, quiet: ReadoutMap | Bound,
    compared: Tensor,
) -> dict:  # fmt: skip
    engine = condition.exact
    if engine.is_noisy:
        model.layer.engine = engine
    noisy = states(model, split, depth)
    h, of_readouts = smaller_space(model.layer, split.features[compared])
    row = {
        **condition.noise.describe(), "noisy_gates": engine.n_noisy, "gates": engine.n_gates,
        **summary(noisy), **drop(ideal.measured["acc"], noisy.measured["acc"]),
        **shift(depth, quiet, h, of_readouts(ideal.r[compared]), of_readouts(noisy.r[compared])),
    }  # fmt: skip
    if condition.counting:
        exact = noisy if isinstance(depth, Stack) else states(model, split, replace(depth, forward=TIGHT))
        row["counted"] = sampled(model, split, depth, condition.counting, exact.r, ideal.measured["acc"])
    return row


def takes_newton(depth: Depth) -> bool:
    """Whether the solve needs Jacobians, which are measured where values are counted."""
    return not isinstance(depth, Stack) and depth.forward.name == "newton"


def table(content: dict) -> str:
    """What `evaluation` found, in Markdown."""
    header = ["noise", "noisy gates", "accuracy, %", "drop, points (95 %)", "residual", "steps", "shift, %",
              "predicted, %", "spectral radius"]  # fmt: skip
    rows = []
    for row in [{"noise": "none"} | content["ideal"], *content["rows"]]:
        steps = row.get("solver_steps")
        rows.append([
            row["noise"],
            f"{row['noisy_gates']} of {row['gates']}" if "gates" in row else "",
            f"{100 * row['acc']:.2f}",
            _interval(row),
            f"{row['res_rel']:.1e}",
            "" if steps is None else f"{steps:.1f}",
            *(f"{100 * row[name]:.2f}" if name in row else "" for name in ("shift", "shift_predicted")),
            f"{row['spectral_radius']:.3f}",
        ])  # fmt: skip
    counted = [_counted(row) for row in content["rows"] if "counted" in row]
    header_of_counted = ["noise", "shots", "accuracy, %", "drop, points (95 %)", "residual, fresh shots", "its floor",
                         "distance from the exact state, %"]  # fmt: skip
    mitigated = [
        [row["noise"], *_mitigated(of_way)] for row in content["rows"] for of_way in row.get("mitigated", [])
    ]
    header_of_mitigated = ["noise", "mitigation", "accuracy, %", "drop, points (95 %)", "circuits of f",
                           "circuits of the calibration"]  # fmt: skip
    machines = {(d["device"], d["calibrated"], d["source"]) for row in content["rows"] for d in row["devices"]}
    lines = [f"{name}: calibrated {day}, {source}" for name, day, source in sorted(machines)]
    tables = [
        markdown_table(head, body)
        for head, body in ((header, rows), (header_of_counted, counted), (header_of_mitigated, mitigated))
        if body
    ]
    return "\n\n".join([*tables, *(["\n".join(lines)] if lines else [])])


def _counted(row: dict) -> list[str]:
    found = row["counted"]
    return [
        row["noise"],
        f"{found['shots']} ({found['draws']} draws)",
        Spread(found["acc"], found["acc_std"]).text(".2f", 100),
        _interval(found),
        f"{found['res_fresh']:.1e}",
        f"{found['res_floor']:.1e}",
        f"{100 * found['error']:.2f}",
    ]


def _mitigated(found: dict) -> list[str]:
    circuits = [f"{found[name]:,}" for name in ("circuits_of_f", "circuits_of_calibration")]
    return [found["mitigation"], f"{100 * found['acc']:.2f}", _interval(found), *circuits]


def _interval(row: dict) -> str:
    interval = row.get("drop_interval")
    return "" if interval is None else f"{row['drop']:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
