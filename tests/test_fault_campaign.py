"""The fault campaign finds planted faults: what each part says of the code as it is, and of code that is broken."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

import dataset
import runs.checkpoint
import runs.folder
import runs.signals
import training.command_line
from campaigns.faults import (
    PARTS,
    __main__,
    campaign,
    disk,
    files,
    flips,
    kills,
    lines,
    signals,
    subjects,
    together,
    writes,
)
from campaigns.faults.children import Outcome, start
from campaigns.faults.judging import Trial, check_manners, check_refusal
from conftest import SCRIPTS
from runs.folder import RunFolder
from training.loop import Training
from utils import seeds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="a process that has used CUDA cannot be forked"),
]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> subjects.Bench:
    """The two runs that are damaged, left alone, half done and timed."""
    bench = subjects.Bench(SCRIPTS, tmp_path_factory.mktemp("campaign"), {})
    bench.prepare(("implicit", "direct"))
    return bench


def kinds(trial: Trial) -> set[str]:
    return {kind for kind, _ in trial.findings}


def finish_half(bench, name: str) -> Trial:
    """Resume a run that was killed in the middle."""
    trial, work_dir = Trial("resumed"), bench.fresh(name)
    subjects.shutil.copytree(bench.half("direct"), work_dir / subjects.NAME)
    subjects.check_finished(trial, bench.finish("direct", work_dir), bench, "direct", work_dir, "resumed")
    return trial


def test_other_numbers_are_found(bench, monkeypatch):
    assert finish_half(bench, "same").findings == []
    batches = seeds.batches
    monkeypatch.setattr(seeds, "batches", lambda n, size, seed, step, device: batches(n, size, seed, 0, device))
    assert kinds(finish_half(bench, "other")) == {"numbers"}


def test_a_run_is_killed_and_ends_the_same(bench):
    case = {"subject": "direct", "seed": 1, "real": False, "pictures": False, "kills": 3}
    trial = kills.attempt(case, bench)
    assert trial.count == 3 and trial.findings == []


def test_a_file_that_is_not_written_at_once_is_found(bench, monkeypatch):
    for name in list(subjects.SUBJECTS):
        if name != "implicit":
            monkeypatch.delitem(subjects.SUBJECTS, name)
    monkeypatch.setattr(runs.folder, "write_json", lambda path, content: path.write_text(json.dumps(content)))
    drawn = [case for case in writes.cases(200, random.Random(0), bench)
             if (case["operation"], case["name"], case["way"]) == ("write", "config.json", "middle")]  # fmt: skip
    assert kinds(writes.attempt(drawn[0], bench)) == {"lost"}
    monkeypatch.undo()
    case = {"command": "implicit", "at": drawn[0]["at"], "way": "middle", "operation": "", "name": "config.json"}
    assert writes.attempt(case, bench).findings == []


def test_a_signal_that_ends_a_run_without_saving_is_found(bench, monkeypatch):
    step = Training.train_step
    monkeypatch.setattr(Training, "train_step", lambda self, *batch: (time.sleep(0.08), step(self, *batch)))
    monkeypatch.setitem(bench.seconds, "direct", 1.0)
    monkeypatch.setattr(random.Random, "uniform", lambda self, a, b: b)
    case = {"command": "direct", "real": False, "seed": 1, "signal": 15, "twice": False, "pictures": False}
    assert signals.attempt(case, bench).findings == []
    monkeypatch.setattr(runs.signals.signal, "signal", lambda number, handler: signal.SIG_DFL)
    # where the machine is busy some of them may come before the training
    assert any("lost" in kinds(signals.attempt(case | {"seed": seed}, bench)) for seed in range(2, 12))


def test_a_file_that_is_lost_to_a_full_disk_is_found(bench, monkeypatch):
    case = {"command": "implicit", "begun": True, "limit": 3000, "mounted": False, "pictures": False, "seed": 1}
    assert disk.attempt(case, bench).findings == []

    def save(path: Path, content: dict, previous: Path | None = None):
        path.write_bytes(b"")
        raise runs.checkpoint.CheckpointError("cannot write a file")

    monkeypatch.setattr(runs.checkpoint, "save", save)
    found = disk.attempt(case, bench).findings
    assert "line" in dict(found) and any("gone or empty" in what for _, what in found)


@pytest.mark.parametrize("where", [("checkpoint_last.pt", "restart"), ("checkpoint_best.pt", "evaluate")])
def test_damage_that_is_taken_for_good_is_found(bench, monkeypatch, where):
    case = {"file": where[0], "reader": where[1], "flips": [(place, 6) for place in (0.2, 0.35, 0.5, 0.6)], "seed": 1}
    trial = flips.attempt(case, bench)
    assert trial.count == 4 and trial.findings == []
    load = torch.load

    def load_something(path, **options):
        """As if a flip had gone through: one parameter differs."""
        content = load(path, **options)
        list(content["model"].values())[-1].view(-1)[0] += 1
        return content

    right, read = flips.read("restart", bench, bench.folder / "cases" / "flips-1"), flips.read
    assert right[0] is not None

    def read_damaged(*args):
        monkeypatch.setattr(torch, "load", load_something)
        return read(*args)

    first = iter([read] * (2 if where[1] == "restart" else 1))
    monkeypatch.setattr(flips, "read", lambda *args: next(first, read_damaged)(*args))
    monkeypatch.setattr(runs.checkpoint, "_verify", lambda archive: None)
    assert "accepted" in kinds(flips.attempt(case, bench))


def test_a_traceback_over_a_wrong_file_is_found(bench, monkeypatch):
    case = {"file": "config.json", "way": "garbage", "reader": "restart", "seed": 1}
    assert files.attempt(case, bench).findings == []
    monkeypatch.setattr(runs.folder, "_saved_settings", lambda run, command: json.loads("{"))
    assert kinds(files.attempt(case, bench)) == {"traceback"}


def test_a_users_file_that_is_changed_is_found(bench, monkeypatch):
    case = {"file": "mnist.npz", "way": "text", "reader": "train on it", "seed": 1}
    assert files.attempt(case, bench).findings == []

    def load(name: str, folder: str):
        (Path(folder) / "mnist.npz").unlink()
        raise dataset.DataError("mnist.npz was of no use")

    monkeypatch.setattr(dataset, "load_images", load)
    assert kinds(files.attempt(case, bench)) == {"lost"}


def line(*words: str, wrong: bool = False) -> dict:
    return {"command": ["train_qdeq.py"], "flags": [], "words": list(words), "wrong": wrong, "number": 1}


def test_what_a_wrong_line_must_not_do_is_found(bench, monkeypatch):
    for right in (line(), line("--lr", "1e400"), line("--optim", "none")):
        assert lines.attempt(right, bench).findings == []

    def plant(action) -> set[str]:
        monkeypatch.setattr(training.command_line, "parse_command_line", action)
        return kinds(lines.attempt(line("--batch_size", str(10**20)), bench))

    def leave_a_folder():
        os.mkdir("half")
        raise SystemExit("no")

    assert plant(lambda: 10**400 * 1.0) == {"traceback"}
    assert plant(leave_a_folder) == {"left"}
    monkeypatch.setattr(lines, "SOON", 0.5)
    assert plant(lambda: time.sleep(60)) == {"endless"}


def test_lines_are_drawn_of_every_command(bench):
    commands = {command.words: command for command in lines.all_commands(bench)}
    assert {("train_qdeq.py",), ("train_qep.py",), ("evaluate_qdeq.py",), ("benchmark.py", "step"),
            ("reproduce.py", "qep", "error")} <= set(commands)  # fmt: skip
    assert "--learning_rate" not in str(commands) and "--lr" in str(commands[("train_qdeq.py",)].flags)
    drawn = lines.cases(400, random.Random(0), bench)
    assert {tuple(case["command"]) for case in drawn} == set(commands)


def test_two_processes_that_both_go_on_in_one_folder_are_found(bench, monkeypatch, tmp_path):
    """In place of the lock each waits until the other has looked: both go on, and where neither broke, that is found."""

    def meet(folder: RunFolder) -> None:
        (tmp_path / f"{folder.path.parent.name} {os.getpid()}").touch()
        end = time.monotonic() + 30
        while len(list(tmp_path.glob(f"{folder.path.parent.name} *"))) < 2 and time.monotonic() < end:
            time.sleep(0.002)

    case = {"pair": "restart and restart, half done", "subject": "direct", "delay": 0.0, "seed": 1}
    assert together.attempt(case, bench).findings == []
    monkeypatch.setattr(RunFolder, "_acquire", meet)
    assert any("accepted" in kinds(together.attempt(case | {"seed": seed}, bench)) for seed in range(2, 12))


def test_what_a_command_says_is_judged():
    def judged(check, status, err: str, **options) -> set[str]:
        trial = Trial("x")
        check(trial, Outcome(status, "", err, 1.0), "x", **options)
        return kinds(trial)

    assert judged(check_manners, 0, "") == judged(check_manners, -9, "") == set()
    assert judged(check_manners, 1, "Traceback (most recent call last):\n x\nValueError: y") == {"traceback"}
    assert judged(check_manners, -11, "") == {"traceback"} and judged(check_manners, None, "") == {"endless"}
    assert judged(check_refusal, 2, "usage: x [-h]\n   [--y]\nx: error: no") == set()
    assert judged(check_refusal, 1, "error: no a.pt", names="a.pt") == set()
    assert judged(check_refusal, 1, "error: no", names="a.pt") == {"line"}
    assert judged(check_refusal, 1, "") == judged(check_refusal, 1, "a\nb") == judged(check_refusal, 0, "a") == {"line"}


def test_children_are_as_processes(tmp_path):
    script = tmp_path / "x.py"
    script.write_text("import sys\nprint('out')\nsys.exit(sys.argv[1] if sys.argv[1:] else 3)\n")
    assert start(script, []).end(10).status == 3
    end = start(script, ["why"]).end(10)
    assert (end.status, end.out, end.err) == (1, "out\n", "why\n")
    script.write_text("import time\ntime.sleep(60)\n")
    assert start(script, []).end(0.2).status is None
    child = start(script, [])
    child.wait(0.2)
    child.send(signal.SIGINT)
    end = child.end(10)
    assert end.status == 130 and "KeyboardInterrupt" in end.err


def test_the_table_and_the_page_say_what_was_found():
    good, bad = Trial("of one", 5), Trial("of one")
    bad.find("lost", "gone")
    rows = campaign.tabulate([("kills", {"seed": 1}, good, 1.0), ("kills", {"seed": 2}, bad, 2.0)], PARTS)
    assert rows[0]["tried"] == 6 and rows[0]["found"] == [{"kind": "lost", "what": "gone", "case": {"seed": 2}}]
    assert "| kills | of one | 6 | 1 | 0 |" in campaign.as_table(rows)
    part, case, trial, _ = campaign.attempt(("kills", {}, None))  # a case that cannot be tried
    assert kinds(trial) == {"lost"}


def test_the_flags_of_the_campaign():
    assert __main__.parse_command_line([]).n == PARTS
    few = ["--only", "kills", "lines", "--n", "7", "lines=3"]
    assert __main__.parse_command_line(few).n == {"kills": 7, "lines": 3}
    for wrong in (["--n", "many"], ["--only", "kills", "--n", "lines=3"], ["--only", "nothing"]):
        with pytest.raises(SystemExit) as end:
            __main__.parse_command_line(wrong)
        assert end.value.code == 2
