"""`hardware.py cost`: circuits, shots, rounds, jobs and hours of a model on a quantum computer, without running it.

Beside the model stand layers and equilibria of the same circuit, so that one sees what depth and derivatives cost.
"""

import json
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from deployment.command_line import OF_COST
from hardware.channels import NoiseError
from hardware.cost import (
    DELAY_US,
    MOST_CIRCUITS,
    CircuitCost,
    Counter,
    count_implicit_gradient,
    count_layers,
    count_solve,
    n_surrogate,
)
from hardware.devices import Device, read_device
from hardware.tree import refuse_other_states
from models.table import MODELS
from runs.settings import SettingsError
from training.hardware_settings import JACOBIAN_FREE
from training.settings import Settings
from utils.files import write_json
from utils.markdown import markdown_table

LAYERS = (1, 2, 5, 10)
DAYS_OF_A_YEAR = 365.25
SAMPLES = ("inference_sample", "training_sample")
SHOTS = 1024  # where nothing says how many


@dataclass(frozen=True)
class Pass:
    """How a sample is sent through the circuit.

    Attributes:
        n_layers: of a stack; 0: an equilibrium.
        n_evaluations: of f, in an equilibrium.
        with_jacobian, jac_loss: see `hardware.cost.count_implicit_gradient`.
    """

    n_layers: int = 0
    n_evaluations: int = 0
    with_jacobian: bool = True
    jac_loss: str = ""

    def count(self, counter: Counter, cost: CircuitCost, n_samples: int, shots: int, with_gradient: bool) -> Counter:
        """The counter, with one pass of a batch more."""
        if self.n_layers:
            count_layers(counter, cost, self.n_layers, n_samples, shots, with_gradient)
            return counter
        count_solve(counter, cost, self.n_evaluations, n_samples, shots)
        if with_gradient:
            count_implicit_gradient(counter, cost, n_samples, shots, self.with_jacobian, self.jac_loss)
        return counter


