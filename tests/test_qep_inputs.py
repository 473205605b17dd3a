"""What qep is given: one ValueError that names both shapes wherever it enters; nothing is broadcast, nothing fails inside."""

import re

import pytest
import torch

import qep
from qep.gaussian import PositionObservables
from qep.ground_states import GroundStateError
from qep.operators import PauliStrings

EDGES = [(0, 1), (0, 2), (1, 2)]
TERMS = {"ZZI": -0.8, "IZZ": -0.5, "XII": -1.0, "IXI": -1.0, "IIX": -1.0}
SYSTEMS = {
    "ising": lambda: qep.TransverseFieldIsing(3, EDGES, 2, [0, 1], [2]),
    "pauli": lambda: qep.PauliHamiltonian(TERMS, ["IIZ"], ["ZII", "IZI"]),
    "oscillators": lambda: qep.OscillatorNetwork(3, EDGES, 2, [0, 1], [2]),
}
ESTIMATORS = {
    "QEP": lambda: qep.QEP("centred", 0.1),
    "positive": lambda: qep.QEP("positive", 0.1),
    "shots": lambda: qep.QEP("centred", 0.1, qep.Shots(10)),
    "holomorphic": lambda: qep.Holomorphic(0.1),
    "exact": lambda: qep.ExactResponse(),
    "autograd": lambda: qep.AutogradEigh(),
    "differences": lambda: qep.FiniteDifferences(),
}
COSTS = {
    "linear": (qep.LinearObservable, 2),
    "spins": (qep.SquaredSpins, 2),
    "squared": (qep.SquaredError, 2),
    "positions": (qep.SquaredPositions, 1),
    "cross_entropy": (qep.CrossEntropy, 0),
}
# what is wrong, made from what is right, (4, n): shapes, and kinds of numbers
WRONG_SHAPES = {
    "one sample": lambda v: v[0],
    "a column": lambda v: v[:, 0],
    "too few": lambda v: v[:1],
    "too many": lambda v: torch.cat([v, v]),
    "none": lambda v: v[:0],
    "wide": lambda v: torch.cat([v, v, v], 1),
    "narrow": lambda v: v[:, :-1],
    "nested": lambda v: v.unsqueeze(0),
    "a number": lambda v: v[0, 0],
}
WRONG_NUMBERS = {
    "NaN": (lambda v: v.double() * torch.tensor([[1.0], [torch.nan], [1.0], [1.0]]), "has NaN or inf in 1 of 4 samples"),
    "inf": (lambda v: v.double() + torch.inf, "has NaN or inf in 4 of 4 samples"),
    "complex": (lambda v: v + 0j, "got torch.complex128"),
    "bool": (lambda v: v > 0, "got torch.bool"),
    "meta": (lambda v: v.to("meta"), "must be on cpu, got meta"),
    "list": (lambda v: v.tolist(), "must be a tensor, got list"),
    "numpy": (lambda v: v.numpy(), "must be a tensor, got ndarray"),
    "nothing": (lambda v: None, "must be a tensor, got NoneType"),
}
WRONG_DTYPES = {
    "float32": (lambda v: v.float(), "must be torch.float64, got torch.float32"),
    "int64": (lambda v: v.long(), "must be torch.float64, got torch.int64"),
}


