#!/usr/bin/env bash
# What torchrun.sh starts on each node: torchrun, which is asked to stop when this script gets USR1.
source "$ROOT/bash_scripts/slurm/common.sh"

processes="${QDEQ_PROCESSES:-${SLURM_GPUS_ON_NODE:-1}}"
# torchrun would leave one thread for each
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((${SLURM_CPUS_PER_TASK:-1} > processes ? SLURM_CPUS_PER_TASK / processes : 1))}"

softly TERM "$python" -m torch.distributed.run \
  --nnodes "$SLURM_NNODES" --nproc-per-node "$processes" --max-restarts 0 \
  --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" --rdzv-backend c10d --rdzv-endpoint "$QDEQ_MEET" \
  "$ROOT/DEQ-Quantum/train_qdeq.py" "$@" --restart
exit "$status"
