"""Settings and problems that are refused, each with a message that names the fault and the known choices."""

from __future__ import annotations

import copy
import math
import pickle
import re
from dataclasses import replace

import pytest
import torch

from deq import SolverSettings, solve
from deq.settings import SOLVERS
from problems import ALL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "bisection"},
            "unknown solver 'bisection'; known: broyden, anderson, fixed_point, averaged, newton, exact, gmres, "
            "bicgstab, phantom",
        ),
        ({"stop_mode": "both"}, "unknown stop_mode 'both'; known: rel, abs"),
        ({"max_steps": -1}, "max_steps must be an integer >= 0, not -1"),
        ({"max_steps": 2.5}, "max_steps"),
        ({"tol": -1e-3}, "tol must be a number >= 0"),
        ({"tol": math.nan}, "tol"),
        ({"name": "anderson", "options": {"memry": 3}}, "no option 'memry'; known: memory, ridge, mixing"),
        ({"name": "newton", "options": {"memory": 3}}, "newton has no option 'memory'; known: jacobians"),
        ({"name": "newton", "options": {"jacobians": 0}}, "jacobians must be an integer >= 1, or None, not 0"),
        ({"name": "exact", "options": {"memory": 3}}, "exact has no option 'memory'; known: none"),
        ({"name": "gmres", "noise": 0.1}, "noise is for solvers that iterate z = f(z), broyden, anderson"),
        ({"name": "averaged", "polish": True}, "polish would answer with one evaluation of f in place of the mean"),
        ({"name": "anderson", "options": {"memory": 0}}, "memory must be an integer >= 1, not 0"),
        ({"name": "anderson", "options": {"ridge": -1.0}}, "ridge must be a number >= 0, or None"),
        ({"name": "anderson", "options": {"mixing": 0}}, "mixing must be a number > 0"),
        ({"name": "broyden", "options": {"damping": 1.5}}, "damping must be a number > 0 and <= 1, not 1.5"),
        ({"name": "phantom", "options": {"tau": 0}}, "tau must be a number > 0 and <= 1, not 0"),
        ({"patience": 0}, "patience must be an integer >= 1, or None, not 0"),
        ({"wait_for_all": 1}, "wait_for_all must be True or False, not 1"),
        ({"name": 3}, "a solver is a name (broyden, anderson"),
        ({"name": torch.cos, "options": {"memory": 3}}, "a solver of one's own takes no options here"),
    ],
)
def test_wrong_settings_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SolverSettings(**arguments)


def test_wrong_problems_are_refused():
    with pytest.raises(ValueError, match=r"f must keep the shape of z: it made \(2, 1\) of \(2, 3\)"):
        solve(lambda z: z[:, :1], torch.zeros(2, 3))
    with pytest.raises(ValueError, match="z0 must be a real"):
        solve(torch.cos, torch.tensor(1.0))
    with pytest.raises(ValueError, match="z0 must be a real"):
        solve(torch.cos, torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="'exact' solves linear systems only"):
        solve(torch.cos, torch.zeros(2, 3), SolverSettings("exact"))


def test_an_unknown_argument_is_answered_with_the_known_ones():
    with pytest.raises(TypeError, match="SolverSettings has no argument 'max_iter'; known: name, max_steps, tol"):
        SolverSettings("broyden", max_iter=3)


def test_settings_can_be_copied_pickled_and_changed():
    choice = SolverSettings("anderson", 7, options={"memory": 3})
    assert pickle.loads(pickle.dumps(choice)) == copy.deepcopy(choice) == choice
    assert replace(choice, tol=1e-3).tol == 1e-3
    with pytest.raises(TypeError, match="no argument 'tolerance'"):
        replace(choice, tolerance=1e-3)


def test_settings_are_plain_data_and_defaults_are_complete():
    assert set(SOLVERS) == {*ALL, "averaged", "exact", "gmres", "bicgstab", "phantom"}
    choice = SolverSettings("anderson", options={"memory": 3})
    assert choice.all_options() == {"memory": 3, "ridge": None, "mixing": 1.0}
    assert SolverSettings() == SolverSettings("broyden", 50, 1e-6, "rel", {})
