"""Machines as data: small JSON files of calibrated numbers, how they are read, and how they act as a noise channel.

The files in `device_files/` were made by `hardware.py devices --make` from the snapshots that Qiskit's runtime package
carries; they hold medians, with the date of the calibration and the source. A file of one's own has the same entries.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from hardware import transfer
from hardware.channels import Channel, Damping, NoiseError, check_probability
from hardware.native import TWO_WIRES
from utils.files import read_json

FOLDER = Path(__file__).parent / "device_files"
Values = float | tuple[float, ...]  # of all wires, or one a wire


@dataclass(frozen=True)
class Device(Channel):
    """A machine's noise: relaxation while a gate takes its time, depolarising up to the gate's error, wrong bits.

    A gate's calibrated error is its average infidelity e. Relaxation makes a part of it; the depolarising channel
    before it makes the rest, so that both have e together. Where relaxation alone exceeds e, e is exceeded.

    Attributes:
        name, calibrated, source: what it is, the day (YYYY-MM-DD) and the package of the numbers.
        n_qubits: it has.
        two_wires: its gate on two wires.
        T1_us, T2_us, readout_1_for_0, readout_0_for_1: of every wire, or a list with one a wire.
        sx_ns, two_wires_ns, sx_error, two_wires_error: of its gates; X counts as SX.
        max_circuits, max_shots, repetition_us: of a job; what a shot takes besides its circuit.
        strength: by which errors and rates are multiplied.
    """

    name: str
    calibrated: str
    source: str
    n_qubits: int
    two_wires: str
    T1_us: Values
    T2_us: Values
    sx_ns: float
    two_wires_ns: float
    sx_error: float
    two_wires_error: float
    readout_1_for_0: Values
    readout_0_for_1: Values
    max_circuits: int = 300
    max_shots: int = 100_000
    repetition_us: float = 250.0
    strength: float = 1.0

    def __post_init__(self):
        if self.two_wires not in TWO_WIRES:
            raise NoiseError(f"{self.name}: two_wires is one of {', '.join(TWO_WIRES)}, got {self.two_wires!r}")
        for entry in ("n_qubits", "max_circuits", "max_shots", "repetition_us"):
            if not getattr(self, entry) > 0:
                raise NoiseError(f"{self.name}: {entry} is above 0, got {getattr(self, entry)}")
        for wire in range(max((len(v) for v in vars(self).values() if isinstance(v, tuple)), default=1)):
            self._damping(wire)
            check_probability(f"{self.name}: readout errors", *self.on_readout(wire))
        check_probability(
            f"{self.name}: gate errors", *(self.strength * e for e in (self.sx_error, self.two_wires_error))
        )

    def refuse_wires(self, n_wires: int) -> None:
        """Refuse a circuit of more wires than there are qubits.

        Raises:
            NoiseError: one line with both numbers.
        """
        if n_wires > self.n_qubits:
            raise NoiseError(
                f"device:{self.name} has {self.n_qubits} qubits, the circuit {n_wires} wires: name a larger machine "
                "(hardware.py devices)"
            )

    def _of(self, values: Values, wire: int) -> float:
        if not isinstance(values, tuple):
            return values
        if wire >= len(values):
            raise NoiseError(f"{self.name} has numbers of {len(values)} wires, the circuit a wire {wire}")
        return values[wire]

    def _damping(self, wire: int) -> Damping:
        times = self._of(self.T1_us, wire), self._of(self.T2_us, wire)
        return Damping(*times, self.sx_ns, self.two_wires_ns, self.strength)

    def time(self, name):
        return self._damping(0).time(name)

    def on_delay(self, wire, time):
        return self._damping(wire).on_delay(wire, time)

    def on_gate(self, name, wires):
        relaxed = np.ones((1, 1))
        for wire in wires:
            relaxed = np.kron(relaxed, self.on_delay(wire, self.time(name)))
        size = 2 ** len(wires)
        error = self.strength * (self.sx_error if size == 2 else self.two_wires_error)
        of_relaxation = transfer.average_infidelity(relaxed)
        # (1 - p) F + p / d = 1 - e of both together
        probability = (error - of_relaxation) / (1 - of_relaxation - 1 / size)
        return relaxed @ transfer.depolarizing(float(np.clip(probability, 0, 1)), len(wires))

    def on_readout(self, wire):
        errors = self._of(self.readout_1_for_0, wire), self._of(self.readout_0_for_1, wire)
        return self.strength * errors[0], self.strength * errors[1]

    def scaled(self, strength):
        return Device(**{**vars(self), "strength": strength * self.strength})

    def describe(self) -> dict:
        """Name, date and source, for results."""
        return {"device": self.name, "calibrated": self.calibrated, "source": self.source}


ENTRIES = tuple(field.name for field in fields(Device) if field.name != "strength")
_TEXTS = ("name", "calibrated", "source", "two_wires")
_COUNTS = ("n_qubits", "max_circuits", "max_shots")
_OF_WIRES = ("T1_us", "T2_us", "readout_1_for_0", "readout_0_for_1")


def known_devices() -> list[str]:
    """Names of the devices that have a file here."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read_device(name: str) -> Device:
    """The device of that name, or of a file with the entries of `Device`.

    Raises:
        NoiseError: there is none, or it does not describe a machine.
    """
    is_file = name.endswith(".json")
    if not is_file and name not in known_devices():
        raise NoiseError(f"device:{name} is not known; known: {', '.join(known_devices())}, or name a file.json")
    path = Path(name) if is_file else FOLDER / f"{name}.json"
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise NoiseError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(content, dict):
        raise NoiseError(f"{path} describes no machine: an object with the entries {', '.join(ENTRIES)} is needed")
    if unknown := set(content) - set(ENTRIES):
        raise NoiseError(f"{path} has an entry {min(unknown)!r}, which is not known; known: {', '.join(ENTRIES)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    for key, value in values.items():
        wanted = str if key in _TEXTS else int if key in _COUNTS else (int, float)
        if isinstance(value, tuple) and (key not in _OF_WIRES or not value):
            raise NoiseError(f"{path}: {key} cannot be {list(value)}")
        for one in value if isinstance(value, tuple) else (value,):
            if not isinstance(one, wanted) or isinstance(one, bool):
                raise NoiseError(f"{path}: {key} cannot be {one!r}")
    try:
        return Device(**values)
    except TypeError as error:
        lacking = [name for name in ENTRIES[:13] if name not in values]
        raise NoiseError(f"{path} lacks {', '.join(lacking)}") from error
