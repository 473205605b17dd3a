"""Pauli transfer matrices of native gates and of noise channels, in float64.

    R[i, j] = Tr(P_i E(P_j)) / 2^n,    P_i = I, X, Y, Z, and their Kronecker products, the first wire first

A channel E takes the Pauli vector r of a state to R r, so channels in a row are products of matrices; an observable
goes the other way, by the transpose. Trace is preserved where the first row is (1, 0, ..., 0).
"""

import numpy as np

PAULIS = np.array(
    [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]]
)  # fmt: skip
I, X, Y, Z = PAULIS
GROUND = np.array([1.0, 0.0, 0.0, 1.0])  # of |0><0| = (I + Z) / 2: its expectation values of I, X, Y, Z
# what does not turn with the angle of RZ, what goes with its cosine, what with its sine
RZ_PARTS = np.stack([np.diag([1.0, 0, 0, 1]), np.diag([0, 1.0, 1, 0]), np.zeros((4, 4))])
RZ_PARTS[2][2, 1], RZ_PARTS[2][1, 2] = 1, -1


def pauli_products(n_wires: int) -> np.ndarray:
    """(4^n, 2^n, 2^n), the first wire's letter the slowest."""
    products = PAULIS
    for _ in range(n_wires - 1):
        products = np.einsum("aij,bkl->abikjl", products, PAULIS).reshape(
            4 * len(products), 2 * products.shape[1], 2 * products.shape[2]
        )
    return products


def of_kraus(*operators: np.ndarray) -> np.ndarray:
    """R of rho -> sum_m K_m rho K_m^+, of one unitary among them: (4^n, 4^n)."""
    paulis = pauli_products(len(operators[0]).bit_length() - 1)
    size = paulis.shape[1]
    return (
        sum(np.einsum("aij,jk,bkl,il->ab", paulis, k, paulis, k.conj(), optimize=True).real for k in operators) / size
    )


def turn(generator: np.ndarray, angle: float) -> np.ndarray:
    """exp(-i angle G / 2) of a generator with G^2 = 1."""
    return np.cos(angle / 2) * np.eye(len(generator)) - 1j * np.sin(angle / 2) * generator


def rz(angle: float) -> np.ndarray:
    """R of RZ(angle): (4, 4)."""
    return RZ_PARTS[0] + np.cos(angle) * RZ_PARTS[1] + np.sin(angle) * RZ_PARTS[2]


# native gates without an angle; of two wires the first is the control
UNITARIES = {
    "sx": np.array([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2,
    "x": X,
    "cx": np.kron(np.diag([1, 0]), I) + np.kron(np.diag([0, 1]), X),
    "cz": np.diag([1, 1, 1, -1]).astype(complex),
    "ecr": (np.kron(X, I) - np.kron(Y, X)) / 2**0.5,
}
GATES = {name: of_kraus(unitary) for name, unitary in UNITARIES.items()}


def depolarizing(probability: float, n_wires: int) -> np.ndarray:
    """R of rho -> (1 - p) rho + p I / 2^n: (4^n, 4^n)."""
    shrinking = np.full(4**n_wires, 1.0 - probability)
    shrinking[0] = 1
    return np.diag(shrinking)


def relaxation(t1: float, t2: float, time: float) -> np.ndarray:
    """R of amplitude and phase damping towards |0> for a time, all in one unit: (4, 4).

    Coherences fall by exp(-time / T2), the excited population by exp(-time / T1); T2 <= 2 T1.
    """
    coherence, population = np.exp(-time / t2), np.exp(-time / t1)
    transfer = np.diag([1.0, coherence, coherence, population])
    transfer[3, 0] = 1 - population
    return transfer


def average_infidelity(transfer: np.ndarray) -> float:
    """1 - F of a channel with the identity, averaged over pure states: F = (Tr R + d) / (d (d + 1)), d = 2^n."""
    size = round(len(transfer) ** 0.5)
    return 1 - (np.trace(transfer) + size) / (size * (size + 1))
