"""How a vector of numbers becomes a state: as its amplitudes, as angles of rotations, or as an image of FRQI.

Section 3.2 of Schleich et al. (arXiv 2410.23940): the inputs are v = z + x. The angle encoding of more than 4 wires
cycles the axes here, since the ten rotations about one axis of the released code are a single one.

An encoding says how many inputs it takes (`n_inputs`) and which operations it applies to |0...0> (`operations`, none for
states that are given as a whole); an engine reads these, never the name. Two serve the works that the paper compares with:
complex amplitudes (West et al., arXiv 2309.09424), and FRQI (Le et al., Quantum Inf. Process. 10, 63 (2011)), as Dilip et
al. (arXiv 2204.11170) and Kiwit et al. (arXiv 2505.03399) use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt
from typing import ClassVar

from circuits.operations import Operation, check_operations

AXES = ("ry", "rz", "rx")


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

    Raises:
        ValueError: operations that cannot be applied, or none that takes an input.
    """

    n_wires: int
    operations: tuple[Operation, ...]
    name: str = "angle"

    def __post_init__(self):
        object.__setattr__(self, "operations", tuple(self.operations))
        check_operations(self.operations, self.n_wires, "encoding")
        if all(operation.parameter is None for operation in self.operations):
            raise ValueError("encoding: no operation takes an input")

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

    def __post_init__(self):
        if self.n_wires < 2 or self.colour not in (0, self.n_wires - 1):
            raise ValueError(f"FRQI has its colour on the first or last of 2 wires or more, got {self.colour} of {self.n_wires}")

    @property
    def n_inputs(self) -> int:
        """Pixels: one for each state of the wires that number them."""
        return 2 ** (self.n_wires - 1)


Encoding = AmplitudeEncoding | AngleEncoding | ComplexAmplitudeEncoding | FRQIEncoding


def rotation_layers(n_wires: int, n_layers: int, name: str = "angle", axes: Sequence[str] = AXES) -> AngleEncoding:
    """Layers of one rotation a wire, whose axes take turns; input `layer * n_wires + wire` is its angle."""
    operations = tuple(
        Operation(axes[layer % len(axes)], (wire,), layer * n_wires + wire)
        for layer in range(n_layers)
        for wire in range(n_wires)
    )
    return AngleEncoding(n_wires, operations, name)


# the choices of `build_circuit`: amplitudes and angles of n_wires^2 inputs; one RY a wire for n_wires components; the
# largest square images up to 28 x 28 as complex amplitudes, and as FRQI with the colour on the last or first wire; and
# all 2^n_wires amplitudes
ENCODINGS = {
    "amplitude": lambda n_wires: AmplitudeEncoding(n_wires, n_wires**2),
    "angle": lambda n_wires: rotation_layers(n_wires, n_wires),
    "components": lambda n_wires: rotation_layers(n_wires, 1, "components"),
    "complex_amplitude": lambda n_wires: ComplexAmplitudeEncoding(n_wires, min(28, isqrt(2 ** (n_wires + 1))) ** 2),
    "frqi": lambda n_wires: FRQIEncoding(n_wires, n_wires - 1),
    "frqi_colour_first": lambda n_wires: FRQIEncoding(n_wires, 0),
    "state": lambda n_wires: AmplitudeEncoding(n_wires, 2**n_wires),
}
