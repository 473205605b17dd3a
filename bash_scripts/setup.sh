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
least_free=4096  # KiB of a disk that is not called full

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
    { fingerprint "$1" >"$2.new" && mv "$2.new" "$2"; } 2>/dev/null || die "cannot write $2; make room, run setup.sh again."
}

# The proxy variables that are set, by name: their values may hold a password.
proxies() {
    local name
    for name in http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY; do
        [[ -z ${!name:-} ]] || printf '%s' " $name"
    done
}

# attempt WHAT COMMAND...: runs it without its messages but for uv's progress; if it fails, says in one line why, or
# shows the messages where their cause is not known.
attempt() {
    local what=$1 messages
    shift
    { messages=$("$@" 2>&1 >&3 |
        awk '/^(Resolved|Downloading|Prepared|Installed) / { print >"/dev/stderr" } { print }'); } 3>&1 && return
    local again="then run setup.sh again: it continues."
    # ensurepip, say, fails without a reason
    [[ $(df -Pk "$root" | awk 'NR == 2 { print $4 }') -gt $least_free ]] || messages+="No space left"
    case $messages in
        *"No space left"* | *"Disk quota exceeded"* | *"File too large"*)
            die "$what failed: the disk is full. It takes about 6 GB in $venv, and room for a while in" \
                "${TMPDIR:-/tmp} (\$TMPDIR chooses another) and the installer's cache; make room, $again" ;;
        *"Read-only file system"* | *"Permission denied"*)
            die "$what failed: $(grep -m 1 -E 'Read-only file system|Permission denied' <<<"$messages" |
                sed 's/^[[:space:]]*//'); let $venv, \$HOME and ${TMPDIR:-/tmp} be written, $again" ;;
        *[Pp]roxy* | *"tunnel"* | *"name resolution"* | *"not known"* | *"unreachable"* | *"refused"* | *"timed out"* | \
            *"dns error"* | *"error sending request"* | *"Could not connect"* | *"Failed to establish"* | *"Max retries"*)
            [[ -z $(proxies) ]] || die "$what failed: no package index can be reached through the proxy that is set" \
                "in$(proxies); mend or unset that, $again"
            die "$what failed: no package index can be reached; connect to the network, or name a mirror with" \
                "PIP_INDEX_URL and UV_DEFAULT_INDEX, $again" ;;
    esac
    printf '%s\n' "$messages" >&2
    die "$what failed (messages above). Check the network and the free disk space, $again" \
        "QDEQ_INSTALLER=pip uses pip and its settings instead of uv."
}

is_complete() {
    is_stamped requirements.txt "$stamp" || return 1
    [[ -z ${PYTHON:-} ]] || [[ $(version "$PYTHON") == "$(version "$venv_python")" ]]
}

# Sets the array `extras` from the command line.
read_arguments() {
    extras=()
    [[ $# -gt 0 ]] || return 0
    [[ $1 == --extras && $# -gt 1 ]] || die "unknown arguments $*: say --extras NAME, one or more of sweep, benchmark, peers."
    extras=("${@:2}")
    local extra
    for extra in "${extras[@]}"; do
        [[ -f $root/requirements-$extra.txt ]] || die "--extras $extra: choose sweep, benchmark or peers."
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
        attempt "making .venv with $python" "$python" -m venv --clear "$venv"
    elif [[ $installer != pip ]] && command -v uv >/dev/null; then
        attempt "making .venv with uv" \
            uv venv ${no_cache[@]+"${no_cache[@]}"} --quiet --clear --seed --python "$(command -v "$python")" "$venv"
    else
        die "$python has no venv module; install it (Debian, Ubuntu: sudo apt install python3-venv)" \
            "or name another interpreter with PYTHON=..."
    fi
}

# Sets the array `install`: the command that installs into .venv.
choose_installer() {
    if [[ $installer != pip ]]; then
        if command -v uv >/dev/null; then
            install=(uv pip install ${no_cache[@]+"${no_cache[@]}"} --python "$venv_python")
            return
        fi
        if [[ -x $venv/bin/uv ]] || "$venv_python" -m pip install --quiet --retries 1 \
            --disable-pip-version-check "uv==$uv_release" 2>/dev/null; then
            install=("$venv/bin/uv" pip install ${no_cache[@]+"${no_cache[@]}"} --python "$venv_python")
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
    attempt "the installation" "${install[@]}" -r <(grep -v '^torchquantum==' "$root/requirements.txt")
    attempt "the installation" "${install[@]}" --no-deps -r <(grep '^torchquantum==' "$root/requirements.txt")
}

install_all() {
    local python
    python=$(find_python)
    [[ -w $root ]] || die "$root cannot be written; copy the repository to a folder that can."
    make_venv "$python"
    rm -f "$stamp"*
    choose_installer
    say "installing requirements.txt into .venv with ${install[0]##*/} (torch brings CUDA on Linux: about 6 GB)"
    install_requirements
    stamp requirements.txt "$stamp"
    fits "$venv_python" 13 || say "note: TorchQuantum cannot be installed on Python >= 3.13: no --engine" \
        "torchquantum here, all else works. To have it: PYTHON=python3.12 bash bash_scripts/setup.sh"
}

install_extra() {
    choose_installer
    say "installing requirements-$1.txt into .venv with ${install[0]##*/}"
    attempt "the installation" "${install[@]}" -r "$root/requirements-$1.txt"
    stamp "requirements-$1.txt" "$stamp-$1"
}

# Sets the array `no_cache`: uv's flag where its cache cannot be written, as in a read-only home; pip sees to its own.
choose_cache() {
    local cache=${UV_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/nowhere}/.cache}/uv}
    no_cache=()
    mkdir -p "$cache" 2>/dev/null && [[ -w $cache ]] || no_cache=(--no-cache)
}

case $installer in auto | uv | pip) ;; *) die "QDEQ_INSTALLER=$installer: choose uv or pip." ;; esac
read_arguments "$@"
installed=""
choose_cache
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
