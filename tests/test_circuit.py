"""The circuit as data: the operations of Figs 2 and 3, and that they are TorchQuantum's own random ones."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

import reference
from circuits import (
    AmplitudeEncoding,
    AngleEncoding,
    Ansatz,
    Circuit,
    Operation,
    PauliReadout,
    build_circuit,
    from_gates,
    z_on,
)
from circuits.ansatz import ANSATZE, random_operations

WIRES = (4, 6, 10)

# the rotations among the 50 random operations: place, axis, wire
RANDOM_NAMES_4 = """
00.rx[2] 01.ry[1] 02.rx[1] 03.rz[3] 04.rx[1] 05.rx[2] 06.rx[3] 07.rz[0] 08.rx[1] 10.ry[1] 16.rz[1]
17.ry[0] 18.rz[0] 19.rx[1] 20.rz[2] 21.rx[1] 23.ry[0] 25.rz[2] 26.ry[3] 27.rz[1] 28.ry[0] 29.rz[3]
30.ry[1] 31.ry[2] 32.ry[3] 33.rz[1] 35.rz[1] 36.ry[0] 39.rx[2] 41.rz[3] 44.rz[0] 45.ry[0] 46.rx[1]
47.rz[0] 49.rx[2]
"""
RANDOM_NAMES_10 = """
00.rx[3] 01.rz[5] 02.rx[5] 03.rx[7] 04.ry[4] 05.rx[8] 06.rx[4] 08.rx[1] 09.rx[2] 10.ry[8] 11.ry[1]
12.rx[1] 13.rz[1] 15.rx[2] 16.rx[1] 17.ry[2] 19.rx[6] 20.ry[1] 21.ry[0] 22.rx[2] 23.ry[6] 24.ry[0]
26.rx[4] 27.rz[5] 28.rz[7] 29.rz[2] 30.ry[9] 32.rx[7] 33.rx[4] 34.ry[8] 36.rz[2] 37.ry[2] 39.ry[0]
41.rx[7] 42.ry[5] 43.rz[4] 44.rx[7] 45.rx[3] 46.ry[1] 48.rx[3]
"""
BLOCK_NAMES_4 = ("block.0.rx[0]", "block.0.ry[1]", "block.0.rz[3]", "block.0.crx[0,2]")


@pytest.fixture(scope="module")
def tq():
    return pytest.importorskip("torchquantum")


def as_tuples(operations: tuple[Operation, ...]) -> tuple:
    return tuple((o.gate, o.wires, o.parameter) for o in operations)


# ---------------------------------------------------------------------------------------- random operations


@pytest.mark.parametrize("n_wires", WIRES)
def test_random_operations_are_those_of_torchquantum(tq, n_wires):
    saved = np.random.get_state()
    layer = tq.RandomLayer(n_ops=50, wires=list(range(n_wires)), seed=1111)
    np.random.set_state(saved)  # RandomLayer reseeds numpy for everybody

    theirs = [(op.name.lower(), tuple(int(w) for w in op.wires)) for op in layer.op_list]

    assert random_operations(n_wires, 50, seed=1111) == theirs


@pytest.mark.parametrize("seed", (0, 7))
def test_random_operations_follow_the_seed_and_the_length(tq, seed):
    saved = np.random.get_state()
    layer = tq.RandomLayer(n_ops=20, wires=list(range(8)), seed=seed)
    np.random.set_state(saved)

    ours = build_circuit(8, n_random_operations=20, seed=seed).ansatz.operations[:20]

    assert [(o.gate, o.wires) for o in ours] == [(op.name.lower(), tuple(op.wires)) for op in layer.op_list]


def test_building_leaves_numpys_global_generator_alone():
    np.random.seed(3)
    expected = np.random.random(5)
    np.random.seed(3)
    for encoding in ("amplitude", "angle"):
        build_circuit(4, encoding)

    np.testing.assert_array_equal(np.random.random(5), expected)


# ---------------------------------------------------------------------------------------- the whole circuit


@pytest.mark.parametrize("encoding", ("amplitude", "angle"))
@pytest.mark.parametrize("n_wires", (*WIRES, 8, 12))
def test_ansatz_is_that_of_the_reference(n_wires, encoding):
    assert as_tuples(build_circuit(n_wires, encoding).ansatz.operations) == reference.circuit(n_wires)


def test_block_on_four_wires_is_that_of_figure_2():
    block = [(o.gate, o.wires) for o in build_circuit(4).ansatz.operations[50:]]

    trainable = [("rx", (0,)), ("ry", (1,)), ("rz", (3,)), ("crx", (0, 2))]
    fixed = [("h", (3,)), ("sx", (2,)), ("cnot", (3, 0))]
    assert block == trainable + fixed


def test_staircase_on_six_wires():
    staircase = [(o.gate, o.wires) for o in build_circuit(6).ansatz.operations[50:]]

    assert staircase == [
        ("rx", (0,)), ("ry", (1,)), ("rz", (3,)), ("crx", (0, 2)),
        ("rx", (2,)), ("ry", (3,)), ("rz", (5,)), ("crx", (2, 4)),
        ("h", (3,)), ("sx", (2,)), ("cnot", (3, 0)),
        ("h", (5,)), ("sx", (4,)), ("cnot", (5, 2)),
    ]  # fmt: skip


def test_staircase_on_ten_wires_is_that_of_figure_3():
    staircase = [(o.gate, o.wires) for o in build_circuit(10).ansatz.operations[50:]]

    assert staircase == [
        ("rx", (0,)), ("ry", (1,)), ("rz", (3,)), ("crx", (0, 2)),
        ("rx", (2,)), ("ry", (3,)), ("rz", (5,)), ("crx", (2, 4)),
        ("rx", (4,)), ("ry", (5,)), ("rz", (7,)), ("crx", (4, 6)),
        ("rx", (6,)), ("ry", (7,)), ("rz", (9,)), ("crx", (6, 8)),
        ("h", (3,)), ("sx", (2,)), ("cnot", (3, 0)),
        ("h", (5,)), ("sx", (4,)), ("cnot", (5, 2)),
        ("h", (7,)), ("sx", (6,)), ("cnot", (7, 4)),
        ("h", (9,)), ("sx", (8,)), ("cnot", (9, 6)),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------------- parameters


def test_parameter_names_on_four_wires():
    names = build_circuit(4).parameter_names

    assert len(names) == 39
    assert names[:35] == tuple(f"random.{name}" for name in RANDOM_NAMES_4.split())
    assert names[35:] == BLOCK_NAMES_4


def test_parameter_names_on_ten_wires():
    names = build_circuit(10).parameter_names

    assert len(names) == 56
    assert names[:40] == tuple(f"random.{name}" for name in RANDOM_NAMES_10.split())
    assert names[40:] == tuple(
        f"block.{i}.{gate}"
        for i, a in enumerate((0, 2, 4, 6))
        for gate in (f"rx[{a}]", f"ry[{a + 1}]", f"rz[{a + 3}]", f"crx[{a},{a + 2}]")
    )


@pytest.mark.parametrize("n_wires", WIRES)
def test_every_gate_with_an_angle_has_a_parameter_of_its_own(n_wires):
    circuit = build_circuit(n_wires)
    with_angle = [o for o in circuit.ansatz.operations if o.gate in ("rx", "ry", "rz", "crx")]

    assert [o.parameter for o in with_angle] == list(range(circuit.n_parameters))
    assert all(o.parameter is None for o in circuit.ansatz.operations if o not in with_angle)
    assert len(set(circuit.parameter_names)) == circuit.n_parameters


@pytest.mark.parametrize("n_wires, count", [(4, 4), (6, 8), (10, 16)])
def test_block_parameters_are_the_last_ones(n_wires, count):
    circuit = build_circuit(n_wires)

    blocks = tuple(range(circuit.n_parameters - count, circuit.n_parameters))
    assert circuit.ansatz.parameters_of("block") == build_circuit(n_wires, trainable_gates="released").frozen == blocks
    assert circuit.frozen == () and circuit.trained == tuple(range(circuit.n_parameters))


# ------------------------------------------------------------------------------------------------- encoding


@pytest.mark.parametrize("n_wires", WIRES)
def test_amplitude_encoding_has_no_gates(n_wires):
    circuit = build_circuit(n_wires)

    assert circuit.encoding.name == "amplitude"
    assert circuit.encoding.operations == ()
    assert circuit.n_inputs == n_wires**2


def test_angle_encoding_on_four_wires():
    encoder = build_circuit(4, "angle").encoding.operations

    axes = ("ry", "rz", "rx", "ry")
    assert as_tuples(encoder) == tuple((axes[i // 4], (i % 4,), i) for i in range(16))


def test_angle_encoding_on_ten_wires_cycles_the_axes():
    encoder = build_circuit(10, "angle").encoding.operations

    axes = ("ry", "rz", "rx", "ry", "rz", "rx", "ry", "rz", "rx", "ry")
    assert as_tuples(encoder) == tuple((axes[i // 10], (i % 10,), i) for i in range(100))


# ---------------------------------------------------------------------------------------- values and errors


def test_a_circuit_is_a_value():
    circuit = build_circuit(4)

    assert circuit == build_circuit(4)
    assert circuit != build_circuit(4, "angle")
    with pytest.raises(FrozenInstanceError):
        circuit.trained = ()


def test_lists_are_as_good_as_tuples():
    parts = [
        (AngleEncoding(2, [Operation("ry", [0], 0), Operation("cnot", [0, 1])]), from_gates(2, [("ry", [1])])),
        (AngleEncoding(2, (Operation("ry", (0,), 0), Operation("cnot", (0, 1)))), from_gates(2, (("ry", (1,)),))),
    ]
    of_lists = Circuit(*parts[0], PauliReadout(["ZI", "IZ"]), [0])
    of_tuples = Circuit(*parts[1], PauliReadout(("ZI", "IZ")), (0,))

    assert of_lists == of_tuples and hash(of_lists) == hash(of_tuples)
    assert Ansatz(1, [Operation("rx", [0], 0)], ["a"]) == Ansatz(1, (Operation("rx", (0,), 0),), ("a",))


@pytest.mark.parametrize("n_wires", (-4, 0, 2, 3, 5, 11))
def test_odd_or_too_few_wires_are_refused(n_wires):
    with pytest.raises(ValueError, match=rf"n_wires must be an even number from 4, got {n_wires}"):
        build_circuit(n_wires)


@pytest.mark.parametrize("encoding", ("", "Amplitude", "phase"))
def test_unknown_encoding_is_refused(encoding):
    with pytest.raises(ValueError, match=f"encoding must be one of amplitude, angle, components, .*got '{encoding}'"):
        build_circuit(4, encoding)


@pytest.mark.parametrize("name, build, message", [
    ("unknown gate", lambda: from_gates(2, [("swap", (0, 1))]), "ansatz: unknown gate 'swap'; known: rx, ry"),
    ("missing wire", lambda: from_gates(2, [("rx", (2,))]), r"ansatz: rx\(2\) needs 1 different wires of 0 to 1"),
    ("wires alike", lambda: from_gates(2, [("cnot", (1, 1))]), r"cnot\(1, 1\) needs 2 different wires"),
    ("too many wires", lambda: from_gates(2, [("rx", (0, 1))]), r"rx\(0, 1\) needs 1 different wires"),
    ("no angle", lambda: Ansatz(1, (Operation("rx", (0,)),), ()), r"rx\(0\) takes the index of an angle, got parameter None"),
    ("an angle too much", lambda: Ansatz(1, (Operation("h", (0,), 0),), ("a",)), r"h\(0\) takes no angle, got parameter 0"),
    ("an unnamed parameter", lambda: Ansatz(1, (Operation("rx", (0,), 1),), ("a",)), "1 parameters are named"),
    ("a name twice", lambda: Ansatz(1, (Operation("rx", (0,), 0), Operation("rx", (0,), 1)), ("a", "a")), "one name"),
    ("too many amplitudes", lambda: AmplitudeEncoding(2, 5), "2 wires have 4 amplitudes: 5 inputs do not fit"),
    ("no input", lambda: AngleEncoding(1, (Operation("h", (0,)),)), "no operation takes an input"),
    ("other wires", lambda: Circuit(AmplitudeEncoding(2, 4), from_gates(3, [("h", (0,))]), z_on(3, (0,))),
     "share its wires, got encoding 2, ansatz 3, readout 3"),
    ("trained", lambda: replace(build_circuit(4), trained=(1, 0)), "rising positions from 0 to 38"),
    ("trained beyond", lambda: replace(build_circuit(4), trained=(39,)), "rising positions from 0 to 38"),
    ("letters", lambda: PauliReadout(("ZA",)), "'ZA' is not a Pauli string"),
    ("gates that train", lambda: build_circuit(4, trainable_gates="some"), "trainable_gates must be one of all, released, none"),
    ("no blocks to freeze", lambda: build_circuit(2, ansatz="own", trainable_gates="released"), "the ansatz own has none"),
    ("readout", lambda: build_circuit(4, readout="zy"), "readout must be one of z, zz, .* got 'zy'"),
])  # fmt: skip
def test_parts_that_do_not_fit_are_refused(name, build, message, monkeypatch):
    monkeypatch.setitem(ANSATZE, "own", lambda n_wires: from_gates(n_wires, [("rx", (0,))]))
    with pytest.raises(ValueError, match=message):
        build()


def test_components_take_one_input_a_wire():
    circuit = build_circuit(10, "components")

    assert circuit.n_inputs == circuit.n_readouts == 10
    assert as_tuples(circuit.encoding.operations) == tuple(("ry", (wire,), wire) for wire in range(10))


def test_the_papers_readout_is_z_on_every_wire():
    assert build_circuit(4).readout.strings == ("ZIII", "IZII", "IIZI", "IIIZ")


def test_parameters_are_named_by_part_place_and_gate():
    ansatz = from_gates(3, [("ry", (0,)), ("cnot", (0, 2)), ("crx", (1, 2), "block", "7")], part="own")

    assert ansatz.parameter_names == ("own.0.ry[0]", "block.7.crx[1,2]")
    assert ansatz.parameters_of("block") == (1,) and ansatz.parameters_of("own") == (0,)
