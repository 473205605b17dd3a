#!/usr/bin/env bash
# From nothing to a trained quantum deep equilibrium classifier: sets up .venv, trains on scikit-learn's handwritten
# digits 0, 3, 6, 9 (no download) with 4 qubits, prints the test accuracy and draws the curves. Further flags go to
# train_qdeq.py. Training takes well under a minute on two cores.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

if [ -z "${QDEQ_PYTHON:-}" ]; then
  bash "$ROOT/bash_scripts/setup.sh"
  QDEQ_PYTHON="$ROOT/.venv/bin/python"
fi

echo "Training a 4-qubit quantum deep equilibrium model on handwritten digits ..."
length=(--epochs 60)
case " $* " in *" --max_step"* | *" --epochs"*) length=() ;; esac # one given by hand replaces it
"$QDEQ_PYTHON" "$ROOT/DEQ-Quantum/train_qdeq.py" --dataset digits --num_classes 4 --n_wires 4 \
  --batch_size 64 ${length[@]+"${length[@]}"} --eval-interval 40 --name quickstart "$@"

cat <<'EOF'

Look at curves.png, confusion_matrix.png and circuit.png in the run folder named above. Next:
  bash bash_scripts/qdeq_mnist4.sh train                  # the paper's MNIST-4, 4 qubits (downloads MNIST)
  bash bash_scripts/qdeq_mnist4.sh train --model direct-1 # one explicit layer, to compare
  bash bash_scripts/qdeq_mnist.sh train                   # the paper's MNIST-10, 10 qubits
  .venv/bin/python DEQ-Quantum/train_qdeq.py --help       # every flag
EOF
