"""Tables from finished runs: arithmetic, what is missing, what must be said, and the command from end to end."""

import csv
import io
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
from conftest import REPOSITORY, SCRIPTS, user_environment
from wandb.proto.wandb_internal_pb2 import Record
from wandb_reader import _records, read_offline_run

from reproduction import pictures, report, tables
import reproduce
from reproduction.collect import collect, curves, kept_path, read_kept
from reproduction.jobs import make_job
from reproduction.rows import TABLES
from reproduction.tables import as_csv, build_table, markdown
from utils.cli import parse_command_line
from utils.settings import SettingsError

TABLE = TABLES["table2"]


def result(seed: int, accuracy: float, **other) -> dict:
    return {
        "seed": seed, "test_acc": accuracy, "peak_memory_mb": 800.0, "train_seconds": 60.0 + seed, "test_res": 0.01,
        "test_res_rel": 0.001, "n_parameters": 1056, "git_commit": "abc", "device": "cpu (x, 1 threads)",
        "test_images_sha256": "0", **other,
    }  # fmt: skip


def test_means_spreads_and_differences():
    results = {("implicit", 0): result(0, 0.75), ("implicit", 2): result(2, 0.77), ("direct-1", 0): result(0, 0.7)}
    content = build_table(TABLE, 100, [0, 1, 2], results)
    implicit, direct = content["rows"]
    assert implicit["test_acc"]["mean"] == pytest.approx(76)
    assert implicit["test_acc"]["std"] == pytest.approx(2**0.5)  # of the sample: n - 1
    assert implicit["test_acc"]["difference"] == pytest.approx(76 - 73.68)
    assert implicit["seeds"] == [0, 2] and implicit["train_seconds"]["mean"] == 61
    assert direct["test_acc"]["std"] is None and direct["test_res"]["paper"] == 4.026
    commands = [missing["command"] for missing in content["missing"]]
    others = " ".join(row.name for row in TABLE.rows if row.name not in ("implicit", "direct-1"))
    assert commands == [
        "python DEQ-Quantum/reproduce.py table2 --rows implicit --seeds 1",
        f"python DEQ-Quantum/reproduce.py table2 --rows {others} --seeds 0 1 2",
        "python DEQ-Quantum/reproduce.py table2 --rows direct-1 --seeds 1 2",
    ]
    assert content["runs_of_commit"] == {"abc": 3}


def test_markdown_fills_nothing_in():
    text = markdown(
        build_table(TABLE, 100, [0, 1], {("implicit", 0): result(0, 0.75), ("implicit", 1): result(1, 0.77)})
    )
    rows = [line for line in text.splitlines() if line.startswith("| ") and "model" not in line]
    assert rows == ["| IMPLICIT | 76.00 ± 1.41 | 73.68 | +2.32 | 800 (27.3) | 60 (7302) | 1.0e-02 (5.6e-03) | 1.0e-03 "
                    "| 1056 | 0, 1 |"]  # fmt: skip
    assert "- IMPLICIT+WARMUP; DIRECT-10; " in text
    assert " (seeds 0, 1): `python DEQ-Quantum/reproduce.py table2 --rows warmup direct-10 " in text
    assert "JPEG" not in text and "not the paper's" not in text


def test_shortened_tables_and_jpeg_images_say_so():
    (jpeg,) = tables.KNOWN_TEST_IMAGES
    results = {("implicit", 0): result(0, 0.2, test_images_sha256=jpeg)}
    text = markdown(build_table(TABLES["table4"], 2, [0], results))
    assert "2 epochs, **not the paper's 25**" in text and "partly JPEG-decoded" in text
    assert "--epochs 2" in text  # of the rows that are left


def test_csv_holds_the_tables_numbers():
    content = build_table(TABLE, 100, [0], {("warmup", 0): result(0, 0.75)})
    (line,) = csv.DictReader(io.StringIO(as_csv(content)))
    assert line["label"] == "IMPLICIT+WARMUP" and float(line["test_acc_mean"]) == 75 and line["test_acc_std"] == ""
    assert float(line["test_acc_paper"]) == 73.33 and float(line["test_acc_difference"]) == pytest.approx(1.67)


# kept results


