"""A circuit with its numbers for other programs: OpenQASM 3 and plain data, written here, and Qiskit's QuantumCircuit.

The ansatz has its parameters as numbers. The encoding has free angles: those of the tree of rotations (`tree.py`) for
amplitudes, the inputs themselves for angles; a machine's compiler sees the circuit once, and values are bound after.
Wire w is measured into classical bit w, whatever physical qubit a compiler gives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from circuits.readout import PauliReadout
from engines.protocol import UnsupportedCircuit
from hardware.tree import Tree, refuse_other_states

BIT_ORDER = (
    "wire w is qubit q[w] and is measured into bit c[w]; wire 0 is the most significant bit of a basis state's number, "
    "so amplitude j belongs to the bits c[0] c[1] ... of j from the left; Qiskit prints bit strings with c[0] last"
)
OF_TREE = (
    "of RY number 2^l - 1 + i, i < 2^l, on level l of m: 2^-l sum_j (-1)^popcount(j & g_i) t_j, g_i = i xor i>>1, "
    "t_j = 2 atan2(b, a) for the norms a and b of the halves of part j of 2^l of the vector, padded with zeros to 2^m; "
    "on the last level for its two entries, with their signs; 0 where both are 0"
)
OF_INPUTS = "entry k of the vector, in radians"
QASM_NAMES = {"cnot": "cx"}
Step = tuple[str, tuple[int, ...], str | float | None]  # gate, wires, the name of an angle or its value


@dataclass(frozen=True)
class Program:
    """A circuit ready to be written.

    Attributes:
        circuit: where it comes from.
        parameters: names of the encoding's free angles, in order.
        encoding, ansatz: gates of OpenQASM's stdgates.
        rule: what the free angles are of a vector v.
    """

    circuit: Circuit
    parameters: tuple[str, ...]
    encoding: tuple[Step, ...]
    ansatz: tuple[Step, ...]
    rule: str


def program_of(circuit: Circuit, theta: Sequence[float]) -> Program:
    """The circuit with the values theta (n_parameters,) of its parameters.

    Raises:
        UnsupportedCircuit: a readout of X or Y, which one measurement of all wires in Z does not give, or of probabilities; a
            state of the data.
    """
    refuse_other_states(circuit)
    if not isinstance(circuit.readout, PauliReadout):
        raise UnsupportedCircuit("an exported circuit reads Pauli strings; this readout has probabilities")
    if not circuit.readout.is_diagonal:
        raise UnsupportedCircuit("an exported circuit measures Z on every wire; its readout has X or Y")
    if isinstance(circuit.encoding, AmplitudeEncoding):
        tree = Tree(circuit.n_wires, circuit.n_inputs)
        steps, n, rule, stem = tree.steps, tree.n_angles, OF_TREE, "angle"
    else:
        steps = [(o.gate, o.wires, o.parameter) for o in circuit.encoding.operations]
        n, rule, stem = circuit.n_inputs, OF_INPUTS, "v"
    names = tuple(f"{stem}_{k}" for k in range(n))
    encoding = tuple(_step(gate, wires, None if k is None else names[k]) for gate, wires, k in steps)
    ansatz = tuple(
        _step(o.gate, o.wires, None if o.parameter is None else float(theta[o.parameter]))
        for o in circuit.ansatz.operations
    )
    return Program(circuit, names, encoding, ansatz, rule)


def to_qasm3(program: Program) -> str:
    """OpenQASM 3 with stdgates; free angles are `input float[64]`."""
    n = program.circuit.n_wires
    free = f"{program.parameters[0]} and so on: {program.rule}" if program.parameters else "no free angles"
    lines = [
        "OPENQASM 3.0;", 'include "stdgates.inc";', f"// {BIT_ORDER}", f"// {free}",
        *(f"input float[64] {name};" for name in program.parameters), f"qubit[{n}] q;", f"bit[{n}] c;", "// encoding",
        *map(_qasm, program.encoding), "// ansatz", *map(_qasm, program.ansatz), "c = measure q;",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def to_data(program: Program) -> dict:
    """Plain data for JSON."""
    return {
        "n_wires": program.circuit.n_wires,
        "bit_order": BIT_ORDER,
        "parameters": list(program.parameters),
        "parameters_are": program.rule,
        "encoding": [[gate, list(wires), angle] for gate, wires, angle in program.encoding],
        "ansatz": [[gate, list(wires), angle] for gate, wires, angle in program.ansatz],
        "readout": list(program.circuit.readout.strings),
    }


def to_qiskit(program: Program, part: str = "all"):
    """A QuantumCircuit whose Parameters are the free angles; `circuit.metadata` says the order of bits.

    Args:
        program: what to write.
        part: "all", with measurements; "encoding" or "ansatz" alone, without.

    Raises:
        ImportError: Qiskit is not installed.
    """
    from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister  # here: no other format needs it
    from qiskit.circuit import Parameter

    n = program.circuit.n_wires
    circuit = QuantumCircuit(QuantumRegister(n, "q"), ClassicalRegister(n, "c"))
    free = {name: Parameter(name) for name in program.parameters}
    steps = {"all": program.encoding + program.ansatz, "encoding": program.encoding, "ansatz": program.ansatz}
    for gate, wires, angle in steps[part]:
        angles = [] if angle is None else [free.get(angle, angle)]
        getattr(circuit, gate)(*angles, *wires)
    if part == "all":
        circuit.measure(range(n), range(n))
    circuit.metadata = {"bit_order": BIT_ORDER, "parameters_are": program.rule}
    return circuit


def _step(gate: str, wires: tuple[int, ...], angle: str | float | None) -> Step:
    return QASM_NAMES.get(gate, gate), wires, angle


def _qasm(step: Step) -> str:
    gate, wires, angle = step
    bound = "" if angle is None else f"({angle!r})" if isinstance(angle, float) else f"({angle})"
    return f"{gate}{bound} {', '.join(f'q[{wire}]' for wire in wires)};"
