"""The training step of `step.py` as a JAX program, compiled by jax.jit: a peer that is not torch, made fast.

Gates are multiplied into blocks and all D basis columns sent through these; r_k(v) = v^T M_k v / v^T v with
M_k = Re(C^+ Z_k C); Newton's method in the space of the readouts, to the same tolerance and cap; the implicit function
theorem by one attached Newton step; Jacobian loss, dropout, clip, Adam. Knows a circuit's operations and JAX, none of
the engines, none of `deq`. For the paper's circuits: amplitude encoding, Z on every wire, readouts repeated to the state.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.step import CLIP, DROPOUT, JAC_LOSS_WEIGHT, SETTINGS
from circuits.circuit import Circuit
from circuits.operations import Operation

MAX_STEPS, TOLERANCE = SETTINGS["newton+exact"].forward.max_steps, SETTINGS["newton+exact"].forward.tol
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's
VERSION = jax.__version__
FEW_WIRES, BLOCK_WIRES = 6, (2, 4)  # wires of a block: up to so many wires, and beyond
X, Z, I2 = np.array([[0, 1], [1, 0]]), np.diag([1, -1]), np.eye(2)
ON, OFF = np.diag([0, 1]), np.diag([1, 0])
PAULIS = {"rx": X, "ry": 1j * X @ Z, "rz": Z}
FIXED = {"h": (X + Z) / 2**0.5, "sx": ((1 + 1j) * I2 + (1 - 1j) * X) / 2, "cnot": np.kron(OFF, I2) + np.kron(ON, X)}


class Parameters(NamedTuple):
    """theta (n_parameters,) in radians; the head's weight (C, D) and bias (C,)."""

    theta: jax.Array
    weight: jax.Array
    bias: jax.Array


def gate_terms(gate: str) -> tuple:
    """(constant, times cos t/2, times sin t/2), matrices whose sum is the gate at the angle t."""
    if gate in FIXED:
        return FIXED[gate], 0 * FIXED[gate], 0 * FIXED[gate]
    if gate == "crx":
        return np.kron(OFF, I2), np.kron(ON, I2), np.kron(ON, -1j * X)
    return 0 * I2, I2, -1j * PAULIS[gate]


def on_wires(matrix: np.ndarray, wires: Sequence[int], block: Sequence[int]) -> np.ndarray:
    """A gate's matrix as one on all wires of a block."""
    order = [*wires, *(wire for wire in block if wire not in wires)]
    full = np.kron(matrix, np.eye(2 ** (len(block) - len(wires)))).reshape((2,) * (2 * len(block)))
    axes = [order.index(wire) for wire in block]
    return full.transpose(axes + [len(block) + axis for axis in axes]).reshape(2 ** len(block), -1)


def blocks_of(operations: Sequence[Operation], n_wires: int) -> list[tuple[list[int], list[Operation]]]:
    """(wires, operations) of each block: the first operation left, and whatever still fits and waits for nothing."""
    left, blocks, most = list(operations), [], BLOCK_WIRES[n_wires > FEW_WIRES]
    while left:
        wires, taken, rest, waiting = [], [], [], set()
        for operation in left:
            more = [wire for wire in operation.wires if wire not in wires]
            if waiting.isdisjoint(operation.wires) and len(wires) + len(more) <= most:
                wires += more
                taken.append(operation)
            else:
                rest.append(operation)
                waiting.update(operation.wires)
        wires += [wire for wire in range(n_wires) if wire not in wires][: most - len(wires)]
        blocks.append((wires, taken))
        left = rest
    return blocks


def as_real(matrix: np.ndarray) -> np.ndarray:
    """a + ib as [[a, -b], [b, a]]."""
    return np.concatenate([np.concatenate([matrix.real, -matrix.imag], -1),
                           np.concatenate([matrix.imag, matrix.real], -1)], -2)  # fmt: skip


