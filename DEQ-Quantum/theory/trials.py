"""What the equations of the appendices are tried on: pairs of encoded inputs, observables, unitaries, in float64.

A sample holds pairs of states and observables in the Heisenberg picture, M~ = U^+ M U. Most come from the project's own
four-qubit circuits, of both encodings, encoded and applied gate by gate (`engines/statevector.py`), with random parameters
or those of given layers; two are pairs of a qubit that can be worked out by hand. Nothing here knows which equation is
tried.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from circuits.circuit import build_circuit
from engines.statevector import Z, applied, encoded, expectation
from models.quantum_layer import QuantumLayer

N_WIRES = 4
N_PAIRS = 300
N_SCALARS = 20000
FURTHER = ("paper", "strongly_entangling", "su4")  # ansaetze of further circuits of each encoding


@dataclass(frozen=True)
class Sample:
    """Pairs of inputs and what becomes of them.

    Attributes:
        v, w: (N, n) pairs of inputs; unit vectors where they are amplitudes.
        psi, phi: (N, D) their states.
        paulis, projectors: (K, D, D) observables M~ with spectrum {-1, 1}, and of rank one.
        layer: the quantum layer behind it; None for the pair by hand.
        unitary: (D, D) U.
    """

    v: Tensor
    w: Tensor
    psi: Tensor
    phi: Tensor
    paulis: Tensor
    projectors: Tensor
    layer: QuantumLayer | None
    unitary: Tensor

    @property
    def distance(self) -> Tensor:
        """||v - w||, (N, 1)."""
        return (self.v - self.w).norm(dim=1, keepdim=True)

    @property
    def overlap(self) -> Tensor:
        """|<psi|phi>|, (N, 1)."""
        return (self.psi.conj() * self.phi).sum(1, keepdim=True).abs()

    @property
    def infidelity(self) -> Tensor:
        """1 - |<psi|phi>|^2, (N, 1), as |phi - <psi|phi> psi|^2, which keeps its digits where it is small."""
        along = (self.psi.conj() * self.phi).sum(1, keepdim=True)
        return (self.phi - along * self.psi).abs().square().sum(1, keepdim=True)

    @property
    def difference(self) -> Tensor:
        """rho - rho', (N, D, D)."""
        return density(self.psi) - density(self.phi)


@dataclass(frozen=True)
class Trials:
    """All samples, and numbers uniform in [0, 1): (4, N_SCALARS).

    Attributes:
        amplitude, angle: one circuit each.
        further: the same pairs in other circuits.
        qubit: the pair of four fifths; `basis_states`, where bounds are attained, are in `all` beside it.
        uniform: the numbers.
    """

    amplitude: Sample
    angle: Sample
    further: tuple[Sample, ...]
    qubit: Sample
    uniform: Tensor

    @property
    def all(self) -> tuple[Sample, ...]:
        return *self.circuits, self.qubit, basis_states()

    @property
    def circuits(self) -> tuple[Sample, ...]:
        return self.amplitude, self.angle, *self.further


def density(psi: Tensor) -> Tensor:
    """|psi><psi|: (N, D) to (N, D, D)."""
    return psi.unsqueeze(2) * psi.conj().unsqueeze(1)


def moved(sample: Sample, observables: Tensor) -> Tensor:
    """Delta = |<psi|M~|psi> - <phi|M~|phi>| for all pairs and observables: (N, K)."""
    return (expectations(observables, sample.psi) - expectations(observables, sample.phi)).abs()


def expectations(observables: Tensor, psi: Tensor) -> Tensor:
    """<psi|M|psi>: (K, D, D) and (N, D) to (N, K)."""
    return torch.einsum("ni,kij,nj->nk", psi.conj(), observables, psi).real


def trace_norm(matrices: Tensor) -> Tensor:
    """Sum of the absolute eigenvalues of Hermitian matrices: (N, D, D) to (N, 1)."""
    return torch.linalg.eigvalsh(matrices).abs().sum(1, keepdim=True)


