"""The training step of `step.py` as a plain JAX program, compiled by jax.jit: a peer that is not torch.

State vectors of all D basis columns go gate by gate through the circuit; r_k(v) = v^T M_k v / v^T v with
M_k = Re(C^+ Z_k C); Newton's method in the space of the readouts, to the same tolerance and cap; the implicit function
theorem by one attached Newton step; Jacobian loss, dropout, clip, Adam. Knows a circuit's operations and JAX, none of the
engines, none of `deq`. For the paper's circuits: amplitude encoding, every readout a Z, readouts repeated to the state.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.step import CLIP, DROPOUT, JAC_LOSS_WEIGHT, SETTINGS
from circuits.circuit import Circuit

MAX_STEPS, TOLERANCE = SETTINGS["newton+exact"].forward.max_steps, SETTINGS["newton+exact"].forward.tol
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's
VERSION = jax.__version__


class Parameters(NamedTuple):
    """theta (n_parameters,) in radians; the head's weight (C, D) and bias (C,)."""

    theta: jax.Array
    weight: jax.Array
    bias: jax.Array


def gate(name: str, angle) -> jax.Array:
    """The matrix of a gate, control first: (2, 2) or (4, 4), complex."""
    c, s = jnp.cos(angle / 2), jnp.sin(angle / 2)
    if name == "rx":
        return jnp.array([[c, -1j * s], [-1j * s, c]])
    if name == "ry":
        return jnp.array([[c, -s], [s, c]]) + 0j
    if name == "rz":
        return jnp.array([[c - 1j * s, 0], [0, c + 1j * s]])
    if name == "crx":
        return jnp.eye(4, dtype=complex).at[2:, 2:].set(gate("rx", angle))
    fixed = {
        "h": np.array([[1, 1], [1, -1]]) / 2**0.5,
        "sx": np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2,
        "cnot": np.eye(4)[[0, 1, 3, 2]],
    }
    return jnp.asarray(fixed[name] + 0j)


def observables(circuit: Circuit, theta: jax.Array) -> jax.Array:
    """M_k of Z on every wire, (n_wires, D, D)."""
    n, d = circuit.n_wires, circuit.n_inputs
    dtype = jnp.result_type(theta, jnp.complex64)
    state = jnp.eye(2**n, d, dtype=dtype).reshape((2,) * n + (d,))
    for operation in circuit.ansatz.operations:
        k = len(operation.wires)
        angle = 0.0 if operation.parameter is None else theta[operation.parameter]
        matrix = gate(operation.gate, angle).astype(dtype).reshape((2,) * (2 * k))
        state = jnp.tensordot(matrix, state, axes=(tuple(range(k, 2 * k)), operation.wires))
        state = jnp.moveaxis(state, tuple(range(k)), operation.wires)
    columns = state.reshape(2**n, d)
    rows = jnp.concatenate([columns.real, columns.imag])
    bits = np.arange(2**n) >> np.arange(n - 1, -1, -1)[:, None] & 1
    signs = np.tile(1.0 - 2.0 * bits, 2).astype(rows.dtype)
    return jnp.einsum("kb,bi,bj->kij", signs, rows, rows, optimize=[(1, 0), (0, 1)])


def readouts(m: jax.Array, v: jax.Array) -> jax.Array:
    """r_k(v) of one vector, (D,) to (K,)."""
    return jnp.einsum("kij,i,j->k", m, v, v) / (v @ v)


