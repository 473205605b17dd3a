"""`reproduce.py table1` from end to end: runs, Ctrl-C, lost workers, failures, its wandb group."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from conftest import REPOSITORY, SCRIPTS, user_environment
from reproduction import pictures, run_tables
from reproduction.report import PAGES
from reproduction.rows import TABLES
from reproduction.tables import build_table
from runs.wandb_files import records
from wandb_reader import read_offline_run


def start(tmp_path: Path, data: Path, *flags: object, **environment: str) -> subprocess.Popen:
    words = [sys.executable, SCRIPTS / "reproduce.py", "table1", "--rows", "amplitude_implicit", "--seeds", 0, "--jobs", 1,
             "--work_dir", tmp_path / "runs", "--results_dir", tmp_path / "results", "--data_dir", data, *flags]  # fmt: skip
    return subprocess.Popen(list(map(str, words)), env=user_environment(**environment), stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def finish(process: subprocess.Popen, status: int = 0) -> str:
    text = process.communicate(timeout=1500)[0]
    assert process.returncode == status, text
    return text


@pytest.fixture(params=["serial", pytest.param("ray", marks=pytest.mark.skipif(
    find_spec("ray") is None, reason="Ray is not installed (requirements-sweep.txt)"))])  # fmt: skip
def scheduler(request, tmp_path) -> dict[str, str]:
    """The environment in which runs follow one after another, or go to Ray."""
    if request.param == "ray":
        return {}
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "ray.py").write_text("raise ImportError('no Ray here')\n")
    return {"PYTHONPATH": str(tmp_path / "without")}


@pytest.mark.slow
def test_command_runs_reports_and_does_not_run_again(tmp_path, tiny_data, scheduler):
    text = finish(start(tmp_path, tiny_data, "--epochs", 2, "--seeds", 0, 1, **scheduler))
    assert ("one after another" in text) == bool(scheduler)
    assert "2 of 2 runs finished" in text and "| IMPLICIT, amplitude |" in text and not (tmp_path / "results").exists()
    folder = tmp_path / "runs" / "table1" / "amplitude_implicit"
    before = (folder / "seed-1" / "results.json").stat().st_mtime_ns
    assert "2 of 2 runs are finished" in finish(start(tmp_path, tiny_data, "--epochs", 2, "--seeds", 0, 1, **scheduler))
    assert (folder / "seed-1" / "results.json").stat().st_mtime_ns == before
    assert json.loads((folder / "seed-1" / "config.json").read_text())["seed"] == 1


@pytest.mark.slow
def test_report_of_the_command(tmp_path, tiny_data, run_script):
    where = ("--work_dir", tmp_path / "runs", "--results_dir", tmp_path / "results")
    finish(start(tmp_path, tiny_data, "--epochs", 2, PYTHONPATH=str(without_ray(tmp_path))))
    text = run_script("reproduce.py", "table1", "--epochs", 2, "--seeds", 0, *where, "--report").stdout
    assert "not the paper's 100" in text and "Not run yet" in text
    kept = json.loads((tmp_path / "results" / "table1" / "amplitude_implicit" / "seed-0.json").read_text())
    assert len(kept["test_images_sha256"]) == 64
    assert (tmp_path / "results" / "table1" / "table.md").read_text().strip() in text


def without_ray(folder: Path) -> Path:
    (folder / "ray.py").write_text("raise ImportError('no Ray here')\n")
    return folder


def processes_of(folder: Path) -> list[int]:
    """Training processes whose run lies in a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().decode()
        except OSError:
            continue
        if "train_qdeq.py" in command and str(folder) in command:
            found.append(int(path.parent.name))
    return found


