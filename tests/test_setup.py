"""Setting up: requirements.txt, setup.sh, test.sh and .ci/run, in a copy of their own.

Nothing is installed: uv is a fake that writes down its calls, and the venv's Python is the tests' own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = ["bash_scripts/setup.sh", "bash_scripts/test.sh", ".ci/run"]
CALLERS = ["bash_scripts/setup.sh", "bash_scripts/test.sh", "bash_scripts/quickstart.sh"]
EXTRAS = ["sweep", "benchmark", "peers"]
LINE = re.compile(r"^([a-z0-9-]+)==([0-9][0-9.]*)( ; python_version (<|>=) \"3\.\d+\")?  # (\S.{5,})$")

# `uv venv` makes the bare folder of a venv; `uv pip` notes its arguments and the requirements it was given
FAKE_UV = """#!/usr/bin/env bash
set -eu
echo "uv $*" >>"$CALLS"
case $1 in
venv)
    folder=${@: -1}
    mkdir -p "$folder/bin"
    rm -f "$folder/bin/python"
    printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$REAL_PYTHON" >"$folder/bin/python"
    chmod +x "$folder/bin/python" ;;
pip)
    [[ ! -e $CALLS.fail ]] || { cat "$CALLS.fail" >&2; exit 2; }
    sed 's/^/    /' "${@: -1}" >>"$CALLS" ;;