def lift(r: jax.Array, d: int) -> jax.Array:
    """Each readout repeated, (K,) to (D,)."""
    return jnp.repeat(r, d // len(r))


def newton(h, r0: jax.Array) -> jax.Array:
    """Per sample the iterate of least residual once it is at the tolerance, or after the last step: (B, K)."""
    eye = jnp.eye(r0.shape[1], dtype=r0.dtype)

    def residual(r, h_r):
        return jnp.linalg.norm(h_r - r, axis=1) / jnp.linalg.norm(r, axis=1)

    def goes_on(carry):
        step, _, _, _, least = carry
        return (step < MAX_STEPS) & (least > TOLERANCE).any()

    def take(carry):
        step, r, h_r, best, least = carry
        move = jnp.linalg.solve(eye - h.jacobian(r), (h_r - r)[..., None])[..., 0]
        r = jnp.where((least > TOLERANCE)[:, None], r + move, best)
        h_r = h(r)
        found = residual(r, h_r)
        better = (found < least) & (least > TOLERANCE)
        return step + 1, r, h_r, jnp.where(better[:, None], r, best), jnp.where(better, found, least)

    start = (0, r0, h(r0), r0, jnp.full(len(r0), jnp.inf, r0.dtype))
    return jax.lax.while_loop(goes_on, take, start)[3]


class Reduced(NamedTuple):
    """h(r) = readouts(x + E r) of a batch x (B, D): quotients of quadratic forms in r, whose coefficients x fixes.

    The last form is the squared norm. constant (B, K + 1), linear (B, K + 1, K), quadratic (K + 1, K, K).
    """

    constant: jax.Array
    linear: jax.Array
    quadratic: jax.Array

    @classmethod
    def of(cls, m: jax.Array, x: jax.Array) -> "Reduced":
        """From the observables (K, D, D)."""
        n, d = len(m), x.shape[1]
        forms = jnp.concatenate([m, jnp.eye(d, dtype=m.dtype)[None]])
        e = jnp.repeat(jnp.eye(n, dtype=m.dtype), d // n, axis=0)  # (D, K)
        rows = jnp.einsum("kij,bj->bki", forms, x)
        return cls(jnp.einsum("bki,bi->bk", rows, x), 2 * rows @ e, jnp.einsum("ip,kij,jq->kpq", e, forms, e))

    def __call__(self, r: jax.Array) -> jax.Array:
        """(B, K) to itself."""
        return jax.vmap(lambda a, b, r: self.one(a, b, r))(self.constant, self.linear, r)

    def jacobian(self, r: jax.Array) -> jax.Array:
        """(B, K, K)."""
        return jax.vmap(jax.jacfwd(self.one, argnums=2))(self.constant, self.linear, r)

    def one(self, constant: jax.Array, linear: jax.Array, r: jax.Array) -> jax.Array:
        """Of one sample."""
        forms = constant + linear @ r + (self.quadratic @ r) @ r
        return forms[:-1] / forms[-1]


def loss_of(circuit: Circuit, p: Parameters, x, labels, vectors, mask):
    """Cross-entropy and weighted Jacobian loss, and the equilibria (B, D).

    Args:
        circuit: amplitude encoding.
        p: parameters.
        x, labels: (B, D) features and (B,) classes.
        vectors: (B, D) of the Jacobian loss's estimate.
        mask: (B, D), what dropout multiplies z with.
    """
    d = circuit.n_inputs
    m = observables(circuit, p.theta)
    h = Reduced.of(m, x)
    fixed = jax.lax.stop_gradient(h)
    r = newton(fixed, jnp.zeros((len(x), circuit.n_readouts), x.dtype))
    jacobian = fixed.jacobian(r)
    g = h(r) - r
    # Newton's step at the solution: its value is left out, its derivative is the implicit function theorem's
    step = jnp.linalg.solve(jnp.eye(r.shape[1], dtype=r.dtype) - jacobian, g[..., None])[..., 0]
    z = jax.vmap(partial(lift, d=d))(r + step - jax.lax.stop_gradient(step))
    _, pull = jax.vjp(lambda v: jax.vmap(lambda row: lift(readouts(m, row), d))(v), jax.lax.stop_gradient(z) + x)
    jac_loss = (pull(vectors)[0] ** 2).sum() / z.size
    logits = jax.nn.relu(z * mask) @ p.weight.T + p.bias
    entropy = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()
    return entropy + JAC_LOSS_WEIGHT * jac_loss, z


def training_step(circuit: Circuit, learning_rate: float = 0.0):
    """One compiled step: (parameters, moments, key, x, labels) to new parameters and moments.

    Moments are (step, first, second) as `start` makes them.
    """
    gradient_of = jax.grad(partial(loss_of, circuit), has_aux=True)

    @jax.jit
    def step(p: Parameters, moments, key, x, labels):
        of_loss, of_dropout = jax.random.split(key)
        vectors = jax.random.normal(of_loss, x.shape, x.dtype)
        mask = jax.random.bernoulli(of_dropout, 1 - DROPOUT, x.shape) / (1 - DROPOUT)
        gradient, _ = gradient_of(p, x, labels, vectors, mask.astype(x.dtype))
        norm = jnp.sqrt(sum((g**2).sum() for g in gradient))
        gradient = jax.tree.map(lambda g: g * jnp.minimum(1.0, CLIP / (norm + 1e-6)), gradient)
        count, first, second = moments
        count = count + 1
        first = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, first, gradient)
        second = jax.tree.map(lambda m, g: BETAS[1] * m + (1 - BETAS[1]) * g**2, second, gradient)
        rate = learning_rate / (1 - BETAS[0] ** count)
        scale = jnp.sqrt(1 - BETAS[1] ** count)
        moved = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / scale + EPSILON), p, first, second)
        finite = jnp.isfinite(norm)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), moved, p), (count, first, second)

    return step


def start(p: Parameters):
    """Adam's moments before the first step."""
    zeros = jax.tree.map(jnp.zeros_like, p)
    return jnp.zeros((), jnp.int32), zeros, zeros
