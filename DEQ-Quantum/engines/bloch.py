"""Angle encoding by Bloch vectors: the readouts as polynomials of every encoded qubit's x, y and z.

The encoding makes a product state, whose qubits have Bloch vectors b_w(v). With the observables as sums of strings
(`strings.py`),

    r_k(v) = sum_s c_ks prod_w (1, R_w b_w(v))[s_w]

is linear in every b_w: `contraction.py` finds it, and its slopes along all b_w at once, without any state of 2^n
amplitudes. So the exact Jacobian costs a few times what a value does.
"""

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.angle import EncodingLayers, rows_at
from engines.contraction import Contraction
from engines.protocol import CompiledCircuit, Lift, ReadoutMap
from engines.strings import PauliSums, TooManyStrings

# which coordinates a rotation by t takes to cos t of the first - sin t of the second, and sin t of the first + cos t of it
PLANES = {"rx": (1, 2), "ry": (2, 0), "rz": (0, 1)}


class BlochPolynomials(nn.Module):
    """The readouts of an angle-encoded circuit as polynomials of Bloch vectors.

    Args:
        circuit: with gates on single wires as encoding.
        most: multiplications for a sample that are not too many.

    Raises:
        TooManyStrings: it takes more, or there are too many strings.
    """

    def __init__(self, circuit: Circuit, most: int):
        super().__init__()
        self.qubits = BlochEncoder(circuit)
        self.sums = PauliSums(circuit)
        self.contraction = c = Contraction(self.sums.letters, self.sums.readout, circuit.n_readouts)
        self.shapes = {"table": (c.n_rows, c.a.stop - c.a.start), "table_back": (c.n_rows_back, c.b.stop - c.b.start)}
        if c.n_rows * self.shapes["table"][1] > most:
            raise TooManyStrings
        for name, places in (("table", c.places), ("table_back", c.places_back)):
            rows, columns = self.shapes[name]
            self.sums.lay_out(name, places, rows * columns)

    def compile(self, theta: Tensor) -> "CompiledBloch":
        """The circuit at the parameters theta (n_parameters,), under autograd."""
        rotations, tables = self.sums(theta, *self.shapes)
        return CompiledBloch(self, rotations, *(table.view(self.shapes[name]) for name, table in zip(self.shapes, tables)))


class CompiledBloch(CompiledCircuit):
    """r(v) for one set of parameters.

    Args:
        polynomials: what does not depend on them.
        rotations: R_w, (n_wires, 3, 3).
        table, table_back: coefficients, as `Contraction` takes them.
    """

    def __init__(self, polynomials: BlochPolynomials, rotations: Tensor, table: Tensor, table_back: Tensor):
        self.qubits, self.contraction = polynomials.qubits, polynomials.contraction
        self.rotations, self.table, self.table_back = rotations, table, table_back

    def _products(self, vectors: Tensor) -> list[Tensor]:
        """(n_wires, 3, B) Bloch vectors to the contraction's products."""
        turned = self.rotations @ vectors
        return self.contraction.products(torch.cat([torch.ones_like(turned[:, :1]), turned], dim=1).flatten(0, 1))

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_inputs) angles in radians to (B, K) expectation values."""
        return self.contraction.sums(self.table, self._products(self.qubits(v))).T

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v: (B, n_inputs) and (B, K) to (B, n_inputs)."""
        vectors, slopes = self.qubits.with_slopes(v)
        along = self.contraction.weighted_slopes(self.table, self._products(vectors), weights.T)
        return self.qubits.gather(self._turned_back(along.unsqueeze(0)), slopes)[0].T

    def jacobian(self, v: Tensor) -> Tensor:
        """dr_k/dv_i: (B, n_inputs) to (K, n_inputs, B)."""
        vectors, slopes = self.qubits.with_slopes(v)
        along = self.contraction.slopes(self.table, self.table_back, self._products(vectors))
        return self.qubits.gather(self._turned_back(along), slopes)

    def _turned_back(self, along: Tensor) -> Tensor:
        """(N, 4 n_wires, B) slopes along (1, R_w b_w) to those along b_w, (N, n_wires, 3, B)."""
        return self.rotations.mT @ along.unflatten(1, (-1, 4))[:, :, 1:]

    def along(self, x: Tensor, lift: Lift) -> "ReducedBloch":
        """r -> readouts at x + E r for a batch x of shape (B, n_inputs)."""
        return ReducedBloch(self, x, lift)


