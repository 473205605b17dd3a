"""Systems of spins: the transverse-field Ising model, and any list of Pauli strings.

Both are H = sum_k c_k(theta, x) P_k with strings P_k and coefficients that are affine in the parameters; dH/dtheta is
then a string times a number that is known without measuring (-1, or an input). Source of the Ising form: Scellier,
arXiv 2406.00879.
"""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from circuits.paulis import place, z_string
from qep.ground_states import Diagonalisation, GroundStateError
from qep.operators import PauliStrings
from qep.response import first_order_response
from qep.state_vectors import StateVectors
from qep.system import Equilibrium, QuantumSystem

GRAPHS = ("all", "layered", "chain")
Edge = tuple[int, int]


def couplings(graph: str, n_spins: int, n_outputs: int) -> list[Edge]:
    """The edges of a graph of couplings; the last n_outputs spins are the outputs.

    Args:
        graph: all (every pair), layered (every hidden spin with every output), chain (neighbours).
        n_spins, n_outputs: sizes.

    Raises:
        ValueError: another graph.
    """
    if graph == "all":
        return list(combinations(range(n_spins), 2))
    if graph == "layered":
        n_hidden = n_spins - n_outputs
        return [(h, o) for h in range(n_hidden) for o in range(n_hidden, n_spins)]
    if graph == "chain":
        return [(j, j + 1) for j in range(n_spins - 1)]
    raise ValueError(f"the graph is {graph!r}; choose one of {', '.join(GRAPHS)}")


