"""What an equilibrium costs on a quantum computer: circuits, shots, rounds and jobs, counted by what they are for.

A round is what can be sent at once, since nothing in it waits for a result of it; a job is what the machine takes at once.
A sample's state is re-encoded at every evaluation of f, so all circuits are equally deep, and time is shots times the
delay between them. Derivatives are counted as a chip has them: parameters by shift rules (two circuits for a rotation, four
for a controlled one; Wierichs et al., arXiv 2107.12390), inputs by 2 K circuits for amplitudes, since |v|^2 r(v) is
quadratic and its derivative along u exactly half the difference of its values at v + u and v - u, and by two circuits for
every angle otherwise. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from circuits.circuit import Circuit
from circuits.encodings import AmplitudeEncoding
from circuits.operations import Operation

PURPOSES = ("solve", "residual", "jacobian", "shift", "calibration")
MOST_CIRCUITS = 300  # in a job, as Eagle and Heron take them; Falcon takes 900
DELAY_US = 250.0  # between two shots, the default of those machines


@dataclass
class Tally:
    """What was run, in all."""

    circuits: int = 0
    shots: int = 0


class Counter:
    """Circuits that are run, by purpose.

        counter = Counter()
        counter.count("solve", circuits=11 * 256, shots=11 * 256 * 1024, rounds=11)
        counter.count("jacobian", 8 * 256, 8 * 256 * 1024)
        counter.count("shift", 80 * 256, 80 * 256 * 1024, rounds=0)   # beside the Jacobian's
        counter.describe()

    Args:
        max_circuits: that a job holds.
        times_each: so many times a job is sent, where a circuit has more shots than the machine takes at once.

    Attributes:
        by_purpose: `Tally` of each of `PURPOSES`.
        rounds, jobs: of all together.
    """

    def __init__(self, max_circuits: int = MOST_CIRCUITS, times_each: int = 1):
        self.max_circuits, self.times_each = max_circuits, times_each
        self.by_purpose = {purpose: Tally() for purpose in PURPOSES}
        self.rounds = self.jobs = self._in_last_round = 0

    def count(self, purpose: str, circuits: int, shots: int, rounds: int = 1) -> None:
        """Take in circuits that were run.

        Args:
            purpose: one of `PURPOSES`.
            circuits: in all rounds together, as many in each.
            shots: of all these circuits together.
            rounds: one after another; 0: in the round that was counted last.
        """
        tally = self.by_purpose[purpose]
        tally.circuits, tally.shots = tally.circuits + circuits, tally.shots + shots
        before = 0
        if rounds == 0:
            before = self._in_last_round
        self.rounds += rounds
        of_round = before + circuits // max(1, rounds)
        self.jobs += max(1, rounds) * self._jobs(of_round) - self._jobs(before)
        self._in_last_round = of_round

    def _jobs(self, circuits: int) -> int:
        return self.times_each * -(-circuits // self.max_circuits)

    @property
    def circuits(self) -> int:
        return sum(tally.circuits for tally in self.by_purpose.values())

    @property
    def shots(self) -> int:
        return sum(tally.shots for tally in self.by_purpose.values())

    def hours(self, delay_us: float = DELAY_US) -> float:
        """That its shots take on one machine, one after another; gates and queues not counted."""
        return self.shots * delay_us / 3.6e9

    def add(self, other: Counter, times: int = 1) -> None:
        """Take in what another has counted, so many times."""
        for purpose, tally in other.by_purpose.items():
            own = self.by_purpose[purpose]
            own.circuits, own.shots = own.circuits + times * tally.circuits, own.shots + times * tally.shots
        self.rounds, self.jobs = self.rounds + times * other.rounds, self.jobs + times * other.jobs

    def describe(self) -> dict:
        """All of it, for results and checkpoints; circuits of those purposes that have some."""
        return {
            "circuits": self.circuits, "shots": self.shots, "rounds": self.rounds, "jobs": self.jobs,
            **{f"circuits_{name}": tally.circuits for name, tally in self.by_purpose.items() if tally.circuits},
        }  # fmt: skip

    def state(self) -> dict:
        """For a checkpoint."""
        tallies = {purpose: asdict(tally) for purpose, tally in self.by_purpose.items()}
        return {"by_purpose": tallies, "rounds": self.rounds, "jobs": self.jobs}

    def load_state(self, state: Mapping) -> None:
        """Go on where a checkpoint left it."""
        self.by_purpose = {purpose: Tally(**tally) for purpose, tally in state["by_purpose"].items()}
        self.rounds, self.jobs = state["rounds"], state["jobs"]


@dataclass(frozen=True)
class CircuitCost:
    """Circuits that a sample takes.

    Attributes:
        value: for the readouts, one for each measurement setting.
        shifts: for the readouts' derivatives in all trained parameters.
        jacobian: for those in what f feeds back, the K readouts before it.
    """

    value: int
    shifts: int
    jacobian: int

    @classmethod
    def of(cls, circuit: Circuit) -> CircuitCost:
        """By the rules at the top of this file, of amplitudes or gates (`hardware.tree.refuse_other_states`)."""
        settings = len(circuit.readout.settings())
        trained = set(circuit.trained)
        shifts = sum(n_shifts(o) for o in circuit.ansatz.operations if o.parameter in trained)
        if isinstance(circuit.encoding, AmplitudeEncoding):
            jacobian = 2 * circuit.n_readouts
        else:
            first = circuit.encoding.n_data or 0  # where z begins
            jacobian = sum(n_shifts(o) for o in circuit.encoding.operations if (o.parameter or 0) >= first)
        return cls(settings, settings * shifts, settings * jacobian)


def n_shifts(operation: Operation) -> int:
    """Circuits for the derivative in an operation's angle: two where it makes one frequency, four where it makes two."""
    if operation.parameter is None:
        return 0
    return 2 * len(operation.wires)  # the gates with angles are rotations, alone or controlled by one wire


