#!/usr/bin/env bash
# Sets up .venv where needed and runs the tests in it, on all cores, each test on one; arguments go to pytest, its exit
# status comes back.
#
#   bash bash_scripts/test.sh                   everything
#   bash bash_scripts/test.sh tests/test_data.py -k digits
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/bash_scripts/setup.sh"
cd "$root"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec .venv/bin/python -m pytest -n auto "$@"
