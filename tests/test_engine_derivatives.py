"""First and second derivatives of both engines: against the float64 dense reference, gradcheck, and each other.

The compiled engine is met in float64, where it agrees to rounding; TorchQuantum's is complex64 throughout.
"""

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import jacobian, jvp

import reference
from small_engines import ENCODINGS, ENGINES, PAIRS, compiled_float64, draw, make_engine, reference_readouts


def unit(shape: tuple[int, ...], seed: int, dtype=torch.float64) -> torch.Tensor:
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (direction / direction.norm()).to(dtype)


def as_function(engine):
    """The readouts as a function of all three arguments."""
    return lambda z, x, theta: engine.compile(theta).readouts(z + x)


# ---------------------------------------------------------------------------------------- first derivatives


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
@pytest.mark.parametrize("argument", (0, 1, 2), ids=("dz", "dx", "dtheta"))
def test_directional_derivatives_in_float64(n_wires, encoding, argument):
    arguments = draw(n_wires)
    direction = unit(arguments[argument].shape, seed=5)

    def along(t: float) -> np.ndarray:
        moved = [a + t * direction if i == argument else a for i, a in enumerate(arguments)]
        return reference_readouts(*moved, n_wires, encoding)

    f = as_function(compiled_float64(n_wires, encoding))
    _, slope = jvp(
        lambda a: f(*(a if i == argument else b for i, b in enumerate(arguments))),
        arguments[argument],
        direction,
    )

    assert slope.abs().max() > 1e-3
    np.testing.assert_allclose(slope.numpy(), reference.slope(along), rtol=0, atol=1e-10)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_entry_of_the_jacobians_in_float64(encoding):
    z, x, theta = draw(4, batch=1)
    f = as_function(compiled_float64(4, encoding))

    over_z, over_x, over_theta = jacobian(f, (z, x, theta))

    torch.testing.assert_close(over_z, over_x, rtol=0, atol=0)
    for analytic, argument in ((over_z[0, :, 0], 0), (over_theta[0], 2)):
        for j in range(analytic.shape[1]):

            def along(t: float) -> np.ndarray:
                moved = [z.clone(), x, theta.clone()]
                moved[argument].view(-1)[j] += t
                return reference_readouts(*moved, 4, encoding)[0]

            np.testing.assert_allclose(analytic[:, j].numpy(), reference.slope(along), rtol=0, atol=1e-10)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gradcheck_and_gradgradcheck(encoding):
    z, x, theta = (a.requires_grad_() for a in draw(4, batch=1))
    f = as_function(compiled_float64(4, encoding))

    assert gradcheck(f, (z, x, theta), fast_mode=False)
    assert gradgradcheck(f, (z, x, theta), fast_mode=False)


# --------------------------------------------------------------------------------------- second derivatives


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
@pytest.mark.parametrize("first, second", [(0, 0), (0, 1), (0, 2), (2, 2)], ids=("zz", "zx", "zt", "tt"))
def test_mixed_second_derivatives_in_float64(n_wires, encoding, first, second):
    arguments = draw(n_wires)
    a, b = unit(arguments[first].shape, seed=6), unit(arguments[second].shape, seed=7)
    u = unit((2, n_wires), seed=8)

    def along(s: float, t: float) -> np.ndarray:
        moved = [v.clone() for v in arguments]
        moved[first] += s * a
        moved[second] += t * b
        return (reference_readouts(*moved, n_wires, encoding) * u.numpy()).sum()

    leaves = [v.clone().requires_grad_() for v in arguments]
    value = (as_function(compiled_float64(n_wires, encoding))(*leaves) * u).sum()
    (slope,) = torch.autograd.grad(value, leaves[first], create_graph=True)
    (bend,) = torch.autograd.grad((slope * a).sum(), leaves[second])

    np.testing.assert_allclose((bend * b).sum().item(), reference.mixed_slope(along), rtol=0, atol=1e-8)


def jacobian_loss(f, z: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
    """|e^T J_f|^2 per entry of z, as the regulariser has it, ready to be differentiated."""
    z = z.detach().requires_grad_()
    (row,) = torch.autograd.grad((f(z) * e).sum(), z, create_graph=True)
    return row.square().sum() / z.numel()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_slope_of_the_jacobian_loss_in_float64(encoding):
    z, x, theta = draw(4, batch=1)
    e, direction = unit((1, 4), seed=9), unit(theta.shape, seed=10)

    def loss(t: float) -> float:
        def readouts(s: float) -> np.ndarray:
            """e^T r for each of the 16 vectors z + s times a unit vector."""
            moved = z + s * torch.eye(16, dtype=torch.float64)
            return reference_readouts(moved, x, theta + t * direction, 4, encoding) @ e[0].numpy()

        return np.square(reference.slope(readouts)).sum() / 16

    engine = compiled_float64(4, encoding)
    leaf = theta.clone().requires_grad_()
    ours = jacobian_loss(lambda z: engine.compile(leaf).readouts(z + x), z, e)
    (gradient,) = torch.autograd.grad(ours, leaf)

    np.testing.assert_allclose(ours.item(), loss(0.0), rtol=1e-8)
    np.testing.assert_allclose((gradient @ direction).item(), reference.slope(loss), rtol=1e-6)


@pytest.mark.parametrize("n_wires, encoding", PAIRS)
def test_engines_agree_on_first_and_second_derivatives(n_wires, encoding):
    z, x, theta = draw(n_wires, batch=3, dtype=torch.float32)
    u = torch.randn(3, n_wires, generator=torch.Generator().manual_seed(2))
    results = []
    for name in ENGINES:
        engine = make_engine(name, n_wires, encoding)
        leaves = [v.clone().requires_grad_() for v in (z, x, theta)]
        first = torch.autograd.grad((as_function(engine)(*leaves) * u).sum(), leaves)
        x_leaf, theta_leaf = leaves[1:]
        loss = jacobian_loss(lambda z: engine.compile(theta_leaf).readouts(z + x_leaf), z, u)
        second = torch.autograd.grad(loss, (x_leaf, theta_leaf))
        results.append((*first, loss, *second))

    for compiled, *others in zip(*results):
        for simulated in others:
            scale = simulated.abs().max()
            assert scale > 1e-6
            torch.testing.assert_close(compiled / scale, simulated / scale, rtol=0, atol=1e-4)
