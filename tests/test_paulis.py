"""Pauli strings as text against their Kronecker products; groups of strings against what one setting can measure."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuits.paulis import (
    check_strings,
    commute_qubitwise,
    is_diagonal,
    mask,
    measurement_settings,
    place,
    z_string,
)
from conftest import SCRIPTS
from qep_reference import PAULI, pauli_matrix


def texts(n: int) -> st.SearchStrategy[str]:
    return st.text("IXYZ", min_size=n, max_size=n)


LISTS = st.integers(1, 5).flatmap(lambda n: st.lists(texts(n), min_size=1, max_size=12, unique=True))
PAIRS = st.integers(1, 3).flatmap(lambda n: st.tuples(texts(n), texts(n)))


@pytest.mark.parametrize("strings, message", [
    ([], "at least one"), ([""], "at least one"), (["XA"], "'XA' is not a Pauli string of 2 letters"),
    (["xz"], "'xz'"), (["XX", "X"], "'X' is not a Pauli string of 2"), (["XX", "ZZ", "XX"], "'XX' occurs twice"),
])  # fmt: skip
def test_what_is_no_list_of_strings_is_refused(strings, message):
    for function in (check_strings, measurement_settings):
        with pytest.raises(ValueError, match=message):
            function(strings)


def test_letters_are_placed():
    assert place(4, {2: "X", 0: "Y"}) == "YIXI" and z_string(4, 3, 1) == "IZIZ" and z_string(2) == "II"
    for wrong in ({4: "X"}, {-1: "X"}, {0: "A"}, {0: "XY"}, {0: ""}):
        with pytest.raises(ValueError, match="no Pauli string of 4 wires"):
            place(4, wrong)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 4).flatmap(texts))
def test_masks_say_where_the_matrix_has_its_entries(string):
    """Column c of the matrix has its one entry in row c ^ (X and Y), with the sign of the parity of c & (Y and Z)."""
    matrix = pauli_matrix(string)
    for column in range(len(matrix)):
        (row,) = np.flatnonzero(matrix[:, column])
        assert row == column ^ mask(string, "XY")
        sign = (-1) ** bin(column & mask(string, "YZ")).count("1")
        assert matrix[row, column] == sign * 1j ** string.count("Y")
    assert is_diagonal(string) == np.array_equal(matrix, np.diag(np.diag(matrix)))


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(PAIRS)
def test_qubitwise_means_that_every_pair_of_matrices_commutes(pair):
    one, other = pair
    pairs = [(PAULI[a], PAULI[b]) for a, b in zip(one, other)]
    assert commute_qubitwise(one, other) == all(np.allclose(a @ b, b @ a) for a, b in pairs)
    if commute_qubitwise(one, other):
        a, b = pauli_matrix(one), pauli_matrix(other)
        assert np.allclose(a @ b, b @ a)


def test_strings_of_different_lengths_have_no_answer():
    with pytest.raises(ValueError):
        commute_qubitwise("ZZ", "Z")


def eigenbasis(basis: str) -> np.ndarray:
    """Columns: the joint eigenstates of the basis' single letters, found by diagonalising their weighted sum."""
    n = len(basis)
    total = sum(2**wire * pauli_matrix(place(n, {wire: letter})) for wire, letter in enumerate(basis))
    return np.linalg.eigh(total)[1]


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(LISTS)
def test_every_string_is_once_in_a_setting_that_measures_it(strings):
    found = measurement_settings(strings)
    assert sorted(k for members in found.values() for k in members) == list(range(len(strings)))
    for basis, members in found.items():
        assert not set(basis) - set("XYZ") and members == sorted(members)
        states = eigenbasis(basis)
        for k in members:
            assert all(commute_qubitwise(strings[k], strings[other]) for other in members)
            # measurable: diagonal in the eigenbasis that the setting reads
            seen = states.conj().T @ pauli_matrix(strings[k]) @ states
            assert np.allclose(seen, np.diag(np.diag(seen)))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(LISTS)
def test_grouping_is_greedy_in_the_order_of_the_strings(strings):
    """The first member of a setting commutes with no earlier setting as that stood then; Z strings come first."""
    found = measurement_settings(strings)
    diagonal = [k for k, string in enumerate(strings) if set(string) <= set("IZ")]
    groups = list(found.values())
    if diagonal:
        assert list(found)[0] == "Z" * len(strings[0]) and groups.pop(0) == diagonal
    assert [members[0] for members in groups] == sorted(members[0] for members in groups)
    for position, members in enumerate(groups):
        for k in members:
            for earlier in groups[:position]:
                then = [strings[other] for other in earlier if other < k]
                assert not all(commute_qubitwise(strings[k], string) for string in then)


def test_settings_of_an_example():
    strings = ["XIY", "ZZI", "IYI", "YII", "IIZ", "IZY", "IYY"]
    assert measurement_settings(strings) == {"ZZZ": [1, 4], "XYY": [0, 2, 6], "YZY": [3, 5]}
    assert list(measurement_settings(strings)) == ["ZZZ", "XYY", "YZY"]
    assert measurement_settings(["XI"]) == {"XZ": [0]}


def test_no_simulator_is_needed():
    code = "import sys, circuits.paulis; assert not {'torch', 'numpy'} & set(sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
