"""`reproduce.py table`: seeds share a row, what diverged is said, baselines keep their names."""

import subprocess
import sys

import pytest

import reproduce
from conftest import REPOSITORY, SCRIPTS
from reproduction.run_table import run_table
from runs.settings import SettingsError


def run(seed: int, accuracy: float, **other) -> dict:
    return {
        "dataset": "mnist", "num_classes": 4, "n_wires": 4, "encoding": "amplitude", "mode": "implicit", "n_layer": 0,
        "trainable_gates": "all", "engine": "compiled", "epochs": 100.0, "test_acc": accuracy, "test_res": 0.01,
        "test_res_rel": 0.001, "train_seconds": 10.0, "seconds_per_step": 0.002, "seed": seed, **other,
    }  # fmt: skip


def test_puts_seeds_together_with_their_spread():
    lines = run_table([run(0, 0.9), run(1, 0.92), run(0, 0.8, mode="direct", n_layer=5)]).splitlines()
    assert len(lines) == 2 + 2
    assert "| IMPLICIT | amplitude | 100 | 91.00 ± 1.41 |" in lines[2] and lines[2].endswith("| 0, 1 |")
    assert "| DIRECT-5 |" in lines[3] and "| 80.00 |" in lines[3]


def test_says_what_was_not_finite():
    (line,) = run_table([run(0, 0.9), run(1, 0.9, test_res=None)]).splitlines()[2:]
    assert "| 90.00 ± 0.00 | not finite | 1.0e-03 ± 0.0e+00 |" in line


def test_tells_baselines_apart():
    models = {"wang2022": "Wang et al. 2022: IMPLICIT", "classical": "classical DEQ: IMPLICIT",
              "alam2021": "Alam et al. 2021 (PCA): IMPLICIT", "linear": "linear classifier",
              "single_copy": "single-copy ceiling"}  # fmt: skip
    lines = run_table([run(0, 0.9), *(run(0, 0.9, model=model) for model in models)]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {name}" for name in ("IMPLICIT", *models.values())]
    assert len(run_table([run(0, 0.9), run(1, 0.9, model="qdeq")]).splitlines()) == 2 + 1


def test_names_the_file_it_cannot_read(tmp_path, capsys):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(SystemExit) as end:
        reproduce.main(["table", str(tmp_path)])
    assert end.value.code == 1 and str(tmp_path / "results.json") in capsys.readouterr().err


def test_a_model_of_another_version_is_named():
    with pytest.raises(SettingsError, match="--model transformer, which is none of qdeq, "):
        run_table([run(0, 0.9, model="transformer")])


def test_modules_of_tables_know_nothing_of_the_papers_rows():
    look = (
        "import sys, reproduction.run_table, reproduction.qep_tables\n"
        "print([name for name in sys.modules if name in ('reproduction.rows', 'torch', 'numpy', 'matplotlib')])"
    )
    found = subprocess.run([sys.executable, "-c", look], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_command_prints_the_table_of_files(capsys):
    files = sorted(map(str, (REPOSITORY / "results" / "engines").glob("compiled-*.json")))
    reproduce.main(["table", *files])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[2].endswith(" | 0, 1, 2 |")
    assert lines[2].startswith("| IMPLICIT | amplitude | 0.798 | ")
