"""A circuit as it would run: rewritten gate by gate in the native gates of a machine, and scheduled.

The basis is RZ, which costs neither time nor error since it only shifts phases, SX, X, and one gate on two wires. A
rotation is RZ SX RZ SX RZ with its angle in the middle RZ, a controlled RX two CX and two half rotations. The rewriting
does not look at angles: one template serves all parameters, so that noise does not depend on them and derivatives are
those of one function. All wires count as neighbours; routing is a transpiler's to do.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

from circuits.operations import Operation

TWO_WIRES = ("cx", "cz", "ecr")
WITH_ERRORS = ("sx", "x", *TWO_WIRES)  # RZ has none


@dataclass(frozen=True)
class NativeGate:
    """A native gate at its place.

    Attributes:
        name: "rz", "sx", "x", one of `TWO_WIRES`, or "delay".
        wires: where, the control first.
        angle: of RZ, in radians, what is added to scale * theta[parameter].
        parameter: position of the angle in theta; None: a fixed angle, or none.
        scale: of the parameter.
        time: of a delay, in ns.
    """

    name: str
    wires: tuple[int, ...]
    angle: float = 0.0
    parameter: int | None = None
    scale: float = 1.0
    time: float = 0.0


def native_gates(operations: Sequence[Operation], two_wires: str = "cx") -> list[NativeGate]:
    """Operations in native gates, equal up to a global phase.

    Args:
        operations: of an ansatz or an encoding.
        two_wires: the machine's gate on two wires.
    """
    return [gate for operation in operations for gate in _REWRITTEN[operation.gate](operation, two_wires)]


def ry(wire: int, parameter: int | None, scale: float = 1.0) -> list[NativeGate]:
    """RY(scale * theta[parameter])."""
    return _rotation(wire, 0.0, 0.0, parameter, scale)


def controlled_x(control: int, target: int, two_wires: str) -> list[NativeGate]:
    """CX by the machine's gate on two wires."""
    wires = (control, target)
    if two_wires == "cz":
        return [*_hadamard(target), NativeGate("cz", wires), *_hadamard(target)]
    if two_wires == "ecr":
        before = [_rz(control, pi / 2), NativeGate("x", (control,)), NativeGate("sx", (target,))]
        return [*before, NativeGate("ecr", wires)]
    return [NativeGate("cx", wires)]


def folded(gates: Sequence[NativeGate], folds: int) -> list[NativeGate]:
    """U (U^+ U)^folds of native gates without delays, up to a global phase: longer, and the same circuit.

    Zero-noise extrapolation by global folding (Giurgica-Tiron et al., QCE 2020, arXiv 2005.10921).
    """
    inverse = [undone for gate in reversed(gates) for undone in _undone(gate)]
    return [*gates, *[*inverse, *gates] * folds]


def counts(gates: Sequence[NativeGate]) -> dict[str, int]:
    """How many there are of each, delays left out, those that occur."""
    found = Counter(gate.name for gate in gates if gate.name != "delay")
    return {name: found[name] for name in ("rz", *WITH_ERRORS) if name in found}


def scheduled(gates: Sequence[NativeGate], n_wires: int, time: Callable[[str], float]) -> list[NativeGate]:
    """The gates, each as late as possible, with a delay wherever a wire waits.

    Args:
        gates: in order of application.
        n_wires: of the register; a wire without a gate waits from beginning to end.
        time: of a gate by its name, in ns.
    """
    backwards: list[NativeGate] = []
    left = [0.0] * n_wires  # from here to the end of the circuit
    for gate in reversed(gates):
        end = max(left[wire] for wire in gate.wires)
        backwards += [NativeGate("delay", (w,), time=end - left[w]) for w in gate.wires if end > left[w]]
        backwards.append(gate)
        for wire in gate.wires:
            left[wire] = end + time(gate.name)
    total = max(left)
    backwards += [NativeGate("delay", (w,), time=total - left[w]) for w in range(n_wires) if total > left[w]]
    return backwards[::-1]


def _rz(wire: int, angle: float = 0.0, parameter: int | None = None, scale: float = 1.0) -> NativeGate:
    return NativeGate("rz", (wire,), angle, parameter, scale)


def _rotation(wire: int, phi: float, lam: float, parameter: int | None, scale: float) -> list[NativeGate]:
    """U(theta, phi, lam) = RZ(phi) RY(theta) RZ(lam) up to a phase, as RZ(phi + pi) SX RZ(theta + pi) SX RZ(lam)."""
    sx = NativeGate("sx", (wire,))
    first = [_rz(wire, lam)] if lam else []
    return [*first, sx, _rz(wire, pi, parameter, scale), sx, _rz(wire, phi + pi)]


def _undone(gate: NativeGate) -> list[NativeGate]:
    """The inverse of a native gate: RZ turns back, SX^+ is SX between half turns, the others undo themselves."""
    if gate.name == "rz":
        return [NativeGate("rz", gate.wires, -gate.angle, gate.parameter, -gate.scale)]
    if gate.name == "sx":
        return [_rz(gate.wires[0], pi), gate, _rz(gate.wires[0], -pi)]
    return [gate]


def _hadamard(wire: int) -> list[NativeGate]:
    return [_rz(wire, pi / 2), NativeGate("sx", (wire,)), _rz(wire, pi / 2)]


def _controlled_rx(operation: Operation, two_wires: str) -> list[NativeGate]:
    """RZ(-pi/2) RY(t/2) CX RY(-t/2) CX RZ(pi/2) on the target: where the control is 1, RX(t)."""
    (control, target), parameter = operation.wires, operation.parameter
    return [
        _rz(target, pi / 2),
        *controlled_x(control, target, two_wires),
        *ry(target, parameter, -0.5),
        *controlled_x(control, target, two_wires),
        *_rotation(target, -pi / 2, 0.0, parameter, 0.5),
    ]


_REWRITTEN = {
    "rx": lambda o, _: _rotation(o.wires[0], -pi / 2, pi / 2, o.parameter, 1.0),
    "ry": lambda o, _: ry(o.wires[0], o.parameter),
    "rz": lambda o, _: [_rz(o.wires[0], 0.0, o.parameter)],
    "h": lambda o, _: _hadamard(o.wires[0]),
    "sx": lambda o, _: [NativeGate("sx", o.wires)],
    "crx": _controlled_rx,
    "cnot": lambda o, two_wires: controlled_x(*o.wires, two_wires),
}