def circuit_blocks(circuit: Circuit, dtype) -> tuple[list[list[int]], np.ndarray, np.ndarray]:
    """Each block's wires; (3, blocks, gates, d, d) terms of its gates as real matrices; (blocks, gates) their angles.

    What is not a gate is an identity, so that all blocks are multiplied side by side.
    """
    blocks = blocks_of(circuit.ansatz.operations, circuit.n_wires)
    longest = 1 << (max(len(members) for _, members in blocks) - 1).bit_length()
    size = 2 ** len(blocks[0][0])
    terms = np.zeros((3, len(blocks), longest, size, size), complex)
    terms[0] = np.eye(size)
    angles = np.zeros((len(blocks), longest), int)
    for b, (wires, members) in enumerate(blocks):
        for m, operation in enumerate(members):
            angles[b, m] = operation.parameter or 0
            terms[:, b, m] = [on_wires(term, operation.wires, wires) for term in gate_terms(operation.gate)]
    return [wires for wires, _ in blocks], as_real(terms).astype(dtype), angles


def observables(circuit: Circuit, theta: jax.Array) -> jax.Array:
    """M_k of Z on every wire, (n_wires, D, D)."""
    n, d = circuit.n_wires, circuit.n_inputs
    theta = jnp.asarray(theta)
    blocks, terms, angles = circuit_blocks(circuit, theta.dtype)
    half = theta[angles][..., None, None] / 2
    gates = terms[0] + terms[1] * jnp.cos(half) + terms[2] * jnp.sin(half)
    while gates.shape[1] > 1:  # in pairs
        gates = gates[:, 1::2] @ gates[:, 0::2]
    real = np.stack([np.eye(2**n, d), np.zeros((2**n, d))])
    state, order = jnp.asarray(real.reshape(2, *(2,) * n, d), theta.dtype), list(range(n))
    for wires, block in zip(blocks, gates[:, 0]):
        new = [*wires, *(wire for wire in order if wire not in wires)]
        state = state.transpose(0, *(1 + order.index(wire) for wire in new), n + 1)
        state, order = (block @ state.reshape(len(block), -1)).reshape(state.shape), new
    state = state.transpose(*(1 + order.index(wire) for wire in range(n)), 0, n + 1)
    # Z on a wire of one half of the wires: Gram matrices of the rows that are alike on that half, added with signs
    rows, halves = state.reshape(2 ** (n // 2), -1, 2, d), []
    for groups in (rows, rows.swapaxes(0, 1)):
        flat = groups.reshape(len(groups), -1, d)
        bits = np.arange(len(flat)) >> np.arange(len(flat).bit_length() - 1)[::-1, None] & 1
        halves.append((1 - 2 * bits).astype(theta.dtype) @ (flat.swapaxes(1, 2) @ flat).reshape(len(flat), -1))
    return jnp.concatenate(halves).reshape(n, d, d)


def readouts(m: jax.Array, v: jax.Array) -> jax.Array:
    """r_k(v) of one vector, (D,) to (K,)."""
    return jnp.einsum("kij,i,j->k", m, v, v) / (v @ v)


def lift(r: jax.Array, d: int) -> jax.Array:
    """Each readout repeated, (K,) to (D,)."""
    return jnp.repeat(r, d // len(r))


def solved(matrices, right):
    """A^-1 b of many small systems (B, n, n), (B, n), by Gauss and Jordan side by side; I - J needs no pivots here.

    LAPACK one by one (jnp.linalg.solve) takes twice to ten times as long.
    """

    def eliminated(matrices, right):
        rows = jnp.concatenate([matrices, right[..., None]], -1).transpose(1, 2, 0)
        for i in range(len(rows)):
            row = rows[i] / rows[i, i]
            rows = (rows - rows[:, i, None] * row).at[i].set(row)
        return rows[:, -1].T

    def times(values):
        return (matrices @ values[..., None])[..., 0]

    return jax.lax.custom_linear_solve(
        times, right, lambda _, b: eliminated(matrices, b), lambda _, b: eliminated(matrices.swapaxes(1, 2), b)
    )


def newton(value_and_jacobian, r0: jax.Array) -> jax.Array:
    """Per sample the iterate of least residual once it is at the tolerance, or after the last step: (B, K)."""
    eye = jnp.eye(r0.shape[1], dtype=r0.dtype)

    def goes_on(carry):
        step, *_, least = carry
        return (step < MAX_STEPS) & (least > TOLERANCE).any()

    def take(carry):
        step, r, h_r, jacobian, best, least = carry
        r = jnp.where((least > TOLERANCE)[:, None], r + solved(eye - jacobian, h_r - r), best)
        h_r, jacobian = value_and_jacobian(r)
        found = jnp.linalg.norm(h_r - r, axis=1) / jnp.linalg.norm(r, axis=1)
        better = (found < least) & (least > TOLERANCE)
        return step + 1, r, h_r, jacobian, jnp.where(better[:, None], r, best), jnp.where(better, found, least)

    start = (0, r0, *value_and_jacobian(r0), r0, jnp.full(len(r0), jnp.inf, r0.dtype))
    return jax.lax.while_loop(goes_on, take, start)[4]


class Reduced(NamedTuple):
    """h(r) = readouts(x + E r) of a batch x (B, D): quotients of quadratic forms in r, whose coefficients x fixes.

    Of the K numerators: constant (B, K), linear (B, K, K), quadratic (K, K, K); of the squared norm: x's (B, 1), E^T x
    (B, K), and how often each readout is repeated. Besides, M_k x (B, K, D) and M_k E (K, D, K).
    """

    constant: jax.Array
    linear: jax.Array
    quadratic: jax.Array
    x_squared: jax.Array
    e_x: jax.Array
    m_x: jax.Array
    m_e: jax.Array

    @classmethod
    def of(cls, m: jax.Array, x: jax.Array) -> "Reduced":
        """From the observables (K, D, D)."""
        (n, d), b = m.shape[:2], len(x)
        m_x, m_e = (x @ m.reshape(-1, d).T).reshape(b, n, d), m.reshape(n, d, n, -1).sum(-1)
        constant, linear = jnp.einsum("bkd,bd->bk", m_x, x), m_x.reshape(b, n, n, -1).sum(-1)
        squared = jnp.square(x).sum(-1, keepdims=True)
        return cls(constant, linear, m_e.reshape(n, n, -1, n).sum(2), squared, x.reshape(b, n, -1).sum(-1), m_x, m_e)

    def __call__(self, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        """h(r) (B, K) and its Jacobian (B, K, K), at (B, K)."""
        n = r.shape[1]
        copies = self.m_x.shape[2] // n
        curved = (r @ self.quadratic.reshape(-1, n).T).reshape(len(r), n, n)
        below = self.x_squared + (r * (2 * self.e_x + copies * r)).sum(-1, keepdims=True)
        h = (self.constant + ((2 * self.linear + curved) * r[:, None]).sum(-1)) / below
        slopes = self.linear + curved - h[..., None] * (self.e_x + copies * r)[:, None]
        return h, 2 * slopes / below[..., None]

    def jac_loss(self, r: jax.Array, v: jax.Array, vectors: jax.Array) -> jax.Array:
        """Mean of (w^T dr/dv)^2, w = E^T vectors, at v = x + E r (B, D): dr_k/dv = 2 (M_k v - r_k v) / v^T v."""
        b, n = r.shape
        w = vectors.reshape(b, n, -1).sum(-1)
        w_m_v = jnp.einsum("bk,bkd->bd", w, self.m_x)
        w_m_v += (w[:, :, None] * r[:, None]).reshape(b, -1) @ self.m_e.swapaxes(1, 2).reshape(n * n, -1)
        squared = jnp.square(v).sum(-1, keepdims=True)
        w_r = (w_m_v * v).sum(-1, keepdims=True) / squared
        return jnp.square(2 * (w_m_v - w_r * v) / squared).mean()


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
    g = h(r)[0] - r
    # Newton's step at the solution: its value is left out, its derivative is the implicit function theorem's
    step = solved(jnp.eye(r.shape[1], dtype=r.dtype) - fixed(r)[1], g)
    z = jax.vmap(partial(lift, d=d))(r + step - jax.lax.stop_gradient(step))
    jac_loss = h.jac_loss(r, x + jax.lax.stop_gradient(z), vectors)
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
