"""Costs on a quantum computer: the formulas' numbers, rounds and jobs, and PennyLane's own count."""

import numpy as np
import pytest

from circuits.circuit import build_circuit
from hardware.cost import CircuitCost, Counter, count_implicit_gradient, count_layers, count_solve, count_solves, n_surrogate

K = 11  # evaluations of f: the start and ten steps


def layers(n_wires, n_layers, with_gradient=True):
    counter = Counter()
    count_layers(counter, CircuitCost.of(build_circuit(n_wires)), n_layers, 1, 10, with_gradient)
    return counter


def implicit(n_wires, encoding="amplitude", **gradient):
    cost, counter = CircuitCost.of(build_circuit(n_wires, encoding)), Counter()
    count_solve(counter, cost, K, 1, 10)
    count_implicit_gradient(counter, cost, 1, 10, **gradient)
    return counter


@pytest.mark.parametrize("n_wires, shifts, jacobian", [(4, 80, 8), (10, 120, 20)])
def test_the_papers_circuits(n_wires, shifts, jacobian):
    assert CircuitCost.of(build_circuit(n_wires)) == CircuitCost(1, shifts, jacobian)
    assert CircuitCost.of(build_circuit(n_wires, "angle")) == CircuitCost(1, shifts, 2 * n_wires**2)


def test_frozen_gates_take_no_shifts_and_other_settings_more_circuits():
    frozen = CircuitCost.of(build_circuit(4, trainable_gates="released"))
    assert frozen.shifts == 80 - 3 * 2 - 4  # RX, RY, RZ and a CRX of one block
    none = CircuitCost.of(build_circuit(4, trainable_gates="none"))
    for gradient in ({"with_jacobian": False}, {"with_jacobian": True}):
        counter = Counter()
        count_implicit_gradient(counter, none, 5, 10, **gradient)
        count_layers(counter, none, 2, 5, 10, with_gradient=True)
        assert (counter.circuits, counter.rounds) == (2 * 5, 2)  # the layers' values alone
    x_too = CircuitCost.of(build_circuit(4, readout="pauli1"))
    assert x_too == CircuitCost(3, 3 * 80, 3 * 2 * 12)


@pytest.mark.parametrize("n_layers, four, ten", [(1, 81, 121), (2, 170, 262), (5, 437, 685), (10, 882, 1390)])
def test_layers(n_layers, four, ten):
    """L (1 + P) + (L - 1) J, and L rounds, since shifts run beside."""
    for n_wires, circuits in ((4, four), (10, ten)):
        counter = layers(n_wires, n_layers)
        assert (counter.circuits, counter.rounds, counter.shots) == (circuits, n_layers, 10 * circuits)
        assert layers(n_wires, n_layers, with_gradient=False).circuits == n_layers


@pytest.mark.parametrize("gradient, four, ten", [
    ({}, 99, 151), ({"with_jacobian": False}, 91, 131), ({"jac_loss": "product"}, 261, 393),
])  # fmt: skip
def test_equilibria(gradient, four, ten):
    for n_wires, circuits in ((4, four), (10, ten)):
        counter = implicit(n_wires, **gradient)
        assert (counter.circuits, counter.rounds) == (circuits, K + 1)
        assert counter.by_purpose["solve"].circuits == K


def test_equilibria_of_angles():
    assert [implicit(n, "angle").circuits for n in (4, 10)] == [123, 331]
    # the paper's transposed product: 2 n^2 circuits, and 2 n^2 P for its gradient
    assert implicit(10, "angle", jac_loss="jacobian").circuits == 331 + 24_000


def test_the_papers_training_in_years_and_an_inference_in_hours():
    cost, step, whole = CircuitCost.of(build_circuit(10)), Counter(), Counter()
    count_solve(step, cost, K, 256, 1024)
    count_implicit_gradient(step, cost, 256, 1024)
    whole.add(step, times=18_800)
    assert whole.hours() / 24 / 365.25 == pytest.approx(5.9, abs=0.05)
    test = Counter()
    count_solve(test, cost, K, 10_000, 1024)
    assert test.hours() == pytest.approx(7.8, abs=0.05)
    assert [n_surrogate(build_circuit(n)) for n in (4, 10)] == [256, 10_000]