class SpinSystem(QuantumSystem):
    """H = sum_k c_k(theta, x) P_k on spins; a subclass says what the coefficients are.

    Args:
        strings: of the Hamiltonian, distinct.
        outputs: strings that costs are made of; they need not be in the Hamiltonian.
        diagonalisation: how ground states are found.
        device: where states live.
    """

    def __init__(
        self,
        strings: Sequence[str],
        outputs: Sequence[str],
        diagonalisation: Diagonalisation,
        device: torch.device | str = "cpu",
    ):
        super().__init__()
        self.observables = list(dict.fromkeys([*strings, *outputs]))
        self.n_terms = len(strings)
        self.pauli = PauliStrings(self.observables, device)
        self.n_spins = self.pauli.n_spins
        self.output_index = torch.tensor([self.observables.index(o) for o in outputs], device=device)
        self.bases = self.pauli.bases
        self.diagonalisation = diagonalisation
        self.gap_tol = diagonalisation.gap_tol

    @abstractmethod
    def coefficients(self, x: Tensor) -> Tensor:
        """c_k(theta, x) of the Hamiltonian's strings, (B, n_terms), differentiable."""

    def all_coefficients(self, x: Tensor, nudge: Tensor | None = None) -> Tensor:
        """Coefficients of all observables, (B, K): the Hamiltonian's, those of a nudge (B, n_outputs) added."""
        own = self.coefficients(x)
        padded = nn.functional.pad(own, (0, len(self.observables) - self.n_terms))
        return padded if nudge is None else padded.to(nudge.dtype).index_add(1, self.output_index, nudge)

    @torch.no_grad()
    def equilibrium(self, x: Tensor, nudge: Tensor | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self.check_inputs(x)
        if nudge is not None:
            self.check_nudge(nudge, x)
        coefficients = self.all_coefficients(x, nudge)
        if not coefficients.isfinite().all():
            raise GroundStateError("the parameters are not finite: there is no ground state; lower --lr")
        hamiltonian = self.pauli.bind(coefficients)
        ground = self.diagonalisation.solve(hamiltonian, None if start is None else start.state.ground.vectors)
        return Equilibrium(x, StateVectors(self.pauli, ground, self.gap_tol))

    @torch.no_grad()
    def response(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        self.check_nudge(nudge, free.x)
        ground = free.state.ground
        only_nudge = nudge.new_zeros(len(nudge), len(self.observables)).index_add(1, self.output_index, nudge)
        nudged_psi = self.pauli.bind(only_nudge).apply(ground.psi.unsqueeze(1)).squeeze(1)
        change = first_order_response(self.pauli.bind(self.all_coefficients(free.x)), ground, nudged_psi)
        return 2 * self.pauli.sandwich(change, ground.psi).real

    def differentiable_expectations(self, x: Tensor) -> Tensor:
        self.check_inputs(x)
        _, states = torch.linalg.eigh(self.pauli.bind(self.all_coefficients(x)).dense())
        return self.pauli.expectations(states[:, :, 0])

    @torch.no_grad()
    def continued_expectations(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        self.check_nudge(nudge, free.x, torch.complex128)
        right = self._continued_state(free, nudge)
        # H + beta C is Hermitian but for beta: its left eigenvector is the right one at the conjugate nudge
        left = self._continued_state(free, nudge.conj())
        norm = (left.conj() * right).sum(-1, keepdim=True)
        return self.pauli.sandwich(left, right) / norm

    def _continued_state(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        """The eigenvector of the non-Hermitian H + sum_o nudge_o O_o that lies next to the free state, (B, D)."""
        _, states = torch.linalg.eig(self.pauli.bind(self.all_coefficients(free.x, nudge)).dense())
        overlaps = (states.mH @ free.state.psi.to(states.dtype).unsqueeze(-1)).squeeze(-1).abs()
        if (overlaps.amax(-1) ** 2 < 0.5).any():
            raise GroundStateError("the complex nudge is too strong to follow the ground state; lower --beta")
        return states.gather(2, overlaps.argmax(-1).view(-1, 1, 1).expand(-1, states.shape[1], 1)).squeeze(-1)


class TransverseFieldIsing(SpinSystem):
    """H = - sum_jk J_jk Z_j Z_k - sum_j g_j X_j - sum_j (b_j + sum_i W_ji x_i) Z_j.

    Args:
        n_spins: number of spins.
        edges: pairs (j, k) with a coupling.
        n_inputs: numbers of an input.
        input_spins: spins whose field the input drives, through trainable weights.
        output_spins: their Z are the outputs.
        diagonalisation: how ground states are found.
        device: where states and parameters live.
        generator: of the initial parameters; they are normal, with the standard deviation `spread` for couplings and
            biases and `spread` / sqrt(n_inputs) for input weights, transverse fields 1.
        spread: see above.

    Attributes:
        coupling (E,), transverse (n_spins,), bias (n_spins,), input_weights (len(input_spins), n_inputs): float64.
    """

    def __init__(
        self,
        n_spins: int,
        edges: Sequence[Edge],
        n_inputs: int,
        input_spins: Sequence[int],
        output_spins: Sequence[int],
        diagonalisation: Diagonalisation | None = None,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        spread: float = 0.1,
    ):
        pairs = [z_string(n_spins, *edge) for edge in edges]
        flips = [place(n_spins, {spin: "X"}) for spin in range(n_spins)]
        fields = [z_string(n_spins, spin) for spin in range(n_spins)]
        outputs = [fields[spin] for spin in output_spins]
        super().__init__([*pairs, *flips, *fields], outputs, diagonalisation or Diagonalisation(), device)
        self.parts = (len(pairs), n_spins, n_spins)
        self.n_inputs = n_inputs

        def normal(*shape: int, scale: float) -> nn.Parameter:
            values = scale * torch.randn(*shape, dtype=torch.float64, generator=generator)
            return nn.Parameter(values.to(device))

        self.coupling = normal(len(pairs), scale=spread)
        self.transverse = nn.Parameter(torch.ones(n_spins, dtype=torch.float64, device=device))
        self.bias = normal(n_spins, scale=spread)
        self.input_weights = normal(len(input_spins), n_inputs, scale=spread / max(1, n_inputs) ** 0.5)
        self.input_spins = torch.tensor(list(input_spins), dtype=torch.int64, device=device)

    def coefficients(self, x: Tensor) -> Tensor:
        fields = self.bias.expand(len(x), -1).index_add(1, self.input_spins, x @ self.input_weights.mT)
        return -torch.cat([self.coupling.expand(len(x), -1), self.transverse.expand(len(x), -1), fields], 1)

    def local_observables(self) -> dict[str, list[str]]:
        n_pairs, n = self.parts[:2]
        fields = self.observables[n_pairs + n : n_pairs + 2 * n]
        return {
            "coupling": self.observables[:n_pairs],
            "transverse": self.observables[n_pairs : n_pairs + n],
            "bias": fields,
            "input_weights": [fields[spin] for spin in self.input_spins.tolist()],
        }

    def local_gradient(self, derivatives: Tensor, x: Tensor) -> dict[str, Tensor]:
        self.check_derivatives(derivatives, x)
        coupling, transverse, fields = derivatives[:, : self.n_terms].split(self.parts, 1)
        return {
            "coupling": -coupling.mean(0),
            "transverse": -transverse.mean(0),
            "bias": -fields.mean(0),
            "input_weights": -(fields[:, self.input_spins].mT @ x) / len(x),
        }


class PauliHamiltonian(SpinSystem):
    """H = sum_k c_k P_k + sum_i x_i Q_i: your own strings, their coefficients trained, and strings the input drives.

    Args:
        terms: strings P_k with their initial coefficients.
        outputs: strings that costs are made of.
        inputs: strings Q_i, one per number of an input, none of them in `terms`; they have no parameter.
        diagonalisation, device: as in `SpinSystem`.

    Raises:
        ValueError: strings that are none, or a string that is both a term and an input.

    Attributes:
        strength: the coefficients c_k, float64 (K_p,).
    """

    def __init__(
        self,
        terms: dict[str, float],
        outputs: Sequence[str],
        inputs: Sequence[str] = (),
        diagonalisation: Diagonalisation | None = None,
        device: torch.device | str = "cpu",
    ):
        if set(terms) & set(inputs):
            raise ValueError("a string is either a term or an input, not both")
        super().__init__([*terms, *inputs], outputs, diagonalisation or Diagonalisation(), device)
        self.n_inputs = len(inputs)
        self.strength = nn.Parameter(torch.tensor(list(terms.values()), dtype=torch.float64, device=device))

    def coefficients(self, x: Tensor) -> Tensor:
        return torch.cat([self.strength.expand(len(x), -1), x], 1)

    def local_observables(self) -> dict[str, list[str]]:
        return {"strength": self.observables[: len(self.strength)]}

    def local_gradient(self, derivatives: Tensor, x: Tensor) -> dict[str, Tensor]:
        self.check_derivatives(derivatives, x)
        return {"strength": derivatives[:, : len(self.strength)].mean(0)}
