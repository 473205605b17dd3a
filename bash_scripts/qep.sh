#!/usr/bin/env bash
# Quantum equilibrium propagation (arXiv 2406.00879): the runs of results/qep, one task each. Usage: --help.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
  cat <<EOF
usage: bash bash_scripts/qep.sh xor|teacher|mnist4|oscillators|smoke [further flags]

  xor          four samples on four spins
  teacher      the outputs of a random system of six spins
  mnist4       MNIST-4 (0, 3, 6, 9) on eight spins, 4x4 pooled features
  oscillators  linear regression on six coupled oscillators
  smoke        a few steps of each task on data that needs no download, leaving no run behind

  Further flags go to train_qep.py: --seed 1, --estimator exact|centred|positive|negative, --shots 1000, ... (see its
  --help). A run is the folder runs/qep_TASK_ESTIMATOR_seedN; train_qep.py --restart --restart_dir resumes it.

QDEQ_PYTHON=/path/to/python uses that interpreter instead of setting up .venv.
EOF
}

task_flags() {
  case "$1" in
    xor) echo "--task xor --lr 0.02 --scheduler cosine --epochs 400 --eval-interval 50 --log-interval 20 --compare 20" ;;
    teacher) echo "--task teacher --lr 0.02 --scheduler cosine --batch_size 16 --epochs 250 --eval-interval 100 --log-interval 50 --compare 50" ;;
    mnist4) echo "--task mnist --num_classes 4 --n_spins 8 --lr 0.05 --scheduler cosine --batch_size 32 --epochs 2 --eval-interval 200 --log-interval 50 --compare 50" ;;
    oscillators) echo "--task oscillators --lr 0.02 --scheduler cosine --epochs 200 --eval-interval 50 --log-interval 20 --compare 20" ;;
  esac
}

command="${1:-}"
case "$command" in
  xor | teacher | mnist4 | oscillators | smoke) shift ;;
  -h | --help) usage; exit 0 ;;
  "") usage >&2; exit 2 ;;
  *) echo "qep.sh: unknown command $command: xor, teacher, mnist4, oscillators or smoke (see --help)" >&2; exit 2 ;;
esac

if [ -z "${QDEQ_PYTHON:-}" ]; then
  bash "$ROOT/bash_scripts/setup.sh"
  QDEQ_PYTHON="$ROOT/.venv/bin/python"
fi
train=("$QDEQ_PYTHON" "$ROOT/DEQ-Quantum/train_qep.py")

if [ "$command" != smoke ]; then
  read -r -a flags <<<"$(task_flags "$command")"
  length=()
  # a length given by hand replaces the script's
  case " $* " in
    *" --max_step"* | *" --epochs"*)
      for ((i = 0; i < ${#flags[@]}; i++)); do
        if [ "${flags[i]}" = --epochs ]; then i=$((i + 1)); else length+=("${flags[i]}"); fi
      done
      flags=("${length[@]}")
      ;;
  esac
  exec "${train[@]}" "${flags[@]}" "$@"
fi

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
for task in xor teacher digits oscillators; do
  echo "smoke: $task"
  "${train[@]}" --task "$task" --name "$task" --work_dir "$folder" --max_step 3 --batch_size 8 --n_spins 6 \
    --eval-interval 2 --compare 2 "$@"
done
echo "smoke: digits, 50 shots"
"${train[@]}" --task digits --name shots --work_dir "$folder" --max_step 2 --batch_size 8 --shots 50 --beta 0.3 "$@"
