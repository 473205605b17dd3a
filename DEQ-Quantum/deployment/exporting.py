"""`hardware.py export`: a trained run as files for other programs.

The circuit with its numbers, in the format that is asked for, and beside it what is classical: how features become the
vector that is encoded, how readouts become the state, and the head.
"""

from argparse import Namespace

import torch
from torch import nn

from deployment.trained import Trained, read_trained
from hardware.export import program_of, to_data, to_qasm3, to_qiskit
from models.baselines import GroupSums
from models.depth import Stack
from models.lift import Lift, Repeat
from utils.files import atomic_write, write_json, write_text


def run_export(options: Namespace) -> None:
    """Write model.json and, in another format, the circuit once more; print where."""
    trained = read_trained(options)
    layer = trained.model.layer
    program = program_of(layer.circuit, layer.full_theta().tolist())
    out = options.out or options.run / "export"
    circuit = to_qiskit(program) if options.format == "qiskit" else None  # before anything is written
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "model.json", classical_part(trained) | {"run": options.run.name, "circuit": to_data(program)})
    if options.format == "qasm3":
        write_text(out / "circuit.qasm", to_qasm3(program))
    if circuit is not None:
        from qiskit import qpy

        with atomic_write(out / "circuit.qpy") as temporary, temporary.open("wb") as file:
            qpy.dump(circuit, file)
    print(f"{', '.join(sorted(path.name for path in out.iterdir()))} in {out}")


def classical_part(trained: Trained) -> dict:
    """All but the circuit: what a program needs to classify an image with it."""
    s, depth, lift, head = trained.settings, trained.depth, trained.model.layer.lift, trained.model.head
    return {
        "model": s.model,
        "dataset": s.dataset,
        "num_classes": s.num_classes,
        "step": trained.step,
        "features": f"x: the image's {trained.model.layer.n_inputs} numbers by {s.reduction}",
        **_layer(lift, s.z_gain),
        "depth": f"{depth.n_layers} layers from z = 0" if isinstance(depth, Stack) else "equilibrium z = f(z)",
        "head": _of_sums(head, lift.n) if isinstance(head, GroupSums) else _of_linear(head, "z" if lift.sees_state else "r"),
    }


def _layer(lift: Lift, gain: float) -> dict:
    layer = f"f(z) = E r(v), v = {'' if gain == 1 else f'{gain!r} '}z + x, r expectation values of the readout, "
    if isinstance(lift, Repeat):
        return {"layer": layer + "which E repeats `copies` times each", "copies": lift.copies}
    return {"layer": layer + "E = `lift`", "lift": lift.matrix.tolist()}


def _of_linear(head: nn.Linear, of: str) -> dict:
    return {"logits": f"weight max({of}, 0) + bias", "weight": head.weight.tolist(), "bias": head.bias.tolist()}


def _of_sums(head: GroupSums, n: int) -> dict:
    return {"logits": "weight r", "weight": head(torch.eye(n)).T.tolist()}
