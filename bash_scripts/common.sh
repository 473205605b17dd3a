# Sourced by the data sets' scripts: `train|eval|smoke [--model M] [further flags]`. A script says what the data
# set is (BASE), how long it trains (EPOCHS), its short name (NAME), and Table 5's flags (model_flags).
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

usage() {
  cat <<EOF
usage: bash bash_scripts/$(basename "$0") train|eval|smoke [--model MODEL] [further flags]

  train   train with Table 5's hyper-parameters; further flags go to train_qdeq.py (see its --help)
  eval    evaluate runs/${NAME}_MODEL, the first run of that model, or the folder given with --run; further flags
          go to evaluate_qdeq.py
  smoke   a few steps of training and an evaluation on the real data, leaving no run behind

  --model  implicit (default), warmup, direct-1, direct-2, direct-5, direct-10: the paper's models;
           wang2022-, classical-, classical_narrow-, alam2021- before any of these: a baseline, made deep the same
           way and with the same hyper-parameters; linear: a linear classifier; single_copy: the ceiling of one
           amplitude-encoded layer. Those without a circuit, classical-, classical_narrow-, linear and single_copy, take
           a learning rate of their own, 0.005, which falls along a cosine for single_copy
           (classical-direct-1 here is --model classical --mode direct --n_layer 1 of train_qdeq.py)

QDEQ_PYTHON=/path/to/python uses that interpreter instead of setting up .venv.
EOF
}

# The value that a flag has among the further flags, else the second argument.
given() {
  local word before="" value="$2"
  for word in ${rest[@]+"${rest[@]}"}; do
    case "$word" in "--$1="*) value="${word#*=}" ;; esac
    [ "$before" != "--$1" ] || value="$word"
    before="$word"
  done
  echo "$value"
}

# Says where further runs of a name are: folders with its next free suffixes.
tell_of_others() {
  local other others=()
  for other in "$1"-[0-9]*; do
    case "${other#"$1"-}" in *[!0-9]*) ;; *) [ ! -e "$other/config.json" ] || others+=("$other") ;; esac
  done
  [ ${#others[@]} -eq 0 ] || echo "$(basename "$0"): evaluating $1, the first run; --run names another: ${others[*]}" >&2
}

stop_with() { echo "$(basename "$0"): $1 (see --help)" >&2; exit 2; }

main() {
  local command="${1:-}" model=implicit run="" rest=()
  case "$command" in
    train | eval | smoke) shift ;;
    -h | --help) usage; exit 0 ;;
    "") usage >&2; exit 2 ;;
    *) stop_with "unknown command $command: train, eval or smoke" ;;
  esac
  while [ $# -gt 0 ]; do
    case "$1" in
      --model) [ $# -ge 2 ] || stop_with "--model needs a value"; model="$2"; shift 2 ;;
      --model=*) model="${1#--model=}"; shift ;;
      --run) [ $# -ge 2 ] || stop_with "--run needs a value"; run="$2"; shift 2 ;;
      --run=*) run="${1#--run=}"; shift ;;
      -h | --help) usage; exit 0 ;;
      *) rest+=("$1"); shift ;;
    esac
  done

  local depth="$model" baseline=() kind=()
  case "$model" in
    linear | single_copy) depth=direct-1 baseline=(--model "$model") ;; # their depth changes nothing
    wang2022-* | classical-* | classical_narrow-* | alam2021-*) depth="${model#*-}" baseline=(--model "${model%%-*}") ;;
  esac
  case "$depth" in
    implicit) kind=(--mode implicit) ;;
    warmup) kind=(--mode implicit --n_layer 1) ;;
    direct-1 | direct-2 | direct-5 | direct-10) kind=(--mode direct --n_layer "${depth#direct-}") ;;
    *) stop_with "unknown model $model: implicit, warmup, direct-1, direct-2, direct-5, direct-10, or a baseline" ;;
  esac
  local flags
  read -r -a flags <<<"$(model_flags "$depth")"
  case "$model" in linear | single_copy | classical*) flags+=(--lr 0.005) ;; esac # the last one counts
  [ "$model" != single_copy ] || flags+=(--scheduler cosine)

  if [ -z "${QDEQ_PYTHON:-}" ]; then
    bash "$ROOT/bash_scripts/setup.sh"
    QDEQ_PYTHON="$ROOT/.venv/bin/python"
  fi
  local train=("$QDEQ_PYTHON" "$ROOT/DEQ-Quantum/train_qdeq.py" "${BASE[@]}" ${baseline[@]+"${baseline[@]}"} "${kind[@]}"
    "${flags[@]}")
  local evaluate=("$QDEQ_PYTHON" "$ROOT/DEQ-Quantum/evaluate_qdeq.py")
  case "$command" in
    train)
      local length=(--epochs "$EPOCHS")
      case " ${rest[*]-} " in
        *" --max_step"* | *" --epochs"*) length=() ;;
        *" --restart_dir"*) length=() ;; # the run that is resumed knows its length
        *" --restart"*)
          [ ! -e "$(given work_dir "$ROOT/runs")/$(given name "${NAME}_$model")/config.json" ] || length=()
          ;;
      esac
      exec "${train[@]}" --name "${NAME}_$model" ${length[@]+"${length[@]}"} ${rest[@]+"${rest[@]}"}
      ;;
    eval)
      if [ -z "$run" ]; then
        run="$ROOT/runs/${NAME}_$model"
        tell_of_others "$run"
      fi
      exec "${evaluate[@]}" "$run" ${rest[@]+"${rest[@]}"}
      ;;
    smoke)
      folder="$(mktemp -d)" # not local: the trap reads it after this function
      trap 'rm -rf "$folder"' EXIT
      [ "$depth" != warmup ] || rest+=(--pretrain_steps 2)
      "${train[@]}" --name smoke --work_dir "$folder" --max_step 4 --batch_size 16 --max_eval_steps 2 \
        --log-interval 2 --eval-interval 2 ${rest[@]+"${rest[@]}"}
      "${evaluate[@]}" "$folder/smoke" --max_images 32
      ;;
  esac
}
