"""The fault campaign: runs are killed, signalled, starved of disk, damaged, misused, and must come to the same numbers.

    bash bash_scripts/test.sh faults                              everything
    bash bash_scripts/test.sh faults --only kills flips --n 20    a trial of two parts

`__main__` reads the flags and works on a copy of the source; `campaign` tries the cases of all parts, several at a
time, and makes the table. A part is a module that knows one kind of fault: `cases(n, rng, bench)` draws what is to be
tried, `attempt(case, bench)` tries one. `children` starts commands, `subjects` says which runs are tried and what their
numbers must be, `judging` reads what a command said. It is no part of the test suite, which tests the parts on planted
faults.
"""

# how many things are tried by default; each part is the module of its name
PARTS = {
    "kills": 300, "writes": 240, "signals": 100, "disk": 60, "flips": 2200, "files": 240, "lines": 560, "together": 30,
}  # fmt: skip
