"""Gradients as a chip gives them, behind the face of any engine: every derivative comes from values of the circuit.

`torch.autograd` keeps the books: where it asks for a derivative of readouts the chip measures it, by shift rules in the
parameters and by two circuits for each number that f feeds back. So stacks of layers, equilibria, every backward solver
and the head work as they do with other engines, and what is classical on a chip stays classical here.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engines.protocol import CompiledCircuit, Engine, Lift, ReadoutMap, UnsupportedCircuit
from hardware.chip import Chip
from hardware.cost import Counter
from hardware.shots import counting_error


class ShiftEngine(Engine):
    """Another engine's values, with measured derivatives.

        layer.engine = ShiftEngine(ShotEngine(layer.circuit, 1024, parse_noise("device:aachen")))
        layer.engine.draw_for("training", 1)    # what is random is a function of (seed, stream, step, call)
        loss(model(x, depth).logits, y).backward()

    Without shots (`NoisyEngine`, or any exact engine) these are autograd's gradients. Shots make them random: unbiased
    for one layer and a loss that is linear in its readouts; else with a bias that falls as 1 / shots, since the loss,
    (I - J)^-1 and further layers are not linear. Factors that are multiplied have shots of their own.

    Args:
        engine, step, counter: see `hardware.chip.Chip`.
        jacobian_free: in an equilibrium's backward pass take J for zero, without measuring it: q = dl/dz.

    Raises:
        UnsupportedCircuit: see there.
    """

    def __init__(self, engine: Engine, step: float = 1.0, counter: Counter | None = None, jacobian_free: bool = False):
        super().__init__(engine.circuit)
        self.engine = engine
        self.chip = Chip(engine, step, counter)
        self.jacobian_free = jacobian_free

    @property
    def shots(self) -> int:
        """Of each circuit, on average; 0: exact values."""
        return self.chip.shots

    @property
    def seed(self) -> int:
        """Of all that is drawn."""
        return self.engine.seed

    def draw_for(self, stream: str, step: int) -> None:
        """Name what the coming calls draw for, anew from the first one; calls count on through compilations."""
        self.engine.stream, self.engine.step, self.chip.calls = stream, step, 0

    def compile(self, theta: Tensor) -> "CompiledShift":
        """The circuit at the parameters theta (n_parameters,)."""
        return CompiledShift(self.chip, theta, self.jacobian_free)


class CompiledShift(CompiledCircuit):
    """A circuit that is measured, with a graph that asks for its slopes.

    Args:
        chip: what measures.
        theta: with graph.
        jacobian_free: see `ShiftEngine`.
    """

    def __init__(self, chip: Chip, theta: Tensor, jacobian_free: bool):
        self.chip, self.theta, self.jacobian_free = chip, theta, jacobian_free
        self.exact = chip.compile(theta)

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K); in v the slope takes two circuits for each input."""
        return MeasuredReadouts(self, torch.zeros_like(v), _Itself(v.shape[1]))(v)

    def along(self, x: Tensor, lift: Lift) -> "MeasuredReadouts":
        """r -> readouts at x + E r for a batch x (B, n_inputs)."""
        return MeasuredReadouts(self, x, lift)


class _Itself:
    """E = 1."""

    def __init__(self, n: int):
        self.n = n

    def __call__(self, r: Tensor) -> Tensor:
        return r


class MeasuredReadouts(ReadoutMap):
    """h(r) = readouts at x + E r, measured, and its measured slopes.

    An equilibrium is joined to its graph by one more call at the state that was found; what the solver measured there
    is that call's value, and the chip is not asked again.

    Args:
        compiled: the circuit.
        x: (B, n_inputs).
        lift: E.
    """

    def __init__(self, compiled: CompiledShift, x: Tensor, lift: Lift):
        self.compiled, self.chip, self.x, self.lift = compiled, compiled.chip, x, lift
        self._solved: list[tuple[Tensor, Tensor]] = []  # states and values while no graph was kept
        self._recorded = self._again = False  # whether a graph was kept; whether the last call repeated a state
        self.waits = 0  # 1 where the next slopes are a round of their own

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to itself."""
        if not torch.is_grad_enabled():
            self._again = self._recorded or self._known(r) is not None
            value = self._value(r, "residual" if self._again else "solve")
            self._solved.append((r.clone(), value))
            self.waits = 0 if self._again else 1  # a solver that asks for slopes has seen the value
            return value
        self._recorded = True
        return _Measured.apply(r, self.compiled.theta, self)

    @property
    def measured_again(self) -> Callable[[Tensor], Tensor] | None:
        return self._measured_again if self.chip.shots else None

    @property
    def noise(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return self._noise if self.chip.shots else None

    def _noise(self, r: Tensor, h_r: Tensor) -> Tensor:
        return counting_error(h_r, self.chip.shots)

    def _measured_again(self, r: Tensor) -> Tensor:
        self.waits = 0  # slopes at r are measured in the same round
        return self._value(r, "residual")

    def _value(self, r: Tensor, purpose: str) -> Tensor:
        return self.chip.read(self.compiled.exact, self.x + self.lift(r), purpose, 1)

    def value(self, r: Tensor) -> Tensor:
        """What a solver measured at r, else a new measurement."""
        known = self._known(r)
        if known is None:
            return self._value(r, "solve")
        self.waits = 0 if self._again else 1  # beside a residual that is measured anew
        return known

    def _known(self, r: Tensor) -> Tensor | None:
        """Values that were measured at r for all samples, or None."""
        if not self._solved:
            return None
        states, values = (torch.stack(part) for part in zip(*self._solved))
        found = (states == r).all(2)  # (calls, B)
        if not bool(found.any(0).all()):
            return None
        return values[found.int().argmax(0), torch.arange(len(r), device=r.device)]

    @torch.no_grad()
    def jacobian(self, r: Tensor) -> Tensor:
        """dh_k/dr_j, (B, K, number of entries of r); zero in the backward pass of a `jacobian_free` equilibrium."""
        if self.compiled.jacobian_free and self._recorded:
            return r.new_zeros(*r.shape, r.shape[1])
        return self.measured_jacobian(r)

    @torch.no_grad()
    def measured_jacobian(self, r: Tensor) -> Tensor:
        """That, whatever was asked for."""
        rounds, self.waits = self.waits, 0
        directions = self.lift(torch.eye(r.shape[1], dtype=r.dtype, device=r.device))
        return self.chip.along(self.compiled.exact, self.x + self.lift(r), directions, rounds)

    @torch.no_grad()
    def slopes(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dh/dtheta of every sample, (B, n_parameters)."""
        rounds, self.waits = self.waits, 0
        return self.chip.slopes(self.compiled.theta, self.x + self.lift(r), weights, rounds)


class _Measured(torch.autograd.Function):
    """h(r), whose backward pass is measured."""

    @staticmethod
    def forward(ctx, r, theta, h):
        ctx.save_for_backward(r)
        ctx.h = h
        return h.value(r)

    @staticmethod
    def backward(ctx, weights):
        if torch.is_grad_enabled():
            raise UnsupportedCircuit(
                "shift rules give first derivatives, and the Jacobian loss asks for those of derivatives: use "
                "--jac_loss_freq 0, or --gradient autograd"
            )
        (r,) = ctx.saved_tensors
        in_r = in_theta = None
        if ctx.needs_input_grad[0]:
            in_r = (weights.unsqueeze(1) @ ctx.h.measured_jacobian(r)).squeeze(1)
        if ctx.needs_input_grad[1]:
            in_theta = ctx.h.slopes(r, weights).sum(0)
        return in_r, in_theta, None
