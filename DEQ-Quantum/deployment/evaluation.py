"""A trained model with and without noise on the same images: what is lost, and how far its states move.

To first order noise that changes h by dh moves an equilibrium r* = h(r*) by (I - J)^-1 dh, J = dh/dr, and the output of
L layers by d_L, d_l = J(r_(l-1)) d_(l-1) + dh(r_(l-1)). Both are computed and shown beside what is measured.
"""

import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dataset import Split
from deployment.command_line import OF_SOLVER
from deployment.differences import drop, finite_mean
from deployment.sampled import sampled
from deployment.trained import Trained, read_trained
from engines.protocol import ReadoutMap
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.noise import Noise, NoiseError
from hardware.shots import ShotEngine
from models.depth import Depth, Stack
from models.qdeq_model import EquilibriumClassifier
from runs.machine import choose_device, environment
from training.evaluation import BATCH, load_splits, measure
from utils.files import write_json
from utils.markdown import markdown_table
from utils.statistics import Spread

OF_JACOBIANS = BATCH  # images whose states and Jacobians are compared


@dataclass
class States:
    """Of N images.

    Attributes:
        r: (N, K) readouts that the model came to.
        measured: each metric's values, (N,).
        seconds: of it all; `compile_seconds` to compile the circuit.
    """

    r: Tensor
    measured: dict[str, Tensor]
    compile_seconds: float
    seconds: float


@dataclass(frozen=True)
class Condition:
    """Under what a model is evaluated.

    Attributes:
        noise: as results name it.
        exact: the engine of infinitely many shots.
        counting: engines of finitely many, one for each draw; none where none is asked for.
    """

    noise: Noise
    exact: NoisyEngine
    counting: tuple[ShotEngine, ...] = ()


def run_evaluate(options: Namespace) -> None:
    """`hardware.py evaluate`: measures, writes its JSON, prints a table."""
    trained = read_trained(options, (*OF_SOLVER, "data_dir", "device"))
    if options.shots and trained.settings.f_solver == "newton":
        raise NoiseError("--shots give no exact Jacobian, which --f_solver newton takes: choose another")
    device = torch.device(choose_device(trained.settings))
    circuit = trained.model.layer.circuit
    of_encoding = options.encoding_noise or NO_NOISE
    conditions = [  # refuse before anything is computed
        Condition(
            noise,
            NoisyEngine(circuit, noise, of_encoding),
            tuple(
                ShotEngine(circuit, options.shots, noise, of_encoding, options.seed + k)
                for k in range(options.repeat if options.shots else 0)
            ),
        )
        for noise in options.noise
    ]
    split = getattr(load_splits(trained.settings, torch.device("cpu")).to(device), options.split)
    split = Split(split.features[: options.max_images], split.labels[: options.max_images])
    content = evaluation(trained, split, conditions) | {
        "run": options.run.name,
        "checkpoint": options.checkpoint,
        "split": options.split,
        "encoding_noise": of_encoding.describe() if of_encoding.channels else None,
        **environment(device),
    }
    write_json(options.json or options.run / "hardware_evaluation.json", content)
    print(table(content))


def evaluation(trained: Trained, split: Split, conditions: Sequence[Condition]) -> dict:
    """The model without noise, and under each condition; on the split's device.

    Args:
        trained: its model's engine is put back at the end.
        split: features and labels.
        conditions: one row each.
    """
    model, depth, s = trained.model.to(split.features.device), trained.depth, trained.settings
    own = model.layer.engine
    ideal = states(model, split, depth)
    compared = ideal.r[:OF_JACOBIANS].isfinite().all(1).nonzero().flatten()
    x = split.features[compared]
    quiet = model.layer.bind(x).reduced()
    try:
        rows = [_row(model, split, depth, condition, ideal, quiet, compared) for condition in conditions]
    finally:
        model.layer.engine = own
    return {
        "model": s.model, "encoding": s.encoding, "n_wires": s.n_wires, "step": trained.step,
        "n_layer": depth.n_layers if isinstance(depth, Stack) else 0,
        **{name: getattr(s, name) for name in OF_SOLVER},
        "images": len(split),
        "images_of_shift": len(x),
        "ideal": summary(ideal) | {"spectral_radius": finite_mean(radius(jacobian(quiet, ideal.r[compared])))},
        "rows": rows,
    }  # fmt: skip


