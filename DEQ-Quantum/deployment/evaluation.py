"""A trained model with and without noise on the same images: what is lost, and how far its states move.

To first order noise that changes h by dh moves an equilibrium r* = h(r*) by (I - J)^-1 dh, J = dh/dr, and the output of
L layers by d_L, d_l = J(r_(l-1)) d_(l-1) + dh(r_(l-1)). Both are computed and shown beside what is measured.
"""

import time
from argparse import Namespace
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from dataset import Split
from deployment.command_line import OF_SOLVER
from deployment.trained import Trained, read_trained
from engines.protocol import Engine, ReadoutMap
from hardware.engine import NO_NOISE, NoisyEngine
from hardware.noise import Noise
from models.depth import Stack
from models.qdeq_model import EquilibriumClassifier
from runs.machine import choose_device, environment
from training.evaluation import BATCH, load_splits, measure
from utils.files import write_json
from utils.markdown import markdown_table

CERTAINTY = NormalDist().inv_cdf(0.975)  # of intervals: 95 %
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


def run_evaluate(options: Namespace) -> None:
    """`hardware.py evaluate`: measures, writes its JSON, prints a table."""
    trained = read_trained(options, (*OF_SOLVER, "data_dir", "device"))
    device = torch.device(choose_device(trained.settings))
    circuit = trained.model.layer.circuit
    of_encoding = options.encoding_noise or NO_NOISE
    engines = [NoisyEngine(circuit, noise, of_encoding) for noise in options.noise]  # refuses before it computes
    split = getattr(load_splits(trained.settings, torch.device("cpu")).to(device), options.split)
    split = Split(split.features[: options.max_images], split.labels[: options.max_images])
    content = evaluation(trained, split, options.noise, engines) | {
        "run": options.run.name,
        "checkpoint": options.checkpoint,
        "split": options.split,
        "encoding_noise": of_encoding.describe() if of_encoding.channels else None,
        **environment(device),
    }
    write_json(options.json or options.run / "hardware_evaluation.json", content)
    print(table(content))


def evaluation(trained: Trained, split: Split, noises: list[Noise], engines: list[Engine]) -> dict:
    """The model without noise, and with each; on the split's device.

    Args:
        trained: its model's engine is put back at the end.
        split: features and labels.
        noises: as they are named in the results.
        engines: one for each.
    """
    model, depth, s = trained.model.to(split.features.device), trained.depth, trained.settings
    own = model.layer.engine
    x = split.features[:OF_JACOBIANS]
    ideal = states(model, split, depth)
    rows = []
    try:
        for noise, engine in zip(noises, engines):
            model.layer.engine = own
            quiet = model.layer.bind(x).reduced()
            model.layer.engine = engine
            noisy = states(model, split, depth)
            rows.append({
                **noise.describe(), "noisy_gates": engine.n_noisy, "gates": engine.n_gates,
                **summary(noisy), **drop(ideal, noisy),
                **shift(depth, quiet, model.layer.bind(x).reduced(), ideal.r[: len(x)], noisy.r[: len(x)]),
            })  # fmt: skip
    finally:
        model.layer.engine = own
    h = model.layer.bind(x).reduced()
    return {
        "model": s.model, "encoding": s.encoding, "n_wires": s.n_wires, "step": trained.step,
        "n_layer": depth.n_layers if isinstance(depth, Stack) else 0,
        **{name: getattr(s, name) for name in OF_SOLVER},
        "images": len(split),
        "images_of_shift": len(x),
        "ideal": summary(ideal) | {"spectral_radius": _mean(radius(jacobian(h, ideal.r[: len(x)])))},
        "rows": rows,
    }  # fmt: skip


@torch.no_grad()
def states(model: EquilibriumClassifier, split: Split, depth) -> States:
    """Classify a split with the layer's present engine."""
    start = time.perf_counter()
    compiled = model.layer.compile()
    compile_seconds = time.perf_counter() - start
    r, parts = [], []
    for x, y in zip(split.features.split(BATCH), split.labels.split(BATCH)):
        prediction = model(x, depth, compiled)
        r.append(model.layer.lift.readouts(prediction.z))
        parts.append(measure(prediction, y))
    measured = {name: torch.cat([part[name] for part in parts]).double() for name in parts[0]}
    return States(torch.cat(r), measured, compile_seconds, time.perf_counter() - start)


def summary(found: States) -> dict[str, float]:
    """Means over the images, and seconds."""
    means = {name: _mean(values) for name, values in found.measured.items()}
    return means | {"seconds": found.seconds, "seconds_of_observables": found.compile_seconds}


def drop(ideal: States, noisy: States) -> dict:
    """Points of accuracy lost on the same images, with the interval of paired differences at 95 %."""
    differences = 100 * (ideal.measured["acc"] - noisy.measured["acc"])
    mean = _mean(differences)
    half = CERTAINTY * float(differences.std(correction=1)) / len(differences) ** 0.5 if len(differences) > 1 else None
    return {"drop": mean, "drop_interval": None if half is None else [mean - half, mean + half]}


def shift(depth, quiet: ReadoutMap, noisy: ReadoutMap, r: Tensor, r_noisy: Tensor) -> dict[str, float]:
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
            "shift": _mean(found.norm(dim=1) / r.norm(dim=1)),
            "shift_predicted": _mean(first_order.norm(dim=1) / r.norm(dim=1)),
            "prediction_error": _mean((first_order - found).norm(dim=1) / found.norm(dim=1)),
            "spectral_radius": _mean(radius(jacobian(noisy, r_noisy))),
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
        interval, steps = row.get("drop_interval"), row.get("solver_steps")
        rows.append([
            row["noise"],
            f"{row['noisy_gates']} of {row['gates']}" if "gates" in row else "",
            f"{100 * row['acc']:.2f}",
            "" if interval is None else f"{row['drop']:.2f} ({interval[0]:.2f} to {interval[1]:.2f})",
            f"{row['res_rel']:.1e}",
            "" if steps is None else f"{steps:.1f}",
            *(f"{100 * row[name]:.2f}" if name in row else "" for name in ("shift", "shift_predicted")),
            f"{row['spectral_radius']:.3f}",
        ])  # fmt: skip
    machines = {(d["device"], d["calibrated"], d["source"]) for row in content["rows"] for d in row["devices"]}
    lines = [f"{name}: calibrated {day}, {source}" for name, day, source in sorted(machines)]
    return "\n".join([markdown_table(header, rows), *(["", *lines] if lines else [])])


def _mean(values: Tensor) -> float:
    """Over those that are finite, as images without a state are not."""
    return float(values[values.isfinite()].double().mean())
