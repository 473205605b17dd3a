"""`reproduce.py theory`: what is measured is kept and read back, run folders are told apart, errors are one line."""

import json
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import reproduce
import theory
from conftest import REPOSITORY, train_here
from reproduction.command_line import parse_command_line
from reproduction.page import to_html
from runs.settings import SettingsError
from theory import (
    ablations,
    construction,
    contraction,
    equations_table,
    first_experiments,
    on_models,
    overlaps,
    subjects,
)
from theory.pictures import draw_ablations, draw_overlaps

FAST = theory.Plan("digits", epochs=1, n_images=6, n_overlaps=50, n_pairs=3, n_circuits=1, n_directions=2,
                   ablation_epochs=1, ablation_seeds=1)  # fmt: skip


def train(folder: Path, *flags: object) -> Path:
    """A short run in that folder."""
    train_here("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--device", "cpu", "--tensorboard", "False",
               "--work_dir", folder.parent, "--name", folder.name, *flags)  # fmt: skip
    return folder


@pytest.mark.slow
def test_everything_is_kept_and_read_back(tmp_path, monkeypatch):
    figures = theory.run(tmp_path, 0, "", plan=FAST)
    assert set(figures) == {"overlap", "solver_residuals", "contraction", "ablations"}
    text = (tmp_path / "theory.md").read_text()
    assert text.count("\n## ") == 9 and "nan" not in text
    page = to_html(text)
    assert page.count("<h3") == 9 and page.count("<h2") == 1 and page.count("<table>") == 10 and "#" not in page
    parts = sorted(path.stem for path in tmp_path.glob("*.json"))
    assert parts == ["ablations", "construction", "contraction", "convergence", "equations", "fixed_points", "gradient",
                     "overlaps"]  # fmt: skip
    assert (tmp_path / "equations.md").read_text().count("\n| ") > 54
    content = json.loads((tmp_path / "gradient.json").read_text())
    assert content["made_from"]["seed"] == 0 and content["device"].startswith("cpu") and "git_commit" in content

    def never(*arguments):
        raise AssertionError("measured again")

    # interrupted before the gradient: the rest is not measured again
    (tmp_path / "gradient.json").unlink()
    monkeypatch.setattr(first_experiments, "gradient", lambda *a: {"measured": "anew"} | content["measured"][0])
    for module in (overlaps, contraction, construction, ablations, equations_table, on_models):
        monkeypatch.setattr(module, "measure", never)
    theory.run(tmp_path, 0, "", plan=FAST)
    assert json.loads((tmp_path / "gradient.json").read_text())["measured"][0]["measured"] == "anew"
    with pytest.raises(AssertionError, match="measured again"):
        theory.run(tmp_path, 1, "", plan=FAST)


def test_an_ablation_without_a_finite_residual_is_left_out_of_the_picture():
    known, unknown = {"mean": 0.5, "std": 0.1}, {"mean": None, "std": None}
    shared = {"ablation": "solver cap", "epochs": 1, "seeds": [0, 1], "acc": known, "spectral_radius": known}
    figure = draw_ablations([shared | {"label": "1", "res_rel": unknown}, shared | {"label": "2", "res_rel": known}])
    drawn = [axes.containers[0].lines[0].get_ydata() for axes in figure.axes[:3]]
    assert [list(map(math.isnan, ys)) for ys in drawn] == [[False, False], [True, False], [False, False]]


