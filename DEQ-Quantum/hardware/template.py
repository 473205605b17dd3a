"""A noisy circuit as products of transfer matrices, for all parameters at once: what torch multiplies.

Between two gates on two wires lie chains of gates on single wires. Each rotation makes a segment of its chain, whose
matrix is A + B cos(angle) + C sin(angle) with everything fixed around it, noise too, inside A, B and C. A compilation
is a handful of batched products, differentiable in the angles, which may differ from sample to sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from engines.protocol import UnsupportedCircuit
from hardware import transfer
from hardware.native import WITH_ERRORS, NativeGate
from hardware.noise import Noise


@dataclass
class _Segment:
    """Parts of (1, cos, sin) of scale * theta[parameter], (3, 4, 4)."""

    parts: np.ndarray = field(default_factory=lambda: np.stack([np.eye(4), np.zeros((4, 4)), np.zeros((4, 4))]))
    parameter: int | None = None
    scale: float = 1.0


@dataclass(frozen=True)
class Joint:
    """A gate on two wires, after the chains with these numbers on its wires."""

    wires: tuple[int, int]
    chains: tuple[int, int]


class Template:
    """The native gates of a circuit and their noise, compiled for any angles.

    Args:
        gates: native, in order of application; delays too.
        n_wires: of the register.
        noise: what follows them.

    Attributes:
        joints: in order of application.
        last_chains: number of the chain that ends each wire.
        n_noisy, n_gates: gates (without delays) that noise follows, and all.
    """

    def __init__(self, gates: Sequence[NativeGate], n_wires: int, noise: Noise):
        self.n_wires = n_wires
        self.n_noisy, self.n_gates = 0, sum(gate.name != "delay" for gate in gates)
        chains: list[list[_Segment]] = []
        current: list[list[_Segment]] = [[] for _ in range(n_wires)]
        self.joints: list[Joint] = []
        fixed: list[np.ndarray] = []

        def close(wire: int) -> int:
            chains.append(current[wire])
            current[wire] = []
            return len(chains) - 1

        for gate in gates:
            after = noise.after(gate)
            self.n_noisy += after is not None and gate.name != "delay"
            if len(gate.wires) == 2:
                matrix = transfer.GATES[gate.name]
                fixed.append(matrix if after is None else after @ matrix)
                self.joints.append(Joint(gate.wires, (close(gate.wires[0]), close(gate.wires[1]))))
            else:
                _append(current[gate.wires[0]], gate, after)
        self.last_chains = [close(wire) for wire in range(n_wires)]
        self._keep(chains, fixed)

    def _keep(self, chains: list[list[_Segment]], fixed: list[np.ndarray]) -> None:
        """As tensors in float64, which a compilation takes to its dtype and device."""
        segments = [_Segment(), *(segment for chain in chains for segment in chain)]  # the first one does nothing
        numbers = iter(range(1, len(segments)))
        longest = max(map(len, chains), default=0)
        places = [[next(numbers) for _ in chain] + [0] * (longest - len(chain)) for chain in chains]
        self._parts = torch.tensor(np.stack([segment.parts for segment in segments]))
        self._angles = [segment.parameter or 0 for segment in segments]
        self._scales = torch.tensor([segment.scale for segment in segments], dtype=torch.float64)
        self._places = torch.tensor(places, dtype=torch.long).view(len(chains), longest).T
        self._fixed = torch.tensor(np.array(fixed)).view(-1, 16, 16)

    def chains(self, angles: Tensor) -> Tensor:
        """Transfer matrices of all chains at angles (..., n_parameters): (..., n_chains, 4, 4)."""
        scales = self._scales.to(angles)
        turned = angles[..., self._angles] * scales if angles.shape[-1] else scales
        weights = torch.stack([torch.ones_like(turned), turned.cos(), turned.sin()], -1)
        segments = torch.einsum("...gs,gsij->...gij", weights, self._parts.to(angles))
        if not len(self._places):
            return segments[..., [0] * self._places.shape[1], :, :]
        product = segments[..., self._places[0], :, :]
        for places in self._places[1:]:
            product = segments[..., places, :, :] @ product
        return product

    def evolve(self, angles: Tensor, wires: Sequence[int]) -> Tensor:
        """Pauli vectors (B, 4^m) of the m wires, first slowest, from |0...0>, at angles (B, n_parameters).

        Wires that are left out have no gate on two wires and stay |0>.
        """
        chains = self.chains(angles)
        ground = torch.as_tensor(transfer.GROUND).to(angles)
        states, order = angles.new_ones(len(angles), 1), []
        for joint, fixed in zip(self.joints, self._fixed.to(angles)):
            for wire in joint.wires:
                if wire not in order:
                    states, order = (states.unsqueeze(2) * ground).flatten(1), [*order, wire]
            states, order = ending_with(states, order, joint.wires)
            first, second = (chains[:, number] for number in joint.chains)
            both = torch.einsum("bac,bde->badce", first, second).reshape(-1, 16, 16)
            states = (states.view(len(states), -1, 16) @ (fixed @ both).transpose(1, 2)).flatten(1)
        for wire in wires:
            if wire not in order:
                states, order = (states.unsqueeze(2) * ground).flatten(1), [*order, wire]
            states, order = ending_with(states, order, (wire,))
            states = states.view(len(states), -1, 4) @ chains[:, self.last_chains[wire]].transpose(1, 2)
            states = states.flatten(1)
        return ending_with(states, order, tuple(wires))[0]

    def blocks(self, chains: Tensor) -> Tensor:
        """Of chains (n_chains, 4, 4), the joints with the chains before them: (n_joints, 16, 16)."""
        first, second = (chains[[joint.chains[i] for joint in self.joints]] for i in (0, 1))
        both = torch.einsum("jab,jcd->jacbd", first, second).reshape(-1, 16, 16)
        return self._fixed.to(chains) @ both


def ending_with(vectors: Tensor, wires: list[int], last: tuple[int, ...]) -> tuple[Tensor, list[int]]:
    """(B, 4^m) vectors with axes of `wires`, permuted so that these wires come last in this order."""
    order = [*(wire for wire in wires if wire not in last), *last]
    if order == wires:
        return vectors, wires
    axes = [1 + wires.index(wire) for wire in order]
    return vectors.view(len(vectors), *(4,) * len(wires)).permute(0, *axes).reshape(len(vectors), -1), order


def refuse_idle_noise(noise: Noise, templates: Sequence[Template], circuit_name: str, has_bits: bool = True) -> None:
    """Refuse noise that changes nothing, which a user would take for resilience.

    Args:
        noise: that was asked for.
        templates: of the circuit, each with a measurement setting.
        circuit_name: for the message.
        has_bits: whether it ends in bits that are read.

    Raises:
        UnsupportedCircuit: there are channels, and none follows a gate or misreads a bit.
    """
    reads = has_bits and any(noise.readout(wire) != (1.0, 0.0) for wire in range(templates[0].n_wires))
    if noise.channels and not reads and not any(template.n_noisy for template in templates):
        raise UnsupportedCircuit(
            f"--noise {noise.text}: no gate of {circuit_name} carries noise; channels of a strength above 0 follow "
            f"{', '.join(WITH_ERRORS)}, RZ has none; say --noise none for a circuit without"
        )


def _append(chain: list[_Segment], gate: NativeGate, after: np.ndarray | None) -> None:
    """A gate on one wire, at the end of its chain."""
    if gate.parameter is not None and (not chain or chain[-1].parameter is not None):
        chain.append(_Segment())
    if not chain:
        chain.append(_Segment())
    segment = chain[-1]
    if gate.parameter is not None:
        segment.parameter, segment.scale = gate.parameter, gate.scale
        segment.parts = transfer.rz(gate.angle) @ transfer.RZ_PARTS @ segment.parts[0]
    elif gate.name == "rz":
        segment.parts = transfer.rz(gate.angle) @ segment.parts
    elif gate.name != "delay":
        segment.parts = transfer.GATES[gate.name] @ segment.parts
    if after is not None:
        segment.parts = after @ segment.parts
