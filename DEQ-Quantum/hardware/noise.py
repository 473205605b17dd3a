"""`--noise` as data: channels put together, read from one line of text.

    depolarizing:1e-2 | depolarizing:TWO,ONE     chances after a gate on two wires and on one (default: a tenth)
    damping:T1,T2,ONE,TWO                        us, us, ns, ns (gate times default to 36,350)
    readout:P10,P01                              of reading 1 for 0 and 0 for 1 (default: the same)
    coherent:SIGMA,SEED                          over-rotations in radians (seed 0)
    device:NAME | FILE.json                      a machine's numbers
    idle                                         damping also while a wire waits
    x0.3                                         everything above 0.3 times as strong
    none

joined by commas.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hardware.channels import CHANNELS, Channel, NoiseError
from hardware.devices import Device, read_device
from hardware.native import NativeGate, scheduled


@dataclass(frozen=True)
class Noise:
    """Channels that act one after another after every native gate.

    Attributes:
        channels: in order.
        idle: whether wires that wait are damped too.
        text: as it was asked for.

    Raises:
        NoiseError: machines with different gates on two wires, or `idle` without a channel that knows times.
    """

    channels: tuple[Channel, ...] = ()
    idle: bool = False
    text: str = field(default="none", compare=False)

    def __post_init__(self):
        common_gate(self)
        if self.idle and not any(channel.time("sx") is not None for channel in self.channels):
            raise NoiseError(f"--noise {self.text}: idle needs T1, T2 and times; add damping:T1,T2 or a device")

    @property
    def devices(self) -> list[Device]:
        return [channel for channel in self.channels if isinstance(channel, Device)]

    @property
    def two_wires(self) -> str:
        """The native gate on two wires: the machine's, else "cx"."""
        return common_gate(self)

    def time(self, name: str) -> float:
        """Of a native gate, in ns, of the first channel that knows it."""
        return next((t for channel in self.channels if (t := channel.time(name)) is not None), 0.0)

    def timed(self, gates: Sequence[NativeGate], n_wires: int) -> list[NativeGate]:
        """The gates, with delays where wires wait if those are noisy."""
        return scheduled(gates, n_wires, self.time) if self.idle else list(gates)

    def after(self, gate: NativeGate) -> np.ndarray | None:
        """The transfer matrix that follows a gate, (4, 4) or (16, 16); None where it is free of noise."""
        if gate.name == "rz":
            return None
        if gate.name == "delay":
            found = [channel.on_delay(gate.wires[0], gate.time) for channel in self.channels]
        else:
            found = [channel.on_gate(gate.name, gate.wires) for channel in self.channels]
        total = np.eye(4 ** len(gate.wires))
        for matrix in found:
            if matrix is not None:
                total = matrix @ total
        return None if np.array_equal(total, np.eye(len(total))) else total

    def readout(self, wire: int) -> tuple[float, float]:
        """(slope, offset) of what is read of Z, slope Z + offset: 1 - p(1|0) - p(0|1) and p(0|1) - p(1|0)."""
        confusion = np.eye(2)  # of (p(0), p(1))
        for channel in self.channels:
            if (errors := channel.on_readout(wire)) is not None:
                one_for_zero, zero_for_one = errors
                confusion = np.array([[1 - one_for_zero, zero_for_one], [one_for_zero, 1 - zero_for_one]]) @ confusion
        slope = confusion[0, 0] - confusion[0, 1]
        return float(slope), float(confusion[0].sum() - 1)

    def describe(self) -> dict:
        """For results: the text, and of machines their dates and sources."""
        return {"noise": self.text, "devices": [device.describe() for device in self.devices]}


def common_gate(*noises: Noise) -> str:
    """The native gate on two wires of a machine with all this noise; "cx" where none names a machine.

    Raises:
        NoiseError: machines with different ones.
    """
    found = {device.two_wires: None for noise in noises for device in noise.devices}
    if len(found) > 1:
        texts = " and ".join(noise.text for noise in noises if noise.devices)
        raise NoiseError(f"--noise {texts}: machines with different gates on two wires; name one of them")
    return next(iter(found), "cx")


def refuse_small_machines(n_wires: int, *noises: Noise) -> None:
    """Refuse a circuit that needs more wires than a machine of the noise has.

    Raises:
        NoiseError: one line with both numbers.
    """
    for device in (device for noise in noises for device in noise.devices):
        device.refuse_wires(n_wires)


def parse_noise(text: str) -> Noise:
    """What --noise names.

    Raises:
        NoiseError: one line with what is not understood, or cannot be.
    """
    terms: list[str] = []
    for piece in text.split(","):
        if terms and _is_number(piece):
            terms[-1] += "," + piece
        else:
            terms.append(piece.strip())
    channels: list[Channel] = []
    idle, strength = False, 1.0
    for term in terms:
        if term == "idle":
            idle = True
        elif re.fullmatch(r"x[\d.].*", term) and _is_number(term[1:]):
            strength *= float(term[1:])
        elif term != "none" or len(terms) > 1:
            channels.append(_channel(term))
    try:
        return Noise(tuple(channel.scaled(strength) for channel in channels), idle, text)
    except NoiseError as error:
        if strength == 1 or str(error).startswith("--noise"):
            raise
        raise NoiseError(f"--noise {text}: {strength:g} times as strong, {error}") from error


def _channel(term: str) -> Channel:
    name, _, rest = term.partition(":")
    if term.endswith(".json"):
        return read_device(term)
    if name == "device":
        return read_device(rest)
    if name not in CHANNELS:
        known = ", ".join((*CHANNELS, "device", "FILE.json", "idle", "x0.3", "none"))
        raise NoiseError(f"--noise: {term!r} is not known; known: {known}")
    kind = CHANNELS[name]
    needed = [f.name for f in kind.__dataclass_fields__.values() if f.name != "strength"]
    numbers = rest.split(",") if rest else []
    if not all(map(_is_number, numbers)) or not numbers or len(numbers) > len(needed):
        raise NoiseError(f"--noise {term}: {name}:NUMBER,... takes up to {len(needed)} numbers, {', '.join(needed)}")
    try:
        return kind(*map(float, numbers))
    except TypeError as error:
        raise NoiseError(f"--noise {term}: more numbers are needed of {', '.join(needed)}") from error
    except NoiseError as error:
        raise NoiseError(f"--noise {term}: {error}") from error


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text))
    except ValueError:
        return False
