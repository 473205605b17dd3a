"""Table 5: what is searched, how trials are kept and reported, and a search that is stopped and resumed."""

import json
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

import reproduce
from conftest import REPOSITORY, SCRIPTS, user_environment
from reproduction import report, search
from reproduction.names import DEPTHS
from reproduction.rows import KINDS, TABLE_5, TABLES
from reproduction.search import (
    DATA,
    STOPPED_EARLY,
    Search,
    canonical,
    choices_of,
    papers_choice,
    trials_of,
    write_report,
)
from training.command_line import parse_command_line

NEEDS_RAY = pytest.mark.skipif(
    find_spec("ray") is None or find_spec("optuna") is None,
    reason="Ray or Optuna is not installed (requirements-sweep.txt)",
)


def test_spaces_are_those_of_appendix_e():
    for data in DATA:
        assert [len(choices_of(data, model)) for model in ("direct-1", "implicit", "warmup")] == [5, 35, 210]
    # 7 = no Jacobian loss, or 2 weights x 3 frequencies; 6 = 3 lengths x 2 depths of the warm-up
    assert 35 == 5 * 7 and 210 == 5 * 7 * 6


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("model", DEPTHS)
def test_the_papers_choice_is_one_of_them(data, model):
    assert papers_choice(data, model) in choices_of(data, model)


def test_a_trial_of_the_papers_choice_is_the_tables_row(tmp_path):
    for data, table in DATA.items():
        for model in DEPTHS:
            table_row = KINDS[model] | TABLE_5[data][model] | TABLES[table].flags
            job = Search(data, model, 25, tmp_path).job(papers_choice(data, model))
            settings = parse_command_line(list(job.flags))
            assert settings.warnings == [] and settings.settings.epochs == 25
            for name in (
                "lr",
                "jac_loss_weight",
                "jac_loss_freq",
                "mode",
                "n_layer",
                "dataset",
                "num_classes",
                "n_wires",
            ):
                default = parse_command_line([]).settings.to_dict()[name]
                assert settings.settings.to_dict()[name] == table_row.get(name, default), (data, model, name)


def test_equal_trials_are_one_run(tmp_path):
    search = Search("mnist10", "implicit", 10, tmp_path)
    without = [{"lr": 0.05, "jac_loss_weight": w, "jac_loss_freq": f} for w, f in ((0, 0), (0.8, 0), (0, 0.5))]
    assert len({search.job(choice).folder for choice in without}) == 1
    assert canonical({"lr": 0.1, "jac_loss_weight": 0.5, "jac_loss_freq": 0.8})["jac_loss_freq"] == 0.8
    assert search.job(without[0]).folder.name == "lr-0.05_jac_loss_weight-0_jac_loss_freq-0"


def make_trial(search: Search, choice: dict, val_acc: float, test_acc: float | None, epoch: float = 10) -> None:
    job = search.job(choice)
    job.folder.mkdir(parents=True)
    (job.folder / "config.json").write_text(json.dumps(parse_command_line(list(job.flags)).settings.to_dict()))
    (job.folder / "metrics.csv").write_text(f"event,epoch,val_acc\nval,{epoch},{val_acc}\n")
    if test_acc is not None:
        results = {"epochs": epoch, "best_val_acc": val_acc, "test_acc": test_acc}
        (job.folder / "results.json").write_text(json.dumps(results))


def test_report_chooses_on_the_validation_set(tmp_path):
    search = Search("fashion10", "direct-5", 10, tmp_path)
    make_trial(search, {"lr": 0.05}, 0.72, 0.70)
    make_trial(search, {"lr": 0.0075}, 0.71, 0.75)  # Table 5's; better on the test set, which must not matter
    make_trial(search, {"lr": 0.1}, 0.80, None, epoch=5)
    (search.job({"lr": 0.1}).folder / STOPPED_EARLY).touch()  # no candidate
    make_trial(search, {"lr": 0.01}, 0.81, None, epoch=5)  # interrupted, or running: not counted
    assert sorted(trial.choice["lr"] for trial in trials_of(search)) == [0.0075, 0.05, 0.1]
    text = write_report([search], tmp_path / "results")
    assert (
        "| fashion10 | DIRECT-5 | lr 0.05 | 72.00 | 70.00 | lr 0.0075 | 71.00 | 75.00 | 3 (1) | 10 (paper: 100) |"
        in text
    )
    assert (tmp_path / "results" / "table5" / "table.md").read_text() == text + "\n"


