"""Noise channels as data: what each does after a native gate, while a wire waits, and to a bit that is read.

To add one: a class here and its entry in `CHANNELS`. Numbers are checked where a channel is made; strengths scale.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from hardware import transfer

FALCON_NS = (36.0, 350.0)  # times of SX and of the gate on two wires where none are given


class NoiseError(ValueError):
    """Noise that cannot be: one line that names it and the remedy."""


def check_probability(what: str, *values: float) -> None:
    """Refuse what is no probability.

    Raises:
        NoiseError: outside [0, 1], or no number.
    """
    for value in values:
        if not 0 <= value <= 1:
            raise NoiseError(f"{what} are probabilities, from 0 to 1, got {value:g}")


class Channel(ABC):
    """What a kind of noise does; each method gives None where it does nothing.

    Methods:
        on_gate: (name, wires) -> transfer matrix that follows the gate.
        on_delay: (wire, ns) -> transfer matrix of a wire that waits.
        on_readout: wire -> (p(1|0), p(0|1)), chances that a bit is read wrongly.
        time: name -> ns that the gate takes.
        scaled: the same noise, this many times as strong.
    """

    def on_gate(self, name: str, wires: tuple[int, ...]) -> np.ndarray | None:
        return None

    def on_delay(self, wire: int, time: float) -> np.ndarray | None:
        return None

    def on_readout(self, wire: int) -> tuple[float, float] | None:
        return None

    def time(self, name: str) -> float | None:
        return None

    @abstractmethod
    def scaled(self, strength: float) -> "Channel": ...


@dataclass(frozen=True)
class Depolarizing(Channel):
    """rho -> (1 - p) rho + p I / d after every SX, X (d = 2) and every gate on two wires (d = 4).

    The convention is Aer's: p is the chance that all is lost, and the gate's average infidelity is p (d - 1) / d. What
    others call p, the chance of a Pauli error, is p (d^2 - 1) / d^2 here.

    Attributes:
        two_wires: p of a gate on two wires.
        one_wire: p of a gate on one; None: a tenth.
    """

    two_wires: float
    one_wire: float | None = None

    def __post_init__(self):
        if self.one_wire is None:
            object.__setattr__(self, "one_wire", self.two_wires / 10)
        check_probability("depolarizing:TWO,ONE", self.two_wires, self.one_wire)

    def on_gate(self, name, wires):
        return transfer.depolarizing(self.one_wire if len(wires) == 1 else self.two_wires, len(wires))

    def scaled(self, strength):
        return Depolarizing(strength * self.two_wires, strength * self.one_wire)


@dataclass(frozen=True)
class Damping(Channel):
    """Amplitude and phase damping for as long as a gate takes, on its wires.

    Attributes:
        t1, t2: relaxation and coherence time, in us; T2 <= 2 T1.
        one_wire, two_wires: times of SX or X, and of the gate on two wires, in ns.
        strength: by which both rates are multiplied.
    """

    t1: float
    t2: float
    one_wire: float = FALCON_NS[0]
    two_wires: float = FALCON_NS[1]
    strength: float = 1.0

    def __post_init__(self):
        times = (self.t1, self.t2, self.one_wire, self.two_wires)
        if not (min(times) > 0 and np.isfinite(times).all()):
            raise NoiseError("damping:T1,T2,ONE,TWO are times above 0 (us, us, ns, ns), got "
                             + ",".join(f"{time:g}" for time in times))  # fmt: skip
        if self.t2 > 2 * self.t1:
            raise NoiseError(
                f"T2 is at most 2 T1, which no channel exceeds; got T1 {self.t1:g} us and T2 {self.t2:g} us"
            )

    def time(self, name):
        return 0.0 if name == "rz" else self.one_wire if name in ("sx", "x") else self.two_wires

    def on_delay(self, wire, time):
        return transfer.relaxation(self.t1, self.t2, 1e-3 * time * self.strength)

    def on_gate(self, name, wires):
        of_wire = self.on_delay(wires[0], self.time(name))
        return of_wire if len(wires) == 1 else np.kron(of_wire, of_wire)

    def scaled(self, strength):
        return replace(self, strength=strength * self.strength)


@dataclass(frozen=True)
class Readout(Channel):
    """Bits that are read wrongly, each by itself.

    Attributes:
        one_for_zero: p(1|0), of reading 1 where the state is |0>.
        zero_for_one: p(0|1); None: the same.
    """

    one_for_zero: float
    zero_for_one: float | None = None

    def __post_init__(self):
        if self.zero_for_one is None:
            object.__setattr__(self, "zero_for_one", self.one_for_zero)
        check_probability("readout:P10,P01", self.one_for_zero, self.zero_for_one)

    def on_readout(self, wire):
        return self.one_for_zero, self.zero_for_one

    def scaled(self, strength):
        return Readout(strength * self.one_for_zero, strength * self.zero_for_one)


@dataclass(frozen=True)
class Coherent(Channel):
    """Gates that turn too far, by an angle that belongs to the wire or the pair of wires and stays: a miscalibration.

    Attributes:
        sigma: standard deviation of the angles, in radians: about X after SX and X, about ZX after CX and ECR, about ZZ
            after CZ.
        seed: of the angles.
    """

    sigma: float
    seed: float = 0

    def __post_init__(self):
        if not (0 <= self.sigma < np.inf and self.seed >= 0 and self.seed == int(self.seed)):
            raise NoiseError("coherent:SIGMA,SEED is an angle from 0 on, in radians, and a whole number, got "
                             f"{self.sigma:g},{self.seed:g}")  # fmt: skip

    def angle(self, wires: tuple[int, ...]) -> float:
        """By how much gates on these wires turn too far."""
        return self.sigma * np.random.default_rng([int(self.seed), *wires]).standard_normal()

    def on_gate(self, name, wires):
        generator = transfer.X
        if len(wires) == 2:
            generator = np.kron(transfer.Z, transfer.Z if name == "cz" else transfer.X)
        return transfer.of_kraus(transfer.turn(generator, self.angle(wires)))

    def scaled(self, strength):
        return replace(self, sigma=strength * self.sigma)


# by the name that --noise gives them: the class, which takes the numbers in order
CHANNELS = {"depolarizing": Depolarizing, "damping": Damping, "readout": Readout, "coherent": Coherent}
