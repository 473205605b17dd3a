#!/usr/bin/env bash
# Sets up .venv where needed and runs the tests in it, on all cores, each test on one; pytest's exit status comes back.
#
#   bash bash_scripts/test.sh           everything, in about ten minutes on two cores
#   bash bash_scripts/test.sh quick     what is not marked slow, in about five minutes on two cores: all of the
#                                       mathematics, and of every command at least one run from end to end
#
#   bash bash_scripts/test.sh faults    no test of the suite: kills, damages and misuses the commands for a quarter of an
#                                       hour and shows what was lost; --help after it teaches its flags
#
# Further arguments go to pytest: bash bash_scripts/test.sh quick tests/test_data.py -k digits
set -euo pipefail

selection=()
if [[ ${1:-} == quick ]]; then
    selection=(-m "not slow")
    shift
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/bash_scripts/setup.sh"
cd "$root"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
unset PYTHONDONTWRITEBYTECODE # tests start hundreds of programs, and each would compile all libraries anew
if [[ ${1:-} == faults ]]; then
    shift
    PYTHONPATH=tests exec .venv/bin/python -m campaigns.faults "$@"
fi
exec .venv/bin/python -m pytest -n auto --dist worksteal ${selection[@]+"${selection[@]}"} "$@"
