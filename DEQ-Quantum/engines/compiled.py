"""f(z; x) without simulating at every call: the circuit is met once per optimiser step.

After amplitude encoding the circuit does not depend on the data, so with v = z + x in R^D, D = n_wires^2,

    r_k(v) = <Z_k> = v^T M_k v / v^T v,    M_k = Re(P U^+ Z_k U P),   P = the first D basis states.

U(theta) meets D basis columns once (`prepare`), and every later call is a small dense product. Since f repeats each
readout n_wires times, z = E r, and in the space of the n_wires readouts numerator and denominator are quadratics
in r with coefficients fixed at `reduced(x)`. Angle encoding: product states through the fused blocks, and for
the Jacobian loss back through them. Values, first and second derivatives equal those of `engines.torchquantum` (tested);
dtype follows theta.
"""

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from deq.jacobian import fresh_variable
from engines.fusion import FusedBlocks
from engines.propagation import BasisPropagation, ProductPropagation


class CompiledEngine(nn.Module):
    """Compiles a circuit for given parameters.

    Args:
        circuit: what to evaluate.
    """

    def __init__(self, circuit: Circuit):
        super().__init__()
        self.circuit = circuit
        self.blocks = FusedBlocks(circuit.ansatz, circuit.n_wires)
        if circuit.encoding == "amplitude":
            self.propagation = BasisPropagation(self.blocks.wires, circuit.n_wires, circuit.n_inputs)
            signs = _signs(circuit.n_wires // 2)
        else:
            self.propagation = ProductPropagation(self.blocks.wires, circuit.n_wires)
            self.inverse = self.propagation.rest.inverse()
            # of Z on every wire, bits as they come out: (n_wires, 2^n_wires)
            order = self.propagation.rest.wire_order
            signs = _signs(circuit.n_wires)[[order.index(wire) for wire in range(circuit.n_wires)]]
        self.register_buffer("signs", signs, persistent=False)

    def prepare(self, theta: Tensor) -> "AmplitudeReadout | AngleReadout":
        """Meet the circuit, under autograd.

        Args:
            theta: (n_parameters,).

        Returns:
            An object whose `readouts(v)` maps (B, D) to (B, n_wires).
        """
        matrices = self.blocks(theta)
        if self.circuit.encoding == "amplitude":
            return AmplitudeReadout(self._observables(matrices), self.circuit.n_wires)
        return AngleReadout(self, matrices)

    def _observables(self, matrices: Tensor) -> Tensor:
        """M_k for every wire k, (n_wires, D, D).

        Rows of U P that agree on half of the wires share those wires' signs, so Gram matrices per group of rows,
        added with signs, give the observables of that half: two passes over the rows serve all n_wires observables.
        """
        n, n_inputs = self.circuit.n_wires, self.circuit.n_inputs
        columns = self.propagation(matrices).view((2,) * (1 + n) + (n_inputs,))
        axes = [1 + self.propagation.wire_order.index(wire) for wire in range(n)]
        halves = []
        for own, others in ((axes[: n // 2], axes[n // 2 :]), (axes[n // 2 :], axes[: n // 2])):
            rows = columns.permute(*own, 0, *others, 1 + n).reshape(2 ** len(own), -1, n_inputs)
            halves.append(_SignedGram.apply(rows, self.signs))
        return torch.cat(halves)


def _signs(n_bits: int) -> Tensor:
    """+1 or -1 for bit 0 or 1: (n_bits, 2^n_bits), the first bit the most significant."""
    bits = torch.arange(2**n_bits) >> torch.arange(n_bits - 1, -1, -1).unsqueeze(1) & 1
    return 1.0 - 2.0 * bits


class _SignedGram(torch.autograd.Function):
    """sum_g signs[k, g] rows_g^T rows_g: (G, R, D) rows and (K, G) signs to (K, D, D).

    The backward pass uses the symmetry that autograd does not see: one product in place of two.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, signs: Tensor) -> Tensor:
        ctx.save_for_backward(rows, signs)
        gram = torch.bmm(rows.transpose(1, 2), rows)
        return (signs @ gram.flatten(1)).unflatten(1, gram.shape[1:])

    @staticmethod
    def backward(ctx, grad: Tensor):
        rows, signs = ctx.saved_tensors
        symmetric = grad + grad.transpose(1, 2)
        return torch.bmm(rows, (signs.T @ symmetric.flatten(1)).unflatten(1, grad.shape[1:])), None


def _ratio(numerator: Tensor, squared_norm: Tensor) -> Tensor:
    """numerator / squared_norm per sample; a vector without direction reads 0 on every wire, with zero slope."""
    has_direction = ~(squared_norm <= torch.finfo(squared_norm.dtype).tiny)  # a NaN stays one
    return torch.where(has_direction, numerator / torch.where(has_direction, squared_norm, 1.0), 0.0 * numerator)


class AmplitudeReadout:
    """r(v) = v^T M v / v^T v for amplitude encoding."""

    def __init__(self, observables: Tensor, n_wires: int):
        self.observables = observables
        self.n_wires = n_wires

    def _times_observables(self, v: Tensor) -> Tensor:
        """M_k v for every k, in one product: (B, D) to (B, n_wires, D)."""
        return (v @ self.observables.flatten(0, 1).T).unflatten(-1, (self.n_wires, v.shape[1]))

    def readouts(self, v: Tensor) -> Tensor:
        """(B, D) vectors to (B, n_wires) expectation values of Z; a zero vector reads 0."""
        numerator = (self._times_observables(v) @ v.unsqueeze(-1)).flatten(1)
        return _ratio(numerator, v.square().sum(-1, keepdim=True))

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v, 2 sum_k w_k (M_k v - r_k v) / v^T v: (B, D) and (B, n_wires) to (B, D)."""
        rows = self._times_observables(v)
        squared_norm = v.square().sum(-1, keepdim=True)
        readouts = _ratio((rows @ v.unsqueeze(-1)).flatten(1), squared_norm)
        weighted_rows = (weights.unsqueeze(1) @ rows).squeeze(1)
        return _ratio(2 * (weighted_rows - (weights * readouts).sum(-1, keepdim=True) * v), squared_norm)

    def reduced(self, x: Tensor) -> "ReducedReadout":
        """r -> r(x + E r) for a batch x of shape (B, D), E the up-sampling."""
        return ReducedReadout(self.observables, self._times_observables(x), x)


class ReducedReadout:
    """The readouts as a function of the n_wires readouts that went in, for one batch.

        h_k(r) = (a_k + 2 b_k.r + r^T C_k r) / (|x|^2 + 2 s.r + n_wires |r|^2)

    with a_k = x^T M_k x, b_k = E^T M_k x, C_k = E^T M_k E, s = E^T x. Same values as `readouts(x + E r)`, to a
    round-off of the order of eps |x|^2 / |x + E r|^2 (both quadratics are sums of terms of size |x|^2).

    Args:
        observables: M_k, (n, D, D) with n = n_wires, D = n^2.
        rows: M_k x, (B, n, D).
        x: (B, D).
    """

    def __init__(self, observables: Tensor, rows: Tensor, x: Tensor):
        n = self.n_wires = len(observables)
        self.x, self.rows = x, rows
        self.lifted_columns = observables.unflatten(1, (n, n)).sum(2)  # E^T M_k: (n, n, D)
        quadratic = self.lifted_columns.unflatten(2, (n, n)).sum(-1)  # (n, n, n)
        self._quadratic_rows = quadratic.transpose(0, 1).reshape(n, -1)
        self.constant = (rows @ x.unsqueeze(-1)).flatten(1)  # (B, n)
        self.linear = rows.unflatten(-1, (n, n)).sum(-1)  # (B, n, n), second index the observable's
        self.x_squared = x.square().sum(-1, keepdim=True)  # (B, 1)
        self.x_sums = x.unflatten(-1, (n, n)).sum(-1)  # (B, n)

    def _parts(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quadratic_r = (r @ self._quadratic_rows).view(-1, self.n_wires, self.n_wires)
        half_slope = self.linear + quadratic_r
        numerator = self.constant + ((self.linear + half_slope) @ r.unsqueeze(-1)).squeeze(-1)
        squared_norm = self.x_squared + ((2 * self.x_sums + self.n_wires * r) * r).sum(-1, keepdim=True)
        return numerator, squared_norm, half_slope

    def __call__(self, r: Tensor) -> Tensor:
        """(B, n_wires) to (B, n_wires)."""
        numerator, squared_norm, _ = self._parts(r)
        return _ratio(numerator, squared_norm)

    def jacobian(self, r: Tensor) -> Tensor:
        """dh_k/dr_j, exact, (B, n_wires, n_wires)."""
        numerator, squared_norm, half_slope = self._parts(r)
        value = _ratio(numerator, squared_norm)
        norm_half_slope = self.x_sums + self.n_wires * r
        slope = 2 * (half_slope - value.unsqueeze(-1) * norm_half_slope.unsqueeze(1))
        return _ratio(slope, squared_norm.unsqueeze(-1))

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + E r, in R^D: (B, n_wires) twice to (B, D).

        `AmplitudeReadout.vjp` there, with M_k v = M_k x + M_k E r from what is known already.
        """
        numerator, squared_norm, _ = self._parts(r)
        readouts = _ratio(numerator, squared_norm)
        weighted_rows = (weights.unsqueeze(1) @ self.rows).squeeze(1)
        pairs = (weights.unsqueeze(2) * r.unsqueeze(1)).flatten(1)
        weighted_rows = weighted_rows + pairs @ self.lifted_columns.flatten(0, 1)
        v = self.x + r.repeat_interleave(self.n_wires, dim=-1)
        return _ratio(2 * (weighted_rows - (weights * readouts).sum(-1, keepdim=True) * v), squared_norm)


class AngleReadout:
    """r(v) for angle encoding: the encoder acts on |0...0>, so it makes product states.

    With p(v) what they are after the first blocks, and U the others,

        r_k(v) = s^T Z_k s,    s = U p(v),    w^T dr/dv = 2 (U^T sum_k w_k Z_k s)^T dp/dv

    in real arithmetic. The Jacobian loss thus goes back through the blocks once and is differentiated once, where
    autograd would differentiate twice.
    """

    def __init__(self, engine: CompiledEngine, matrices: Tensor):
        self.circuit, self.propagation, self.inverse = engine.circuit, engine.propagation, engine.inverse
        self.matrices, self.rest, self.signs = matrices, engine.propagation.remaining(matrices), engine.signs

    def readouts(self, v: Tensor) -> Tensor:
        """(B, D) angles in radians to (B, n_wires) expectation values of Z."""
        states = self.propagation.rest(self.rest, self.propagation.begin(self.matrices, self._qubits(v)))
        return (self.signs @ states.square().sum(0)).T

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v, under autograd: (B, D) and (B, n_wires) to (B, D)."""
        v = v if v.requires_grad else fresh_variable(v)
        with torch.enable_grad():
            begun = self.propagation.begin(self.matrices, self._qubits(v))
        states = self.propagation.rest(self.rest, begun)
        returned = self.inverse(self.rest.flip(0).transpose(1, 2), (self.signs.T @ weights.T) * states)
        n, order = self.circuit.n_wires, self.propagation.rest.order
        axes = [1 + self.inverse.wire_order.index(wire) for wire in order]
        returned = returned.view((2,) * (1 + n) + (len(v),)).permute(0, *axes, 1 + n).reshape(begun.shape)
        (slope,) = torch.autograd.grad(begun, v, 2 * returned, create_graph=torch.is_grad_enabled())
        return slope

    def _qubits(self, v: Tensor) -> Tensor:
        """The encoded qubits' amplitudes, (2, n_wires, B), complex."""
        n = self.circuit.n_wires
        angles = v.T.reshape(n, n, -1) / 2  # layer, wire, sample
        cosines, sines = angles.cos(), angles.sin()
        zero = torch.zeros_like(angles[0])
        # amplitudes of |0> and |1> of every wire, as real and imaginary parts: each (wire, sample)
        real, imag = [torch.ones_like(zero), zero], [zero, zero]
        for operation in self.circuit.encoder[::n]:  # the first rotation of each layer names its axis
            layer = operation.parameter // n
            real, imag = _rotate(operation.gate, cosines[layer], sines[layer], real, imag)
        return torch.complex(torch.stack(real), torch.stack(imag))


def _rotate(gate: str, c: Tensor, s: Tensor, real: list[Tensor], imag: list[Tensor]):
    """exp(-i t/2 P) on one qubit's two amplitudes, with c = cos t/2, s = sin t/2, in real arithmetic."""
    (r0, r1), (i0, i1) = real, imag
    if gate == "rx":
        return [c * r0 + s * i1, c * r1 + s * i0], [c * i0 - s * r1, c * i1 - s * r0]
    if gate == "ry":
        return [c * r0 - s * r1, s * r0 + c * r1], [c * i0 - s * i1, s * i0 + c * i1]
    return [c * r0 + s * i0, c * r1 - s * i1], [c * i0 - s * r0, c * i1 + s * r1]