def test_report_keeps_other_cells_and_fills_nothing_in(tmp_path):
    first, second = (Search("mnist4", model, 100, tmp_path) for model in ("direct-2", "implicit"))
    make_trial(first, {"lr": 0.01}, 0.9, 0.9)
    write_report([first], tmp_path)
    choice = {"lr": 0.1, "jac_loss_weight": 0.5, "jac_loss_freq": 1.0}
    make_trial(second, choice, 0.8, 0.8)
    text = write_report([second], tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("| mnist4")]
    assert len(rows) == 2 and "lr 0.1, w 0.5, f 1 | 80.00" in rows[0] and "| not run |" in rows[1]
    assert write_report([], tmp_path) == text  # from what is kept alone
    assert write_report([Search("cifar10", "implicit", 5, tmp_path)], tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_a_search_of_another_length_is_another_row(tmp_path):
    long, short = (Search("mnist4", "direct-2", epochs, tmp_path) for epochs in (100, 5))
    make_trial(long, {"lr": 0.01}, 0.9, 0.9, epoch=100)
    write_report([long], tmp_path)
    make_trial(short, {"lr": 0.01}, 0.6, 0.6, epoch=5)
    text = write_report([short], tmp_path)
    rows = [line for line in text.splitlines() if line.startswith("| mnist4")]
    assert ["60.00" in row and "| 5 (paper: 100) |" in row for row in rows] == [True, False]
    assert "90.00" in rows[1]


def test_other_trials_of_the_same_search_take_nothing_away(tmp_path):
    here, there = (Search("mnist4", "direct-2", 10, tmp_path / name) for name in ("here", "there"))
    make_trial(here, {"lr": 0.01}, 0.9, 0.9)
    make_trial(here, {"lr": 0.05}, 0.8, 0.8)
    write_report([here], tmp_path)
    make_trial(there, {"lr": 0.01}, 0.7, 0.6)
    write_report([there], tmp_path)
    trials = json.loads((tmp_path / "table5" / "trials.json").read_text())[0]["trials"]
    assert [(trial["choice"]["lr"], trial["test_acc"]) for trial in trials] == [(0.05, 80.0), (0.01, 60.0)]


@pytest.fixture
def two_lengths(tmp_path):
    """Runs of a search in 5 and in 10 epochs, and of another model."""
    for model, epochs, accuracy in (("direct-2", 5, 0.6), ("direct-2", 10, 0.7), ("implicit", 30, 0.8)):
        search = Search("mnist4", model, epochs, tmp_path / "runs")
        make_trial(search, papers_choice("mnist4", model), accuracy, accuracy, epoch=epochs)
    damaged = tmp_path / "runs" / "table5" / "mnist4" / "direct-1" / "lr-0.1"
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text("{")
    return ["--work_dir", str(tmp_path / "runs"), "--results_dir", str(tmp_path / "results")]


def lengths(tmp_path) -> list[tuple]:
    cells = json.loads((tmp_path / "results" / "table5" / "table.json").read_text())["cells"]
    return [(cell["model"], cell["epochs"], round(cell["best"]["test_acc"])) for cell in cells]


def test_report_finds_the_searches_of_every_length(two_lengths, tmp_path, monkeypatch, capsys):
    everything = [("implicit", 30, 80), ("direct-2", 5, 60), ("direct-2", 10, 70)]
    reproduce.main(["table5", *two_lengths, "--models", "direct-2", "--epochs", "10", "--report"])
    assert lengths(tmp_path) == everything[2:]
    reproduce.main(["table5", *two_lengths, "--report"])
    assert lengths(tmp_path) == everything
    (tmp_path / "results" / "table5" / "trials.json").unlink()
    monkeypatch.setattr(report, "draw_figures", lambda options: None)
    reproduce.main(["report", *two_lengths])
    assert lengths(tmp_path) == everything


KEPT = REPOSITORY / "results" / "paper" / "table5" / "trials.json"


@pytest.mark.skipif(not KEPT.exists(), reason="no search is committed")
def test_committed_table_is_that_of_the_committed_trials():
    text = search.markdown(json.loads(KEPT.read_text()))
    assert KEPT.with_name("table.md").read_text() == text + "\n"


# the command


def test_without_ray_one_line_names_the_remedy(tmp_path, run_script):
    (tmp_path / "ray.py").write_text("raise ImportError('no Ray here')\n")
    process = run_script("reproduce.py", "table5", "--work_dir", tmp_path, check=False, PYTHONPATH=str(tmp_path))
    assert process.returncode == 1 and process.stderr.count("\n") == 1
    assert "requirements-sweep.txt" in process.stderr


def test_dry_run_counts(run_script, tmp_path):
    flags = (
        "table5",
        "--data",
        "mnist4",
        "--models",
        "direct-1",
        "implicit",
        "--work_dir",
        tmp_path / "none",
        "--dry_run",
    )
    text = run_script("reproduce.py", *flags).stdout
    assert "mnist4 direct-1: 5 of 5 choices" in text and "mnist4 implicit: 20 of 35 choices" in text
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
@NEEDS_RAY
def test_search_stops_and_goes_on(tmp_path, tiny_data):
    words = [sys.executable, SCRIPTS / "reproduce.py", "table5", "--data", "mnist4", "--models", "direct-2", "--epochs", 100,
             "--work_dir", tmp_path / "runs", "--results_dir", tmp_path / "results"]  # fmt: skip
    running = ("--jobs", 1, "--data_dir", tiny_data)

    def start(*more: object) -> subprocess.Popen:
        return subprocess.Popen(list(map(str, [*words, *more])), env=user_environment(), stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)  # fmt: skip

    process = start(*running)
    first = tmp_path / "runs" / "table5" / "mnist4" / "direct-2" / "lr-0.05"
    until = time.monotonic() + 900
    while not (first / "checkpoint_last.pt").exists():
        assert time.monotonic() < until and process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=1500)[0]
    assert process.returncode == 130 and "the same command resumes" in text
    assert not (first / "results.json").exists() and not list(first.parent.glob(".stop-*"))
    assert not (first / STOPPED_EARLY).exists()
    text = start(*running).communicate(timeout=1500)[0]
    assert "continuing after step" in (first / "log.txt").read_text()
    assert "| mnist4 | DIRECT-2 |" in text and "| 5 (" in text
    runs = {path.parent.name for path in Path(first.parent).glob("lr-*/config.json")}
    assert runs == {"lr-0.005", "lr-0.0075", "lr-0.01", "lr-0.05", "lr-0.1"}
    text = start("--report").communicate(timeout=1500)[0]
    assert json.loads((tmp_path / "results" / "table5" / "table.json").read_text())["cells"][0]["model"] == "direct-2"