def count_layers(
    counter: Counter, cost: CircuitCost, n_layers: int, n_samples: int, shots: int, with_gradient: bool = False,
    purpose: str = "solve",
) -> None:  # fmt: skip
    """Count a pass through explicit layers; each one's derivatives are measured beside its value.

    Args:
        counter: what counts.
        cost: of the circuit.
        n_layers: L.
        n_samples: of the batch.
        shots: of each circuit.
        with_gradient: as training needs it: L P shifts, and L - 1 Jacobians, the first layer's input being fixed; none
            of a circuit whose gates do not train.
        purpose: of the values.
    """
    for layer in range(n_layers):
        _count(counter, purpose, n_samples * cost.value, shots)
        if with_gradient:
            _count(counter, "shift", n_samples * cost.shifts, shots, rounds=0)
        if with_gradient and layer > 0 and cost.shifts:
            _count(counter, "jacobian", n_samples * cost.jacobian, shots, rounds=0)


def count_solve(counter: Counter, cost: CircuitCost, n_evaluations: int, n_samples: int, shots: int) -> None:
    """Count an equilibrium's evaluations of f, one after another; arguments as of `count_layers`."""
    count_solves(counter, cost, [n_evaluations - 1] * n_samples, shots)


def count_solves(
    counter: Counter, cost: CircuitCost, steps: Sequence[int], shots: int, n_jacobians: int = 0, purpose: str = "solve"
) -> None:
    """Count equilibria of samples that stopped after different steps: one that has stopped is not run again.

    A sample that took k steps was evaluated k + 1 times, first where it starts; all that go on share a round.

    Args:
        counter, cost, shots, purpose: as of `count_layers`.
        steps: that each sample took.
        n_jacobians: before so many of its first steps a sample's Jacobian is measured too, in a round of its own, once its
            value has shown that it goes on.
    """
    for number in range(max(steps, default=-1) + 1):
        _count(counter, purpose, sum(of_sample >= number for of_sample in steps) * cost.value, shots)
        if number < n_jacobians and (going_on := sum(of_sample > number for of_sample in steps)):
            _count(counter, "jacobian", going_on * cost.jacobian, shots)


def count_implicit_gradient(
    counter: Counter, cost: CircuitCost, n_samples: int, shots: int, with_jacobian: bool = True, jac_loss: str = ""
) -> bool:
    """Count the gradient of an equilibrium: one round, in which its Jacobian and all shifts are measured.

    Where no gate trains there is no gradient, and so no round unless the Jacobian loss is asked for.

    Args:
        counter, cost, n_samples, shots: as of `count_layers`.
        with_jacobian: for the backward solve, which is classical then; False: Jacobian-free, q = dl/dz.
        jac_loss: how one vector of the Jacobian loss is measured: "product", as ||J u||^2, of amplitudes, from the
            circuits at v + u and v - u and their shifts; "jacobian", from the Jacobian that is there, whose circuits are
            then shifted; "": there is none.

    Returns:
        Whether there is a round.
    """
    if not (cost.shifts or jac_loss):
        return False
    _count(counter, "shift", n_samples * cost.shifts, shots)
    if with_jacobian and (cost.shifts or jac_loss == "jacobian"):
        _count(counter, "jacobian", n_samples * cost.jacobian, shots, rounds=0)
    if jac_loss == "product":
        _count(counter, "jacobian", 2 * n_samples * cost.value, shots, rounds=0)
        _count(counter, "shift", 2 * n_samples * cost.shifts, shots, rounds=0)
    elif jac_loss == "jacobian":
        _count(counter, "shift", n_samples * cost.jacobian * cost.shifts // cost.value, shots, rounds=0)
    return True


def _count(counter: Counter, purpose: str, circuits: int, shots: int, rounds: int = 1) -> None:
    counter.count(purpose, circuits, circuits * shots, rounds)


def n_surrogate(circuit: Circuit) -> int:
    """Circuits after which an amplitude-encoded model needs none: D basis states, and sums and differences of each two."""
    return len(circuit.readout.settings()) * circuit.n_inputs**2
