"""Angle encoding by Bloch vectors: the readouts as polynomials of every encoded qubit's x, y and z.

The encoding makes a product state, whose qubits have Bloch vectors b_w(v). With the observables as sums of strings
(`strings.py`),

    r_k(v) = sum_s c_ks prod_w (1, R_w b_w(v))[s_w]

is linear in every b_w: `contraction.py` finds it, and its slopes along all b_w at once, without any state of 2^n
amplitudes. So the exact Jacobian costs a few times what a value does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from engines.angle import EncodingLayers
from engines.contraction import Contraction
from engines.protocol import CompiledCircuit, Lift, ReadoutMap
from engines.strings import PauliSums, TooManyStrings

# the axes p, q of the plane that a rotation by t turns, p to cos t p + sin t q and q to cos t q - sin t p
PLANES = {"rx": (1, 2), "ry": (2, 0), "rz": (0, 1)}


FEW = 2**16  # numbers: up to so many it costs less to find all than to look for those that change


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
        vectors, _ = self.qubits(v)
        return self.contraction.sums(self.table, self._products(vectors)).T

    def vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v: (B, n_inputs) and (B, K) to (B, n_inputs)."""
        vectors, axes = self.qubits(v)
        along = self.contraction.weighted_slopes(self.table, self._products(vectors), weights.T)
        return self.qubits.slopes(self._turned_back(along.unsqueeze(0)), vectors, axes)[0].T

    def with_jacobian(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Readouts (K, B), and dr_k/dv_i, (K, n_inputs, B), at v (B, n_inputs)."""
        vectors, axes = self.qubits(v)
        readouts, along = self.contraction.with_slopes(self.table, self.table_back, self._products(vectors))
        return readouts, self.qubits.slopes(self._turned_back(along), vectors, axes)

    def _turned_back(self, along: Tensor) -> Tensor:
        """(N, 4 n_wires, B) slopes along (1, R_w b_w) to those along b_w, (N, n_wires, 3, B)."""
        return self.rotations.mT @ along.unflatten(1, (-1, 4))[:, :, 1:]

    def along(self, x: Tensor, lift: Lift) -> "ReducedBloch":
        """r -> readouts at x + E r for a batch x of shape (B, n_inputs)."""
        return ReducedBloch(self, x, lift)


class ReducedBloch(ReadoutMap):
    """The readouts as a function of the K readouts that went in, for one batch.

    Where no gradient is recorded it remembers its last values, so that a solver pays for the samples that still move, and
    for a point's Jacobian together with its value once it has asked for one.

    Args:
        circuit: at given parameters.
        x: (B, n_inputs).
        lift: E.
    """

    def __init__(self, circuit: CompiledBloch, x: Tensor, lift: Lift):
        self.circuit, self.x, self.lift = circuit, x, lift
        self.is_large = len(x) * circuit.contraction.n_rows > FEW
        self._last: tuple[Tensor, ...] | None = None  # r, h(r) and, once asked for, the Jacobian there

    def __call__(self, r: Tensor) -> Tensor:
        """(B, K) to (B, K)."""
        asked = self._last is not None and len(self._last) > 2
        if not _may_remember(r) or not (asked or self.is_large):
            return self.circuit.readouts(self.x + self.lift(r))
        return self._at(r, asked)[1].clone()

    def jacobian(self, r: Tensor) -> Tensor:
        """dh_k/dr_j, exact, (B, K, K)."""
        return self._at(r, True)[2].clone() if _may_remember(r) else self._found(r, self.x, True)[2]

    def vjp(self, r: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv at v = x + E r: (B, K) twice to (B, n_inputs)."""
        return self.circuit.vjp(self.x + self.lift(r), weights)

    def _found(self, r: Tensor, x: Tensor, with_jacobian: bool) -> tuple[Tensor, ...]:
        """r and h(r), or these and the Jacobian, for some of the samples."""
        v = x + self.lift(r)
        if not with_jacobian:
            return r, self.circuit.readouts(v)
        readouts, slopes = self.circuit.with_jacobian(v)
        return r, readouts.T, self.lift.transpose(slopes, 1).permute(2, 0, 1)

    def _at(self, r: Tensor, with_jacobian: bool) -> tuple[Tensor, ...]:
        """The same for the batch; samples that stand where they stood are not evaluated again."""
        last, moved = self._last, None
        if last is not None and len(last) == 2 + with_jacobian and last[0].dtype == r.dtype:
            if torch.equal(r, last[0]):
                return last
            if self.is_large:
                moved = (r != last[0]).any(1).nonzero().squeeze(1)
        if moved is None or 2 * len(moved) > len(r):
            self._last = (r.clone(), *self._found(r, self.x, with_jacobian)[1:])
        else:
            found = self._found(r.index_select(0, moved), self.x.index_select(0, moved), with_jacobian)
            self._last = tuple(before.index_copy(0, moved, now) for before, now in zip(last, found))
        return self._last


def _may_remember(r: Tensor) -> bool:
    """Whether r can be compared: no gradient is recorded, nothing traced, and the host need not wait."""
    traced = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    return not torch.is_grad_enabled() and r.device.type == "cpu" and not traced


class BlochEncoder(EncodingLayers):
    """Bloch vectors of every wire after its own gates, b = R_L ... R_1 (0, 0, 1).

    The gates are multiplied from the last to the first, F_(l-1) = F_l R_l, so that the slope of b in the angle of layer l
    is known besides: w_l x b with the gate's axis turned by what comes after it, w_l = F_l e_axis.

    Args:
        circuit: with gates on single wires as encoding.
    """

    def __init__(self, circuit: Circuit):
        super().__init__(circuit.encoding)
        self.n_inputs = circuit.n_inputs
        turning = [layer for layer in self.layers if any(gate in PLANES for gate, _ in layer.gates)]
        self.shape = (len(turning), self.n_wires, 1, -1)  # of the layers' angles
        inputs = torch.tensor([layer.inputs for layer in turning]).flatten()
        every = torch.equal(inputs, torch.arange(self.n_inputs))
        self.register_buffer("inputs", None if every else inputs, persistent=False)
        self.register_buffer("identity", torch.eye(3).view(3, 1, 3, 1), persistent=False)

    def forward(self, v: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, n_inputs) angles to b, (n_wires, 3, B), and w_l of every layer that takes angles, of shapes that expand to it."""
        angles = v.T.contiguous()
        if self.inputs is not None:
            angles = angles.index_select(0, self.inputs)
        angles = angles.view(self.shape)
        cosines, sines = list(angles.cos().unbind()), list(angles.sin().unbind())
        columns, axes = list(self.identity.unbind()), []
        for layer in reversed(self.layers):
            turns = any(gate in PLANES for gate, _ in layer.gates)
            c, s = (cosines.pop(), sines.pop()) if turns else (None, None)
            before, axis = columns, None
            for gate, name in layer.gates:
                mask = None if name is None else getattr(self, name).unsqueeze(2)
                columns = _where(mask, _multiplied(gate, c, s, before), columns)
                if gate in PLANES:
                    own = before[3 - sum(PLANES[gate])]
                    axis = own if mask is None else torch.where(mask, own, 0.0 if axis is None else axis)
            if turns:
                axes.append(axis)
        return columns[2].expand(self.n_wires, 3, len(v)), axes[::-1]

    def slopes(self, along: Tensor, vectors: Tensor, axes: list[Tensor]) -> Tensor:
        """From slopes along Bloch vectors, (N, n_wires, 3, B) of N quantities, to those along the inputs, (N, n_inputs, B).

        g . (w x b) = w . (b x g), with b and w as from a call.
        """
        torques = _cross(vectors.unbind(1), along.unbind(2))
        turned = torch.stack([axis.expand_as(vectors) for axis in axes]).unbind(2)
        of_angles = torques[0].unsqueeze(1) * turned[0]
        for torque, axis in zip(torques[1:], turned[1:]):
            of_angles = torch.addcmul(of_angles, torque.unsqueeze(1), axis)
        of_angles = of_angles.flatten(1, 2)
        if self.inputs is None:
            return of_angles
        return of_angles.new_zeros(len(of_angles), self.n_inputs, of_angles.shape[2]).index_add(1, self.inputs, of_angles)


def _where(mask: Tensor | None, after: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    """What is after a gate on the wires where it acts, and before it on the others."""
    return after if mask is None else [torch.where(mask, a, b) for a, b in zip(after, before)]


def _cross(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    """a x b, coordinate by coordinate."""
    return [torch.addcmul(a[i] * b[j], a[j], b[i], value=-1) for i, j in ((1, 2), (2, 0), (0, 1))]


def _multiplied(gate: str, c: Tensor | None, s: Tensor | None, columns: list[Tensor]) -> list[Tensor]:
    """F R for a gate that turns Bloch vectors by R; c and s are cosine and sine of a rotation's angle.

    Args:
        gate: its name.
        c, s: (n_wires, 1, B).
        columns: of F, (n_wires, 3, B) each.
    """
    x, y, z = columns
    if gate == "h":
        return [z, -y, x]
    if gate == "sx":
        return [x, z, -y]
    product = list(columns)
    first, second = PLANES[gate]
    p, q = columns[first], columns[second]
    product[first] = torch.addcmul(c * p, s, q)
    product[second] = torch.addcmul(c * q, s, p, value=-1)
    return product
