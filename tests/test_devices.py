"""Every model away from the CPU, without a GPU: torch's meta device has no values and refuses to be read or mixed."""

import shlex

import pytest
import torch
from torch.nn.functional import cross_entropy

from models.table import MODELS, build_model
from runs.meter import Meter
from training.command_line import parse_command_line
from training.evaluation import depth_of

ANGLE = "--amplitude_encoder False"
WAYS = [
    "",
    "--f_solver anderson --b_solver anderson",
    "--f_solver fixed_point --b_solver fixed_point",
    "--f_solver newton --b_solver exact",
    "--mode direct --n_layer 2",
    "--trainable_gates released",
    "--trainable_gates none",
    ANGLE,
    f"{ANGLE} --f_solver newton --b_solver exact",
    f"{ANGLE} --mode direct --n_layer 2",
    "--engine torchquantum",
    f"--engine torchquantum {ANGLE}",
    *(f"--model {name} --f_solver newton --b_solver exact" for name in MODELS if name != "qdeq"),
    *(f"--model {name} --mode direct --n_layer 2" for name in MODELS if name != "qdeq"),
]


@pytest.mark.parametrize("flags", WAYS)
def test_a_training_step_neither_waits_for_its_device_nor_leaves_it(flags):
    if "torchquantum" in flags:
        pytest.importorskip("torchquantum")
    few = "--n_wires 4 --num_classes 4 --f_thres 3 --b_thres 3"  # steps enough for a solver's memory to be used
    probabilities = "--readout marginal" if any(name in flags for name in ("dilip2022", "kiwit2025")) else ""
    settings = parse_command_line(shlex.split(f"{few} {flags} {probabilities}")).settings
    model = build_model(settings).to("meta")
    x = torch.empty(5, model.layer.n_inputs, device="meta")
    y = torch.empty(5, dtype=torch.long, device="meta")
    p = model(x, depth_of(settings), with_jac_loss=True)
    (cross_entropy(p.logits, y) + p.jac_loss).backward()
    meter = Meter()
    for name in ("logits", "res", "res_rel", "jac_loss"):
        meter.add(name, getattr(p, name))
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    kept = [norm, *meter.sums.values(), *(p.grad for p in model.parameters() if p.numel())]
    assert {value.device.type for value in kept} == {"meta"}