esac
"""
# no ensurepip, as on Debian without python3-venv: setup.sh lets uv make the venv
FAKE_PYTHON = """#!/usr/bin/env bash
[[ "$*" != *ensurepip* ]] || exit 1
exec "$REAL_PYTHON" "$@"
"""
OLD_PYTHON = """#!/usr/bin/env bash
case "$*" in *exit*) exit 1 ;; *) echo 3.9 ;; esac
"""


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Clone:
    """A copy of the scripts in a folder with a space in its name, with fakes on PATH."""

    def __init__(self, folder: Path):
        self.root, self.bin, self.calls_file = folder / "a clone", folder / "bin", folder / "calls"
        for name in [*SCRIPTS, *CALLERS, "requirements.txt", *(f"requirements-{extra}.txt" for extra in EXTRAS)]:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, self.root / name)
        self.python = write_program(self.bin / "python3", FAKE_PYTHON)
        write_program(self.bin / "uv", FAKE_UV)
        self.stamp = self.root / ".venv" / ".qdeq-stamp"

    def run(self, script: str, *flags: str, **environment: str) -> subprocess.CompletedProcess:
        inherited = {
            k: v
            for k, v in os.environ.items()
            if k not in ("PYTHON", "QDEQ_INSTALLER", "QDEQ_DATA", "QDEQ_PYTHON") and not k.lower().endswith("_proxy")
        }
        fakes = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "CALLS": str(self.calls_file),
            "REAL_PYTHON": sys.executable,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # faster
            "PYTEST_PLUGINS": "xdist.plugin",
        }
        return subprocess.run(
            ["bash", str(self.root / script), *flags],
            cwd="/", env=inherited | fakes | environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def setup(self, *flags: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run("bash_scripts/setup.sh", *flags, **environment)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def uv_calls(self) -> int:
        return sum(line.startswith("uv ") for line in self.calls)


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def error_line(process: subprocess.CompletedProcess) -> str:
    """The one line on stderr of a refusal."""
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("setup: error: ")
    return line


# --- requirements.txt -----------------------------------------------------------------------------


def requirement_lines() -> list[str]:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("line", requirement_lines())
def test_each_requirement_is_pinned_and_says_why(line):
    assert LINE.match(line), 'expected: name==1.2.3 ; python_version >= "3.x"  # why it is here'


def test_each_python_gets_each_package_once():
    for minor in range(10, 14):
        names = []
        for line in requirement_lines():
            name, _, marker, *_ = LINE.match(line).groups()
            condition = re.sub(r'.*(<|>=) "3\.(\d+)"', rf"{minor} \1 \2", marker) if marker else "True"
            if eval(condition):
                names.append(name)
        assert len(names) == len(set(names)) and {"torch", "numpy", "pytest", "wandb"} <= set(names)
        assert ("torchquantum" in names) == (minor < 13)


# --- setup.sh -------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_strict_executable_bash(script):
    path = REPOSITORY / script
    subprocess.run(["bash", "-n", path], check=True)
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "\nset -euo pipefail\n" in text
    assert os.access(path, os.X_OK)


def test_first_run_installs_and_the_second_does_nothing(clone):
    first = clone.setup()
    assert first.returncode == 0, first.stderr
    assert "setup: ready" in first.stdout and clone.stamp.exists()
    installs = [line for line in clone.calls if line.startswith("uv pip install")]
    assert len(installs) == 2 and "--no-deps" not in installs[0] and "--no-deps" in installs[1]
    assert f"--python {clone.root}/.venv/bin/python" in installs[0]
    only_torchquantum = clone.calls[clone.calls.index(installs[1]) + 1 :]
    assert [line.split("==")[0].strip() for line in only_torchquantum] == ["torchquantum"]
    calls = clone.uv_calls()
    second = clone.setup()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert clone.uv_calls() == calls


def test_a_failed_run_leaves_no_stamp_and_is_continued(clone):
    failing = Path(f"{clone.calls_file}.fail")
    failing.write_text("some trouble\n")
    process = clone.setup()
    assert process.returncode == 1 and not clone.stamp.exists()
    assert process.stderr.splitlines()[0] == "some trouble"
    assert "setup.sh again: it continues" in process.stderr.splitlines()[-1]
    failing.unlink()
    assert clone.setup().returncode == 0 and clone.stamp.exists()
    assert sum(line.startswith("uv venv") for line in clone.calls) == 1, "the venv was made twice"


def test_changed_requirements_are_installed(clone):
    clone.setup()
    calls = clone.uv_calls()
    with (clone.root / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    Path(f"{clone.calls_file}.fail").write_text("some trouble\n")
    assert clone.setup().returncode == 1 and not clone.stamp.exists(), "the old stamp outlived a failed run"
    Path(f"{clone.calls_file}.fail").unlink()
    assert clone.setup().returncode == 0
    assert clone.uv_calls() == calls + 3  # one failed, two installed


def test_extras_are_installed_once_and_last(clone):
    process = clone.setup("--extras", "sweep")
    assert process.returncode == 0 and clone.uv_calls() == 4, process.stderr  # the venv, two of setup.sh alone, Ray
    last = max(i for i, line in enumerate(clone.calls) if line.startswith("uv "))
    asked = {line.split("==")[0].strip() for line in clone.calls[last + 1 :] if "==" in line}
    assert asked == {"ray[tune]", "optuna", "wandb-workspaces"}
    assert "pennylane" not in "\n".join(clone.calls)
    assert clone.setup().stdout == clone.setup("--extras", "sweep").stdout == ""
    assert clone.uv_calls() == 4
    assert clone.setup("--extras", *EXTRAS).returncode == 0 and clone.uv_calls() == 6
    assert any(line.strip().startswith("pennylane==") for line in clone.calls)


def test_a_failed_extra_is_continued(clone):
    clone.setup()
    failing = Path(f"{clone.calls_file}.fail")
    failing.write_text("some trouble\n")
    process = clone.setup("--extras", "sweep")
    assert process.returncode == 1 and "setup.sh again: it continues" in process.stderr.splitlines()[-1]
    failing.unlink()
    assert clone.setup().stdout == ""  # what it needs is there
    assert "installing requirements-sweep.txt" in clone.setup("--extras", "sweep").stdout


@pytest.mark.parametrize("changed", ["requirements.txt", "requirements-sweep.txt"])
def test_changed_requirements_bring_their_extras(changed, clone):
    clone.setup("--extras", "sweep")
    with (clone.root / changed).open("a") as file:
        file.write("# changed\n")
    calls = clone.uv_calls()
    assert clone.setup("--extras", "sweep").returncode == 0
    assert clone.uv_calls() == calls + (3 if changed == "requirements.txt" else 1)


@pytest.mark.parametrize("flags, message", [
    (["--extras", "fly"], "--extras fly: choose sweep, benchmark or peers"),
    (["--extras"], "unknown arguments --extras: say --extras NAME"),
    (["sweep"], "unknown arguments sweep: say --extras NAME"),
])  # fmt: skip
def test_unknown_arguments_are_refused(flags, message, clone):
    assert message in error_line(clone.setup(*flags))
    assert not clone.calls


def test_a_broken_venv_is_made_again(clone):
    clone.setup()
    python = clone.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert clone.setup().returncode == 0 and python.exists()


@pytest.mark.parametrize("old", ["old", "missing"])
def test_a_python_that_does_not_fit_is_refused(old, clone):
    python = clone.bin / "python3.9"
    if old == "old":
        write_program(python, OLD_PYTHON)
    says = "3.9" if old == "old" else "nothing"
    line = error_line(clone.setup(PYTHON=str(python)))
    assert f"PYTHON={python} is not a Python >= 3.10 (it says: {says}); set PYTHON" in line
    assert not (clone.root / ".venv").exists()


def test_an_unfit_default_python_is_passed_over(clone):
    write_program(clone.bin / "python3", OLD_PYTHON)
    write_program(clone.bin / "python3.12", FAKE_PYTHON)
    process = clone.setup()
    assert process.returncode == 0 and "making .venv with python3.1" in process.stdout


def test_a_python_without_venv_names_the_package(clone):
    line = error_line(clone.setup(PYTHON=str(clone.python), QDEQ_INSTALLER="pip"))
    assert "has no venv module" in line and "sudo apt install python3-venv" in line


def test_an_unknown_installer_is_refused(clone):
    assert "QDEQ_INSTALLER=conda: choose uv or pip" in error_line(clone.setup(QDEQ_INSTALLER="conda"))


# what installers print: the last lines of uv 0.13 and pip 24 behind a proxy that does not answer, without a network, on a
# full disk, and where they may not write
UV_PROXY = """error: Failed to fetch: `https://pypi.org/simple/torch/`
  Caused by: error sending request for url (https://pypi.org/simple/torch/)
  Caused by: client error (Connect)
  Caused by: tcp connect error: Connection refused (os error 111)
"""
PIP_PROXY = """WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError('Cannot connect to proxy.')'
ERROR: Could not find a version that satisfies the requirement torch==2.15.0 (from versions: none)
"""
UV_OFFLINE = """error: Failed to fetch: `https://pypi.org/simple/torch/`
  Caused by: dns error: failed to lookup address information: Temporary failure in name resolution
"""
PIP_OFFLINE = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<HTTPSConnection(host=
'pypi.org')>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'
"""
UV_FULL = """error: Failed to install: torch-2.15.0.whl
  Caused by: failed to write to file: No space left on device (os error 28)
"""
PIP_FULL = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
READ_ONLY = "error: failed to create directory `/opt/x`: Read-only file system (os error 30)\n"
PROXY = {"HTTPS_PROXY": "http://me:secret@127.0.0.1:9"}
FAILURES = [
    (UV_PROXY, PROXY, "through the proxy that is set in HTTPS_PROXY; mend or unset that"),
    (PIP_PROXY, PROXY | {"http_proxy": "http://x"}, "that is set in http_proxy HTTPS_PROXY; mend or unset that"),
    (UV_OFFLINE, {}, "no package index can be reached; connect to the network, or name a mirror"),
    (PIP_OFFLINE, {}, "no package index can be reached; connect to the network, or name a mirror"),
    (UV_FULL, PROXY, "the disk is full. It takes about 6 GB in "),
    (PIP_FULL, {}, "the disk is full. It takes about 6 GB in "),
    (READ_ONLY, {}, "failed to create directory `/opt/x`: Read-only file system (os error 30); let "),
]


@pytest.mark.parametrize("script", CALLERS)
@pytest.mark.parametrize("messages, environment, remedy", FAILURES)
def test_an_installation_that_fails_says_why_in_one_line(messages, environment, remedy, script, clone):
    Path(f"{clone.calls_file}.fail").write_text(messages)
    line = error_line(clone.run(script, **environment))
    assert "the installation failed: " in line and remedy in line and "run setup.sh again: it continues" in line
    assert "secret" not in line and not clone.stamp.exists()


def test_a_failure_without_a_reason_on_a_full_disk(clone):
    """As ensurepip's."""
    Path(f"{clone.calls_file}.fail").write_text("returned non-zero exit status 1\n")
    write_program(clone.bin / "df", "#!/bin/sh\necho Filesystem; echo /dev/x 100 99 1 99% /\n")
    assert "the disk is full" in error_line(clone.setup())


@pytest.mark.parametrize("home", ["/dev/null/home", None])
def test_uv_does_without_its_cache_where_home_cannot_be_written(home, clone, tmp_path):
    environment = {"HOME": home or str(tmp_path), "XDG_CACHE_HOME": "", "UV_CACHE_DIR": ""}
    process = clone.setup(**environment)
    assert process.returncode == 0, process.stderr
    calls = [line for line in clone.calls if line.startswith("uv ")]
    assert len(calls) == 3 and all(("--no-cache" in line) == bool(home) for line in calls)


@pytest.mark.parametrize("script", CALLERS)
def test_a_folder_that_cannot_be_written_is_named(script, clone):
    """By a `test` of its own: root may write where it should not."""
    text = (clone.root / "bash_scripts/setup.sh").read_text()
    (clone.root / "bash_scripts/setup.sh").write_text(text.replace("[[ -w $root ]]", "false"))
    assert f"{clone.root} cannot be written; copy the repository" in error_line(clone.run(script))
    assert not (clone.root / ".venv").exists()


# --- test.sh and .ci/run --------------------------------------------------------------------------


@pytest.mark.slow
def test_pytests_exit_status_and_arguments_pass_through(clone):
    """Through .ci/run, which hands over to test.sh."""
    tests = clone.root / "tests"
    tests.mkdir()
    (tests / "test_one.py").write_text("def test_good(): pass\ndef test_bad(): assert 0\n")
    assert clone.run(".ci/run", "-k", "good").returncode == 0
    assert clone.run(".ci/run").returncode == 1
    assert clone.run(".ci/run", "-k", "nothing").returncode == 5


@pytest.mark.slow
def test_quick_leaves_out_what_is_slow(clone):
    tests = clone.root / "tests"
    tests.mkdir()
    (tests / "test_one.py").write_text(
        "import pytest\n@pytest.mark.slow\ndef test_a(): assert 0\ndef test_b(): pass\ndef test_c(): assert 0\n"
    )
    assert "2 failed, 1 passed" in clone.run("bash_scripts/test.sh").stdout
    assert "1 failed, 1 passed" in clone.run("bash_scripts/test.sh", "quick").stdout
    assert "1 passed" in clone.run(".ci/run", "quick", "-k", "test_a or test_b").stdout


@pytest.mark.slow
@pytest.mark.parametrize("present", [True, False])
def test_continuous_integration_names_the_data_that_lies_beside(present, clone):
    tests = clone.root / "tests"
    tests.mkdir()
    folder = clone.root.parent / "shared" / "data"
    if present:
        folder.mkdir(parents=True)
    expected = str(folder) if present else None
    (tests / "test_one.py").write_text(
        f"import os\ndef test(): assert os.environ.get('QDEQ_DATA') == {expected!r}\n"
    )
    process = clone.run(".ci/run")
    assert process.returncode == 0, process.stdout
    installed = "\n".join(clone.calls)
    assert all(name in installed for name in ("ray[tune]==", "optuna==", "pennylane=="))  # so that no test is skipped
