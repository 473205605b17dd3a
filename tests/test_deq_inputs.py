"""What a solve takes and refuses: states of several tensors, half precision, autocast, empty batches, inference mode."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from circuits.circuit import build_circuit
from deq import (
    SolverSettings,
    batch_jacobian,
    equilibrium,
    hutchinson_jacobian_loss,
    solve,
    spectral_radius,
    unroll,
)
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer
from problems import ALL, BACKWARD, NEWTON, layer_and_input, normal, tight, with_spectral_norm

Pair = namedtuple("Pair", ["a", "b"])


# states of several tensors


def pack(kind, a, b):
    return {
        "tuple": (a, b),
        "list": [a, b],
        "dict": {"a": a, "b": b},
        "nested": {"a": (a,), "b": [b]},
        "named": Pair(a, b),
    }[kind]


def open_up(kind, z):
    if kind == "nested":
        return z["a"][0], z["b"][0]
    return (z["a"], z["b"]) if kind == "dict" else tuple(z)


KINDS = ("tuple", "list", "dict", "nested", "named")


def coupled(kind, w, x):
    """A map of (B, 2, 2) and (B, 3) to the like, and the same of one (B, 7)."""

    def of_one(z):
        return torch.tanh(z @ w.T + x)

    def f(z):
        a, b = open_up(kind, z)
        made = of_one(torch.cat([a.flatten(1), b], dim=1))
        return pack(kind, made[:, :4].view(-1, 2, 2), made[:, 4:])

    return f, of_one


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", ALL)
def test_a_state_of_tensors_is_solved_as_one(solver, kind):
    w, x = with_spectral_norm(normal(7, 7, seed=1), 0.9), normal(3, 7, seed=2)
    f, of_one = coupled(kind, w, x)
    z0 = pack(kind, x.new_zeros(3, 2, 2), x.new_zeros(3, 3))
    result, one = (
        solve(f, z0, SolverSettings(solver, 60)),
        solve(of_one, torch.zeros_like(x), SolverSettings(solver, 60)),
    )
    assert type(result.z) is type(z0)
    a, b = open_up(kind, result.z)
    torch.testing.assert_close(torch.cat([a.flatten(1), b], dim=1), one.z)
    assert torch.equal(result.steps, one.steps) and result.status.shape == (3,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backward", BACKWARD)
def test_gradients_of_a_state_of_tensors(backward, kind):
    x = normal(2, 7, seed=2).requires_grad_()
    w = with_spectral_norm(normal(7, 7, seed=1), 0.6).requires_grad_()
    z0 = pack(kind, x.new_zeros(2, 2, 2), x.new_zeros(2, 3))

    def z_star(w, x):
        return open_up(kind, equilibrium(coupled(kind, w, x)[0], z0, NEWTON, tight(backward))[0])

    if kind in ("tuple", "dict"):
        assert torch.autograd.gradcheck(z_star, (w, x))
    weights = normal(2, 2, 2, seed=3), normal(2, 3, seed=4)
    stacked = open_up(kind, unroll(coupled(kind, w, x)[0], z0, 120))
    losses = [sum((c * part).sum() for c, part in zip(weights, parts)) for parts in (z_star(w, x), stacked)]
    torch.testing.assert_close(*(torch.autograd.grad(loss, (w, x)) for loss in losses))


def test_jacobian_tools_of_a_state_of_tensors():
    f, of_one = coupled("dict", normal(7, 7, seed=1), normal(2, 7, seed=2))
    flat = normal(2, 7, seed=3)
    z = {"a": flat[:, :4].view(2, 2, 2), "b": flat[:, 4:]}
    torch.testing.assert_close(batch_jacobian(f, z), batch_jacobian(of_one, flat))
    for tool in (spectral_radius, hutchinson_jacobian_loss):
        seeded = [torch.Generator().manual_seed(1) for _ in range(2)]
        torch.testing.assert_close(tool(f, z, generator=seeded[0]), tool(of_one, flat, generator=seeded[1]))


def test_a_spectral_radius_is_by_the_jacobian_that_f_offers():
    """Of a tensor and of a state of tensors; f itself is not asked."""
    jacobians = normal(2, 7, 7, seed=1)
    exact = torch.linalg.eigvals(jacobians).abs().amax(-1).float()
    assert exact[0] != exact[1]

    def f(z):
        raise AssertionError("f was asked")

    f.jacobian = lambda z: jacobians
    flat = torch.zeros(2, 7)
    for z in (flat, (flat[:, :4].view(2, 2, 2), flat[:, 4:])):
        found = spectral_radius(f, z, 2000, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(found, exact, rtol=1e-2, atol=0)


def test_tensors_of_several_dtypes_keep_theirs():
    z0 = (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.float64))
    result = solve(lambda z: (0.5 * z[0] + 1, 0.5 * z[1] + z[0].sum(1, keepdim=True)), z0)
    assert [part.dtype for part in result.z] == [torch.float32, torch.float64]
    torch.testing.assert_close(result.z[1], torch.full((2, 1), 12.0, dtype=torch.float64), rtol=1e-5, atol=0)


# precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("backward", [*BACKWARD, "phantom"])
def test_half_precision_is_fs_business_alone(backward, solver, dtype):
    seen = set()
    w = (0.4 * normal(4, 4, seed=5)).to(dtype).requires_grad_()
    x = normal(3, 4, seed=6).to(dtype)

    def f(z):
        seen.add(z.dtype)
        return torch.tanh(z @ w + x)

    eps = torch.finfo(dtype).eps
    z, result = equilibrium(
        f, torch.zeros_like(x), SolverSettings(solver, 40, 2 * eps), SolverSettings(backward, 40, 2 * eps)
    )
    z.sum().backward()
    assert seen == {dtype} and z.dtype == result.z.dtype == result.f_z.dtype == w.grad.dtype == dtype
    exact_w = w.detach().double().requires_grad_()
    exact, _ = equilibrium(
        lambda z: torch.tanh(z @ exact_w + x.double()), torch.zeros_like(x).double(), NEWTON, tight("exact")
    )
    exact.sum().backward()
    torch.testing.assert_close(z.double(), exact, rtol=20 * eps, atol=20 * eps)
    if backward != "phantom":
        torch.testing.assert_close(w.grad.double(), exact_w.grad, rtol=40 * eps, atol=40 * eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("solver", ALL)
@pytest.mark.parametrize("width", [4, 600])
def test_under_autocast_dtypes_stay_and_weights_get_their_gradient(width, solver, dtype):
    if solver == "newton" and width > 4:
        pytest.skip("a dense system")
    layer = torch.nn.Linear(width, width)
    with torch.no_grad():
        layer.weight.copy_(with_spectral_norm(layer.weight, 0.5))
    z0 = torch.zeros(2, width, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = []
        z, result = equilibrium(lambda z: torch.tanh(seen.append(layer(z).dtype) or layer(z)), z0,
                                SolverSettings(solver, 40, 1e-2), SolverSettings("broyden", 40, 1e-2))  # fmt: skip
        loss = z.float().sum()
    loss.backward()
    assert set(seen) == {torch.bfloat16} and z.dtype == result.z.dtype == dtype
    assert layer.weight.grad.dtype == torch.float32 and layer.weight.grad.abs().sum() > 0
    assert result.converged.all(), result.describe()


# empty batches, wrong answers of f


@pytest.mark.parametrize("backward", [*BACKWARD, "phantom"])
@pytest.mark.parametrize("shape", [(0, 4), (0, 2, 3), (0,)])
def test_no_samples_are_no_problem(shape, backward):
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    z, result = equilibrium(lambda z: 0.5 * z + x, torch.zeros_like(x), backward=SolverSettings(backward))
    z.sum().backward()
    assert z.shape == x.grad.shape == shape and result.status.shape == (0,) and result.describe() == ""


@pytest.mark.parametrize("solve_it", [solve, lambda f, z0: equilibrium(f, z0)], ids=["solve", "equilibrium"])
@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda z: None, r"f must return a tensor of the shape of z, \(2, 3\), not NoneType"),
        (lambda z: 1.0, "not float"),
        (lambda z: (z, z), "not tuple"),
        (lambda z: torch.complex(z, z), "f must return real floating-point values, not torch.complex64"),
        (lambda z: z.long(), "not torch.int64"),
        (lambda z: z > 0, "not torch.bool"),
        (lambda z: z[:1], r"f must keep the shape of z: it made \(1, 3\) of \(2, 3\)"),
    ],
)
def test_answers_of_f_that_are_none_are_refused(f, message, solve_it):
    with pytest.raises(ValueError, match=message):
        solve_it(f, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("z0", "f", "message"),
    [
        ({}, lambda z: z, "z0 must hold at least one tensor"),
        ((torch.zeros(2, 1), 3), lambda z: z, "not int"),
        ((torch.zeros(2, 1), torch.zeros(3, 1)), lambda z: z, r"one batch size, not \[2, 3\]"),
        (None, lambda z: z, "z0 must be a tensor, or a tuple, list or dict of them, not NoneType"),
        ((torch.zeros(2, 1),) * 2, lambda z: z[:1], "f must keep the structure of z: 2 entries"),
        ({"a": torch.zeros(2, 1)}, lambda z: {"b": z["a"]}, "f must keep the structure of z: a dict of a"),
        ((torch.zeros(2, 1),) * 2, lambda z: (z[0], None), "not NoneType"),
    ],
)
def test_states_that_are_none_are_refused(z0, f, message):
    with pytest.raises(ValueError, match=message):
        solve(f, z0)


# inference mode


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_what_differentiates_f_is_right_in_inference_mode(mode):
    a = torch.diag(torch.tensor([3.0, -0.5], dtype=torch.float64))
    b = normal(2, 2, seed=7)

    def f(z):
        return z @ a + b

    with mode():
        z = normal(2, 2, seed=8)
        result = solve(f, torch.zeros(2, 2, dtype=torch.float64), SolverSettings("newton", 14, 1e-10))
        assert result.steps.tolist() == [1, 1] and result.converged.all()
        torch.testing.assert_close(batch_jacobian(f, z), a.expand(2, 2, 2))
        radius = spectral_radius(f, z, generator=torch.Generator().manual_seed(1))
        loss = hutchinson_jacobian_loss(f, z, 400, torch.Generator().manual_seed(1))
    torch.testing.assert_close(radius, torch.full_like(radius, 3.0), rtol=1e-6, atol=0)
    torch.testing.assert_close(float(loss), float(a.square().sum() / 2), rtol=0.1, atol=0)


@pytest.mark.parametrize("solver", ALL)
def test_solvers_and_equilibrium_run_in_inference_mode(solver):
    layer, x = layer_and_input()
    with torch.inference_mode():
        z, result = equilibrium(layer.bind(x), torch.zeros_like(x), SolverSettings(solver, 60, 1e-10))
    assert result.converged.all() and torch.equal(z, result.z)


@pytest.mark.parametrize(
    "tool",
    [batch_jacobian, spectral_radius, hutchinson_jacobian_loss, lambda f, z: solve(f, z, SolverSettings("newton"))],
    ids=["batch_jacobian", "spectral_radius", "hutchinson", "newton"],
)  # fmt: skip
def test_a_jacobian_that_cannot_be_had_is_refused_never_zero(tool):
    z = normal(2, 2, seed=9)
    with pytest.raises(RuntimeError, match="f depends on z but records no gradient"):
        tool(torch.no_grad()(lambda z: 3 * z), z)
    with pytest.raises(RuntimeError, match="f depends on z but records no gradient"):
        tool(lambda z: 3 * z.detach(), z)
    with torch.inference_mode():
        scale = torch.full((2,), 3.0, dtype=torch.float64)
        with pytest.raises(RuntimeError, match="closes over tensors made in torch.inference_mode"):
            tool(lambda z: scale * z, normal(2, 2, seed=9))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["compiled", "statevector", "torchquantum"])
@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_a_classifiers_spectral_radius_is_the_same_in_inference_mode(encoding, engine):
    if engine == "torchquantum":
        pytest.importorskip("torchquantum")
    torch.manual_seed(1)
    model = QDEQModel(QuantumLayer(build_circuit(4, encoding), engine), 4)
    x = torch.rand(3, 16).to(next(model.layer.parameters()).dtype)
    radii = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            f = model.layer.compile().bind(x)
            radii.append(model.spectral_radius(f, f(torch.zeros_like(x)), torch.Generator().manual_seed(2)))
    assert (radii[0] > 0.01).all()
    torch.testing.assert_close(*radii)
