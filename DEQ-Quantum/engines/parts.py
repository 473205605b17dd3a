"""In which parts a circuit is sent for its observables: readouts grouped so that light cones cost least.

All columns of the data through the whole circuit serve all readouts at once, but a readout needs only its light cone: fewer
wires, and of the data only the columns that differ on them. What is cheaper depends on the circuit, so multiplications
are counted. Chooses blocks, knows nothing of their matrices.
"""

import math
from collections.abc import Iterable

from circuits.circuit import Circuit
from engines.basis import BasisPropagation
from engines.cones import Cone, data_wires, light_cone, n_columns
from engines.fusion import BLOCK_WIRES, Block, partition

# what a block and a part cost beside their products, in multiplications: building and calling
BLOCK_OVERHEAD, PART_OVERHEAD = 1e7, 1e7
SMALL = 2**17  # numbers: Gram matrices that a cache holds


class Part:
    """Readouts that are found together, and the part of the circuit for them: a circuit on fewer wires.

    Args:
        circuit: the whole.
        readouts: their numbers.
        cone: what they depend on, or more.

    Attributes:
        wires: of the circuit, ascending; as many as a block has or more.
        blocks: of the part's operations, positions in the circuit's.
        propagation: of the columns that differ on these wires, the wires numbered from 0.
        supports: of the strings whose Gram matrices are found at once, wires numbered from 0.
        macs: about how many multiplications a pass and its gradient take.
    """

    def __init__(self, circuit: Circuit, readouts: Iterable[int], cone: Cone):
        self.readouts = tuple(readouts)
        operations = circuit.ansatz.operations
        width = min(BLOCK_WIRES, circuit.n_wires)
        positions = cone.operations or (0,)  # there is no block of nothing, and the readout does not feel this one
        wires = list(dict.fromkeys([*cone.wires, *operations[positions[0]].wires]))
        in_zero = [w for w in range(circuit.n_wires) if w not in data_wires(circuit)]
        others = [w for w in [*in_zero, *data_wires(circuit)] if w not in wires]
        self.wires = tuple(sorted(wires + others[: max(0, width - len(wires))]))
        found = partition([operations[p] for p in positions], width, self.wires)
        self.blocks = [Block(block.wires, [positions[member] for member in block.members]) for block in found]

        place = {wire: number for number, wire in enumerate(self.wires)}
        n, columns = len(self.wires), n_columns(circuit, self.wires)
        self.propagation = BasisPropagation([[place[w] for w in block.wires] for block in found], n, columns)
        supports = [[place[w] for w in support] for support in _supports(circuit, self.readouts)]
        # so many strings at once that their Gram matrices are not much larger than the states, or are small
        at_once = max(1, int(math.log2(max(4 * 2**n / columns, SMALL / columns**2))))
        at_once = math.ceil(len(supports) / math.ceil(len(supports) / at_once))
        self.supports = [supports[start : start + at_once] for start in range(0, len(supports), at_once)]
        gram = sum((4 * (2**n - 2 ** (n - len(s))) + 2 * len(s) * 2 ** len(s)) * columns**2 for s in self.supports)
        self.macs = self.propagation.macs + gram + BLOCK_OVERHEAD * len(found) + PART_OVERHEAD


def _supports(circuit: Circuit, readouts: Iterable[int]) -> list[tuple[int, ...]]:
    supports = circuit.readout.supports()
    return [supports[readout] for readout in readouts]


def all_columns(circuit: Circuit) -> list[Part]:
    """One part: all of the circuit."""
    everything = Cone(tuple(range(circuit.n_wires)), tuple(range(len(circuit.ansatz.operations))))
    return [Part(circuit, range(circuit.n_readouts), everything)]


def by_cones(circuit: Circuit) -> list[Part]:
    """Parts by light cones, from large to small: each joins a part where that costs less than one of its own.

    Tried are parts that get at most one wire more, or stay as small as a block.
    """
    width = min(BLOCK_WIRES, circuit.n_wires)
    cones = [light_cone(circuit, support) for support in circuit.readout.supports()]
    parts: list[tuple[Part, Cone]] = []
    for readout in sorted(range(len(cones)), key=lambda k: (-len(cones[k].wires), -len(cones[k].operations), k)):
        alone = Part(circuit, [readout], cones[readout])
        best, cost, at = (alone, cones[readout]), alone.macs, len(parts)
        for number, (part, cone) in enumerate(parts):
            both = cone | cones[readout]
            if len(both.wires) > max(len(part.wires) + 1, width):
                continue
            joint = Part(circuit, sorted([*part.readouts, readout]), both)
            if joint.macs - part.macs < cost:
                best, cost, at = (joint, both), joint.macs - part.macs, number
        parts[at : at + 1] = [best]
    return [part for part, _ in parts]


def cheapest(circuit: Circuit) -> list[Part]:
    """All columns or cones, whichever takes fewer multiplications."""
    return min(all_columns(circuit), by_cones(circuit), key=lambda parts: sum(part.macs for part in parts))
