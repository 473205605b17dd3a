"""How a vector of numbers becomes a state: as its amplitudes, as angles of rotations, or as an image of FRQI.

Section 3.2 of Schleich et al. (arXiv 2410.23940): the inputs are v = z + x. The angle encoding of more than 4 wires
cycles the axes here, since the ten rotations about one axis of the released code are a single one.

An encoding says how many inputs it takes (`n_inputs`) and which operations it applies to |0...0> (`operations`, none for
states that are given as a whole); an engine reads these, never the name. Where data and z enter apart (`n_data`), the
inputs are v = [x, z]: x on wires of its own, z as angles on others; or x as a whole state, which z turns. Two serve the works
that the paper compares with: complex amplitudes (West et al., arXiv 2309.09424), and FRQI (Le et al., Quantum Inf. Process.
10, 63 (2011)), as Dilip et al. (arXiv 2204.11170) and Kiwit et al. (arXiv 2505.03399) use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import ClassVar

from circuits.operations import Operation, check_operations

AXES = ("ry", "rz", "rx")
HADAMARD_ANGLES = "hadamard_angles"


@dataclass(frozen=True)
class AmplitudeEncoding:
    """The normalised inputs are the first amplitudes of the state, the others are zero.

    Attributes:
        n_wires: qubits.
        n_inputs: amplitudes that are given, 1 to 2^n_wires. A zero vector, which has no direction, reads 0.

    Raises:
        ValueError: more inputs than amplitudes, or none.
    """

    n_wires: int
    n_inputs: int
    name: ClassVar[str] = "amplitude"
    operations: ClassVar[tuple[Operation, ...]] = ()
    n_data: ClassVar[None] = None

    def __post_init__(self):
        if not 1 <= self.n_inputs <= 2**self.n_wires:
            raise ValueError(f"{self.n_wires} wires have {2**self.n_wires} amplitudes: {self.n_inputs} inputs do not fit")


@dataclass(frozen=True)
class AngleEncoding:
    """Rotations by the inputs, in radians, of |0...0>: any on any wire in any order, other gates between them.

    Attributes:
        n_wires: qubits.
        operations: in order of application; `parameter` is the position of the angle among the inputs.
        name: what it is called in results.
        n_data: so many inputs, the first ones, are data, the others are z; None: every input is a sum of both.

    Raises:
        ValueError: operations that cannot be applied, or none that takes an input; data that leave no input to z.
    """

    n_wires: int
    operations: tuple[Operation, ...]
    name: str = "angle"
    n_data: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "operations", tuple(self.operations))
        check_operations(self.operations, self.n_wires, "encoding")
        if all(operation.parameter is None for operation in self.operations):
            raise ValueError("encoding: no operation takes an input")
        _check_data(self.n_data, self.n_inputs)

    @cached_property
    def n_inputs(self) -> int:
        """One more than the largest position that an operation names."""
        return 1 + max(operation.parameter for operation in self.operations if operation.parameter is not None)


@dataclass(frozen=True)
class ComplexAmplitudeEncoding:
    """Two inputs an amplitude: (v_0 + i v_1, v_2 + i v_3, ...) / ||v|| are the first amplitudes, the others are zero.

    Attributes:
        n_wires: qubits.
        n_inputs: 1 to 2^(n_wires + 1); an odd number's last amplitude is real. A zero vector reads 0.

    Raises:
        ValueError: more inputs than real and imaginary parts, or none.
    """

    n_wires: int
    n_inputs: int
    name: ClassVar[str] = "complex_amplitude"
    operations: ClassVar[tuple[Operation, ...]] = ()
    n_data: ClassVar[None] = None

    def __post_init__(self):
        if not 1 <= self.n_inputs <= 2 ** (self.n_wires + 1):
            raise ValueError(
                f"{self.n_wires} wires have {2**self.n_wires} complex amplitudes: {self.n_inputs} inputs do not fit"
            )


@dataclass(frozen=True)
class FRQIEncoding:
    """An image in superposition: 2^(-m/2) sum_p |p> (cos(pi/2 v_p) |0> + sin(pi/2 v_p) |1>), m = n_wires - 1.

    Pixel p is numbered by the other wires, the first the most significant. The state has norm 1 whatever the v_p, which
    are brightnesses in [0, 1] as a rule.

    Attributes:
        n_wires: qubits, from 2.
        colour: the wire of the brightness, the last one or the first.

    Raises:
        ValueError: one wire, or a colour on another wire.
    """

    n_wires: int
    colour: int
    name: ClassVar[str] = "frqi"
    operations: ClassVar[tuple[Operation, ...]] = ()
    n_data: ClassVar[None] = None

    def __post_init__(self):
        if self.n_wires < 2 or self.colour not in (0, self.n_wires - 1):
            raise ValueError(f"FRQI has its colour on the first or last of 2 wires or more, got {self.colour} of {self.n_wires}")

    @property
    def n_inputs(self) -> int:
        """Pixels: one for each state of the wires that number them."""
        return 2 ** (self.n_wires - 1)


@dataclass(frozen=True)
class StateEncoding:
    """The data are a state of the first wires, the other wires are |0>; then rotations by z, anywhere.

    Attributes:
        n_wires: qubits.
        n_state_wires: so many have the data's state.
        n_data: numbers of it. Real: the first amplitudes, before they are normalised, as of `AmplitudeEncoding`.
        operations: on single wires or more; `parameter` is the position of the angle among the inputs, from n_data.
        is_complex: the data are the real parts of amplitudes, then their imaginary parts.
        name: what it is called in results.

    Raises:
        ValueError: operations that cannot be applied or take data as angles, data that do not fit, or no input for z.
    """

    n_wires: int
    n_state_wires: int
    n_data: int
    operations: tuple[Operation, ...]
    is_complex: bool = False
    name: str = "state"

    def __post_init__(self):
        object.__setattr__(self, "operations", tuple(self.operations))
        check_operations(self.operations, self.n_wires, "encoding")
        if not 1 <= self.n_state_wires <= self.n_wires:
            raise ValueError(f"a state of {self.n_state_wires} wires does not fit on {self.n_wires}")
        if not 1 <= self.n_amplitudes <= 2**self.n_state_wires or self.is_complex and self.n_data % 2:
            kind = "complex" if self.is_complex else "real"
            raise ValueError(f"{self.n_data} numbers are no {kind} state of {self.n_state_wires} wires")
        angles = [operation.parameter for operation in self.operations if operation.parameter is not None]
        if min(angles, default=self.n_data) < self.n_data:
            raise ValueError(f"encoding: inputs before {self.n_data} are data, which are no angles")
        _check_data(self.n_data, self.n_inputs)

    @property
    def n_amplitudes(self) -> int:
        """How many amplitudes the data give."""
        return self.n_data // 2 if self.is_complex else self.n_data

    @cached_property
    def n_inputs(self) -> int:
        """One more than the largest position that an operation names."""
        return 1 + max((o.parameter for o in self.operations if o.parameter is not None), default=self.n_data - 1)


def _check_data(n_data: int | None, n_inputs: int) -> None:
    if n_data is not None and not 1 <= n_data < n_inputs:
        raise ValueError(f"encoding: of {n_inputs} inputs {n_data} cannot be data and others z")


Encoding = AmplitudeEncoding | AngleEncoding | ComplexAmplitudeEncoding | FRQIEncoding | StateEncoding


def rotations(
    n_wires: int, n_inputs: int, axes: Sequence[str] = AXES, first_wire: int = 0, first_input: int = 0
) -> tuple[Operation, ...]:
    """Rotations by so many inputs, one a wire and then on from the first wire about the next axis."""
    return tuple(
        Operation(axes[k // n_wires % len(axes)], (first_wire + k % n_wires,), first_input + k) for k in range(n_inputs)
    )


def rotation_layers(n_wires: int, n_layers: int, name: str = "angle", axes: Sequence[str] = AXES) -> AngleEncoding:
    """Layers of one rotation a wire, whose axes take turns; input `layer * n_wires + wire` is its angle."""
    return AngleEncoding(n_wires, rotations(n_wires, n_layers * n_wires, axes), name)


def states_turned(n_wires: int) -> StateEncoding:
    """Any state of all wires, as real and imaginary parts, and an RY by z on every wire."""
    n_data = 2 * 2**n_wires
    of_z = rotations(n_wires, n_wires, first_input=n_data)
    return StateEncoding(n_wires, n_wires, n_data, of_z, is_complex=True, name="turned_states")


def amplitudes_beside_angles(n_wires: int) -> StateEncoding:
    """n_wires^2 amplitudes on the fewest wires that hold them, and as many angles, z, on the others.

    z is not encoded by amplitudes: a zero vector, where a solve begins, has none, and a length, and so a gain, would be
    lost. Where less than two wires are left (n_wires 4 and 6), there are n_wires more, all for z.
    """
    n, n_data_wires = n_wires**2, (n_wires**2 - 1).bit_length()
    if n_wires - n_data_wires < 2:
        n_data_wires, n_wires = n_wires, 2 * n_wires
    of_z = rotations(n_wires - n_data_wires, n, first_wire=n_data_wires, first_input=n)
    return StateEncoding(n_wires, n_data_wires, n, of_z, name="amplitude")


def angles_beside_angles(n_wires: int, n: int, name: str) -> AngleEncoding:
    """So many angles, the data, on the first half of the wires, and as many, z, on the second."""
    half = n_wires // 2
    of_z = rotations(n_wires - half, n, first_wire=half, first_input=n)
    return AngleEncoding(n_wires, rotations(half, n) + of_z, name, n)


def hadamard_angles(n_wires: int, per_wire: int) -> AngleEncoding:
    """H on every wire, then `per_wire` rotations about z and x in turns; input `wire * per_wire + i` is the i-th angle.

    Encoders 1 to 4 and 6 of Alam et al. (arXiv 2109.02862) have 1, 2, 3, 4 and 8 a wire.
    """
    operations = []
    for wire in range(n_wires):
        operations.append(Operation("h", (wire,)))
        operations += [Operation(("rz", "rx")[i % 2], (wire,), wire * per_wire + i) for i in range(per_wire)]
    return AngleEncoding(n_wires, tuple(operations), HADAMARD_ANGLES)


# the choices of `build_circuit`: amplitudes and angles of n_wires^2 inputs; one RY a wire for n_wires components; the
# largest square images up to 28 x 28 as complex amplitudes, and as FRQI with the colour on the last or first wire; all
# 2^n_wires amplitudes; complex states that z turns; and several angles a wire after H
ENCODINGS = {
    "amplitude": lambda n_wires: AmplitudeEncoding(n_wires, n_wires**2),
    "angle": lambda n_wires: rotation_layers(n_wires, n_wires),
    "components": lambda n_wires: rotation_layers(n_wires, 1, "components"),
    "complex_amplitude": lambda n_wires: ComplexAmplitudeEncoding(n_wires, min(28, isqrt(2 ** (n_wires + 1))) ** 2),
    "frqi": lambda n_wires: FRQIEncoding(n_wires, n_wires - 1),
    "frqi_colour_first": lambda n_wires: FRQIEncoding(n_wires, 0),
    "state": lambda n_wires: AmplitudeEncoding(n_wires, 2**n_wires),
    "turned_states": states_turned,
    HADAMARD_ANGLES: hadamard_angles,
}
CONCATENATED = {
    "amplitude": amplitudes_beside_angles,
    "angle": lambda n_wires: angles_beside_angles(n_wires, n_wires**2, "angle"),
    "components": lambda n_wires: angles_beside_angles(n_wires, n_wires, "components"),
}
INJECTIONS = {"add": ENCODINGS, "concatenate": CONCATENATED}


def build_encoding(name: str, n_wires: int, injection: str = "add", features_per_wire: int = 1) -> Encoding:
    """An encoding by name; with "concatenate" data and z enter apart, and it may have more wires.

    Args:
        features_per_wire: of "hadamard_angles".

    Raises:
        ValueError: a name that is not known, or an encoding that does not go with the injection.
    """
    for what, chosen, known in (("injection", injection, INJECTIONS), ("encoding", name, ENCODINGS)):
        if chosen not in known:
            raise ValueError(f"{what} must be one of {', '.join(known)}, got {chosen!r}")
    if name not in INJECTIONS[injection]:
        raise ValueError(f"injection {injection} is for {', '.join(INJECTIONS[injection])}, not for {name} encoding")
    per_wire = (features_per_wire,) * (name == HADAMARD_ANGLES)
    return INJECTIONS[injection][name](n_wires, *per_wire)
