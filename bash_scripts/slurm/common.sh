# shellcheck shell=bash
# Sourced by Slurm's batch scripts here: where things are, and a command that is stopped softly before the time limit.
# Slurm copies a batch script elsewhere before it runs, so that script cannot say where it comes from: ROOT is given.
set -euo pipefail

stop_with() { echo "${0##*/}: $1" >&2; exit 2; }

python="${QDEQ_PYTHON:-$ROOT/.venv/bin/python}"
command -v "$python" >/dev/null ||
  stop_with "there is no $python; run bash bash_scripts/setup.sh before you submit, or set QDEQ_PYTHON"

# softly SIGNAL COMMAND...: runs it to its end and leaves its exit status in `status`. USR1, which comes before the time
# limit, reaches it as SIGNAL, once, and is noted in `limit`. TERM, as from scancel, only waits: Slurm sends that to
# every process of the job itself.
softly() {
  local signal="$1" child=""
  shift
  limit="" status=0
  trap 'forward "$signal" "$child"' USR1
  trap : TERM
  "$@" &
  child=$!
  [ -z "$limit" ] || kill -s "$signal" "$child" # came before there was a child
  wait "$child" || status=$?
  while kill -0 "$child" 2>/dev/null; do # a signal ends `wait`, not the child
    status=0
    wait "$child" || status=$?
  done
  trap - USR1 TERM
}

forward() {
  [ -z "$limit" ] || return 0
  limit=yes
  [ -z "$2" ] || kill -s "$1" "$2" 2>/dev/null || true
}

# Ends the script: back into the queue if the command was stopped for the time limit, else with its exit status.
requeue_or_exit() {
  if [ -n "$limit" ] && [ "$status" -ne 0 ]; then
    [ "${SLURM_RESTART_COUNT:-0}" -lt "${QDEQ_REQUEUES:-100}" ] ||
      stop_with "requeued ${SLURM_RESTART_COUNT} times and not done: a longer --time, or a larger QDEQ_REQUEUES"
    echo "${0##*/}: stopped before the time limit; requeued, to be resumed"
    scontrol requeue "$SLURM_JOB_ID" || stop_with "cannot be requeued; submit the same again, it resumes"
  fi
  exit "$status"
}
