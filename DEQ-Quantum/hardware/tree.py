"""Amplitudes as a tree of RY rotations with free angles: what a machine does to encode them.

Level l splits the weight of each of 2^l parts of the vector between its halves, on one wire, controlled by the l wires
before it; the last level has the signs. A multiplexed RY is 2^l rotations between 2^l CX in the order of the Gray code,
2^m - 2 CX for 2^m amplitudes in all. Signs cost nothing, since an RY makes them. Angles alone depend on the vector, so
a circuit is transpiled once and bound per vector. Only the last wires hold numbers: those before stay |0>.
"""

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding, StateEncoding
from engines.protocol import UnsupportedCircuit
from hardware.native import NativeGate, controlled_x, ry


def refuse_other_states(circuit: Circuit) -> None:
    """Refuse states that are given as a whole and are not real amplitudes, which the tree makes, or made by gates.

    Raises:
        UnsupportedCircuit: one line with the encoding.
    """
    if isinstance(circuit.encoding, StateEncoding):
        raise UnsupportedCircuit(
            "no gates here prepare a state of the data beside z: leave noise and shots out, or add z to images"
        )
    if not (isinstance(circuit.encoding, AmplitudeEncoding) or circuit.encoding.operations):
        raise UnsupportedCircuit(
            f"no gates here prepare the states of {circuit.encoding.name} encoding; machines take amplitudes and angles"
        )


class Tree:
    """The encoder of n_inputs real amplitudes on n_wires.

    Args:
        n_wires: of the register.
        n_inputs: 1 to 2^n_wires.

    Attributes:
        wires: that are used, the last ones.
        steps: in order: ("ry", (wire,), position of the angle) or ("cx", (control, target), None).
        n_angles: 2^m - 1 on m wires.
    """

    def __init__(self, n_wires: int, n_inputs: int):
        n_used = (n_inputs - 1).bit_length()
        self.n_inputs = n_inputs
        self.wires = tuple(range(n_wires - n_used, n_wires))
        self.n_angles = 2**n_used - 1
        self.steps: list[tuple[str, tuple[int, ...], int | None]] = []
        for level, target in enumerate(self.wires):
            for i in range(2**level):
                self.steps.append(("ry", (target,), 2**level - 1 + i))
                if level:
                    # the bit in which the Gray code changes; the last one closes the circle
                    bit = min((~i & (i + 1)).bit_length() - 1, level - 1)
                    self.steps.append(("cx", (self.wires[level - 1 - bit], target), None))

    def gates(self, two_wires: str) -> list[NativeGate]:
        """In native gates, whose parameters are `angles`."""
        native = []
        for name, wires, position in self.steps:
            native += ry(wires[0], position) if name == "ry" else controlled_x(*wires, two_wires)
        return native

    def angles(self, v: Tensor) -> Tensor:
        """Of all rotations, in radians, for vectors of any length: (B, n_inputs) to (B, n_angles).

        A part that is zero is not turned; where a single one is, slopes are 0.
        """
        amplitudes = torch.nn.functional.pad(v, (0, self.n_angles + 1 - v.shape[1]))
        found = []
        for level in reversed(range(len(self.wires))):
            left, right = amplitudes.unflatten(1, (-1, 2)).unbind(2)
            turned = (left != 0) | (right != 0)
            cosine, sine = torch.where(turned, left, 1.0), torch.where(turned, right, 0.0)
            found.append(2 * torch.atan2(sine, cosine) @ _gray_signs(level).to(v) / 2**level)
            squares = left.square() + right.square()
            amplitudes = torch.where(turned, torch.where(turned, squares, 1.0).sqrt(), 0.0)
        return torch.cat([v.new_zeros(len(v), 0), *found[::-1]], 1)


def _gray_signs(level: int) -> Tensor:
    """(2^l, 2^l): row j, column i has (-1)^(j . g_i), g_i the i-th word of the Gray code: the sign of rotation i where
    the controls spell j."""
    numbers = torch.arange(2**level)
    shared = numbers.unsqueeze(1) & (numbers ^ (numbers >> 1))
    parity = sum(((shared >> bit) & 1 for bit in range(level)), torch.zeros_like(shared)) % 2
    return 1.0 - 2.0 * parity.double()