def width(observables: Tensor) -> Tensor:
    """w = largest - smallest eigenvalue: 2 of a Pauli string, 1 of a projector. (K, D, D) to (K,)."""
    eigenvalues = torch.linalg.eigvalsh(observables)
    return eigenvalues[:, -1] - eigenvalues[:, 0]


def unitary_of(layer: QuantumLayer) -> Tensor:
    """U of a layer's ansatz, gate by gate: (D, D)."""
    n = layer.circuit.n_wires
    columns = torch.eye(2**n, dtype=torch.complex128).view(2**n, *(2,) * n)
    return applied(layer.circuit.ansatz.operations, layer.full_theta().detach(), columns).flatten(1).T


def observables_of(layer: QuantumLayer) -> Tensor:
    """The matrices of a layer's readouts: (K, D, D)."""
    n = layer.circuit.n_wires
    basis = torch.eye(2**n, dtype=torch.complex128).view(2**n, *(2,) * n)
    return torch.stack([torch.diag(expectation(string, basis)) for string in layer.circuit.readout.strings]).to(basis)


@torch.no_grad()
def draw(generator: torch.Generator, amplitude: QuantumLayer | None = None, angle: QuantumLayer | None = None) -> Trials:
    """Pairs, and circuits.

    Args:
        generator: of pairs and numbers.
        amplitude, angle: layers on four wires of these encodings; None: random ones, and further ones with them. Parameters
            come from torch's global generator.
    """

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def directions(width: int) -> Tensor:
        return torch.nn.functional.normalize(torch.randn(N_PAIRS, width, generator=generator, dtype=torch.float64))

    n_inputs = N_WIRES**2
    first, step = directions(n_inputs), directions(n_inputs)
    aside = torch.nn.functional.normalize(step - (step * first).sum(1, keepdim=True) * first)
    turn = 2 * torch.asin(random(N_PAIRS, 1) / 2)  # a chord of uniform length
    angles = 2 * math.pi * random(N_PAIRS, n_inputs)
    pairs = {
        "amplitude": (first, turn.cos() * first + turn.sin() * aside),
        "angle": (angles, angles + random(N_PAIRS, 1) * directions(n_inputs)),
    }
    given = {"amplitude": amplitude, "angle": angle}
    main = {encoding: _of_layer(given[encoding] or _random_layer(encoding), *pair) for encoding, pair in pairs.items()}
    further = () if amplitude or angle else tuple(
        _of_layer(_random_layer(encoding, ansatz), *pair) for encoding, pair in pairs.items() for ansatz in FURTHER
    )  # fmt: skip
    return Trials(main["amplitude"], main["angle"], further, qubit(), random(4, N_SCALARS))


def _random_layer(encoding: str, ansatz: str = "paper") -> QuantumLayer:
    return QuantumLayer(build_circuit(N_WIRES, encoding, ansatz))


def qubit(a: float = 4 / 5, b: float = 3 / 5) -> Sample:
    """Amplitudes (a, b), a unit vector, and (b, a), read by Z and by |0><0|."""
    v = torch.tensor([[a, b]], dtype=torch.float64)
    psi, identity = v.to(torch.complex128), torch.eye(2, dtype=torch.complex128)
    zero = torch.diag(identity[0])
    return Sample(v, v.flip(1), psi, psi.flip(1), Z.unsqueeze(0), zero.unsqueeze(0), None, identity)


def basis_states() -> Sample:
    """|0> and |1>, the same way."""
    return qubit(1.0, 0.0)


def _of_layer(layer: QuantumLayer, v: Tensor, w: Tensor) -> Sample:
    layer = layer.double()
    unitary = unitary_of(layer)
    size = len(unitary)
    basis = torch.eye(size, dtype=torch.complex128)[:N_WIRES]

    def heisenberg(observables: Tensor) -> Tensor:
        return unitary.mH @ observables @ unitary

    psi, phi = (encoded(layer.circuit, inputs).flatten(1) for inputs in (v, w))
    return Sample(v, w, psi, phi, heisenberg(observables_of(layer)), heisenberg(density(basis)), layer, unitary)