def test_samples_that_have_stopped_are_not_run_again():
    """By hand: rounds of 4, 3, 3, 1, 1 and 1 circuits; Jacobians of the three samples that take the first two steps."""
    cost, counter = CircuitCost.of(build_circuit(4)), Counter(max_circuits=2)
    count_solves(counter, cost, [0, 2, 2, 5], 10)
    assert counter.describe() == {"circuits": 13, "shots": 130, "rounds": 6, "jobs": 9, "circuits_solve": 13}
    with_jacobians = Counter(max_circuits=100)
    count_solves(with_jacobians, cost, [0, 2, 2, 5], 10, n_jacobians=2)
    assert with_jacobians.describe() == {
        "circuits": 13 + 2 * 3 * 8, "shots": 610, "rounds": 8, "jobs": 8, "circuits_solve": 13, "circuits_jacobian": 48,
    }  # fmt: skip
    count_solves(Counter(), cost, [], 10)


def test_where_all_samples_take_all_steps_it_is_the_formula():
    cost, found, wanted = CircuitCost.of(build_circuit(4)), Counter(), Counter()
    count_solves(found, cost, [K - 1] * 400, 10)
    count_solve(wanted, cost, K, 400, 10)
    assert found.describe() == wanted.describe() and found.circuits == K * 400


def test_rounds_and_jobs():
    """Circuits beside each other fill a job together; rounds never share one."""
    counter = Counter(max_circuits=100)
    counter.count("solve", 3 * 150, 450, rounds=3)
    assert (counter.rounds, counter.jobs) == (3, 6)
    counter.count("shift", 40, 40)
    counter.count("jacobian", 60, 60, rounds=0)
    assert (counter.rounds, counter.jobs) == (4, 7)
    counter.count("jacobian", 1, 1, rounds=0)
    assert (counter.rounds, counter.jobs, counter.circuits) == (4, 8, 551)
    with pytest.raises(KeyError):
        counter.count("tea", 1, 1)


def test_a_counter_goes_on_where_its_checkpoint_left_it():
    counter, again = implicit(4), Counter()
    again.load_state(counter.state())
    again.add(implicit(4))
    twice = implicit(4)
    twice.add(implicit(4))
    assert again.describe() == twice.describe() != counter.describe()
    assert "circuits_calibration" not in counter.describe()


@pytest.mark.parametrize("encoding, circuits", [("amplitude", 99), ("angle", 123)])
def test_it_is_what_pennylane_counts(encoding, circuits):
    """An equilibrium solved, its Jacobian and its gradient on a device that takes shots, as its `Tracker` tells it."""
    qml = pytest.importorskip("pennylane", reason="requirements-benchmark.txt is not installed")
    from benchmarks.pennylane_layer import GATES

    circuit = build_circuit(4, encoding)
    device, theta = qml.device("default.qubit", wires=4, seed=0), np.linspace(-3, 3, circuit.n_parameters)
    x, lift = np.linspace(0.1, 1, 16), np.kron(np.eye(4), np.ones((4, 1)))

    def tape(v):
        parts = ((v, circuit.encoding.operations), (theta, circuit.ansatz.operations))
        gates = [
            GATES[o.gate](*([] if o.parameter is None else [values[o.parameter]]), wires=list(o.wires))
            for values, part in parts
            for o in part
        ]
        begun = [qml.StatePrep(v / np.linalg.norm(v), wires=range(4))] if encoding == "amplitude" else []
        return qml.tape.QuantumScript([*begun, *gates], [qml.expval(qml.Z(wire)) for wire in range(4)], shots=20)

    with qml.Tracker(device) as tracker:
        r = np.zeros(4)
        for _ in range(K):  # Picard: the start and ten steps, the last of which is looked at
            r = np.array(device.execute(tape(v := x + lift @ r)))
        whole = tape(v)
        if encoding == "amplitude":
            whole.trainable_params = whole.trainable_params[1:]
            device.execute([tape(v + sign * lift[:, k]) for k in range(4) for sign in (1, -1)])
        device.execute(qml.gradients.param_shift(whole)[0])
    counter = Counter()
    cost = CircuitCost.of(circuit)
    count_solve(counter, cost, K, 1, 20)
    count_implicit_gradient(counter, cost, 1, 20)
    assert tracker.totals["executions"] == counter.circuits == circuits
    assert tracker.totals["shots"] == counter.shots
