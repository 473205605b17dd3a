"""The study of hardware: what is evaluated again, and that tables and figures say what the evaluations hold."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from quick_runs import train_quickly
from reproduction import hardware_tables, run_hardware
from reproduction.hardware_pictures import draw_all
from reproduction.hardware_rows import COHERENT, OF_SOLVERS, SUITES, rows, suites_of
from reproduction.jobs import make_job
from runs.settings import SettingsError
from training.settings import Settings

pytestmark = pytest.mark.slow
KINDS = {"amplitude_implicit": (), "amplitude_direct-1": ("--mode", "direct", "--n_layer", 1),
         "angle_implicit": ("--amplitude_encoder", False)}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Runs of a few steps in place of the table's, and their evaluations on few images."""
    folder = tmp_path_factory.mktemp("study")
    few = [replace(suite, flags=(*suite.flags, "--max_images", "6")) for suite in (*SUITES, *OF_SOLVERS)]
    jobs = []
    for row, flags in KINDS.items():
        for seed in (0, 1) if row == "amplitude_implicit" else (0,):
            train_quickly(folder, f"{row}_{seed}", 20, "--seed", seed, *flags)
            run = folder / f"{row}_{seed}"
            results = json.loads((run / "results.json").read_text())
            job = SimpleNamespace(table="table1", settings=Settings(shots=7 * (seed == 1)), row=row, label=row, seed=seed, folder=run, results=lambda results=results: results)
            asked = few if row == "amplitude_implicit" and seed == 0 else few[: len(SUITES)]
            kept = run_hardware.kept_path(folder / "kept", row, seed)
            run_hardware.evaluate(job, asked, kept, None)
            if (row, seed) in (("amplitude_implicit", 0), ("amplitude_direct-1", 0)):
                run_hardware.keep_gradients(job, kept, None)
            jobs.append(job)
    return SimpleNamespace(folder=folder, kept=folder / "kept", suites=few, jobs=jobs)


def test_every_row_is_a_run_with_a_circuit_but_for_the_control():
    names = [row.name for _, row in rows()]
    assert len(names) == len(set(names)) == 25 and COHERENT in names
    for table, row in rows():
        settings = make_job(table, row, 0, 1, Path("runs")).settings
        assert settings.model in ("qdeq", "wang2022", "classical_narrow") and settings.n_wires == (10 if table.name == "table2" else 4)
        if settings.model == "classical_narrow":
            assert all("--shots" in suite.flags and suite.noises == ("none",) for suite in suites_of(table, row))
        assert ("head" in str(suites_of(table, row))) == (settings.model == "qdeq" and table.name in ("table1", "hardware"))
        assert (settings.n_blocks == 5) == (row.name == COHERENT)
        assert settings.shots == (1024 if row.name.endswith("_shots") else 0)
        assert settings.noise == ("depolarizing:1e-2" if row.name.endswith("_noise") else "none")


def test_only_what_is_missing_is_evaluated(study, monkeypatch):
    job = study.jobs[0]
    path = run_hardware.kept_path(study.kept, job.row, job.seed)
    before, asked = path.read_text(), []
    monkeypatch.setattr(run_hardware, "found", lambda run, suite, data_dir: asked.append(suite.name) or {"new": 1})
    run_hardware.evaluate(job, study.suites, path, None)
    assert not asked and path.read_text() == before
    other = replace(study.suites[0], noises=("none",))
    run_hardware.evaluate(job, [other, *study.suites[1:]], path, None)
    assert asked == ["ansatz"]
    trained_again = SimpleNamespace(**(vars(job) | {"results": lambda: job.results() | {"test_acc": 0.1}}))
    run_hardware.evaluate(trained_again, study.suites, path, None)
    assert asked[1:] == [suite.name for suite in study.suites]
    path.write_text(before)
    wrong = study.folder / "wrong.json"
    wrong.write_text("[]")
    with pytest.raises(SettingsError, match="wrong.json holds no evaluations: remove it"):
        run_hardware.read_kept(wrong)


def test_tables_say_what_the_evaluations_hold(study, tmp_path, capsys):
    run_hardware.write_all(study.kept, tmp_path)
    text = (study.kept / "tables.md").read_text()
    assert text.strip() in capsys.readouterr().out and text.count("### ") == 12
    contents = [json.loads(path.read_text()) for path in sorted((study.kept / "amplitude_implicit").glob("*.json"))]
    suite = [content["suites"]["ansatz"]["found"] for content in contents]
    accuracies = [100 * found["rows"][4]["acc"] for found in suite]  # of depolarizing:1e-2
    shown = f"{np.mean(accuracies):.2f} ± {np.std(accuracies, ddof=1):.2f}"
    first = text.split("### ")[1].splitlines()
    assert [cell.strip() for cell in first[2].split("|")][7] == "1e-2"
    assert [cell.strip() for cell in first[4].split("|")][7] == shown
    drops = [found["rows"][4]["drop"] for found in suite]
    assert f"| {np.mean(drops):.2f} ± " in text
    (averaged,) = [line for line in text.splitlines() if line.startswith("| amplitude_implicit | averaged | 8192 ")]
    assert [cell.strip() for cell in averaged.split("|")][4] == "11.0"
    assert "| IMPLICIT | 11 | 99 |" in text and "| IMPLICIT | 11 | 151 |" in text
    # more shots, better gradients; a layer takes a circuit, 80 shifts, and one for the residual
    (layer,) = [line for line in text.splitlines() if line.startswith("| amplitude_direct-1 | one layer after another ")]
    cells = [cell.strip() for cell in layer.split("|")]
    assert cells[3] == "82" and 0 < float(cells[4].split(" ")[0]) < float(cells[6].split(" ")[0]) <= 1
    # what the residuals take is not of the prediction
    (direct,) = [line for line in text.splitlines() if line.startswith("| amplitude_direct-1 | none | 1024 ")]
    assert [cell.strip() for cell in direct.split("|")][4] == "1.0"
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {f"{name}.{suffix}" for name in ("crossover", "shift", "mitigation", "solvers", "training") for suffix in ("svg", "png")}
    assert min(sizes.values()) > 10_000


def test_nothing_is_drawn_of_nothing(tmp_path, capsys):
    run_hardware.write_all(tmp_path / "none", tmp_path)
    assert "nothing is kept" in capsys.readouterr().out
    assert draw_all({}, tmp_path) == [] and hardware_tables.load(tmp_path) == {}
