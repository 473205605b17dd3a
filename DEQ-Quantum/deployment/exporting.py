"""`hardware.py export`: a trained run as files for other programs.

The circuit with its numbers, in the format that is asked for, and beside it what is classical: how features become the
vector that is encoded, how readouts become the state, and the head. How images become features it names; what of that was
fitted to images, as principal components, it says to be elsewhere.
"""

from argparse import Namespace

import torch

from deployment.trained import Trained, read_trained
from engines.protocol import UnsupportedCircuit
from hardware.export import Program, program_of, to_data, to_qasm3, to_qiskit
from models.baselines import LinearReadoutClassifier, ReadoutClassifier
from models.depth import Depth, Stack
from models.lift import Lift, Repeat
from models.qdeq_model import QDEQModel
from utils.files import atomic_write, write_json, write_text

FITTED = ("components", "component_angles", "latent_angles")  # features that images teach


def run_export(options: Namespace) -> None:
    """Write model.json and, in another format, the circuit once more; print where."""
    trained = read_trained(options)
    program, content = exported(trained)
    out = options.out or options.run / "export"
    circuit = to_qiskit(program) if options.format == "qiskit" else None  # before anything is written
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "model.json", content | {"run": options.run.name})
    if options.format == "qasm3":
        write_text(out / "circuit.qasm", to_qasm3(program))
    if circuit is not None:
        from qiskit import qpy

        with atomic_write(out / "circuit.qpy") as temporary, temporary.open("wb") as file:
            qpy.dump(circuit, file)
    print(f"{', '.join(sorted(path.name for path in out.iterdir()))} in {out}")


def exported(trained: Trained) -> tuple[Program, dict]:
    """The circuit, and what model.json says.

    Raises:
        UnsupportedCircuit: the model's logits, or its circuit, have no export.
    """
    content = classical_part(trained)
    layer = trained.model.layer
    program = program_of(layer.circuit, layer.full_theta().tolist())
    return program, content | {"circuit": to_data(program)}


def classical_part(trained: Trained) -> dict:
    """All but the circuit: what a program needs to classify an image's features with it.

    Raises:
        UnsupportedCircuit: see `_head`.
    """
    s, depth, layer = trained.settings, trained.depth, trained.model.layer
    features = f"x: the image's {layer.n_inputs} numbers by {s.reduction}"
    if s.reduction in FITTED:
        features += ", fitted to the training images and not in this file: dataset.load_features gives them"
    return {
        "model": s.model,
        "dataset": s.dataset,
        "num_classes": s.num_classes,
        "step": trained.step,
        "features": features,
        **_layer(layer.lift, s.z_gain),
        "depth": _depth(depth),
        "head": _head(trained),
    }


def _depth(depth: Depth) -> str:
    if not isinstance(depth, Stack):
        return "equilibrium z = f(z)"
    return f"{depth.n_layers} layers from z = {'E r nearest to x, by least squares' if depth.from_x else 0}"


def _layer(lift: Lift, gain: float) -> dict:
    layer = f"f(z) = E r(v), v = {'' if gain == 1 else f'{gain!r} '}z + x, r expectation values of the readout, "
    if isinstance(lift, Repeat):
        return {"layer": layer + "which E repeats `copies` times each", "copies": lift.copies}
    return {"layer": layer + "E = `lift`", "lift": lift.matrix.tolist()}


def _head(trained: Trained) -> dict:
    """From the state or the readouts to the logits, as the model's kind of classifier has them.

    Raises:
        UnsupportedCircuit: it is of a kind that is not written here.
    """
    model = trained.model
    head, lift = model.head, model.layer.lift
    if type(model) is ReadoutClassifier:
        return {"logits": "weight r", "weight": head(torch.eye(lift.n)).T.tolist()}
    if type(model) is QDEQModel:
        of = f"max({'z' if lift.sees_state else 'r'}, 0)"
    elif type(model) is LinearReadoutClassifier:
        of = "r"
    else:
        raise UnsupportedCircuit(
            f"--model {trained.settings.model} makes its logits otherwise than this export can say ({type(model).__name__}): "
            "name a run of another model"
        )
    return {"logits": f"weight {of} + bias", "weight": head.weight.tolist(), "bias": head.bias.tolist()}
