"""`hardware.py surrogate`: a trained circuit measured once, then every image classified without it."""

from argparse import Namespace
from statistics import mean, stdev

import torch

from dataset import Split
from deployment.differences import drop, finite_mean
from deployment.states import states
from deployment.trained import read_trained
from hardware.cost import Counter
from hardware.engine import NoisyEngine
from hardware.surrogate import SurrogateEngine
from runs.machine import choose_device, environment
from training.equilibrium_settings import OF_SOLVER
from training.evaluation import load_splits
from utils.files import write_json
from utils.markdown import markdown_table
from utils.statistics import Spread


def run_surrogate(options: Namespace) -> None:
    """Measures, writes its JSON, prints a table."""
    content = measure_once(options)
    write_json(options.json or options.run / "hardware_surrogate.json", content)
    print(_table(content))


def measure_once(options: Namespace) -> dict:
    """What a command line asks of one run, as its JSON holds it."""
    trained = read_trained(options, (*OF_SOLVER, "data_dir", "device"))
    device = torch.device(choose_device(trained.settings))
    circuit = trained.model.layer.circuit
    exact = NoisyEngine(circuit, options.noise)
    engines = [SurrogateEngine(circuit, options.shots, options.noise, options.seed + k) for k in range(options.repeat)]
    split = getattr(load_splits(trained.settings, torch.device("cpu")).to(device), options.split)
    split = Split(split.features[: options.max_images], split.labels[: options.max_images])
    model = trained.model.to(device)
    own = states(model, split, trained.depth)
    model.layer.engine = exact
    noisy = states(model, split, trained.depth)
    draws = []
    for engine in engines:
        model.layer.engine = engine
        draws.append(states(model, split, trained.depth))
    accuracies = [finite_mean(found.measured["acc"]) for found in draws]
    error = [finite_mean((found.r - noisy.r).norm(dim=1) / noisy.r.norm(dim=1)) for found in draws]
    counter, all_shots = Counter(), engines[0].n_circuits * options.shots
    counter.count("calibration", engines[0].n_circuits, all_shots)
    return {
        "run": options.run.name,
        "checkpoint": options.checkpoint,
        "split": options.split,
        "images": len(split),
        **options.noise.describe(),
        "shots": options.shots,
        "circuits": engines[0].n_circuits,
        "all_shots": all_shots,
        "counts": counter.describe(),
        "seeds": [engine.machine.seed for engine in engines],
        "ideal_acc": finite_mean(own.measured["acc"]),
        "noisy_acc": finite_mean(noisy.measured["acc"]),
        "acc": mean(accuracies),
        "acc_std": stdev(accuracies) if len(draws) > 1 else None,
        **drop(own.measured["acc"], torch.stack([found.measured["acc"] for found in draws]).mean(0)),
        "res_rel": mean(finite_mean(found.measured["res_rel"]) for found in draws),
        "error": mean(error),
        **environment(device),
    }


def _table(found: dict) -> str:
    header = ["circuits, once", "shots in all", "accuracy, %", "with all shots one likes, %", "without noise, %",
              "distance from the exact state, %", "residual"]  # fmt: skip
    row = [
        f"{found['circuits']:,}", f"{found['all_shots']:,}", Spread(found["acc"], found["acc_std"]).text(".2f", 100),
        f"{100 * found['noisy_acc']:.2f}", f"{100 * found['ideal_acc']:.2f}", f"{100 * found['error']:.2f}",
        f"{found['res_rel']:.1e}",
    ]  # fmt: skip
    return markdown_table(header, [row])
