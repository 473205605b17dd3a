#!/usr/bin/env bash
# Makes .venv at the root of the repository from requirements.txt. Run it as often as you like: when .venv is
# complete it returns at once; an interrupted run is continued; a changed requirements.txt is installed.
#
#   bash bash_scripts/setup.sh
#   bash bash_scripts/setup.sh --extras sweep benchmark     requirements-sweep.txt and requirements-benchmark.txt too
#
#   PYTHON=python3.11      interpreter to use (default: the first of python3, python3.12, ... that fits)
#   QDEQ_INSTALLER=pip     use pip; uv: use uv; default: uv where it is or can be installed, else pip
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
venv_python=$venv/bin/python
stamp=$venv/.qdeq-stamp
installer=${QDEQ_INSTALLER:-auto}
uv_release=0.13.8

say() { echo "setup: $*"; }
die() { echo "setup: error: $*" >&2; exit 1; }

# version PYTHON: prints major.minor and succeeds if that interpreter runs.
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# fits PYTHON MAX: succeeds if 3.10 <= its version < 3.MAX.
fits() { "$1" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, $2))" 2>/dev/null; }

# What .venv was made from: the requirements in file $1 and the interpreter.
fingerprint() {
    "$venv_python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), "%d.%d.%d" % sys.version_info[:3])' \
        "$root/$1" 2>/dev/null
}

# is_stamped FILE STAMP: succeeds if the requirements in FILE are installed.
is_stamped() { [[ -f $2 ]] && [[ $(cat "$2") == "$(fingerprint "$1")" ]]; }

# stamp FILE STAMP: aside and renamed, so that a stamp is whole or not there.
stamp() {
    fingerprint "$1" >"$2.new"
    mv "$2.new" "$2"
}

is_complete() {
    is_stamped requirements.txt "$stamp" || return 1
    [[ -z ${PYTHON:-} ]] || [[ $(version "$PYTHON") == "$(version "$venv_python")" ]]
}

# Sets the array `extras` from the command line.
read_arguments() {
    extras=()
    [[ $# -gt 0 ]] || return 0
    [[ $1 == --extras && $# -gt 1 ]] || die "unknown arguments $*: say --extras NAME, sweep or benchmark or both."
    extras=("${@:2}")
    local extra
    for extra in "${extras[@]}"; do
        [[ -f $root/requirements-$extra.txt ]] || die "--extras $extra: choose sweep or benchmark."
    done
}

# Prints the interpreter to use; TorchQuantum's engine needs Python < 3.13, so those come first.
find_python() {
    local max candidate
    if [[ -n ${PYTHON:-} ]]; then
        fits "$PYTHON" 99 || die "PYTHON=$PYTHON is not a Python >= 3.10 (it says:" \
            "$(version "$PYTHON" || echo nothing)); set PYTHON to one that is."
        echo "$PYTHON"
        return
    fi
    for max in 13 99; do
        for candidate in python3 python3.12 python3.11 python3.10 python python3.13 python3.14; do
            if fits "$candidate" "$max"; then
                echo "$candidate"
                return
            fi
        done
    done
    die "no Python >= 3.10 found (python3 is: $(version python3 || echo missing));" \
        "install one, or name it: PYTHON=/path/to/python3.11 bash bash_scripts/setup.sh"
}

make_venv() {
    local python=$1
    if [[ $(version "$venv_python" || true) == "$(version "$python")" ]]; then
        return  # left by an interrupted run, or by older requirements: complete it
    fi
    say "making .venv with $python ($(version "$python"))"
    if "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        "$python" -m venv --clear "$venv" || die "$python -m venv failed (message above)."
    elif [[ $installer != pip ]] && command -v uv >/dev/null; then
        uv venv --quiet --clear --seed --python "$(command -v "$python")" "$venv" ||
            die "uv venv failed (message above)."
    else
        die "$python has no venv module; install it (Debian, Ubuntu: sudo apt install python3-venv)" \
            "or name another interpreter with PYTHON=..."
    fi
}

# Sets the array `install`: the command that installs into .venv.
choose_installer() {
    if [[ $installer != pip ]]; then
        if command -v uv >/dev/null; then
            install=(uv pip install --python "$venv_python")
            return
        fi
        if [[ -x $venv/bin/uv ]] || "$venv_python" -m pip install --quiet --retries 1 \
            --disable-pip-version-check "uv==$uv_release" 2>/dev/null; then
            install=("$venv/bin/uv" pip install --python "$venv_python")
            return
        fi
        [[ $installer != uv ]] ||
            die "uv is not on PATH and pip could not install it; leave QDEQ_INSTALLER unset."
    fi
    "$venv_python" -m pip --version >/dev/null 2>&1 || "$venv_python" -m ensurepip >/dev/null ||
        die ".venv has no pip; remove $venv and run setup.sh again."
    install=("$venv_python" -m pip install --disable-pip-version-check)
}

# TorchQuantum goes in without its dependencies: requirements.txt says why and lists the real ones.
install_requirements() {
    "${install[@]}" -r <(grep -v '^torchquantum==' "$root/requirements.txt") &&
        "${install[@]}" --no-deps -r <(grep '^torchquantum==' "$root/requirements.txt")
}

install_all() {
    local python
    python=$(find_python)
    make_venv "$python"
    rm -f "$stamp"*
    choose_installer
    say "installing requirements.txt into .venv with ${install[0]##*/} (torch brings CUDA on Linux: about 6 GB)"
    install_requirements || die_of_installing
    stamp requirements.txt "$stamp"
    fits "$venv_python" 13 || say "note: TorchQuantum cannot be installed on Python >= 3.13: no --engine" \
        "torchquantum here, all else works. To have it: PYTHON=python3.12 bash bash_scripts/setup.sh"
}

install_extra() {
    choose_installer
    say "installing requirements-$1.txt into .venv with ${install[0]##*/}"
    "${install[@]}" -r "$root/requirements-$1.txt" || die_of_installing
    stamp "requirements-$1.txt" "$stamp-$1"
}

die_of_installing() {
    die "the installation failed (messages above). Check the network and the free disk space, then run" \
        "setup.sh again: it continues. QDEQ_INSTALLER=pip uses pip and its settings instead of uv."
}

case $installer in auto | uv | pip) ;; *) die "QDEQ_INSTALLER=$installer: choose uv or pip." ;; esac
read_arguments "$@"
installed=""
if ! is_complete; then
    install_all
    installed=yes
fi
for extra in ${extras[@]+"${extras[@]}"}; do
    is_stamped "requirements-$extra.txt" "$stamp-$extra" && continue
    install_extra "$extra"
    installed=yes
done
[[ -z $installed ]] || say "ready: .venv (Python $(version "$venv_python")), $SECONDS s"