@dataclass(frozen=True)
class Work:
    """What is asked for.

    Attributes:
        shots: of each circuit.
        max_circuits: of a job.
        max_shots: of a circuit in a job, of which there are more for more shots; None: any number.
        delay_us: between two shots.
        images: that are classified, all beside each other.
        batch_size, n_steps: of the training.
    """

    shots: int
    max_circuits: int
    max_shots: int | None
    delay_us: float
    images: int
    batch_size: int
    n_steps: int

    def counter(self) -> Counter:
        """One that knows the jobs."""
        return Counter(self.max_circuits, -(-self.shots // self.max_shots) if self.max_shots else 1)


def run_cost(options: Namespace) -> None:
    """Counts; writes JSON where that is asked for, prints tables."""
    content = costs(options)
    if options.json:
        write_json(options.json, content)
    print(tables(content))


def costs(options: Namespace) -> dict:
    """What the tables hold, and more.

    Raises:
        SettingsError: the run or the flags are none of a model.
        NoiseError, UnsupportedCircuit: it has no circuit, or none that machines, or the one that is named, take.
    """
    given = {name: value for name, value in vars(options).items() if name in OF_COST}
    s = replace(_settings_of(options.run) if options.run else Settings(), restart=False, restart_dir="", keep_states=False, **given)
    s.validate()
    if MODELS[s.model].circuit is None:
        raise NoiseError(f"--model {s.model} has no circuit, nothing of it runs on a quantum computer: name one that has")
    circuit = MODELS[s.model].circuit(s)
    refuse_other_states(circuit)
    n_steps = s.max_step or s.epochs * -(-options.train_images // s.batch_size)
    if s.pretrain_steps >= n_steps:
        raise SettingsError(
            f"--pretrain_steps {s.pretrain_steps} fills the {n_steps} steps of --epochs {s.epochs} with --train_images "
            f"{options.train_images} and --batch_size {s.batch_size}: choose fewer, or raise --epochs or --max_step"
        )
    device = _device(options.machine, circuit.n_wires) if options.machine else None
    work = Work(
        options.shots or s.shots or SHOTS,
        options.max_circuits or (device.max_circuits if device else MOST_CIRCUITS),
        device.max_shots if device else None,
        options.delay_us or (device.repetition_us if device else DELAY_US),
        options.images, s.batch_size, n_steps,
    )  # fmt: skip
    name = options.run.name if options.run else s.run_name
    others = [(label, [(one, n_steps)]) for label, one in standard_passes(circuit, s.f_thres + 1).items()]
    cost = CircuitCost.of(circuit)
    return {
        "name": name, "model": s.model, "encoding": s.encoding, "n_wires": s.n_wires, **vars(work),
        **(device.describe() if device else {}),
        "shift_circuits": cost.shifts, "jacobian_circuits": cost.jacobian,
        "surrogate_circuits": n_surrogate(circuit) if isinstance(circuit.encoding, AmplitudeEncoding) else None,
        "rows": [_row(label, passes, cost, work) for label, passes in [(name, passes_of(s, circuit, n_steps)), *others]],
    }  # fmt: skip


def _device(name: str, n_wires: int) -> Device:
    """The machine that --device names, of as many qubits or more.

    Raises:
        NoiseError: one line that names the flag.
    """
    try:
        device = read_device(name)
        device.refuse_wires(n_wires)
    except NoiseError as error:
        raise NoiseError(f"--device {str(error).removeprefix('device:')}") from None
    return device


def _settings_of(run: Path) -> Settings:
    path = run / "config.json"
    try:
        return Settings.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"--run {run} is no run folder of train_qdeq.py ({path.name}: {error})") from error


def passes_of(s: Settings, circuit: Circuit, n_steps: int) -> list[tuple[Pass, int]]:
    """How a model's training steps go through the circuit, and how many so; as the last of them it is used."""
    if s.mode == "direct":
        return [(Pass(n_layers=s.n_layer), n_steps)]
    plain = Pass(n_evaluations=s.f_thres + 1, with_jacobian=s.b_solver != JACOBIAN_FREE)
    rest = n_steps - s.pretrain_steps
    with_loss = round(rest * s.jac_loss_freq) if s.jac_loss_weight else 0
    steps = [
        (Pass(n_layers=s.n_layer), s.pretrain_steps),
        (replace(plain, jac_loss=jac_loss_of(circuit)), with_loss),
        (plain, rest - with_loss),
    ]
    return [one for one in steps if one[1] or one[0] is plain]


def standard_passes(circuit: Circuit, n_evaluations: int) -> dict[str, Pass]:
    """Those that the paper compares, and two ways to have an equilibrium's gradient otherwise."""
    found = {f"DIRECT, {n} layers" if n > 1 else "DIRECT, 1 layer": Pass(n_layers=n) for n in LAYERS}
    implicit = Pass(n_evaluations=n_evaluations)
    return found | {
        "IMPLICIT": implicit,
        "IMPLICIT, Jacobian-free": replace(implicit, with_jacobian=False),
        "IMPLICIT, Jacobian loss": replace(implicit, jac_loss=jac_loss_of(circuit)),
    }


def jac_loss_of(circuit: Circuit) -> str:
    """How a circuit's Jacobian loss is measured."""
    return "product" if isinstance(circuit.encoding, AmplitudeEncoding) else "jacobian"


def _row(label: str, passes: list[tuple[Pass, int]], cost: CircuitCost, work: Work) -> dict:
    """Of one image's inference and one image in a training step (the mean), of all images' inference, of the training."""

    def counted(one: Pass, n_samples: int, with_gradient: bool) -> Counter:
        return one.count(work.counter(), cost, n_samples, work.shots, with_gradient)

    training = work.counter()
    for one, n_steps in passes:
        training.add(counted(one, work.batch_size, True), n_steps)
    used, n_steps = passes[-1][0], sum(n for _, n in passes)
    mean = {name: value / n_steps for name, value in training.describe().items()}
    inference = counted(used, work.images, False)
    return {
        "label": label,
        "inference_sample": counted(used, 1, False).describe(),
        "training_sample": {"circuits": mean["circuits"] / work.batch_size, "rounds": mean["rounds"]},
        "inference": inference.describe() | {"hours": inference.hours(work.delay_us)},
        "training": training.describe() | {"hours": training.hours(work.delay_us)},
    }


def tables(content: dict) -> str:
    """What `costs` found, in Markdown."""
    header = ["", "circuits: an image's inference", "its training step", "rounds: inference", "training step",
              f"inference of {content['images']:,} images: shots", "jobs", "hours",
              f"training, {content['n_steps']:,} steps of {content['batch_size']}: shots", "jobs", "time"]  # fmt: skip
    rows = []
    for row in content["rows"]:
        inference, training = row["inference"], row["training"]
        rows.append([
            row["label"],
            *(f"{row[which][what]:.5g}" for what in ("circuits", "rounds") for which in SAMPLES),
            f"{inference['shots']:.2g}", f"{inference['jobs']:,}", f"{inference['hours']:.2g}",
            f"{training['shots']:.2g}", f"{training['jobs']:,}", duration(training["hours"]),
        ])  # fmt: skip
    lines = [
        f"{content['shots']} shots of every circuit, one every {content['delay_us']:g} us, up to "
        f"{content['max_circuits']} circuits in a job{_at_most(content)}; equilibria with all their solver steps."
    ]
    if "device" in content:
        lines.append(f"{content['device']}: calibrated {content['calibrated']}, {content['source']}")
    if content["surrogate_circuits"]:
        n = content["surrogate_circuits"]
        hours = n * content["shots"] * content["delay_us"] / 3.6e9
        lines.append(f"Measured once, {n} circuits ({hours:.2g} hours) replace the trained circuit, as certain as circuits of as many "
                     "shots: hardware.py surrogate.")  # fmt: skip
    return "\n\n".join([markdown_table(header, rows), "\n".join(lines)])


def _at_most(content: dict) -> str:
    most = content["max_shots"]
    return "" if most is None else f", with up to {most} shots of each: {-(-content['shots'] // most)} for all shots"


def duration(hours: float) -> str:
    """In hours, days or years."""
    if hours < 48:
        return f"{hours:.2g} hours"
    days = hours / 24
    return f"{days:.0f} days" if days < 365 else f"{days / DAYS_OF_A_YEAR:.1f} years"
