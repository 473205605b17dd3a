#!/usr/bin/env bash
# One run on several machines, data parallel: a torchrun on every node. Flags are train_qdeq.py's:
#   sbatch --nodes=2 bash_scripts/slurm/torchrun.sh --dataset mnist --n_wires 10 --batch_size 1024
#   sbatch --nodes=2 --gpus-per-node=4 bash_scripts/slurm/torchrun.sh --device cuda ...
# QDEQ_PROCESSES: processes on a node (default: its GPUs, or 1). Stopped before the time limit, requeued and resumed.
#SBATCH --job-name=qdeq
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

ROOT="${QDEQ_ROOT:-${SLURM_SUBMIT_DIR:-$PWD}}"
if [ ! -f "$ROOT/bash_scripts/slurm/common.sh" ]; then
  echo "torchrun.sh: $ROOT is not the repository: submit from there, or set QDEQ_ROOT" >&2
  exit 2
fi
source "$ROOT/bash_scripts/slurm/common.sh"

[ -n "${SLURM_JOB_ID:-}" ] || stop_with "is a job: submit it with sbatch"
hosts="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
QDEQ_MEET="${hosts%%$'\n'*}:$((20000 + SLURM_JOB_ID % 10000))" # where the nodes find each other
export ROOT QDEQ_MEET

cd "$ROOT"
# srun hands USR1 on to the tasks; TERM would make it kill them
softly USR1 srun --kill-on-bad-exit=1 bash "$ROOT/bash_scripts/slurm/node.sh" "$@"
requeue_or_exit
