"""f(z; x) without simulating at every call: gates are fused once, and the circuit is compiled once per optimiser step.

After amplitude encoding the circuit does not depend on the data: `amplitude.py` turns it into observables, or, where the
readouts are many or not of Z alone, `measured.py` into columns that are measured. After angle encoding the states are
product states, which `bloch.py` or `angle.py` read; other states go through the circuit one by one, given as a whole
(`given_states.py`), or prepared and turned by z (`prepared.py`). Values, first and second derivatives equal those of the other
engines (tested); dtype follows theta.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from circuits.circuit import Circuit
from circuits.encodings import StateEncoding
from circuits.readout import PauliReadout
from engines.amplitude import CompiledAmplitude, string_signs
from engines.angle import KNOWN_GATES, ProductStates
from engines.bloch import BlochPolynomials
from engines.cones import sends_columns
from engines.fusion import Block, FusedBlocks
from engines.given_states import GivenStates
from engines.measured import ColumnMeasurement
from engines.observables import ObservableBuilder
from engines.parts import Part, all_columns, by_cones, cheapest
from engines.prepared import PreparedStates
from engines.protocol import COLUMNS_REMEDY, CompiledCircuit, Engine, Team, UnsupportedCircuit
from engines.sharing import SharedObservables, SharedParts, dealt, work
from engines.strings import TooManyStrings

FEW = 2  # times as many strings of Z as wires: a matrix for each costs less than all columns
PREFERRED = 4  # times as many multiplications for a value: polynomials have slopes in all directions for little more
WAYS = {"cheapest": cheapest, "columns": all_columns, "cones": by_cones}


class CompiledEngine(Engine):
    """Compiles a circuit for given parameters.

    It takes any ansatz, states given by their amplitudes or as FRQI, any encoding of gates on single wires, also after a state,
    and any readout.

    Args:
        circuit: what to evaluate.
        way: to the observables after amplitude encoding: all "columns" of the data through the whole circuit, the
            readouts' light "cones", or whichever is the "cheapest".

    Raises:
        UnsupportedCircuit: one wire, no operation, or a gate on two wires in the encoding.
    """

    def __init__(self, circuit: Circuit, way: str = "cheapest"):
        super().__init__(circuit)
        _refuse(circuit)
        self._of_several: dict[tuple, SeveralObservables] = {}  # by how many there are, their dtype and device
        self.blocks: FusedBlocks | None
        if sends_columns(circuit) and _reads_few_strings_of_z(circuit):
            self._choose(WAYS[way](circuit))
            self.states = ObservableBuilder(circuit, self.parts)
            return
        self.blocks = FusedBlocks(circuit.ansatz.operations, circuit.n_wires)
        if not circuit.encoding.operations:
            kind = ColumnMeasurement if sends_columns(circuit) else GivenStates
            self.states = kind(circuit, self.blocks.wires)
            return
        if isinstance(circuit.encoding, StateEncoding):
            self.states = PreparedStates(circuit, self.blocks.wires)
            return
        try:
            if not isinstance(circuit.readout, PauliReadout):
                raise TooManyStrings
            self.states = BlochPolynomials(circuit, PREFERRED * self.blocks.multiplications)
            self.blocks = None
        except TooManyStrings:
            self.states = ProductStates(circuit, self.blocks.wires)

    def _choose(self, parts: list[Part]) -> None:
        """Fuse the blocks of these parts, one part after another."""
        self.parts = parts
        self.blocks = FusedBlocks(self.circuit.ansatz.operations, self.circuit.n_wires, blocks=_blocks(parts))

    def compile(self, theta: Tensor) -> CompiledCircuit:
        """The circuit at the parameters theta (n_parameters,), under autograd."""
        return self.states.compile(theta if self.blocks is None else self.blocks(theta))

    @property
    def compile_several(self) -> Callable[[Tensor], CompiledCircuit] | None:
        """The observables of S circuits at once; None where a circuit is none."""
        return self._several if isinstance(self.states, ObservableBuilder) else None

    def _several(self, thetas: Tensor) -> CompiledAmplitude:
        key = len(thetas), thetas.dtype, thetas.device
        if key not in self._of_several:
            several = SeveralObservables(self.circuit, self.parts, self.states, len(thetas))
            self._of_several[key] = several.to(thetas.device, thetas.dtype)
        return self._of_several[key](thetas)

    def share_columns(self, team: Team) -> None:
        """From now on compile the circuit together with the other processes of a team, at most one a column.

        Columns are shared out, or the parts for the light cones where the largest share is less work then.
        """
        if not isinstance(self.states, ObservableBuilder):
            what = "a readout of many strings, or not of Z alone, is not found by observables, whose columns are shared out"
            what = what if sends_columns(self.circuit) else f"{self.circuit.encoding.name} encoding has no columns to share out"
            raise UnsupportedCircuit(f"{what}; {COLUMNS_REMEDY}")
        if team.size > self.circuit.n_inputs:
            raise UnsupportedCircuit(f"--shard columns: {team.size} processes for {self.circuit.n_inputs} columns")
        like = next(buffer for buffer in self.blocks.buffers() if buffer.is_floating_point())
        shares, columns = dealt(by_cones(self.circuit), team.size), all_columns(self.circuit)
        if all(shares) and max(map(work, shares)) < work(columns) / team.size:
            self._choose(shares[team.rank])
            self.states = SharedParts(self.circuit, self.parts, team)
        else:
            self._choose(columns)
            self.states = SharedObservables(self.circuit, columns[0], team)
        self.to(like)


def _blocks(parts: list[Part]) -> list[Block]:
    return [block for part in parts for block in part.blocks]


class SeveralObservables(nn.Module):
    """The observables of one circuit at S parameters, with all blocks built at once.

    Where one block is the whole circuit, as on four wires, products cost less than finding their zeros: the signs of all
    rows, then all Gram matrices. Wider circuits are sent through their blocks one after another.

    Args:
        circuit: with amplitude encoding and a readout of strings of Z.
        parts: of the circuit.
        builder: of these parts.
        n: S.
    """

    def __init__(self, circuit: Circuit, parts: list[Part], builder: ObservableBuilder, n: int):
        super().__init__()
        self.circuit, self.builder, self.n = circuit, builder, n
        self.blocks = FusedBlocks(circuit.ansatz.operations, circuit.n_wires, circuit.n_parameters, n, _blocks(parts))
        signs = None
        if self.blocks.wires == [tuple(range(circuit.n_wires))]:
            # of real and imaginary rows: (K, 1, 2^(n_wires + 1))
            signs = string_signs(circuit.readout.supports(), range(circuit.n_wires)).repeat(1, 2).unsqueeze(1)
        self.register_buffer("signs", signs, persistent=False)

    def forward(self, thetas: Tensor) -> CompiledAmplitude:
        """(S, n_parameters), under autograd."""
        matrices = self.blocks(thetas.flatten())
        if self.signs is None:
            own = matrices.unflatten(0, (self.n, -1)).unbind()
            return CompiledAmplitude(torch.stack([self.builder.compile(blocks).observables for blocks in own]))
        rows = matrices[:, :, : self.circuit.n_inputs]  # what the basis states of the inputs become
        signed = rows.mT.unsqueeze(1) * self.signs
        return CompiledAmplitude(torch.bmm(signed.flatten(1, 2), rows).view(*signed.shape[:3], -1))


def _reads_few_strings_of_z(circuit: Circuit) -> bool:
    readout = circuit.readout
    return isinstance(readout, PauliReadout) and readout.is_diagonal and len(readout) <= FEW * circuit.n_wires


def _refuse(circuit: Circuit) -> None:
    remedy = "use --engine statevector or torchquantum"
    if circuit.n_wires < 2 or not circuit.ansatz.operations:
        raise UnsupportedCircuit(f"the compiled engine fuses gates on 2 wires or more, here is none to fuse; {remedy}")
    for operation in circuit.encoding.operations:
        if len(operation.wires) > 1:
            raise UnsupportedCircuit(
                f"the compiled engine encodes wire by wire, and {operation} in the encoding joins two; {remedy}"
            )
        if operation.gate not in KNOWN_GATES:
            raise UnsupportedCircuit(f"the compiled engine knows no gate {operation} in an encoding; {remedy}")