def draw(*shape: int) -> torch.Tensor:
    return 0.1 + torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def refused(call, name: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    said = str(caught.value)
    assert said.startswith(name) and message in said and "\n" not in said, said


def refuses(call, name: str, right: torch.Tensor, numbers: dict, allowed: tuple = ()) -> None:
    """All that is wrong is refused, and what is right is not; what is said names the shape that came."""
    call(right)
    for case, spoil in WRONG_SHAPES.items():
        wrong = spoil(right)
        if case not in allowed and wrong.shape != right.shape:
            refused(lambda: call(wrong), name, f"{tuple(wrong.shape)}")
    for spoil, message in numbers.values():
        refused(lambda: call(spoil(right)), name, message)


@pytest.mark.parametrize("system", SYSTEMS)
def test_inputs(system):
    s, any_number = SYSTEMS[system](), ("too few", "too many")
    for call in (s.equilibrium, s.differentiable_expectations):
        refuses(call, "x ", draw(4, 2), WRONG_NUMBERS | WRONG_DTYPES, any_number)
    derivatives = draw(4, len(s.observables))
    refused(lambda: s.local_gradient(derivatives, draw(3, 2)), "derivatives", f"for x (3, 2) and {len(s.observables)}")
    refused(lambda: s.local_gradient(derivatives, draw(4, 3)), "x must have shape (B, 2)", "got (4, 3)")


@pytest.mark.parametrize("system", SYSTEMS)
def test_nudges_and_derivatives(system):
    s, x = SYSTEMS[system](), draw(4, 2)
    free, nudge = s.equilibrium(x), 0.1 * draw(4, len(s.output_index))
    numbers = WRONG_NUMBERS | WRONG_DTYPES
    without_none = {name: case for name, case in numbers.items() if name != "nothing"}  # no nudge is free
    refuses(lambda v: s.equilibrium(x, v), "nudge ", nudge, without_none)
    refuses(lambda v: s.response(free, v), "nudge ", nudge, numbers)
    refuses(lambda v: s.local_gradient(v, x), "derivatives ", draw(4, len(s.observables)), numbers)
    s.continued_expectations(free, nudge + 0j)
    refused(lambda: s.continued_expectations(free, nudge), "nudge", "must be torch.complex128, got torch.float64")
    refused(lambda: s.continued_expectations(free, nudge[:1] + 0j), "nudge", "for x (4, 2) and ")


@pytest.mark.parametrize("method", ["value", "nudge"])
@pytest.mark.parametrize("cost", COSTS)
def test_costs(cost, method):
    kind, width = COSTS[cost]
    outputs, call = draw(4, 2), getattr(kind(), method)
    if not width:
        right = torch.tensor([0, 1, 1, 0])
        call(outputs, right)
        for wrong in (right[:3], right[:1], right[:0], right.unsqueeze(1), right[0]):
            refused(lambda: call(outputs, wrong), "targets must have shape (4,) for outputs (4, 2)", f"{tuple(wrong.shape)}")
        for wrong in (right.double(), right.int(), right > 0):
            refused(lambda: call(outputs, wrong), "targets must be torch.int64", f"got {wrong.dtype}")
        for wrong in ([0, 1, 2, 0], [0, -1, 1, 0], [0, -100, 1, 0]):
            refused(lambda: call(outputs, torch.tensor(wrong)), "targets must be labels from 0 to 1", f"got {wrong}")
    else:
        right = draw(4, width)
        call(outputs, right.float()), call(outputs, right.long())  # any real numbers
        refuses(lambda v: call(outputs, v), "targets ", right, WRONG_NUMBERS, ("narrow",) * (cost == "squared"))
    refused(lambda: call(draw(4), right), "outputs must have shape (B, n_outputs)", "got (4,)")
    refused(lambda: call(draw(3, 2), right), "targets", "for outputs (3, 2)")
    refused(lambda: call(outputs + 0j, right), "outputs", "got torch.complex128")


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators(estimator):
    """Targets (4,) and (1, 1) of outputs (4, 1) were broadcast once, to another cost."""
    system, cost, x = SYSTEMS["ising"](), qep.SquaredError(), draw(4, 2)

    def call(x, targets):
        return ESTIMATORS[estimator]()(system, x, targets, cost, torch.Generator().manual_seed(0))

    refuses(lambda targets: call(x, targets), "targets ", draw(4, 1), WRONG_NUMBERS)
    refuses(lambda x: call(x, draw(4, 1)), "x ", x, WRONG_NUMBERS | WRONG_DTYPES, ("too few", "too many"))
    refused(lambda: call(x[:3], draw(4, 1)), "targets must have shape (3, n) for outputs (3, 1)", "got (4, 1)")


def test_masses():
    build = qep.OscillatorNetwork
    for masses, message in ((draw(1), "(3,) for 3 oscillators, got (1,)"), (-draw(3), "must be positive"),
                            (draw(3, 1), "(3,) for 3 oscillators, got (3, 1)"), (draw(3) / 0, "NaN or inf")):  # fmt: skip
        refused(lambda: build(3, EDGES, 2, [0], [2], masses), "masses", message)


def test_gaussians_and_operators():
    positions = PositionObservables(3, EDGES)
    mean, covariance = draw(4, 3), torch.eye(3).double().expand(4, 3, 3)
    positions.expectations(mean, covariance)
    refused(lambda: positions.expectations(mean[:, :2], covariance), "mean", "(B, 3) for 3 oscillators, got (4, 2)")
    refused(lambda: positions.expectations(mean, covariance[:1]), "covariance", "for mean (4, 3), got (1, 3, 3)")
    strings = PauliStrings(["ZZ", "XI"])
    refused(lambda: strings.bind(draw(4, 3)), "coefficients", "(B, 2) for 2 strings, got (4, 3)")
    refused(lambda: strings.expectations(draw(4, 8)), "psi", "(B, 4) for 2 spins, got (4, 8)")
    refused(lambda: strings.sandwich(draw(1, 4), draw(4, 4)), "phi", "for psi (4, 4), got (1, 4)")


@pytest.mark.parametrize("system", SYSTEMS)
def test_parameters_that_are_not_finite_have_no_ground_state(system):
    s = SYSTEMS[system]()
    with torch.no_grad():
        next(s.parameters()).fill_(torch.nan)
    with pytest.raises(GroundStateError, match=re.escape("the parameters are not finite: there is no ground state")):
        s.equilibrium(draw(4, 2))
