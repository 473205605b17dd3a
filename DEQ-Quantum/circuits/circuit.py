"""A circuit as data: an encoding, an ansatz, a readout, and which parameters train.

Engines, drawings, exports and counts all read this one description; nothing here simulates anything or knows of
equilibria. `build_circuit` makes the paper's circuits and everything that has a name; any other is put together from
its parts.
"""

from dataclasses import dataclass

from circuits.ansatz import ANSATZE, BLOCK, Ansatz, check_wires
from circuits.encodings import Encoding, build_encoding
from circuits.readout import Readout, build_readout

TRAINABLE_GATES = ("all", "released", "none")


@dataclass(frozen=True)
class Circuit:
    """Inputs v and parameters theta to readouts: r_k(v; theta) = <0| E(v)^+ U(theta)^+ P_k U(theta) E(v) |0>.

    Attributes:
        encoding: E, of v.
        ansatz: U, of theta.
        readout: the P_k, Pauli strings or projectors.
        trained: positions in theta of the parameters that train, in rising order; None: all of them.

    Raises:
        ValueError: parts on different numbers of wires, or a trained parameter that there is not.
    """

    encoding: Encoding
    ansatz: Ansatz
    readout: Readout
    trained: tuple[int, ...] | None = None

    def __post_init__(self):
        sizes = {name: getattr(self, name).n_wires for name in ("encoding", "ansatz", "readout")}
        if len(set(sizes.values())) > 1:
            raise ValueError("the parts of a circuit share its wires, got " + ", ".join(f"{k} {v}" for k, v in sizes.items()))
        every = range(self.n_parameters)
        trained = tuple(every if self.trained is None else self.trained)
        if list(trained) != sorted(set(trained) & set(every)):
            raise ValueError(f"trained parameters are rising positions from 0 to {self.n_parameters - 1}, got {trained}")
        object.__setattr__(self, "trained", trained)

    @property
    def n_wires(self) -> int:
        return self.ansatz.n_wires

    @property
    def n_inputs(self) -> int:
        """Length of v."""
        return self.encoding.n_inputs

    @property
    def n_features(self) -> int:
        """Length of the data x: that of v = x + z, or what comes first of v = [x, z]."""
        return self.n_inputs if self.encoding.n_data is None else self.encoding.n_data

    @property
    def n_fed_back(self) -> int:
        """Length of z: that of v = x + z, or what comes last of v = [x, z]."""
        return self.n_inputs - (self.encoding.n_data or 0)

    @property
    def n_readouts(self) -> int:
        return len(self.readout)

    @property
    def n_parameters(self) -> int:
        """Length of theta, trained or not."""
        return self.ansatz.n_parameters

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """One per entry of theta."""
        return self.ansatz.parameter_names

    @property
    def frozen(self) -> tuple[int, ...]:
        """Positions in theta of the parameters that do not train."""
        trained = set(self.trained)
        return tuple(position for position in range(self.n_parameters) if position not in trained)


def build_circuit(
    n_wires: int,
    encoding: str = "amplitude",
    ansatz: str = "paper",
    readout: str = "z",
    trainable_gates: str = "all",
    injection: str = "add",
    features_per_wire: int = 1,
    **of_ansatz,
) -> Circuit:
    """A circuit of parts that have names; by default the paper's for any even number of wires from 4.

    Args:
        n_wires: number of qubits Q.
        encoding: "amplitude" or "angle", of Q^2 inputs; "components", of Q; "complex_amplitude", of a square image of up to
            28 x 28 pixels; "frqi" or "frqi_colour_first", of 2^(Q-1); "state", of 2^Q amplitudes;
            "turned_states", complex states of Q qubits, which z turns; or "hadamard_angles", features_per_wire on each.
        ansatz: "paper", "strongly_entangling", "rotation_chain", "su4", "su4_last_four" or "sim14".
        readout: "z", on every wire; "zz", also of pairs; "z_strings", of any number of wires; "pauli1", X, Y and Z;
            "pauli2", also XX, YY and ZZ of pairs; "xyz_strings", of each letter on any number of wires; "projections", on the
            first Q^2 basis states; "marginal", of the last four wires; or strings, as "ZIII,XXII".
        trainable_gates: "all"; "released" to freeze the four-qubit blocks' gates as the released code does by accident; or
            "none", which leaves the whole circuit at its random start.
        injection: "add": v = x + z; "concatenate": x and z on different wires, for which there may be more than Q
            (`circuits.encodings.CONCATENATED`). Of "turned_states" z is always apart.
        of_ansatz: what the ansatz takes besides, as `n_blocks`, or `n_random_operations` and `seed` of `paper_ansatz`.

    Raises:
        ValueError: odd or too few wires, a name that is not known, or "released" for an ansatz without blocks.
    """
    if ansatz == "paper":
        check_wires(n_wires)  # before the encoding, which would say less
    encoded = build_encoding(encoding, n_wires, injection, features_per_wire)
    n_wires = encoded.n_wires
    choices = {"ansatz": (ansatz, ANSATZE), "trainable_gates": (trainable_gates, TRAINABLE_GATES)}
    for name, (chosen, known) in choices.items():
        if chosen not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {chosen!r}")
    parametrised = ANSATZE[ansatz](n_wires, **of_ansatz)
    blocks = parametrised.parameters_of(BLOCK)
    if trainable_gates == "released" and not blocks:
        raise ValueError(f"trainable_gates released freezes four-qubit blocks, and the ansatz {ansatz} has none")
    everything = range(parametrised.n_parameters)
    frozen = {"all": (), "released": blocks, "none": everything}[trainable_gates]
    trained = tuple(position for position in everything if position not in frozen)
    return Circuit(encoded, parametrised, build_readout(readout, n_wires), trained)