def _row(
    model: EquilibriumClassifier, split: Split, depth: Depth, condition: Condition, ideal: States, quiet: ReadoutMap,
    compared: Tensor,
) -> dict:  # fmt: skip
    engine = model.layer.engine = condition.exact
    noisy = states(model, split, depth)
    h = model.layer.bind(split.features[compared]).reduced()
    row = {
        **condition.noise.describe(), "noisy_gates": engine.n_noisy, "gates": engine.n_gates,
        **summary(noisy), **drop(ideal.measured["acc"], noisy.measured["acc"]),
        **shift(depth, quiet, h, ideal.r[compared], noisy.r[compared]),
    }  # fmt: skip
    if condition.counting:
        row["counted"] = sampled(model, split, depth, condition.counting, noisy.r, ideal.measured["acc"])
    return row


@torch.no_grad()
def states(model: EquilibriumClassifier, split: Split, depth: Depth) -> States:
    """Classify a split with the layer's present engine."""
    start = time.perf_counter()
    compiled = model.layer.compile()
    compile_seconds = time.perf_counter() - start
    r, parts = [], []
    for x, y in zip(split.features.split(BATCH), split.labels.split(BATCH)):
        prediction = model(x, depth, compiled)
        r.append(prediction.r)
        parts.append(measure(prediction, y))
    measured = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    return States(torch.cat(r), measured, compile_seconds, time.perf_counter() - start)


def summary(found: States) -> dict[str, float]:
    """Means over the images, and seconds."""
    means = {name: finite_mean(values) for name, values in found.measured.items()}
    return means | {"seconds": found.seconds, "seconds_of_observables": found.compile_seconds}


def shift(depth: Depth, quiet: ReadoutMap, noisy: ReadoutMap, r: Tensor, r_noisy: Tensor) -> dict[str, float]:
    """How far noise moves the states, relative to their length: found, and to first order.

    Args:
        depth: equilibrium or stack.
        quiet, noisy: h without and with noise, for the first images.
        r, r_noisy: (B, K) where the model came to without and with it.
    """
    with torch.no_grad():
        if isinstance(depth, Stack):
            at, first_order = torch.zeros_like(r), torch.zeros_like(r)
            for _ in range(depth.n_layers):
                pushed = (jacobian(quiet, at) @ first_order.unsqueeze(-1)).squeeze(-1)
                first_order = pushed + noisy(at) - quiet(at)
                at = quiet(at)
        else:
            j = jacobian(quiet, r)
            first_order = torch.linalg.solve(torch.eye(r.shape[1]).to(j) - j, noisy(r) - quiet(r))
        found = r_noisy - r
        return {
            "shift": finite_mean(found.norm(dim=1) / r.norm(dim=1)),
            "shift_predicted": finite_mean(first_order.norm(dim=1) / r.norm(dim=1)),
            "prediction_error": finite_mean((first_order - found).norm(dim=1) / found.norm(dim=1)),
            "spectral_radius": finite_mean(radius(jacobian(noisy, r_noisy))),
        }


def jacobian(h: ReadoutMap, r: Tensor) -> Tensor:
    """dh_k/dr_j at r (B, K): (B, K, K), in closed form where h has one, else by one backward pass for every k."""
    with torch.enable_grad():
        if h.jacobian is not None:
            return h.jacobian(r).detach()
        r = r.detach().requires_grad_()
        values = h(r)
        rows = [torch.autograd.grad(values[:, k].sum(), r, retain_graph=True)[0] for k in range(r.shape[1])]
    return torch.stack(rows, 1)


def radius(jacobians: Tensor) -> Tensor:
    """Spectral radii (B,) of (B, K, K)."""
    return torch.linalg.eigvals(jacobians).abs().amax(-1)


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
    machines = {(d["device"], d["calibrated"], d["source"]) for row in content["rows"] for d in row["devices"]}
    lines = [f"{name}: calibrated {day}, {source}" for name, day, source in sorted(machines)]
    tables = [markdown_table(header, rows), *([markdown_table(header_of_counted, counted)] if counted else [])]
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


def _interval(row: dict) -> str:
    interval = row.get("drop_interval")
    return "" if interval is None else f"{row['drop']:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
