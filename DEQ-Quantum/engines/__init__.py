"""What evaluates a circuit, by name: `compiled`, `torchquantum` (the reference), `statevector` (gate by gate).

An engine reads the whole circuit, or refuses with a line that names the part it cannot do and an engine that can. This
module is torch-free: an engine is imported where it is asked for (`make_engine`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding

STATES_AT_ONCE = {False: 2, True: 3}  # what goes into the circuit, what comes out, and, if wanted, its gradient


@dataclass(frozen=True)
class EngineKind:
    """An engine before it is imported.

    Attributes:
        module, class_name: where it is.
        about: what it is for, for --help.
        n_states: how many states it holds of a circuit and a batch of so many samples.
        bytes_of_an_amplitude: of those states.
    """

    module: str
    class_name: str
    about: str
    n_states: Callable[[Circuit, int], int]
    bytes_of_an_amplitude: int = 8


def _one_a_sample(circuit: Circuit, batch_size: int) -> int:
    return batch_size


def _basis_states(circuit: Circuit, batch_size: int) -> int:
    """Amplitude encoding: the circuit acts on the basis states of the inputs once, not on every sample."""
    return circuit.n_inputs if isinstance(circuit.encoding, AmplitudeEncoding) else batch_size


ENGINES = {
    "compiled": EngineKind("engines.compiled", "CompiledEngine", "fast", _basis_states),
    "torchquantum": EngineKind(
        "engines.torchquantum", "TorchQuantumEngine", "the reference, simulates every call", _one_a_sample
    ),
    "statevector": EngineKind(
        "engines.statevector", "StatevectorEngine", "any circuit, gate by gate in float64", _one_a_sample, 16
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
    return STATES_AT_ONCE[with_gradient] * kind.n_states(circuit, batch_size) * 2**circuit.n_wires * kind.bytes_of_an_amplitude