class ReducedBloch(ReadoutMap):
    """The readouts as a function of the K readouts that went in, for one batch.

    Args:
        circuit: at given parameters.
        x: (B, n_inputs).
        lift: E.
    """

    def __init__(self, circuit: CompiledBloch, x: Tensor, lift: Lift):
        self.circuit, self.x, self.lift = circuit, x, lift

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K)."""
        return self.circuit.readouts(self.x + self.lift(r))

    def jacobian(self, r: Tensor) -> Tensor:
        """dh_k/dr_j, exact, (B, K, K)."""
        return self.lift.transpose(self.circuit.jacobian(self.x + self.lift(r)), 1).permute(2, 0, 1)

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + E r: (B, K) twice to (B, n_inputs)."""
        return self.circuit.vjp(self.x + self.lift(r), weights)


class BlochEncoder(EncodingLayers):
    """Bloch vectors of every wire after its own gates.

    Args:
        circuit: with gates on single wires as encoding.
    """

    def __init__(self, circuit: Circuit):
        super().__init__(circuit.encoding)
        self.n_inputs = circuit.n_inputs
        # the layers that take angles; which inputs these are, layer by layer and wire by wire
        self.turning = [layer for layer in self.layers if any(gate in PLANES for gate, _ in layer.gates)]
        inputs = torch.tensor([layer.inputs for layer in self.turning]).flatten()
        every = torch.equal(inputs, torch.arange(self.n_inputs))
        self.register_buffer("inputs", None if every else inputs, persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        """(B, n_inputs) angles to (n_wires, 3, B)."""
        return self._send(v, with_slopes=False)[0]

    def with_slopes(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the slope of every wire's vector in its angle of each layer that takes angles: (L, n_wires, 3, B)."""
        sent = self._send(v, with_slopes=True)
        return sent[0], sent[1:]

    def _send(self, v: Tensor, with_slopes: bool) -> Tensor:
        """(1 or 1 + L, n_wires, 3, B)."""
        angles = v.T.contiguous()
        cosines, sines = angles.cos(), angles.sin()
        zeros = angles.new_zeros(1, self.n_wires, len(v))
        vectors = [zeros, zeros, zeros + 1]
        for layer in self.layers:
            c, s = rows_at(cosines, layer.inputs), rows_at(sines, layer.inputs)
            before, slopes = vectors, [zeros, zeros, zeros]
            for gate, name in layer.gates:
                after, mask = _turned(gate, c, s, before), None if name is None else getattr(self, name)
                vectors = _where(mask, after, vectors)
                if gate in PLANES:
                    slopes = _where(mask, _slope(gate, after, zeros), slopes)
            if with_slopes and layer in self.turning:
                vectors = [torch.cat(pair) for pair in zip(vectors, slopes)]
        return torch.stack(vectors, dim=2)

    def gather(self, along: Tensor, slopes: Tensor) -> Tensor:
        """From slopes along Bloch vectors (N, n_wires, 3, B) to those along the inputs (N, n_inputs, B).

        Args:
            along: of N quantities.
            slopes: of the vectors, as from `with_slopes`.
        """
        along, slopes = along.unsqueeze(1).unbind(3), slopes.unbind(2)
        of_angles = along[0] * slopes[0]
        for axis in (1, 2):
            of_angles = torch.addcmul(of_angles, along[axis], slopes[axis])
        of_angles = of_angles.flatten(1, 2)
        if self.inputs is None:
            return of_angles
        return of_angles.new_zeros(len(of_angles), self.n_inputs, of_angles.shape[2]).index_add(1, self.inputs, of_angles)


def _where(mask: Tensor | None, after: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    """What is after a gate on the wires where it acts, and before it on the others."""
    return after if mask is None else [torch.where(mask, a, b) for a, b in zip(after, before)]


def _turned(gate: str, c: Tensor, s: Tensor, vectors: list[Tensor]) -> list[Tensor]:
    """A gate on x, y and z, (N, n_wires, B) each; c and s are cosine and sine of a rotation's angle."""
    x, y, z = vectors
    if gate == "h":
        return [z, -y, x]
    if gate == "sx":
        return [x, -z, y]
    turned = list(vectors)
    first, second = PLANES[gate]
    p, q = vectors[first], vectors[second]
    turned[first] = torch.addcmul(c * p, s, q, value=-1)
    turned[second] = torch.addcmul(s * p, c, q)
    return turned


def _slope(gate: str, after: list[Tensor], zeros: Tensor) -> list[Tensor]:
    """The slope, in a rotation's angle, of the vectors that came out of it; the first of N alone."""
    slope = [zeros] * 3
    first, second = PLANES[gate]
    slope[first], slope[second] = -after[second][:1], after[first][:1]
    return slope
