"""--seeds: runs in one process, each with the folder, the numbers and the end of its single run."""

import csv
import json
import signal
from pathlib import Path

import pytest
import torch

from conftest import train_here
from launched import free_port, rank_variables
from runs import checkpoint
from runs.log import log
from runs.state import TrainingState
from training import loop
from training.command_line import parse_command_line
from wandb_reader import read_offline_run

FLAGS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 64, "--device", "cpu",
         "--tensorboard", "False", "--max_step", 12, "--eval-interval", 4, "--log-interval", 2, "--f_solver", "newton",
         "--b_solver", "exact", "--jac_loss_weight", 0.5, "--jac_loss_freq", 0.5)  # fmt: skip
SEEDS = (0, 1, 2)
# what differs between a run alone and one among others beyond rounding
OF_THE_MACHINE = {"date", "train_seconds", "seconds_per_step", "peak_memory_mb", "name", "sha256", "runs_together"}
CLOSE = 2e-4  # of parameters and metrics in single precision, after 12 steps of Adam at a rate of 0.05


@pytest.fixture(autouse=True)
def closed_logs():
    yield
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    log.propagate = True


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[int, Path]:
    """The single run of each seed."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in SEEDS:
        train_here(*FLAGS, "--seed", seed, "--work_dir", folder)
    return runs_in(folder)


def runs_in(folder: Path) -> dict[int, Path]:
    return {seed: folder / f"digits_4c_4q_amplitude_implicit_seed{seed}" for seed in SEEDS}


def train(folder: Path, *flags: object, seeds=SEEDS) -> dict[int, Path]:
    train_here(*FLAGS, "--seeds", *seeds, "--work_dir", folder, *flags)
    return runs_in(folder)


def results_of(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


def rows_of(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_is_as_alone(run: Path, single: Path, together: int = 3) -> None:
    """Its folder, its last and best checkpoints, its rows and results are those of the single run, but for rounding."""
    assert {path.name for path in run.iterdir()} == {path.name for path in single.iterdir()}
    configs = [json.loads((folder / "config.json").read_text()) for folder in (run, single)]
    assert [config | {"work_dir": "", "restart": False} for config in configs] == [configs[1] | {"work_dir": ""}] * 2
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        ours, theirs = checkpoint.load(run / name), checkpoint.load(single / name)
        assert list(ours) == list(theirs) and ours.get("step") == theirs.get("step")
        torch.testing.assert_close(ours["model"], theirs["model"], rtol=0, atol=CLOSE)
        torch.testing.assert_close(ours.get("optimizer"), theirs.get("optimizer"), rtol=1e-3, atol=CLOSE)
    ours, theirs = rows_of(run), rows_of(single)
    assert [(row["event"], row["train_step"]) for row in ours] == [(row["event"], row["train_step"]) for row in theirs]
    for our, their in zip(ours, theirs):
        assert {name for name, cell in our.items() if cell} == {name for name, cell in their.items() if cell}
        for name in set(our) - OF_THE_MACHINE - {"event"}:
            if our[name] and not name.endswith("_res"):  # means of ratios, some of them near 0 / 0
                assert float(our[name]) == pytest.approx(float(their[name]), rel=1e-2, abs=CLOSE), name
    ours, theirs = results_of(run), results_of(single)
    assert list(ours) == list(theirs)
    assert (ours["runs_together"], theirs["runs_together"]) == (together, 1)
    for name in set(ours) - OF_THE_MACHINE:
        if isinstance(ours[name], float) and not name.endswith("_res"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-2, abs=CLOSE), name
        elif name not in ("settings", "confusion_matrix") and not isinstance(ours[name], float):
            assert ours[name] == theirs[name], name


def test_each_seed_has_the_folder_and_the_numbers_of_its_single_run(alone, tmp_path, capsys):
    runs = train(tmp_path)
    for seed in SEEDS:
        assert_is_as_alone(runs[seed], alone[seed])
        text = (runs[seed] / "log.txt").read_text()
        assert text.count("step 12/12") == 1 and "seed " not in text and f"run folder {runs[seed]}" in text
    shown = capsys.readouterr().out
    assert all(shown.count(f"\nseed {seed}: step 12/12") == 1 for seed in SEEDS)
    before = [results_of(run) for run in runs.values()]
    train(tmp_path, "--restart")
    assert [results_of(run) for run in runs.values()] == before
    assert capsys.readouterr().out.count("has finished its 12 steps") == 3


def stop_after(step: int, monkeypatch, number: signal.Signals = signal.SIGTERM) -> None:
    """A signal comes right after the first run's so-many-th step."""
    count = TrainingState.count

    def count_and_raise(state, seconds):
        count(state, seconds)
        if state.step == step and not stop_after.sent:
            stop_after.sent = True
            signal.raise_signal(number)

    stop_after.sent = False
    monkeypatch.setattr(TrainingState, "count", count_and_raise)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_all_and_each_resumes_alone_or_with_the_others(alone, tmp_path, monkeypatch, number):
    with monkeypatch.context() as patch:
        stop_after(5, patch, number)
        with pytest.raises(SystemExit) as end:
            train(tmp_path)
    assert end.value.code == 128 + number
    runs = runs_in(tmp_path)
    assert [checkpoint.load(run / "checkpoint_last.pt")["step"] for run in runs.values()] == [5, 5, 5]
    assert all("stopped after step 5; continue with --restart" in (run / "log.txt").read_text() for run in runs.values())
    with monkeypatch.context() as patch:  # the second one alone goes further, and stops again
        stop_after(9, patch)
        with pytest.raises(SystemExit):
            train_here(*FLAGS, "--seed", 1, "--work_dir", tmp_path, "--restart")
    assert checkpoint.load(runs[1] / "checkpoint_last.pt")["step"] == 9
    train(tmp_path, "--restart")
    for seed in SEEDS:
        assert_is_as_alone(runs[seed], alone[seed])


