#!/usr/bin/env bash
# MNIST-4 (digits 0, 3, 6, 9) on 4 qubits. Add `--amplitude_encoder False` for angle encoding.
# Hyper-parameters: Table 5 of arXiv 2410.23940. Usage: --help.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
NAME=mnist4
EPOCHS=100
BASE=(--dataset mnist --num_classes 4 --n_wires 4)

model_flags() {
  case "$1" in
    implicit) echo "--lr 0.05" ;;
    warmup) echo "--lr 0.05 --pretrain_steps 1875" ;;
    direct-10) echo "--lr 0.1" ;;
    direct-5) echo "--lr 0.05" ;;
    direct-2) echo "--lr 0.05" ;;
    direct-1) echo "--lr 0.05" ;;
  esac
}

main "$@"
