"""The studies measure what they say, their tables and figures show it, and qep.sh runs every task."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

import reproduce
from benchmarks import qep_gradients as studies
from benchmarks.qep_gradients import best_betas, measure_bias, measure_shots, measure_times, regression
from conftest import REPOSITORY, ctrl_c, user_environment
from figures.qep_pictures import draw_comparison, draw_gradient_error, draw_qep_run
from qep import QEP, ExactResponse, GroundStateError
from qep.learning.loop import COLUMNS
from qep.settings import parse_command_line
from reproduction.qep_tables import run_table, time_table
from runs.tracking import CsvLog

RESULTS = REPOSITORY / "results" / "qep"


def lines(figure: Figure) -> dict:
    found = [line for axes in figure.axes for line in axes.lines if line.get_gid()]
    return {line.get_gid(): line for line in found}


# studies


def test_bias_is_the_distance_to_the_exact_gradient():
    problems = [regression(3, 1, number, n_samples=2) for number in range(2)]
    rows = list(measure_bias(problems, [0.01, 0.1]))
    assert len(rows) == 2 + 4 * 2
    assert rows[0]["beta"] is None and rows[0]["error"] < 1e-9 and rows[1]["error"] < 1e-6
    error = {(row["estimator"], row["beta"]): row["error"] for row in rows}
    squares = []
    for problem in problems:
        exact = problem.gradient(ExactResponse())
        squares.append(((problem.gradient(QEP("positive", 0.1)) - exact).norm() / exact.norm()).square())
    assert error["positive", 0.1] == pytest.approx(torch.stack(squares).mean().sqrt().item())
    assert error["holomorphic", 0.1] < error["centred", 0.1] < error["positive", 0.1]
    assert error["positive", 0.1] / error["positive", 0.01] == pytest.approx(10, rel=0.3)
    assert error["centred", 0.1] / error["centred", 0.01] == pytest.approx(100, rel=0.3)


def test_noise_falls_with_beta_and_shots_until_bias_takes_over():
    problems = [regression(3, 1, 0, n_samples=2)]
    rows = list(measure_shots(problems, [0.01, 0.3, 6.0], [100, 10_000], 12, seed=0))
    error = {(row["estimator"], row["shots"], row["beta"]): row["error"] for row in rows}
    for kind in ("centred", "positive"):
        assert error[kind, 100, 0.01] / error[kind, 10_000, 0.01] == pytest.approx(10, rel=0.4)
        assert error[kind, 10_000, 0.3] < error[kind, 10_000, 0.01]
    best = {(row["estimator"], row["shots"]): row["beta"] for row in best_betas(rows)}
    assert best["centred", 10_000] == 0.3 and len(best) == 4


def test_a_nudge_that_loses_the_ground_state_is_left_out(monkeypatch):
    problems = [regression(3, 1, 0, n_samples=2)]
    betas = [0.05, 50.0]
    found = {(row["estimator"], row["beta"]) for row in measure_bias(problems, betas)}
    assert ("holomorphic", 0.05) in found and ("holomorphic", 50.0) not in found

    def lost(*_):
        raise GroundStateError("no gap")

    monkeypatch.setattr(QEP, "responses", lost)
    assert list(measure_shots(problems, [0.1], [10], 1, seed=0)) == []


@pytest.mark.slow
def test_times_cover_sizes_and_solvers():
    points = list(measure_times([5, 6], largest_dense=5, repetitions=1, seed=0))
    assert [(p["n_spins"], p["solver"], p["estimator"]) for p in points] == [
        (5, "krylov", "centred"), (5, "krylov", "exact"), (5, "dense", "centred"), (5, "dense", "exact"),
        (6, "krylov", "centred"), (6, "krylov", "exact"),
    ]  # fmt: skip
    assert all(0 < p["lowest"] <= p["median"] <= p["highest"] for p in points)


# command, tables, figures


def a_run(seed: int, estimator: str, accuracy: float) -> dict:
    return {
        "task": "mnist", "num_classes": 4, "n_spins": 8, "graph": "all", "cost": "cross_entropy", "beta": 0.05,
        "estimator": estimator, "shots": 0, "epochs": 2.0, "n_train": 100, "seed": seed, "test_acc": accuracy,
        "test_cost": 0.15, "first_val_cost": 1.4, "seconds_per_sample": 0.002, "linear_test_acc": 0.95,
        "cosine_min": 0.9 + seed / 100 if estimator == "centred" else None,
    }  # fmt: skip


def write_run(folder: Path, name: str, result: dict) -> None:
    (folder / f"{name}.json").write_text(json.dumps(result))
    log = CsvLog(folder / f"{name}.csv", columns=COLUMNS)
    for epoch in (0, 1, 2):
        log.log("val", epoch, {"epoch": epoch, "val_acc": 0.8 + 0.05 * epoch + result["seed"] / 100, "val_cost": 1.0})
    if result["estimator"] == "centred":
        log.log("train", 2, {"epoch": 2, "train_cost": 0.5, "cosine": 0.99})
    log.close()


def test_table_puts_seeds_together():
    runs = [a_run(0, "centred", 0.94), a_run(1, "centred", 0.96), a_run(0, "exact", 0.95)]
    rows = run_table(runs).splitlines()[2:]
    assert len(rows) == 2
    assert "| QEP centred, beta 0.05 | 95.00 ± 1.41 |" in rows[0] and rows[0].endswith("| 0, 1 |")
    assert "0.90000" in rows[0] and "linear classifier 95.00 ± 0.00 %" in rows[0]
    assert "| exact response | 95.00 |" in rows[1]


def test_table_says_what_was_not_finite():
    (row,) = run_table([a_run(0, "centred", 0.94) | {"test_cost": None}]).splitlines()[2:]
    assert "| 94.00 | not finite | 1.40e+00 |" in row


def test_time_table_leaves_unmeasured_cells_open():
    points = [{"n_spins": n, "solver": s, "estimator": "centred", "median": 1e-3 * n}
              for n, s in ((6, "krylov"), (6, "dense"), (8, "krylov"))]  # fmt: skip
    assert time_table(points).splitlines()[2:] == ["| 6 | 6 | 6 |", "| 8 | 8 | - |"]


def test_figures_show_the_files_numbers(tmp_path):
    folder = tmp_path / "mnist4"
    folder.mkdir()
    for seed in (0, 1):
        for estimator in ("centred", "exact"):
            write_run(folder, f"{estimator}-{seed}", a_run(seed, estimator, 0.94 + seed / 100))
    runs = [(json.loads(path.read_text()), path.with_suffix(".csv")) for path in sorted(folder.glob("*.json"))]
    drawn = lines(draw_comparison(runs))
    assert set(drawn) == {
        "val_acc centred",
        "val_acc exact",
        "test_acc centred",
        "test_acc exact",
        "cosine centred",
        "linear",
    }
    assert drawn["val_acc centred"].get_ydata().tolist() == pytest.approx([80.5, 85.5, 90.5])
    assert drawn["cosine centred"].get_ydata().tolist() == pytest.approx([0.01])
    assert drawn["linear"].get_ydata()[0] == pytest.approx(95)

    problems = [regression(3, 1, 0, n_samples=2)]
    shots = list(measure_shots(problems, [0.1, 0.5], [50, 200], 2, seed=0))
    content = {"bias": list(measure_bias(problems, [0.1, 0.5])), "shots": shots, "best": best_betas(shots)}
    (tmp_path / "gradient_error.json").write_text(json.dumps(content))
    drawn = lines(draw_gradient_error(content))
    for row in content["bias"]:
        line = drawn[f"bias {row['estimator']}"]
        if row["beta"] is None:
            assert line.get_ydata()[0] == row["error"]
            continue
        assert (row["beta"], row["error"]) in zip(line.get_xdata(), line.get_ydata())
    for row in content["best"]:
        star = drawn[f"best {row['estimator']} {row['shots']}"]
        assert (star.get_xdata()[0], star.get_ydata()[0]) == (row["beta"], row["error"])

    reproduce.main(["qep", "figures", "--results", str(tmp_path), "--images", str(tmp_path / "images")])
    names = {path.name for path in (tmp_path / "images").iterdir()}
    assert names == {f"qep_{name}.{kind}" for name in ("mnist4", "gradient_error") for kind in ("png", "svg")}


def test_a_runs_curves_leave_out_what_was_not_measured(tmp_path):
    write_run(tmp_path, "run", a_run(0, "centred", 0.9))
    drawn = lines(draw_qep_run(tmp_path / "run.csv"))
    assert set(drawn) == {"train_cost", "val_cost", "val_acc", "cosine"}
    assert drawn["cosine"].get_xdata().tolist() == [2]
    assert drawn["cosine"].get_ydata().tolist() == pytest.approx([0.01])


def test_studies_write_where_they_were_measured(tmp_path, capsys):
    error, times = tmp_path / "a" / "error.json", tmp_path / "time.json"
    reproduce.main(["qep", "error", "--json", str(error), "--betas", "0.1", "0.4", "--shots", "20", "--n_spins", "3",
                    "--problems", "1", "--repetitions", "1"])  # fmt: skip
    reproduce.main(["qep", "time", "--json", str(times), "--spins", "5", "--dense_spins", "0", "--repetitions", "1"])
    for path in (error, times):
        content = json.loads(path.read_text())
        assert {"seed", "git_commit", "device", "date", "arguments"} <= set(content)
    capsys.readouterr()
    reproduce.main(["qep", "table", str(times)])
    assert capsys.readouterr().out.startswith("| spins | QEP centred, krylov, ms |")


def test_a_run_folder_stands_for_its_results(tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(a_run(0, "centred", 0.94)))
    reproduce.main(["qep", "table", str(tmp_path)])
    of_folder = capsys.readouterr().out
    reproduce.main(["qep", "table", str(tmp_path / "results.json")])
    assert of_folder == capsys.readouterr().out and "94.00" in of_folder


def test_a_study_that_cannot_be_written_is_not_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, "measure_times", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        reproduce.main(["qep", "time", "--json", str(tmp_path / "file" / "x.json")])
    assert end.value.code == 1 and "file" in capsys.readouterr().err


def test_an_interrupted_study_ends_without_a_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, "measure_times", ctrl_c)
    with pytest.raises(SystemExit) as end:
        reproduce.main(["qep", "time", "--json", str(tmp_path / "x.json")])
    assert end.value.code == 130 and "stopped" in capsys.readouterr().out


@pytest.mark.parametrize("words, said", [
    (["table", str(REPOSITORY / "results" / "benchmark" / "scaling.json")], "no results of a QEP run"),
    (["table", "nowhere.json"], "nowhere.json"), (["figures", "--results", "nowhere"], "qep.sh mnist4"),
    (["error", "--json", "x", "--betas", "0"], "0"), (["error"], "--json"), (["fly"], "fly"),
])  # fmt: skip
def test_misuse_is_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        reproduce.main(["qep", *words])
    error = capsys.readouterr().err
    assert end.value.code in (1, 2) and said in error and error.count("\n") == 1


# the script


def script(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", str(REPOSITORY / "bash_scripts" / "qep.sh"), *map(str, arguments)]
    return subprocess.run(command, env=user_environment(**environment), capture_output=True, text=True, cwd="/")


@pytest.fixture
def echo_python(tmp_path) -> str:
    """An interpreter that prints its arguments, one a line, instead of running them."""
    path = tmp_path / "echo_python"
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("task", ["xor", "teacher", "mnist4", "oscillators"])
def test_the_scripts_flags_parse(task, echo_python):
    program, *flags = script(task, "--seed", 7, QDEQ_PYTHON=echo_python).stdout.splitlines()
    settings = parse_command_line(flags).settings
    assert Path(program).name == "train_qep.py" and settings.seed == 7
    assert settings.task == {"mnist4": "mnist"}.get(task, task)
    shorter = script(task, "--max_step", 5, QDEQ_PYTHON=echo_python).stdout.splitlines()[1:]
    assert parse_command_line(shorter).settings.max_step == 5


@pytest.mark.slow
def test_smoke_runs_every_task_and_leaves_nothing(tmp_path):
    process = script("smoke", TMPDIR=str(tmp_path))
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("results and curves in") == 5
    assert not list(tmp_path.glob("tmp.*"))  # torch leaves an empty cache folder of its own


@pytest.mark.parametrize("arguments", [(), ("fly",)])
def test_misuse_of_the_script_ends_with_status_2(arguments, echo_python):
    process = script(*arguments, QDEQ_PYTHON=echo_python)
    assert process.returncode == 2 and process.stdout == "" and "mnist4" in process.stderr
    assert script("--help").returncode == 0
