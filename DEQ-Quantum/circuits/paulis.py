"""Pauli strings as text, and which of them one measurement setting covers. Nothing here simulates.

A string such as "ZIXY" names one Pauli matrix per wire, wire 0 first; it stands for their Kronecker product. Two
strings commute qubit by qubit where on every wire their letters agree or one of them is I. Strings that do so in pairs
are measured together: rotate every wire to the eigenbasis of its letter, measure it, and multiply the signs.
"""

from collections.abc import Mapping, Sequence

LETTERS = "IXYZ"


def check_strings(strings: Sequence[str]) -> None:
    """Refuse what is no list of distinct Pauli strings on the same wires.

    Raises:
        ValueError: no string, an empty one, another letter, another length, or one string twice.
    """
    if not strings or not strings[0]:
        raise ValueError("at least one Pauli string of at least one wire is needed")
    for string in strings:
        if set(string) - set(LETTERS) or len(string) != len(strings[0]):
            raise ValueError(f"{string!r} is not a Pauli string of {len(strings[0])} letters I, X, Y, Z")
    if len(set(strings)) < len(strings):
        twice = next(string for string in strings if strings.count(string) > 1)
        raise ValueError(f"the Pauli string {twice!r} occurs twice")


def place(n_wires: int, letters: Mapping[int, str]) -> str:
    """The string with these letters on these wires, I elsewhere.

    Raises:
        ValueError: a wire that is not there, or what is no letter.
    """
    for wire, letter in letters.items():
        if wire not in range(n_wires) or letter not in tuple(LETTERS):
            raise ValueError(f"no Pauli string of {n_wires} wires has {letter!r} on wire {wire}")
    return "".join(letters.get(wire, "I") for wire in range(n_wires))


def z_string(n_wires: int, *wires: int) -> str:
    """The string with Z on each of the given wires, I elsewhere."""
    return place(n_wires, dict.fromkeys(wires, "Z"))


def mask(string: str, letters: str) -> int:
    """Bits of the wires that carry one of these letters; wire 0 is the highest bit, as in a Kronecker product."""
    return sum(1 << (len(string) - 1 - wire) for wire, letter in enumerate(string) if letter in letters)


def is_diagonal(string: str) -> bool:
    """Whether the string has letters I and Z alone, so that its matrix is diagonal."""
    return set(string) <= set("IZ")


def commute_qubitwise(one: str, other: str) -> bool:
    """Whether on every wire the letters of two strings agree, or one of them is I."""
    return all(a == b or "I" in (a, b) for a, b in zip(one, other, strict=True))


def measurement_settings(strings: Sequence[str]) -> dict[str, list[int]]:
    """Group strings that are measured together.

    Greedy: all strings of I and Z share one setting, which comes first. Each other string, in order, joins the first
    setting of the others that it commutes with qubit by qubit; if there is none, it opens one.

    Args:
        strings: distinct, on the same wires.

    Returns:
        Positions in the list by basis, a letter X, Y or Z per wire; wires that no string of a setting needs have Z.

    Raises:
        ValueError: see `check_strings`.
    """
    check_strings(strings)
    diagonal = [k for k, string in enumerate(strings) if is_diagonal(string)]
    found: list[tuple[str, list[int]]] = []
    for k, string in enumerate(strings):
        if is_diagonal(string):
            continue
        for i, (basis, members) in enumerate(found):
            if commute_qubitwise(basis, string):
                merged = "".join(b if a == "I" else a for a, b in zip(basis, string))
                found[i] = (merged, [*members, k])
                break
        else:
            found.append((string, [k]))
    settings = {"Z" * len(strings[0]): diagonal} if diagonal else {}
    return settings | {basis.replace("I", "Z"): members for basis, members in found}
