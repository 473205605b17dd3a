"""The engine of noisy circuits: exact expectation values, as infinitely many shots of a machine would give them.

Noise after the encoding leaves r_k(v) = v^T M_k v / v^T v, with M_k pulled back through the noise, so that solvers and
gradients stay as they are; with angles r_k is linear in the Pauli vector of the encoded product state.
"""

import torch
from torch import Tensor

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from circuits.readout import PauliReadout
from engines.amplitude import CompiledAmplitude
from engines.protocol import CompiledCircuit, Engine, UnsupportedCircuit
from hardware import transfer
from hardware.native import native_gates
from hardware.noise import Noise, common_gate, refuse_small_machines
from hardware.observables import NoisyReadouts, first_entries, on_last_wires
from hardware.template import Template, refuse_idle_noise
from hardware.tree import Tree, refuse_other_states

NO_NOISE = Noise()
MOST_BYTES = 2**32  # of all observables of angle-encoded states


class NoisyEngine(Engine):
    """Evaluates a circuit in native gates under noise, differentiable in theta and the inputs.

        layer.engine = NoisyEngine(layer.circuit, parse_noise("depolarizing:1e-2,readout:0.01,0.03"))

    Args:
        circuit: amplitude encoding, or gates on single wires; any ansatz; any Pauli strings.
        noise: of the ansatz's native gates and of the bits.
        encoding_noise: of the encoding's native gates, which depends on the data.
        folds: the ansatz U is run as U (U^+ U)^folds, the same without noise and 1 + 2 folds times as noisy.
        inverted: the confusion of every bit is known, and undone.

    Attributes:
        is_noisy: whether anything is: if not, the compiled engine has the same values sooner.

    Raises:
        UnsupportedCircuit: a readout of probabilities, a gate on two wires in the encoding, a state of the data, angles with
            readouts too many to keep, or noise that no gate carries.
        hardware.noise.NoiseError: a machine with fewer qubits than wires or without numbers for some wire, or two with
            different gates on two wires; bits that say nothing, which no inversion can mend.
    """

    def __init__(
        self, circuit: Circuit, noise: Noise, encoding_noise: Noise = NO_NOISE, *, folds: int = 0, inverted: bool = False
    ):
        super().__init__(circuit)
        refuse_other_states(circuit)
        if not isinstance(circuit.readout, PauliReadout):
            raise UnsupportedCircuit("the noisy engine reads Pauli strings, and this readout has probabilities")
        self.is_noisy = bool(noise.channels or encoding_noise.channels)
        two_wires = common_gate(noise, encoding_noise)
        refuse_small_machines(circuit.n_wires, noise, encoding_noise)
        self.readouts = NoisyReadouts(circuit, noise, two_wires, folds, inverted)
        refuse_idle_noise(noise, self.readouts.templates, "the ansatz")
        self.encoding = self.tree = None
        if isinstance(circuit.encoding, AmplitudeEncoding):
            if not encoding_noise.channels:
                return
            self.tree = Tree(circuit.n_wires, circuit.n_inputs)
            gates = self.tree.gates(two_wires)
            self.encoding = Template(encoding_noise.timed(gates, circuit.n_wires), circuit.n_wires, encoding_noise)
            refuse_idle_noise(encoding_noise, [self.encoding], "the encoding", has_bits=False)
            return
        needed = 2 * 4 * circuit.n_readouts * 4**circuit.n_wires  # one by one, then together, in float32
        if needed > MOST_BYTES:
            raise UnsupportedCircuit(
                f"the noisy engine would need {needed / 2**30:.0f} GiB for {circuit.n_readouts} readouts of {circuit.n_wires} "
                f"wires with angle encoding, more than {MOST_BYTES / 2**30:g}: take fewer, or amplitude encoding"
            )
        for operation in circuit.encoding.operations:
            if len(operation.wires) > 1:
                raise UnsupportedCircuit(
                    f"the noisy engine encodes wire by wire, and {operation} in the encoding joins two"
                )
        gates = encoding_noise.timed(native_gates(circuit.encoding.operations, two_wires), circuit.n_wires)
        self.encoding = Template(gates, circuit.n_wires, encoding_noise)
        refuse_idle_noise(encoding_noise, [self.encoding], "the encoding", has_bits=False)

    @property
    def n_noisy(self) -> int:
        """Native gates of ansatz (the first setting's) and encoding that noise follows."""
        return self.readouts.templates[0].n_noisy + (self.encoding.n_noisy if self.encoding else 0)

    @property
    def n_gates(self) -> int:
        """Native gates of ansatz (the first setting's) and encoding; of one of amplitudes only where it is noisy."""
        return self.readouts.templates[0].n_gates + (self.encoding.n_gates if self.encoding else 0)

    def compile(self, theta: Tensor) -> CompiledCircuit:
        """The circuit at the parameters theta (n_parameters,), under autograd."""
        n = self.circuit.n_wires
        if self.encoding is None:
            n_inputs = self.circuit.n_inputs
            return CompiledAmplitude(self.readouts(theta, lambda vectors: first_entries(vectors, n, n_inputs)))
        if self.tree is not None:
            n_used = len(self.tree.wires)
            vectors = self.readouts(theta, lambda vectors: on_last_wires(vectors, n, n_used))
            return CompiledNoisyTree(vectors, self.encoding, self.tree)
        return CompiledNoisyAngle(self.readouts(theta), self.encoding)


class CompiledNoisyAngle(CompiledCircuit):
    """r_k = sum_P o_kP prod_w s_w,P(w) of the wires' Pauli vectors s_w = (1, x, y, z).

    Args:
        vectors: of the observables, (K, 4^n_wires).
        encoding: of the wires' gates.
    """

    def __init__(self, vectors: Tensor, encoding: Template):
        half = encoding.n_wires // 2
        self.vectors = vectors.view(len(vectors), 4**half, -1)
        self.encoding, self.half = encoding, half

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) angles in radians to (B, K) expectation values."""
        chains = self.encoding.chains(v)[:, self.encoding.last_chains]
        states = chains @ torch.as_tensor(transfer.GROUND).to(v)  # (B, n_wires, 4)
        first, second = (_product(states[:, part]) for part in (slice(self.half), slice(self.half, None)))
        rows = (first @ self.vectors.transpose(0, 1).flatten(1)).view(len(v), len(self.vectors), -1)
        return (rows @ second.unsqueeze(-1)).squeeze(-1)


class CompiledNoisyTree(CompiledCircuit):
    """r_k = sum_P o_kP s_P, s the Pauli vector of the encoding register after its noisy gates: a density matrix, exact.

    Args:
        vectors: of the observables on the tree's wires, (K, 4^m).
        encoding: the tree's gates.
        tree: its angles.
    """

    def __init__(self, vectors: Tensor, encoding: Template, tree: Tree):
        self.vectors, self.encoding, self.tree = vectors, encoding, tree

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) to (B, K) expectation values; a zero vector, which no machine encodes, reads 0."""
        has_direction = v.square().sum(1, keepdim=True) > torch.finfo(v.dtype).tiny
        states = self.encoding.evolve(self.tree.angles(v), self.tree.wires)
        readouts = states @ self.vectors.T
        return torch.where(has_direction | v.isnan().any(1, keepdim=True), readouts, 0.0 * readouts)


def _product(states: Tensor) -> Tensor:
    """Kronecker products of (B, n, 4): (B, 4^n)."""
    product = states.new_ones(len(states), 1)
    for state in states.unbind(1):
        product = (product.unsqueeze(2) * state.unsqueeze(1)).flatten(1)
    return product
