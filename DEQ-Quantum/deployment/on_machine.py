"""`hardware.py run` and `transpile`: a trained model on a simulated machine, from counts, and what its circuit costs."""

from argparse import Namespace

import torch

from dataset import Split
from deployment.states import states
from deployment.sampled import sampled
from deployment.trained import read_trained
from hardware.aer import AerEngine, cost_on, machine, median_costs, noisy_gates
from hardware.channels import NoiseError
from hardware.export import program_of, to_qiskit
from runs.machine import environment
from training.equilibrium_settings import OF_SOLVER
from training.evaluation import load_splits
from utils.files import write_json
from utils.markdown import markdown_table

PARTS = ("encoding", "ansatz", "all")


def run_on_machine(options: Namespace) -> None:
    """Every equilibrium from counts of a machine that Aer simulates; writes its JSON, prints a table."""
    trained = read_trained(options, (*OF_SOLVER, "data_dir"))
    if trained.settings.f_solver == "newton":
        raise NoiseError("counts give no exact Jacobian, which --f_solver newton takes: choose another")
    target = machine(options.machine)
    model, circuit = trained.model, trained.model.layer.circuit
    engine = AerEngine(circuit, target, options.shots, options.optimization_level, options.seed)
    split = getattr(load_splits(trained.settings, torch.device("cpu")), options.split)
    split = Split(split.features[: options.images], split.labels[: options.images])
    ideal = states(model, split, trained.depth)
    template = engine.compile(model.layer.full_theta().detach()).template
    noisy, gates = noisy_gates(template, target)
    content = {
        **environment(torch.device("cpu")),
        "run": options.run.name,
        "checkpoint": options.checkpoint,
        "split": options.split,
        "images": len(split),
        **target.describe(),
        "optimization_level": options.optimization_level,
        "noisy_gates": noisy,
        "gates": gates,
        **cost_on(template, target),
        "ideal_acc": float(ideal.measured["acc"].mean()),
        **sampled(model, split, trained.depth, [engine], ideal.r, ideal.measured["acc"]),
    }
    write_json(options.json or options.run / f"hardware_run_{target.name}.json", content)
    header = ["machine", "noisy gates", "circuits", "shots of each", "accuracy, %", "without noise, %",
              "residual, fresh shots", "its floor", "distance from the state without noise, %"]  # fmt: skip
    row = [
        f"{target.name} ({target.calibrated})", f"{noisy} of {gates}", f"{content['circuits']:.0f}", str(options.shots),
        f"{100 * content['acc']:.1f}", f"{100 * content['ideal_acc']:.1f}", f"{content['res_fresh']:.1e}",
        f"{content['res_floor']:.1e}", f"{100 * content['error']:.0f}",
    ]  # fmt: skip
    print(markdown_table(header, [row]))


def run_transpile(options: Namespace) -> None:
    """What a trained circuit costs on machines, encoding and ansatz apart: medians over compilations."""
    trained = read_trained(options)
    layer = trained.model.layer
    program = program_of(layer.circuit, layer.full_theta().tolist())
    targets = [machine(name) for name in options.machines]
    rows = [
        target.describe()
        | {"part": part, "optimization_level": level, "compilations": options.seeds}
        | median_costs(to_qiskit(program, part), target, level, range(options.seeds))
        for target in targets
        for level in options.optimization_level
        for part in PARTS
    ]
    content = {"run": options.run.name, "checkpoint": options.checkpoint, "encoding": trained.settings.encoding,
               "n_wires": layer.circuit.n_wires, "rows": rows, **environment(torch.device("cpu"))}  # fmt: skip
    write_json(options.json or options.run / "hardware_transpile.json", content)
    header = ["machine", "level", "part", "two-qubit gates", "depth", "duration, us", "success"]
    table = [
        [row["device"], str(row["optimization_level"]), row["part"], f"{row['two_qubit_gates']:g}", f"{row['depth']:g}",
         f"{row['duration_us']:.1f}", f"{row['success']:.2f}"]
        for row in rows
    ]  # fmt: skip
    print(markdown_table(header, table))
