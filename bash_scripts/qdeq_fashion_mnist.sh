#!/usr/bin/env bash
# FashionMNIST-10 on 10 qubits.
# Hyper-parameters: Table 5 of arXiv 2410.23940. Usage: --help.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
NAME=fashion10
EPOCHS=100
BASE=(--dataset fashion_mnist --num_classes 10 --n_wires 10)

model_flags() {
  case "$1" in
    implicit) echo "--lr 0.05 --jac_loss_weight 0.5 --jac_loss_freq 0.8" ;;
    warmup) echo "--lr 0.05 --pretrain_steps 1875 --jac_loss_weight 0.8 --jac_loss_freq 0.8" ;;
    direct-10) echo "--lr 0.05" ;;
    direct-5) echo "--lr 0.0075" ;;
    direct-2) echo "--lr 0.05" ;;
    direct-1) echo "--lr 0.01" ;;
  esac
}

main "$@"
