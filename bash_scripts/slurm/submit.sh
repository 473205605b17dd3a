#!/usr/bin/env bash
# Submits the rows and seeds of a table as one Slurm array, one run a task. Usage: --help.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"

usage() {
  cat <<EOF
usage: bash bash_scripts/slurm/submit.sh table1|table2|table3|table4|tables [flags of reproduce.py]

  One array task for every row and seed that is not finished. Submitting again takes what is left; the table itself:
  python DEQ-Quantum/reproduce.py table2 --report

  bash bash_scripts/slurm/submit.sh table2
  bash bash_scripts/slurm/submit.sh table1 --rows amplitude_implicit --seeds 0 1 2 3 4 --device cuda

SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT, SBATCH_GPUS, ... are sbatch's own ways to say what array.sh leaves open.
QDEQ_AT_ONCE=8 runs at most so many tasks side by side. QDEQ_PYTHON=/path/to/python uses that interpreter.
EOF
}

case "${1:-}" in
  -h | --help) usage; exit 0 ;;
  "") usage >&2; exit 2 ;;
esac
if [ -z "${QDEQ_PYTHON:-}" ]; then
  bash "$ROOT/bash_scripts/setup.sh" # here, once: tasks that set up side by side would be in each other's way
  QDEQ_PYTHON="$ROOT/.venv/bin/python"
fi
command -v sbatch >/dev/null || { echo "submit.sh: there is no sbatch here: is this a machine with Slurm?" >&2; exit 2; }

shown="$("$QDEQ_PYTHON" "$ROOT/DEQ-Quantum/reproduce.py" "$@" --dry_run)"
commands="$(grep "train_qdeq\.py" <<<"$shown" || true)"
if [ -z "$commands" ]; then
  echo "submit.sh: nothing is left to run: $(head -1 <<<"$shown")"
  exit 0
fi
mkdir -p "$ROOT/runs/slurm"
list="$(mktemp "$ROOT/runs/slurm/$1-XXXXXX")"
printf '%s\n' "$commands" >"$list"
n="$(wc -l <"$list")"
export QDEQ_ROOT="$ROOT" QDEQ_PYTHON
exec sbatch --job-name="qdeq-$1" --array="1-$((n))${QDEQ_AT_ONCE:+%$QDEQ_AT_ONCE}" \
  "$ROOT/bash_scripts/slurm/array.sh" "$list"