@pytest.fixture
def finished_job(tmp_path):
    job = make_job(TABLE, TABLE.row("implicit"), 0, 100, tmp_path / "runs")
    job.folder.mkdir(parents=True)
    settings = parse_command_line(list(job.flags)).settings.to_dict()
    (job.folder / "config.json").write_text(json.dumps(settings))
    (job.folder / "results.json").write_text(json.dumps(result(0, 0.75, settings=settings)))
    (job.folder / "metrics.csv").write_text(
        "event,train_step,epoch,mode,train_loss,val_acc,val_spectral_radius\n"
        "train,5,1.0,1,0.123456789,,\nval,5,1.0,1,,0.5,0.25\ntrain,10,2.0,1,0.1,,\nval,10,2.0,1,,0.75,\ntest,10,2.0,1,,,\n"
    )
    return job


def test_finished_runs_are_kept_with_their_curves(finished_job, tmp_path):
    assert collect([finished_job], tmp_path / "results") == 1
    assert read_kept(finished_job, tmp_path / "results") == finished_job.results()
    lines = list(csv.DictReader(kept_path(finished_job, tmp_path / "results").with_suffix(".csv").open()))
    assert [(line["epoch"], line["train_loss"], line["val_acc"]) for line in lines] == [
        ("1", "0.123457", "0.5"), ("2", "0.1", "0.75")
    ]  # fmt: skip
    assert lines[0]["val_spectral_radius"] == "0.25" and lines[1]["val_spectral_radius"] == ""
    assert "test" not in curves(finished_job.folder / "metrics.csv")


def test_missing_leaves_out_what_is_kept(finished_job, tmp_path, capsys):
    collect([finished_job], tmp_path / "results")
    words = ["table2", "--rows", "implicit", "--seeds", "0", "1", "--work_dir", str(tmp_path / "elsewhere"),
             "--results_dir", str(tmp_path / "results"), "--dry_run"]  # fmt: skip
    for more, seeds in (([], ["0", "1"]), (["--missing"], ["1"])):
        reproduce.main([*words, *more])
        count, *commands = capsys.readouterr().out.splitlines()
        assert count.startswith(f"0 of {len(seeds)} runs") and [c.split("--seed ")[1][0] for c in commands] == seeds


def test_missing_shows_what_is_kept_beside_what_it_runs(finished_job, tmp_path, capsys):
    collect([finished_job], tmp_path / "results")
    words = ["table2", "--rows", "implicit", "--seeds", "0", "--missing", "--results_dir", str(tmp_path / "results")]
    reproduce.main([*words, "--work_dir", str(tmp_path / "elsewhere")])
    text = capsys.readouterr().out
    assert "0 of 0 runs" in text and "| IMPLICIT | 75.00 | 73.68 |" in text and "Not run yet" not in text
    copy = kept_path(finished_job, tmp_path / "elsewhere" / "shown").with_suffix(".csv")
    assert copy.read_text() == kept_path(finished_job, tmp_path / "results").with_suffix(".csv").read_text()


def test_kept_results_of_other_settings_do_not_count(finished_job, tmp_path):
    collect([finished_job], tmp_path)
    assert read_kept(make_job(TABLE, TABLE.row("implicit"), 0, 50, tmp_path), tmp_path) is None
    path = kept_path(finished_job, tmp_path)
    path.write_text("[]")
    with pytest.raises(SettingsError, match=str(path)):
        read_kept(finished_job, tmp_path)


def test_table_is_made_of_kept_results_alone(finished_job, tmp_path):
    first = report.write_table(TABLE, 100, [0], [finished_job], tmp_path / "results")
    (finished_job.folder / "results.json").unlink()
    again = report.write_table(TABLE, 100, [0], [finished_job], tmp_path / "results")
    assert first == again == json.loads((tmp_path / "results" / "table2" / "table.json").read_text())
    assert (tmp_path / "results" / "table2" / "table.md").read_text() == markdown(first) + "\n"


def test_nothing_is_written_where_nothing_has_run(tmp_path):
    content = report.write_table(TABLE, 100, [0], [], tmp_path)
    assert not content["rows"] and not list(tmp_path.iterdir())
    assert "Not run yet" in markdown(content)