def test_a_signal_saves_runs_that_wait_for_others(tmp_path, monkeypatch):
    for step, seeds in ((3, (1,)), (1, (0, 1))):
        with monkeypatch.context() as patch:
            stop_after(step, patch)
            with pytest.raises(SystemExit):
                train(tmp_path, "--restart", seeds=seeds)
    assert [checkpoint.load(runs_in(tmp_path)[seed] / "checkpoint_last.pt")["step"] for seed in (0, 1)] == [1, 3]


def test_a_run_that_fails_ends_alone(alone, tmp_path, monkeypatch, capsys):
    """The second one has no finite gradient any more; one whose checkpoint is damaged does not even begin."""
    monkeypatch.setattr(loop, "MOST_SKIPPED_STEPS", 2)
    batches = loop.Training.batches

    def without_numbers(training):
        for x, y in batches(training):
            yield (torch.full_like(x, float("nan")) if training.settings.seed == 1 else x), y

    monkeypatch.setattr(loop.Training, "batches", without_numbers)
    broken = runs_in(tmp_path)[2]
    broken.mkdir()
    for name in ("config.json", "checkpoint_last.pt"):
        (broken / name).write_text("{}")
    with pytest.raises(SystemExit) as end:
        train(tmp_path, "--restart")
    assert end.value.code == 1
    runs, lines = runs_in(tmp_path), capsys.readouterr().err.splitlines()
    assert_is_as_alone(runs[0], alone[0], together=1)
    assert len(lines) == 2 and "seed 2: " in lines[0] and "checkpoint" in lines[0]
    assert "seed 1: 2 steps had no finite gradient" in lines[1]
    assert (runs[1] / "log.txt").read_text().count("no finite gradient, the step is skipped") == 2
    assert "skipped" not in (runs[0] / "log.txt").read_text()
    assert not (runs[1] / "results.json").exists()


def test_runs_with_other_settings_are_trained_with_theirs(tmp_path, monkeypatch):
    """A folder that is resumed has its own rate: its steps are its own, and no others wait for them in vain."""
    with monkeypatch.context() as patch:
        stop_after(2, patch)
        with pytest.raises(SystemExit):
            train_here(*FLAGS, "--lr", 0.01, "--seed", 1, "--work_dir", tmp_path)
    runs = train(tmp_path, "--restart")
    assert [results_of(run)["settings"]["lr"] for run in runs.values()] == [0.05, 0.01, 0.05]
    assert [results_of(run)["runs_together"] for run in runs.values()] == [2, 1, 2]


def test_each_run_has_its_own_dashboards(tmp_path):
    """wandb serves several runs of a process: none gets another's numbers, and all files are whole at the end."""
    flags = ("--wandb", "offline", "--tensorboard", "True", "--max_step", 4)
    runs = train(tmp_path, *flags, seeds=(0, 1))
    for seed in (0, 1):
        config, history, summary, _ = read_offline_run(runs[seed])
        rows = [row for row in rows_of(runs[seed]) if row["event"] == "train"]
        assert config["seed"] == seed and summary["test_acc"] == results_of(runs[seed])["test_acc"]
        logged = [item["train_loss"] for item in history if "train_loss" in item]
        assert logged == pytest.approx([float(row["train_loss"]) for row in rows]) and len(rows) == 2
        assert len(list(runs[seed].glob("tensorboard/events*"))) == 1


@pytest.mark.parametrize("words, named", [
    ("--seeds 0 1 --seed 2", "--seed "), ("--seeds 0 0", "--seeds"), ("--seeds 0 -1", "--seeds"), ("--seeds", "--seeds"),
    ("--seeds 0 1 --name x", "--names"), ("--seeds 0 1 --names x", "--names"), ("--names x", "--names"),
    ("--seeds 0 1 --names x x", "--names"), ("--seeds 0 1 --debug", "--debug"), ("--seeds 0 1 --names x y/z", "--name"),
    ("--seeds 0 1 --restart --restart_dir x", "--restart_dir"),
])  # fmt: skip
def test_what_several_runs_cannot_have_is_refused_in_one_line(words, named, capsys):
    with pytest.raises(SystemExit) as end:
        parse_command_line(words.split())
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1 and named in lines[0]


def test_torchrun_and_several_seeds_are_refused_in_one_line(monkeypatch, capsys):
    for name, value in rank_variables(0, 2, free_port()).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        parse_command_line(["--seeds", "0", "1"])
    assert "without torchrun" in capsys.readouterr().err


def test_every_run_gets_its_name_and_the_settings_of_its_single_command():
    command = parse_command_line("--lr 0.01 --seeds 3 4 --names a b".split())
    singles = [parse_command_line(f"--lr 0.01 --seed {seed} --name {name}".split()) for seed, name in ((3, "a"), (4, "b"))]
    assert [one.settings for one in command.several] == [one.settings for one in singles]
    assert [one.given for one in command.several] == [one.given for one in singles]
    assert command.settings == singles[0].settings and command.seeds == [3, 4]
