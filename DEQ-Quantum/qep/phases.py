"""Quantum data: ground states of spin rings whose phases are known in closed form, as classes.

    H = - c_0 sum_j X_j - c_1 sum_j Z_j Z_j+1 - c_2 sum_j Z_j X_j+1 Z_j+2        on a ring, c_0 and c_2 not negative

is free fermions: with f(k) = c_0 - c_1 e^ik - c_2 e^2ik the lowest energy of even parity (prod_j X_j = 1) is -sum_k |f(k)|
over k = pi (2m + 1) / n, and the number of zeros of f inside the unit circle tells the phase: 0 paramagnet, 1 long-range order,
2 the cluster state's, which symmetry protects. Phases thus end where c_0 = |c_1| + c_2 and where c_2 = c_0 + |c_1|.

Sources: Pfeuty, Ann. Phys. 57, 79 (1970), the Ising chain; Smacchia et al., arXiv 1105.0853, the cluster-Ising model; Verresen,
Moessner and Pollmann, arXiv 1707.05787, phases by zeros.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from circuits.paulis import place
from qep.ground_states import Diagonalisation
from qep.hamiltonians import PauliHamiltonian
from utils.seeds import generator

PHASES = ("paramagnet", "ordered", "cluster")
AT_ONCE = 32  # Hamiltonians that are diagonalised together
DRAWN = 1024  # couplings at a time


@dataclass(frozen=True)
class Chain:
    """A family of rings.

    Attributes:
        couplings: uniform numbers (N, 2) to (c_0, c_1, c_2), (N, 3).
        classes: what its phases are called, by position in `PHASES`.
    """

    couplings: Callable[[Tensor], Tensor]
    classes: dict[int, str]


def _ising(u: Tensor) -> Tensor:
    """c = (g, 1, 0) with g uniform in [0, 2]."""
    return torch.stack([2 * u[:, 0], torch.ones_like(u[:, 0]), torch.zeros_like(u[:, 0])], 1)


def _cluster_ising(u: Tensor) -> Tensor:
    """c = (a, -b, c) uniform in the triangle a + b + c = 1: the sign makes the order that of an antiferromagnet."""
    low, high = u.sort(1).values.unbind(1)
    return torch.stack([low, low - high, 1 - high], 1)


CHAINS = {
    "ising": Chain(_ising, {0: "paramagnet", 1: "ferromagnet"}),
    "cluster_ising": Chain(_cluster_ising, {0: "paramagnet", 1: "antiferromagnet", 2: "cluster"}),
}


def phases(couplings: Tensor) -> Tensor:
    """Positions in `PHASES` of couplings (N, 3), (N,), in the infinite ring."""
    x, zz, zxz = couplings[:, 0], couplings[:, 1].abs(), couplings[:, 2]
    return torch.where(x > zz + zxz, 0, torch.where(zxz > x + zz, 2, 1))


def margins(couplings: Tensor) -> Tensor:
    """How far couplings (N, 3) are from the next transition, (N,): the smaller of |c_0 - |c_1| - c_2|, |c_2 - c_0 - |c_1||."""
    x, zz, zxz = couplings[:, 0], couplings[:, 1].abs(), couplings[:, 2]
    return torch.minimum((x - zz - zxz).abs(), (zxz - x - zz).abs())


def energies(couplings: Tensor, n_spins: int) -> Tensor:
    """Lowest energies of even parity, (N,), of couplings (N, 3), by free fermions; n_spins is even."""
    k = math.pi * (2 * torch.arange(n_spins, dtype=torch.float64) + 1) / n_spins
    x, zz, zxz = couplings.unsqueeze(2).unbind(1)
    return -(x - zz * torch.exp(1j * k) - zxz * torch.exp(2j * k)).abs().sum(1)


def ring_strings(n_spins: int) -> list[list[str]]:
    """The Pauli strings of c_0, of c_1 and of c_2, n_spins each."""
    n = n_spins
    return [
        [place(n, {j: "X"}) for j in range(n)],
        [place(n, {j: "Z", (j + 1) % n: "Z"}) for j in range(n)],
        [place(n, {j: "Z", (j + 1) % n: "X", (j + 2) % n: "Z"}) for j in range(n)],
    ]


def ground_states(couplings: Tensor, n_spins: int, method: str = "auto") -> tuple[Tensor, Tensor]:
    """The lowest states of even parity, of which there is one away from transitions.

    In the ordered phase that of odd parity has the same energy up to a term that falls exponentially with n_spins, so a solver
    would return any mixture: - prod_j X_j is added to H, which commutes with it, and its energy is taken away again.

    Args:
        couplings: (N, 3), float64.
        n_spins: even, from 4.
        method: of `Diagonalisation`.

    Returns:
        Energies (N,), and real states (N, 2^n_spins), spin 0 the most significant bit, the largest amplitude positive.

    Raises:
        ValueError: an odd number of spins, or fewer than 4.
        GroundStateError: see `Diagonalisation`.
    """
    if n_spins < 4 or n_spins % 2:
        raise ValueError(f"a ring has an even number of spins from 4, got {n_spins}")
    parity = "X" * n_spins
    strings = ring_strings(n_spins)
    system = PauliHamiltonian({parity: -1.0}, [parity], sum(strings, []), Diagonalisation(method))
    found = []
    for some in couplings.split(AT_ONCE):
        ground = system.equilibrium(-some.repeat_interleave(n_spins, 1)).state.ground
        largest = ground.psi.gather(1, ground.psi.abs().argmax(1, keepdim=True))
        found.append((ground.energy + 1, ground.psi * largest.sign()))
    return torch.cat([energy for energy, _ in found]), torch.cat([psi for _, psi in found])


def draw_couplings(chain: Chain, n: int, margin: float, seed: int, stream: str) -> Tensor:
    """Couplings of a chain, (n, 3), as many of each phase, in turn; a function of (chain, margin, seed, stream).

    Args:
        chain: whose.
        n: how many.
        margin: least distance from a transition, below 1.
        seed, stream: of the draw.
    """
    draw, n_classes = generator(seed, f"states {stream}", 0), len(chain.classes)
    own: list[list[Tensor]] = [[] for _ in range(n_classes)]
    while min(map(len, own)) * n_classes < n:
        drawn = chain.couplings(torch.rand(DRAWN, 2, generator=draw, dtype=torch.float64))
        drawn = drawn[margins(drawn) >= margin]
        for position, phase in enumerate(chain.classes):
            own[position].extend(drawn[phases(drawn) == phase])
    return torch.stack([own[row % n_classes][row // n_classes] for row in range(n)])


def labelled_states(name: str, n_spins: int, n_train: int, n_test: int, margin: float, seed: int) -> dict[str, np.ndarray]:
    """What a file for --dataset states:FILE holds, and the couplings and energies that its states are of.

    Args:
        name: one of `CHAINS`.
        n_spins: even, from 4.
        n_train, n_test: states.
        margin, seed: see `draw_couplings`.

    Returns:
        train_states and test_states, float32 (N, 2^n_spins); train_labels and test_labels, text (N,); train_couplings and
        test_couplings, float64 (N, 3); train_energies and test_energies, float64 (N,).
    """
    chain, arrays = CHAINS[name], {}
    for half, n in (("train", n_train), ("test", n_test)):
        couplings = draw_couplings(chain, n, margin, seed, half)
        energy, psi = ground_states(couplings, n_spins)
        arrays[f"{half}_states"] = psi.float().numpy()
        arrays[f"{half}_labels"] = np.array([chain.classes[phase] for phase in phases(couplings).tolist()])
        arrays[f"{half}_couplings"], arrays[f"{half}_energies"] = couplings.numpy(), energy.numpy()
    return arrays