def test_tables_are_put_into_their_places(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n\n<!-- reproduce.py table2 -->\nold\n<!-- end -->\n\nafter\n")
    assert report.put_into(readme, {"table2": r"new \1", "table3": "x"}) == ["table3"]
    assert readme.read_text() == "before\n\n<!-- reproduce.py table2 -->\n\nnew \\1\n\n<!-- end -->\n\nafter\n"


COMMITTED = sorted((REPOSITORY / "results" / "paper").glob("table[1-4]/table.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_tables_are_those_of_the_committed_runs(path, tmp_path):
    content = json.loads(path.read_text())
    table = TABLES[content["table"]]
    jobs = [make_job(table, row, seed, content["epochs"], tmp_path) for row in table.rows for seed in content["seeds"]]
    kept = {(job.row, job.seed): read_kept(job, path.parents[1]) for job in jobs}
    rebuilt = build_table(table, content["epochs"], content["seeds"], {k: v for k, v in kept.items() if v})
    assert rebuilt == content
    assert path.with_suffix(".md").read_text() == markdown(content) + "\n"
    assert path.with_suffix(".csv").read_text() == as_csv(content)
    assert (
        f"<!-- reproduce.py {table.name} -->\n\n{markdown(content)}\n\n<!-- end -->"
        in (REPOSITORY / "README.md").read_text()
    )


# the command, from end to end


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


def test_command_runs_reports_and_does_not_run_again(tmp_path, tiny_data, scheduler):
    text = finish(start(tmp_path, tiny_data, "--epochs", 2, "--seeds", 0, 1, **scheduler))
    assert ("one after another" in text) == bool(scheduler)
    assert "2 of 2 runs finished" in text and "| IMPLICIT, amplitude |" in text and not (tmp_path / "results").exists()
    folder = tmp_path / "runs" / "table1" / "amplitude_implicit"
    before = (folder / "seed-1" / "results.json").stat().st_mtime_ns
    assert "2 of 2 runs are finished" in finish(start(tmp_path, tiny_data, "--epochs", 2, "--seeds", 0, 1, **scheduler))
    assert (folder / "seed-1" / "results.json").stat().st_mtime_ns == before
    assert json.loads((folder / "seed-1" / "config.json").read_text())["seed"] == 1


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


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path, tiny_data, scheduler):
    process = start(tmp_path, tiny_data, "--epochs", 200, **scheduler)
    folder = tmp_path / "runs" / "table1" / "amplitude_implicit" / "seed-0"
    wait_for((folder / "checkpoint_last.pt").exists)
    process.send_signal(signal.SIGINT)
    text = finish(process, 130)
    assert "the same command goes on" in text and not processes_of(tmp_path)
    assert not list((tmp_path / "runs").glob(".stop-*"))
    assert "1 of 1 runs finished" in finish(start(tmp_path, tiny_data, "--epochs", 200, **scheduler))
    assert "continuing after step" in (folder / "log.txt").read_text()
    epochs = [row["epoch"] for row in csv.DictReader((folder / "metrics.csv").open()) if row["event"] == "val"]
    assert [float(epoch) for epoch in epochs] == list(range(1, 201))  # each once


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
    records = [Record.FromString(content) for content in _records(file.read_bytes())]
    (run,) = (record.run for record in records if record.WhichOneof("record_type") == "run")
    return {"group": run.run_group, "job_type": run.job_type, "name": run.display_name}


def test_each_table_has_a_summary_in_its_own_group(tmp_path, monkeypatch):
    runs = []

    def init(**about):
        runs.append({"group": about["group"], "job_type": about["job_type"], "logged": set()})
        log = runs[-1]["logged"]
        return SimpleNamespace(log=log.update, summary={}, finish=lambda: None, id=str(len(runs)))

    wandb = SimpleNamespace(init=init, Settings=dict, Table=dict, Image=str)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    stems = ("training_table1", "training_table2", "confusion_table2", "spectral_radius")
    monkeypatch.setattr(pictures, "draw_results", lambda *folders: [tmp_path / f"{stem}.png" for stem in stems])
    contents = [build_table(TABLES[name], 100, [0], {}) for name in ("table1", "table2")]
    options = Namespace(wandb_project="tests", wandb="offline", work_dir=tmp_path)
    reproduce._log_summaries(contents, tmp_path, options)
    assert runs == [
        {"group": "table1", "job_type": "summary", "logged": {"table1", "training_table1", "spectral_radius"}},
        {"group": "table2", "job_type": "summary", "logged": {"table2", *stems[1:]}},
    ]


def test_the_readme_finds_every_offline_run(tmp_path):
    (command,) = re.findall(r"`(find runs/paper [^`]+)`", (REPOSITORY / "README.md").read_text())
    folders = ("table2/implicit/seed-0", "table5/mnist4/direct-2/lr-0.05", "summary")
    for folder in folders:
        (tmp_path / "runs" / "paper" / folder / "wandb" / "offline-run-1" / "files").mkdir(parents=True)
    echoed = ["echo" if word == "wandb" else word for word in shlex.split(command)]
    found = subprocess.run(echoed, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == "sync" and set(found[1:]) == {f"runs/paper/{folder}/wandb/offline-run-1" for folder in folders}


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