def wait_for(condition, seconds: float = 1500.0):
    until = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
    return value


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, tiny_data, scheduler):
    process = start(tmp_path, tiny_data, "--epochs", 200, **scheduler)
    folder = tmp_path / "runs" / "table1" / "amplitude_implicit" / "seed-0"
    wait_for((folder / "checkpoint_last.pt").exists)
    process.send_signal(signal.SIGINT)
    text = finish(process, 130)
    assert "the same command resumes" in text and not processes_of(tmp_path)
    assert not list((tmp_path / "runs").glob(".stop-*"))
    assert "1 of 1 runs finished" in finish(start(tmp_path, tiny_data, "--epochs", 200, **scheduler))
    assert "continuing after step" in (folder / "log.txt").read_text()
    epochs = [row["epoch"] for row in csv.DictReader((folder / "metrics.csv").open()) if row["event"] == "val"]
    assert [float(epoch) for epoch in epochs] == list(range(1, 201))  # each once


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (requirements-sweep.txt)")
def test_row_of_a_lost_worker_goes_on_from_its_checkpoint(tmp_path, tiny_data):
    process = start(tmp_path, tiny_data, "--epochs", 200)
    folder = tmp_path / "runs" / "table1" / "amplitude_implicit" / "seed-0"
    wait_for((folder / "checkpoint_last.pt").exists)
    (training,) = processes_of(tmp_path)
    status = Path(f"/proc/{training}/status").read_text()
    (worker,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid"))
    assert "run_job" in Path(f"/proc/{worker}/cmdline").read_bytes().decode()
    os.kill(worker, signal.SIGKILL)
    assert "1 of 1 runs finished" in finish(process)
    assert "continuing after step" in (folder / "log.txt").read_text()


@pytest.mark.slow
def test_failing_run_ends_with_one_line_and_status_1(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist.npz").write_text("no archive")
    process = start(tmp_path, tmp_path / "data", "--epochs", 2, PYTHONPATH=str(without_ray(tmp_path)))
    text = finish(process, 1)
    assert (
        "failed: error:" in text and "is corrupt" in text and "1 of 1 runs failed" in text and "Traceback" not in text
    )


def wandb_run(folder: Path) -> dict[str, str]:
    """Group, job type and name of the one offline run in a folder."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    found = [Record.FromString(content) for content, _ in records(file.read_bytes())]
    (run,) = (record.run for record in found if record.WhichOneof("record_type") == "run")
    return {"group": run.run_group, "job_type": run.job_type, "name": run.display_name}


def test_each_table_has_a_summary_in_its_own_group(tmp_path, monkeypatch):
    runs = []

    def init(**about):
        runs.append({"group": about["group"], "job_type": about["job_type"], "logged": set()})
        log = runs[-1]["logged"]
        return SimpleNamespace(log=log.update, summary={}, finish=lambda: None, id=str(len(runs)))

    wandb = SimpleNamespace(init=init, Settings=dict, Table=dict, Image=str)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    stems = (("table1", "a"), ("table2", "b"), ("table2", "c"), (None, "d"))
    drawn = [pictures.Picture(table, (tmp_path / f"{stem}.svg", tmp_path / f"{stem}.png")) for table, stem in stems]
    monkeypatch.setattr(pictures, "draw_results", lambda *folders: drawn)
    contents = [build_table(TABLES[name], 100, [0], {}) for name in ("table1", "table2")]
    options = Namespace(wandb_project="tests", wandb="offline", work_dir=tmp_path)
    run_tables.log_summaries(contents, tmp_path, options)
    assert runs == [
        {"group": "table1", "job_type": "summary", "logged": {"table1", "a", "d"}},
        {"group": "table2", "job_type": "summary", "logged": {"table2", "b", "c", "d"}},
    ]


def test_the_command_of_the_pages_finds_the_offline_parts_of_every_run(tmp_path):
    texts = [(REPOSITORY / page).read_text() for page in PAGES if (REPOSITORY / page).exists()]
    (command,) = re.findall(r"`(find runs/paper [^`]+)`", "\n".join(texts))
    folders = ("table2/implicit/seed-0", "table5/mnist4/direct-2/lr-0.05", "summary")
    for folder in folders:
        (tmp_path / "runs" / "paper" / folder / "wandb" / "offline-run-1" / "files").mkdir(parents=True)
    echoed = shlex.split(command)
    echoed[echoed.index("-exec") + 1] = "echo"
    found = subprocess.run(echoed, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert sorted(found.splitlines()) == sorted(f"sync runs/paper/{folder}/wandb" for folder in folders)


@pytest.mark.slow
def test_wandb_groups_runs_and_ends_with_a_summary(tmp_path, tiny_data):
    environment = {"PYTHONPATH": str(without_ray(tmp_path)), "WANDB_SILENT": "true"}
    finish(start(tmp_path, tiny_data, "--epochs", 2, "--wandb", "offline", "--wandb_project", "tests", **environment))
    runs = tmp_path / "runs"
    row = "amplitude_implicit"
    assert wandb_run(runs / "table1" / row / "seed-0") == {"group": "table1", "job_type": row, "name": f"{row} seed-0"}
    assert wandb_run(runs / "summary")["job_type"] == "summary" and wandb_run(runs / "summary")["group"] == "table1"
    _, history, summary, _ = read_offline_run(runs / "summary")
    assert history[0]["table1"]["_type"] == "table-file"
    assert {"training_table1", "confusion_table1", "spectral_radius"} <= set(history[1])
    results = json.loads((runs / "table1" / row / "seed-0" / "results.json").read_text())
    assert summary[f"table1/{row}/test_acc"] == pytest.approx(100 * results["test_acc"])
