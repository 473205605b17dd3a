"""The one table of models: every entry builds what it says, and what depends on the name is said once."""

import subprocess
import sys

import pytest
import torch

from conftest import SCRIPTS
from deq import SolverSettings
from models.depth import Equilibrium, Stack
from models.table import MODELS, build_model
from training.command_line import parse_command_line


# of four wires
N_INPUTS = {"pooling": 16, "components": 4, "pixels": 25, "frqi_reversed": 8, "frqi_blocks": 8, "compressed_frqi": 16,
            "component_angles": 16, "latent_angles": 16}  # fmt: skip


def settings_of(name: str, *flags: str):
    if name.startswith(("dilip2022", "kiwit2025")):
        flags = ("--readout", "marginal", "--z_gain", "0.05", *flags)
    return parse_command_line(["--model", name, "--n_wires", "4", "--num_classes", "4", *flags]).settings


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_is_true_of_the_model_it_builds(name):
    model, entry = build_model(settings_of(name)), MODELS[name]
    circuit = getattr(model.layer, "circuit", None)
    assert (circuit is not None) == (entry.circuit is not None) == bool(entry.encodings)
    assert model.layer.n_inputs == N_INPUTS[entry.features]
    assert (model.dropout > 0) == entry.has_dropout
    for flag in ("True", "False"):
        settings = settings_of(name, "--amplitude_encoder", flag)
        made = build_model(settings)
        named = made.layer.circuit.encoding.name if entry.circuit else "none"
        assert entry.encoding(settings) == settings.encoding == named
    x = torch.randn(3, model.layer.n_inputs, generator=torch.Generator().manual_seed(0))
    deep = [model.eval()(x, depth).logits for depth in (Stack(1), Stack(4))]
    assert torch.equal(*deep) != entry.has_depth


def test_the_table_needs_neither_torch_nor_numpy():
    code = "import models.table, training.settings, sys; assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=True)


def test_a_stack_has_a_layer():
    with pytest.raises(ValueError, match="a stack has at least one layer, got 0"):
        Stack(0)


def test_depths_run_on_any_map():
    """h(r) = r / 2 + 1 has the equilibrium 2; n layers from 0 give 2 - 2^(1-n)."""
    h, r0 = lambda r: r / 2 + 1, torch.zeros(2, 3, dtype=torch.float64)
    tight = SolverSettings("broyden", 20, 1e-12)
    found = Equilibrium(tight, tight).run(h, r0)
    torch.testing.assert_close(found.r, torch.full_like(r0, 2.0))
    assert found.solver.converged.all()
    for n in (1, 4):
        stacked = Stack(n).run(h, r0)
        torch.testing.assert_close(stacked.r, torch.full_like(r0, 2 - 2.0 ** (1 - n)))
        torch.testing.assert_close(stacked.h_r, torch.full_like(r0, 2 - 2.0**-n))
        assert stacked.solver is None


def test_an_absolute_tolerance_is_told_in_the_states_own_units():
    absolute = Equilibrium(SolverSettings("broyden", 10, 1e-2, "abs"))
    assert absolute.in_units_of(0.5).forward.tol == 5e-3
    assert Equilibrium().in_units_of(0.5) == Equilibrium() and Stack(2).in_units_of(0.5) == Stack(2)
