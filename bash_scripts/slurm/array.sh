#!/usr/bin/env bash
# One run an array task: the command in line $SLURM_ARRAY_TASK_ID of a file. submit.sh writes the file and submits this:
#   sbatch --array=1-12 bash_scripts/slurm/array.sh FILE
# Each command should resume what it began (--restart): a task is stopped before its time limit and requeued.
#SBATCH --job-name=qdeq
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
set -euo pipefail

ROOT="${QDEQ_ROOT:-${SLURM_SUBMIT_DIR:-$PWD}}"
if [ ! -f "$ROOT/bash_scripts/slurm/common.sh" ]; then
  echo "array.sh: $ROOT is not the repository: submit from there, or set QDEQ_ROOT" >&2
  exit 2
fi
source "$ROOT/bash_scripts/slurm/common.sh"

[ $# -eq 1 ] && [ -f "$1" ] || stop_with "needs a file of commands, one a line, as submit.sh writes it; got: $*"
[ -n "${SLURM_ARRAY_TASK_ID:-}" ] || stop_with "is a task of an array: submit it with sbatch --array=1-$(wc -l <"$1")"
line="$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1")"
[ -n "$line" ] || stop_with "$1 has no line $SLURM_ARRAY_TASK_ID; submit with --array=1-$(wc -l <"$1")"
eval "words=($line)" # quoted for a shell
# torch would take all cores of the machine, not those of the task
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

cd "$ROOT"
# shellcheck disable=SC2154 # words is set by eval
softly TERM "${words[@]}"
requeue_or_exit
