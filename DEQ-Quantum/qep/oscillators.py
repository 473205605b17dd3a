"""A network of quantum harmonic oscillators, whose ground state is known in closed form.

    H = sum_j p_j^2 / 2 m_j + 1/2 sum_j kappa_j r_j^2 + 1/2 sum_jk K_jk (r_j - r_k)^2 - sum_j (b_j + sum_i W_ji x_i) r_j

With A = diag(kappa) + the Laplacian of K, M the masses and hbar = 1, the ground state is a Gaussian with mean A^-1 b
and covariance of the positions 1/2 M^-1/2 Omega^-1 M^-1/2, Omega = (M^-1/2 A M^-1/2)^1/2; the gap is the lowest
eigenvalue of Omega. Masses are constants: no mean depends on them. Source: Scellier, arXiv 2406.00879.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qep.gaussian import Gaussian, PositionObservables
from qep.ground_states import GroundStateError
from qep.inputs import check_tensor
from qep.system import Equilibrium, QuantumSystem

SOFTEST = 1e-3  # smallest stiffness kappa that an update may leave, so that a ground state exists


class OscillatorNetwork(QuantumSystem):
    """Coupled oscillators. Observables: every r_j, every r_j^2, every (r_j - r_k)^2; outputs: some r_o, then r_o^2.

    Args:
        n: number of oscillators.
        edges: pairs (j, k) with a spring K_jk.
        n_inputs: numbers of an input.
        input_nodes: oscillators that the input pushes, through trainable weights.
        output_nodes: where the outputs are read.
        masses: (n,), positive; None: all 1.
        gap_tol: lowest gap (frequency) at which the ground state counts as the only one.
        device: where parameters live.
        generator: of the initial parameters: stiffness and springs uniform in [0.5, 1.5], the rest normal.

    Raises:
        ValueError: masses of another shape, or not positive.

    Attributes:
        stiffness (n,), spring (E,), bias (n,), input_weights (len(input_nodes), n_inputs): kappa, K, b, W; float64.
    """

    def __init__(
        self,
        n: int,
        edges: Sequence[tuple[int, int]],
        n_inputs: int,
        input_nodes: Sequence[int],
        output_nodes: Sequence[int],
        masses: Tensor | None = None,
        gap_tol: float = 1e-3,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.n, self.n_inputs, self.gap_tol = n, n_inputs, gap_tol
        self.positions = PositionObservables(n, edges, device)
        self.observables, self.bases = self.positions.names, self.positions.bases
        self.output_nodes = torch.tensor(list(output_nodes), device=device)
        self.output_index = torch.cat([self.output_nodes, n + self.output_nodes])
        masses = torch.ones(n, dtype=torch.float64) if masses is None else masses
        check_tensor("masses", masses, (n,), f"{n} oscillators")
        if not (masses > 0).all():
            raise ValueError(f"masses must be positive, got {masses.tolist()}")
        self.inverse_root_mass = masses.double().to(device).rsqrt()
        self.input_nodes = torch.tensor(list(input_nodes), dtype=torch.int64, device=device)

        def parameter(values: Tensor) -> nn.Parameter:
            return nn.Parameter(values.to(device))

        def uniform(size: int) -> Tensor:
            return 0.5 + torch.rand(size, dtype=torch.float64, generator=generator)

        def normal(*size: int) -> Tensor:
            return torch.randn(*size, dtype=torch.float64, generator=generator)

        self.stiffness, self.spring = parameter(uniform(n)), parameter(uniform(len(edges)))
        self.bias, self.input_weights = parameter(normal(n)), parameter(normal(len(input_nodes), n_inputs))

    def _matrix(self) -> Tensor:
        """A = diag(kappa) + Laplacian of K, (n, n)."""
        rows = self.positions.differences
        return torch.diag(self.stiffness) + rows.mT @ (self.spring.unsqueeze(-1) * rows)

    def _problem(self, x: Tensor, nudge: Tensor | None) -> tuple[Tensor, Tensor]:
        """A and b of every sample, nudge included: (B, n, n), (B, n)."""
        matrix = self._matrix().expand(len(x), -1, -1)
        force = self.bias.expand(len(x), -1).index_add(1, self.input_nodes, x @ self.input_weights.mT)
        if nudge is None:
            return matrix, force
        on_r, on_square = nudge.chunk(2, -1)
        curvature = nudge.new_zeros(force.shape).index_add(1, self.output_nodes, 2 * on_square)
        return matrix + torch.diag_embed(curvature), force.to(nudge.dtype).index_add(1, self.output_nodes, -on_r)

    def _scaled(self, matrix: Tensor) -> Tensor:
        """M^-1/2 . M^-1/2."""
        return self.inverse_root_mass.unsqueeze(-1) * matrix * self.inverse_root_mass

    def _expectations(self, matrix: Tensor, force: Tensor) -> Tensor:
        """<O_k>, (B, K), for a real or complex symmetric A; differentiable."""
        mean = torch.linalg.solve(matrix.to(force.dtype), force)
        if matrix.is_complex():
            squares, modes = torch.linalg.eig(self._scaled(matrix))
            inverse_root = (modes * squares.rsqrt().unsqueeze(-2)) @ torch.linalg.inv(modes)
        else:
            squares, modes = torch.linalg.eigh(self._scaled(matrix))
            inverse_root = (modes * squares.rsqrt().unsqueeze(-2)) @ modes.mT
        return self.positions.expectations(mean, 0.5 * self._scaled(inverse_root))

    @torch.no_grad()
    def equilibrium(self, x: Tensor, nudge: Tensor | None = None, start: Equilibrium | None = None) -> Equilibrium:
        self.check_inputs(x)
        if nudge is not None:
            self.check_nudge(nudge, x)
        matrix, force = self._problem(x, nudge)
        if not (matrix.isfinite().all() and force.isfinite().all()):
            raise GroundStateError("the parameters are not finite: there is no ground state; lower --lr")
        squares, modes = torch.linalg.eigh(self._scaled(matrix))
        if not (squares > 0).all():
            raise GroundStateError(
                f"the springs do not hold the oscillators (lowest frequency squared {squares.min().item():.1e}): "
                "there is no ground state; lower --lr or --beta"
            )
        frequencies = squares.sqrt()
        mean = torch.linalg.solve(matrix, force)
        covariance = 0.5 * self._scaled((modes / frequencies.unsqueeze(-2)) @ modes.mT)
        energy = 0.5 * frequencies.sum(-1) - 0.5 * (force * mean).sum(-1)
        return Equilibrium(x, Gaussian(self.positions, mean, covariance, energy, frequencies[:, 0], self.gap_tol))

    @torch.no_grad()
    def response(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        self.check_nudge(nudge, free.x)
        matrix, force = self._problem(free.x, None)
        shifted, pushed = self._problem(free.x, nudge)
        change, push = shifted - matrix, pushed - force  # dA/dbeta, db/dbeta
        mean = free.state.mean
        d_mean = torch.linalg.solve(matrix, push - (change @ mean.unsqueeze(-1)).squeeze(-1))
        squares, modes = torch.linalg.eigh(self._scaled(matrix))
        omega = squares.sqrt()
        # Omega^2 moves by D, so in its eigenbasis Omega moves by D_ij / (omega_i + omega_j)
        d_square = modes.mT @ self._scaled(change) @ modes
        pairs = omega.unsqueeze(-1) * omega.unsqueeze(-2)
        d_inverse = -d_square / (pairs * (omega.unsqueeze(-1) + omega.unsqueeze(-2)))
        d_covariance = 0.5 * self._scaled(modes @ d_inverse @ modes.mT)
        crossed = d_mean.unsqueeze(-1) * mean.unsqueeze(-2)
        # moments are linear in the second moment; the mean's part goes through d_covariance, its own square is zero
        moments = self.positions.expectations(torch.zeros_like(mean), d_covariance + crossed + crossed.mT)
        return moments + nn.functional.pad(d_mean, (0, sum(self.positions.parts[1:])))

    def differentiable_expectations(self, x: Tensor) -> Tensor:
        self.check_inputs(x)
        return self._expectations(*self._problem(x, None))

    @torch.no_grad()
    def continued_expectations(self, free: Equilibrium, nudge: Tensor) -> Tensor:
        self.check_nudge(nudge, free.x, torch.complex128)
        return self._expectations(*self._problem(free.x, nudge))

    def local_observables(self) -> dict[str, list[str]]:
        positions, squares = self.observables[: self.n], self.observables[self.n : 2 * self.n]
        return {
            "stiffness": squares,
            "spring": self.observables[2 * self.n :],
            "bias": positions,
            "input_weights": [positions[node] for node in self.input_nodes.tolist()],
        }

    def local_gradient(self, derivatives: Tensor, x: Tensor) -> dict[str, Tensor]:
        self.check_derivatives(derivatives, x)
        positions, squares, differences = derivatives.split(self.positions.parts, 1)
        return {
            "stiffness": 0.5 * squares.mean(0),
            "spring": 0.5 * differences.mean(0),
            "bias": -positions.mean(0),
            "input_weights": -(positions[:, self.input_nodes].mT @ x) / len(x),
        }

    @torch.no_grad()
    def constrain(self) -> None:
        """Springs stay attractive and every oscillator keeps a little stiffness of its own."""
        self.stiffness.clamp_min_(SOFTEST)
        self.spring.clamp_min_(0.0)