@pytest.mark.parametrize("flags, folder", [
    ("", "paper"), ("--dataset mnist --seed 0", "paper"), ("--data_dir data", "paper"), ("--seed 1", "paper_seed-1"),
    ("--dataset digits", "paper_digits"), ("--runs runs/a runs/b", "paper_runs"),
    ("--runs runs/a --seed 2 --dataset digits", "paper_digits_seed-2_runs"),
])  # fmt: skip
def test_trials_leave_the_committed_results_alone(flags, folder):
    options = parse_command_line(["theory", *flags.split()])
    results = REPOSITORY / "results" / folder
    assert options.results_dir == results
    assert options.images_dir == (REPOSITORY / "images" / "paper" if folder == "paper" else results / "images")
    assert parse_command_line(["theory", *flags.split(), "--results_dir", "mine"]).results_dir == Path("mine").resolve()


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`reproduce.py theory` in this process, writing into tmp_path."""
    monkeypatch.setattr(logging.getLogger("qdeq"), "handlers", [])  # the command adds one of its own
    folders = ["--results_dir", str(tmp_path / "results"), "--images_dir", str(tmp_path / "images")]
    return lambda *flags: reproduce.main(["theory", *folders, *map(str, flags)])


def test_the_command_writes_results_and_vector_and_pixel_figures(command, tmp_path, monkeypatch, capsys):
    def measured(out, seed, data_dir, runs, plan):
        assert (seed, runs, plan.dataset) == (3, [], "digits")
        out.mkdir(parents=True)
        (out / "theory.md").write_text("# All is well\n")
        return {"overlap": draw_overlaps(overlaps.measure(20, torch.Generator().manual_seed(0)))}

    monkeypatch.setattr(theory, "run", measured)
    command("--dataset", "digits", "--seed", 3)
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"overlap.svg", "overlap.png"}
    assert "# All is well" in capsys.readouterr().out


def test_the_command_ends_with_one_line_where_it_cannot_go_on(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "Plan", lambda dataset: replace(FAST, dataset=dataset))
    (tmp_path / "mnist.npz").write_text("no archive")
    for flags, words in ((("--data_dir", tmp_path), "corrupt"),
                         (("--dataset", "digits", "--runs", tmp_path), "no checkpoint")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            command(*flags)
        error = capsys.readouterr().err
        assert end.value.code == 1 and error.count("\n") == 1 and words in error
        assert not (tmp_path / "results").exists()  # refused before anything was measured


def test_an_interrupted_command_says_that_it_goes_on(command, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(theory, "run", interrupted)
    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 130 and "the same command resumes" in capsys.readouterr().out


def test_a_run_folder_is_looked_at(tmp_path):
    found = subjects.of_run(train(tmp_path / "mine", "--max_step", 30), "mine", "", 20)
    assert found.state == "run mine" and found.x.shape == (20, 16) and found.x.dtype == torch.float64
    assert found.name == "digits, 4 classes, 4 qubits, amplitude" and 0 <= found.test_acc <= 1
    other = train(tmp_path / "other", "--max_step", 2, "--model", "linear")
    with pytest.raises(SettingsError, match="no bounds for --model linear"):
        subjects.of_run(other, "other", "", 20)


def test_runs_are_named_by_as_much_of_their_paths_as_tells_them_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seed, other_row = Path("table2/implicit/seed-0"), Path("table2/direct-1/seed-0")
    assert subjects.run_names([seed]) == {seed: "implicit/seed-0"}
    assert list(subjects.run_names([other_row, seed]).values()) == ["direct-1/seed-0", "implicit/seed-0"]
    other_table = Path("table1/implicit/seed-0")
    assert list(subjects.run_names([seed, other_table]).values()) == [
        "table2/implicit/seed-0",
        "table1/implicit/seed-0",
    ]
    assert list(subjects.run_names([seed, seed.absolute()]).values()) == ["implicit/seed-0"]


@pytest.mark.slow
def test_runs_that_share_a_name_are_not_read_back_for_each_other(tmp_path, monkeypatch):
    """All parts but the contraction, and all models but the runs, are stand-ins."""
    runs = [train(tmp_path / row / "seed-0", "--max_step", 2, *flags)
            for row, flags in (("implicit", ()), ("direct-1", ("--mode", "direct", "--n_layer", 1)))]  # fmt: skip
    monkeypatch.setattr(subjects, "wanted", lambda *a: {})
    for module, name in ((overlaps, "measure"), (construction, "measure"), (first_experiments, "fixed_points"),
                         (first_experiments, "convergence"), (first_experiments, "gradient"),
                         (equations_table, "measure"), (on_models, "measure"), (equations_table, "markdown")):  # fmt: skip
        monkeypatch.setattr(module, name, lambda *a, measured="" if name == "markdown" else {}: measured)
    of_command = sys.modules["theory.run"]
    monkeypatch.setattr(of_command, "_ablations", lambda *a: [])
    for name in ("draw_overlaps", "draw_solver_residuals", "draw_contraction", "draw_ablations"):
        monkeypatch.setattr(of_command, name, lambda *a: None)
    monkeypatch.setattr(of_command, "markdown", lambda *a: "")

    def states(*looked_at: Path) -> list[str]:
        theory.run(tmp_path / "results", 0, "", looked_at, FAST)
        return [
            entry["state"] for entry in json.loads((tmp_path / "results" / "contraction.json").read_text())["measured"]
        ]

    assert states(runs[0]) == ["run implicit/seed-0"]
    assert states(runs[1], runs[0]) == ["run direct-1/seed-0", "run implicit/seed-0"]
    assert states(runs[0], runs[1]) == ["run implicit/seed-0", "run direct-1/seed-0"]