@pytest.mark.slow
@NEEDS_RAY
def test_a_search_ends_is_stopped_or_fails():
    from reproduction.tuning import Outcome, _outcome

    ended = SimpleNamespace(metrics={"done": True}, error=None)
    stopped = SimpleNamespace(metrics={"done": False}, error=None)
    failed = SimpleNamespace(metrics={}, error=RuntimeError("Traceback\n  File\nRuntimeError: lr-0.05: error: no data"))
    assert _outcome([ended, ended], 2) == Outcome("finished")
    assert _outcome([ended], 2) == Outcome("stopped")  # before all were proposed
    assert _outcome([ended, failed, stopped], 3) == Outcome("stopped")  # goes on with both
    message = "2 of 3 trials failed; the first, lr-0.05: error: no data"
    assert _outcome([ended, failed, failed], 3) == Outcome("failed", message)


@pytest.mark.slow
@NEEDS_RAY
@pytest.mark.parametrize("told_after", [True, False])
def test_trials_that_end_are_counted_from_one(told_after, capsys):
    from reproduction.tuning import Lines

    class Ended(SimpleNamespace):
        def is_finished(self) -> bool:
            return self.over

    result = {"val_acc": 0.5, "epoch": 5, "done": True}
    trials = [Ended(over=False, config={"lr": 0.1}, last_result=result) for _ in range(3)]
    for trial in trials[:2]:
        trial.over = told_after
        Lines().on_trial_complete(1, trials, trial)
        trial.over = True
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1].split(": val")[0] for line in lines] == ["trial 1 ended: lr 0.1", "trial 2 ended: lr 0.1"]


