"""What evaluates a circuit, by name: `compiled`, `torchquantum` (the reference), `statevector` (gate by gate).

An engine reads the whole circuit, or refuses with a line that names the part it cannot do and an engine that can. This
module is torch-free: an engine is imported where it is asked for (`make_engine`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from circuits.circuit import Circuit
from engines.cones import light_cone, n_columns, sends_columns

STATES_AT_ONCE = {False: 2, True: 3}  # what goes into the circuit, what comes out, and, if wanted, its gradient


@dataclass(frozen=True)
class EngineKind:
    """An engine before it is imported.

    Attributes:
        module, class_name: where it is.
        about: what it is for, for --help.
        n_amplitudes: how many it holds at once of a circuit's states and a batch of so many samples.
        bytes_of_an_amplitude: of those states.
    """

    module: str
    class_name: str
    about: str
    n_amplitudes: Callable[[Circuit, int], int]
    bytes_of_an_amplitude: int = 8


def _of_the_batch(circuit: Circuit, batch_size: int) -> int:
    return batch_size * 2**circuit.n_wires


def _of_the_columns(circuit: Circuit, batch_size: int) -> int:
    """Amplitude encoding: basis states of the inputs go once through the largest light cone, not every sample."""
    if not sends_columns(circuit):
        return _of_the_batch(circuit, batch_size)
    cones = [light_cone(circuit, support) for support in circuit.readout.supports()]
    return max(n_columns(circuit, cone.wires) * 2 ** len(cone.wires) for cone in cones)


ENGINES = {
    "compiled": EngineKind("engines.compiled", "CompiledEngine", "fast", _of_the_columns),
    "torchquantum": EngineKind(
        "engines.torchquantum", "TorchQuantumEngine", "the reference, simulates every call", _of_the_batch
    ),
    "statevector": EngineKind(
        "engines.statevector", "StatevectorEngine", "any circuit, gate by gate in float64", _of_the_batch, 16
    ),
}


def kind_of(name: str) -> EngineKind:
    """The engine of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in ENGINES:
        raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {name!r}")
    return ENGINES[name]


def make_engine(name: str, circuit: Circuit):
    """The engine `name` for a circuit, an `engines.protocol.Engine`.

    Raises:
        ValueError: no engine of that name.
        engines.protocol.UnsupportedCircuit: a part of the circuit that it cannot do.
        ImportError: "torchquantum" where that cannot be imported.
    """
    kind = kind_of(name)
    return getattr(import_module(kind.module), kind.class_name)(circuit)


def bytes_needed(name: str, circuit: Circuit, batch_size: int, with_gradient: bool = True) -> int:
    """Bytes of the state vectors that an engine holds at once: a lower bound of what a step or an evaluation takes.

    Args:
        name: of the engine; it is not imported.
        circuit: what it evaluates.
        batch_size: samples at a time.
        with_gradient: in a training step; else in an evaluation.
    """
    kind = kind_of(name)
    return STATES_AT_ONCE[with_gradient] * kind.n_amplitudes(circuit, batch_size) * kind.bytes_of_an_amplitude
