"""Readouts pulled back through a noisy circuit, gate by gate: what a machine measures, as observables of what went in.

Heisenberg's picture in the Pauli basis: an observable is a real vector with a factor of 4 for each wire that it has
reached, and a channel with transfer matrix R takes the vector o of what is read after it to R^T o. Wires that no gate
has joined to a readout yet carry the identity, which every channel leaves alone. Wrong bits come first: a misread Z is
slope Z + offset, so a string of them is a product of such factors; X and Y are read as Z after native gates that turn
them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from circuits.circuit import Circuit
from circuits.operations import Operation
from circuits.paulis import measurement_settings
from hardware import transfer
from hardware.native import NativeGate, folded, native_gates
from hardware.noise import Noise, NoiseError
from hardware.template import Template, ending_with

TOGETHER = 4**6  # entries of an observable up to which all strings are pulled back at once, on all wires


class NoisyReadouts:
    """P_k of a circuit's readout as observables of the encoded state.

    Args:
        circuit: its ansatz and readout.
        noise: of gates and bits.
        two_wires: the machine's gate on two wires.
        folds: how often U^+ U follows the ansatz U.
        inverted: every bit's slope Z + offset is known, and undone.

    Attributes:
        templates: of the ansatz with the turns before each measurement setting, and the positions of its strings.
    """

    def __init__(self, circuit: Circuit, noise: Noise, two_wires: str, folds: int = 0, inverted: bool = False):
        n = self.n_wires = circuit.n_wires
        self.n_readouts = circuit.n_readouts
        ansatz = folded(native_gates(circuit.ansatz.operations, two_wires), folds)
        settings = measurement_settings(circuit.readout.strings)
        self.templates = [
            Template(noise.timed([*ansatz, *_turns(basis, two_wires)], n), n, noise) for basis in settings
        ]
        self.members = list(settings.values())
        self.supports = circuit.readout.supports()
        bits = torch.zeros(n, 4, dtype=torch.float64)
        for wire in range(n):
            slope, offset = noise.readout(wire)
            if inverted and slope == 0:
                raise NoiseError(f"--noise {noise.text}: the bit of wire {wire} is read by chance, nothing inverts that")
            bits[wire, 3], bits[wire, 0] = (1.0, 0.0) if inverted else (slope, offset)
        self._bits = bits

    def __call__(self, theta: Tensor, reduced: Callable[[Tensor], Tensor] = lambda vectors: vectors) -> Tensor:
        """Pauli vectors of all observables at theta (n_parameters,): (K, 4^n_wires), wire 0 slowest.

        Args:
            theta: under autograd.
            reduced: what is kept of (k, 4^n_wires) vectors, so that they are never there all at once.
        """
        found: dict[int, Tensor] = {}
        for template, members in zip(self.templates, self.members):
            chains = template.chains(theta)
            blocks = template.blocks(chains)
            groups = [members] if 4**self.n_wires <= TOGETHER else [[k] for k in members]
            # a second or two in training, minutes for a thousand strings of ten wires
            for group in tqdm(groups, "noisy readouts", delay=2, leave=False, disable=None):
                found.update(zip(group, reduced(self._pulled_back(template, chains, blocks, group))))
        return torch.stack([found[k] for k in range(self.n_readouts)])

    def _pulled_back(self, template: Template, chains: Tensor, blocks: Tensor, group: list[int]) -> Tensor:
        """Of the strings with these positions: (len(group), 4^n_wires)."""
        identity = chains.new_tensor([1.0, 0, 0, 0])
        bits = self._bits.to(chains)
        wires = sorted({wire for k in group for wire in self.supports[k]})
        vectors = chains.new_ones(len(group), 1)
        for wire in wires:
            read = torch.stack([bits[wire] if wire in self.supports[k] else identity for k in group])
            turned = read @ chains[template.last_chains[wire]]  # R^T o, as a row
            vectors = (vectors.unsqueeze(2) * turned.unsqueeze(1)).flatten(1)
        for joint, block in zip(reversed(template.joints), blocks.flip(0)):
            if not set(joint.wires) & set(wires):
                continue
            for wire in joint.wires:
                if wire not in wires:
                    vectors = (vectors.unsqueeze(2) * identity).flatten(1)
                    wires = [*wires, wire]
            vectors, wires = ending_with(vectors, wires, joint.wires)
            vectors = (vectors.reshape(-1, 16) @ block).view(len(group), -1)
        for wire in range(self.n_wires):
            if wire not in wires:
                vectors = (vectors.unsqueeze(2) * identity).flatten(1)
                wires = [*wires, wire]
        return ending_with(vectors, wires, tuple(range(self.n_wires)))[0]


def on_last_wires(vectors: Tensor, n_wires: int, n_used: int) -> Tensor:
    """Observables where the wires before the last n_used are |0>, which reads I and Z as 1: (K, 4^n_used)."""
    ground = torch.as_tensor(transfer.GROUND).to(vectors)
    for _ in range(n_wires - n_used):
        vectors = (ground @ vectors.view(len(vectors), 4, -1)).flatten(1)
    return vectors


def first_entries(vectors: Tensor, n_wires: int, n_inputs: int) -> Tensor:
    """Real parts of the first n_inputs rows and columns of observables, (K, 4^n_wires) to (K, n_inputs, n_inputs)."""
    n_needed = (n_inputs - 1).bit_length()
    vectors = on_last_wires(vectors, n_wires, n_needed)
    complex_dtype = torch.complex128 if vectors.dtype == torch.float64 else torch.complex64
    entries = torch.as_tensor(transfer.PAULIS).to(vectors.device, complex_dtype).flatten(1)  # (4, row and column)
    matrices = vectors.to(complex_dtype).view(-1, 1)
    for _ in range(n_needed):  # the first wire left goes to the end, as row and column
        matrices = (matrices.view(len(vectors), 4, -1).transpose(1, 2) @ entries).reshape(len(vectors), -1)
    matrices = matrices.real.view(len(vectors), *(2, 2) * n_needed)
    rows, columns = (range(start, 1 + 2 * n_needed, 2) for start in (1, 2))
    square = matrices.permute(0, *rows, *columns).reshape(len(vectors), 2**n_needed, -1)
    return square[:, :n_inputs, :n_inputs]


def _turns(basis: str, two_wires: str) -> list[NativeGate]:
    """Native gates after which Z is measured where the setting has another letter."""
    turns = []
    for wire, letter in enumerate(basis):
        if letter == "Y":  # S^+ takes Y to X
            turns.append(NativeGate("rz", (wire,), -torch.pi / 2))
        if letter in "XY":
            turns += native_gates([Operation("h", (wire,))], two_wires)
    return turns
