#!/usr/bin/env bash
# CIFAR-10 (grey) on 10 qubits, 25 epochs.
# Hyper-parameters: Table 5 of arXiv 2410.23940. Usage: --help.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
NAME=cifar10
EPOCHS=25
BASE=(--dataset cifar10 --num_classes 10 --n_wires 10)

model_flags() {
  case "$1" in
    implicit) echo "--lr 0.05" ;;
    warmup) echo "--lr 0.01 --pretrain_steps 2350 --jac_loss_weight 0.8 --jac_loss_freq 1" ;;
    direct-10) echo "--lr 0.0075" ;;
    direct-5) echo "--lr 0.0075" ;;
    direct-2) echo "--lr 0.01" ;;
    direct-1) echo "--lr 0.01" ;;
  esac
}

main "$@"