@NEEDS_RAY
def test_a_trial_whose_machine_or_run_was_taken_is_tried_again():
    from ray.exceptions import ActorDiedError

    from reproduction.storage import SupersededError
    from reproduction.tuning import TAKEN_OVER, _is_lost

    taken = SupersededError(f"--storage s3://b: {TAKEN_OVER} (run)")
    assert _is_lost(ActorDiedError()) and _is_lost(RuntimeError(f"lr-0.05: {taken}"))
    assert not _is_lost(None) and not _is_lost(RuntimeError("lr-0.05: error: no data"))


@NEEDS_RAY
def test_only_what_the_scheduler_stopped_is_marked(tmp_path):
    from reproduction.tuning import _mark_stopped

    def result(choice: dict, done: bool) -> SimpleNamespace:
        return SimpleNamespace(config=choice, metrics={"done": done})

    search, shared = (
        Search("mnist4", "implicit", 10, tmp_path),
        {"lr": 0.1, "jac_loss_weight": 0.0, "jac_loss_freq": 0.0},
    )
    stopped, interrupted, finished = (
        {"lr": lr, "jac_loss_weight": 0.5, "jac_loss_freq": 0.5} for lr in (0.1, 0.05, 0.01)
    )
    for choice in (stopped, interrupted, shared):
        make_trial(search, choice, 0.5, None, epoch=5)
    make_trial(search, finished, 0.5, 0.5)
    # the last two are one run without a Jacobian loss: stopped in one trial, taken up again in the next
    twice = [result(shared | {"jac_loss_freq": freq}, done) for freq, done in ((0.8, True), (0.5, False))]
    _mark_stopped(search, [result(stopped, True), result(interrupted, False), result(finished, True), *twice])
    marked = [choice for choice in (stopped, interrupted, finished, shared)
              if (search.job(choice).folder / STOPPED_EARLY).exists()]  # fmt: skip
    assert marked == [stopped]


@pytest.mark.slow
@NEEDS_RAY
def test_failing_trials_end_with_one_line_and_status_1(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist.npz").write_text("no archive")
    flags = ("--data", "mnist4", "--models", "direct-2", "direct-1", "--trials", 1, "--epochs", 2, "--jobs", 1)
    words = [sys.executable, SCRIPTS / "reproduce.py", "table5", *flags, "--work_dir", tmp_path / "runs",
             "--data_dir", tmp_path / "data"]  # fmt: skip
    process = subprocess.run(
        list(map(str, words)), env=user_environment(), capture_output=True, text=True, timeout=1500, check=False
    )
    text = process.stdout + process.stderr
    assert process.returncode == 1 and "resumes" not in text and "Traceback" not in text, text
    assert "mnist4 direct-1" in process.stdout  # the other search ran all the same
    (line,) = process.stderr.splitlines()
    assert line.startswith("error: 2 of 2 searches failed: mnist4 direct-2, 1 of 1 trials failed; the first, lr-0.05: ")
    assert "is corrupt" in line
