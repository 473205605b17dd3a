"""Tables are put where they are read: markers of pages, tables of files, the summary, and the committed pages."""

import json
import shutil
import subprocess
from argparse import Namespace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from conftest import REPOSITORY
from figures import save_figure
from reproduction import report
from reproduction.markers import fill
from reproduction.report import PAGES, fill_pages, table_of, written_tables
from reproduction.rows import TABLES
from reproduction.search import markdown as search_markdown
from reproduction.summary import summary
from reproduction.tables import build_table, markdown
from runs.settings import SettingsError

PAPER = REPOSITORY / "results" / "paper"


# markers


def test_tables_are_put_between_their_markers_and_nothing_else_changes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "A `<!-- reproduce.py table1 -->` in a sentence.\n\n<!-- reproduce.py table2 -->\nold\n<!-- end -->\n\n"
        "between\n\n<!-- reproduce.py table x/*.json -->\n<!-- end -->\nafter <!-- end -->\n"
    )
    tables = {"table2": r"new \1", "table x/*.json": "of files"}
    assert fill(page, tables.get) == ["table2", "table x/*.json"]
    expected = (
        "A `<!-- reproduce.py table1 -->` in a sentence.\n\n<!-- reproduce.py table2 -->\n\nnew \\1\n\n<!-- end -->\n\n"
        "between\n\n<!-- reproduce.py table x/*.json -->\n\nof files\n\n<!-- end -->\nafter <!-- end -->\n"
    )
    assert page.read_text() == expected
    fill(page, tables.get)
    assert page.read_text() == expected


def test_the_page_of_all_shows_what_commands_have_written():
    shown = [str(path.relative_to(PAPER)) for path in written_tables(PAPER)]
    studies = sorted(path.parent.name for path in PAPER.glob("table[6-9]_*/table.md"))
    tables = [*(f"table{n}" for n in range(1, 6)), *studies]
    assert studies and shown == [*(f"{name}/table.md" for name in tables), "theory/equations.md", "theory/theory.md"]


def test_what_has_not_been_run_leaves_its_place_alone(tmp_path):
    page = tmp_path / "page.md"
    text = "<!-- reproduce.py table5 -->\nold\n<!-- end -->\n"
    page.write_text(text)
    assert fill(page, lambda command: None) == ["table5"] and page.read_text() == text


def test_a_marker_without_an_end_swallows_no_other_table(tmp_path):
    page = tmp_path / "page.md"
    text = "<!-- reproduce.py table1 -->\n\nold\n\n<!-- reproduce.py table2 -->\nold\n<!-- end -->\n"
    page.write_text(text)
    with pytest.raises(SettingsError, match="page.md: .*table1 --> has no <!-- end -->"):
        fill(page, lambda command: "new")
    assert page.read_text() == text


# pages


@pytest.fixture
def root(tmp_path) -> Path:
    """A small repository: two pages, files of runs and of a time study."""
    (tmp_path / "results" / "qep").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "results" / "engines", tmp_path / "results" / "engines")
    point = {"n_spins": 6, "solver": "krylov", "estimator": "exact", "median": 0.002}
    (tmp_path / "results" / "qep" / "time.json").write_text(json.dumps({"study": "time", "points": [point]}))
    return tmp_path


def page_of(*commands: str) -> str:
    return "".join(f"<!-- reproduce.py {command} -->\n<!-- end -->\n" for command in commands)


def test_every_page_gets_its_tables(root):
    engines, times = "table results/engines/compiled-*.json", "qep table results/qep/time.json"
    (root / "README.md").write_text(page_of("summary"))
    (root / "results" / "qep" / "README.md").write_text(page_of(times, engines))
    assert fill_pages({"summary": "in short", "table1": "long"}, root) == ["table1"]  # for which there is no place
    assert (root / "README.md").read_text() == "<!-- reproduce.py summary -->\n\nin short\n\n<!-- end -->\n"
    text = (root / "results" / "qep" / "README.md").read_text()
    assert "| spins | exact response, krylov, ms |\n|---|---|\n| 6 | 2 |\n\n<!-- end -->" in text
    assert "| IMPLICIT | amplitude | 0.798 | " in text


@pytest.mark.parametrize("command, said", [
    ("tabel2", "names no table"), ("table", "names no table"), ("qep time results/qep/time.json", "names no table"),
    ("table results/none-*.json", "results/none-.*names no file"),
    ("table results/qep/time.json", "holds no results of a run"),
])  # fmt: skip
def test_a_marker_that_is_wrong_is_named(root, command, said):
    (root / "README.md").write_text(page_of(command))
    with pytest.raises(SettingsError, match=said):
        fill_pages({}, root)
    assert (root / "README.md").read_text() == page_of(command)


# the summary


def result(seed: int, accuracy: float | None) -> dict:
    return {
        "seed": seed, "test_acc": accuracy, "peak_memory_mb": 800.0, "train_seconds": 60.0, "test_res": 0.01,
        "test_res_rel": 0.001, "n_parameters": 9, "git_commit": "abc", "device": "cpu", "test_images_sha256": "0",
    }  # fmt: skip


def content_of(name: str, accuracies: dict[str, list[float | None]], epochs: int | None = None) -> dict:
    results = {(row, seed): result(seed, acc) for row, accs in accuracies.items() for seed, acc in enumerate(accs)}
    return build_table(TABLES[name], epochs or TABLES[name].epochs, [0, 1], results)


def test_summary_chooses_its_rows():
    four = {"amplitude_implicit": [0.92, 0.94], "angle_implicit": [0.99, 0.99], "amplitude_direct-2": [0.9, 0.9],
            "amplitude_direct-10": [0.91, 0.91], "angle_direct-1": [0.99, 0.99], "linear": [0.95, 0.95]}  # fmt: skip
    ten = {"implicit": [0.7, 0.7], "released_implicit": [0.9, 0.9], "released_direct-1": [0.9, 0.9],
           "direct-1": [0.6, 0.6], "direct-5": [0.61, 0.61], "classical-direct-1": [0.98, 0.98],
           "classical-implicit": [0.97, 0.97], "classical_narrow-implicit": [0.92, 0.92]}  # fmt: skip
    text = summary([content_of("table1", four), content_of("table2", ten), content_of("table3", {})])
    header, _, *rows = text.split("\n\n")[0].splitlines()
    assert header.startswith("| test accuracy, % | IMPLICIT | best DIRECT | the paper's IMPLICIT | linear classifier |")
    assert rows == [
        "| MNIST-4, amplitude | 93.00 ± 1.41 | 91.00 ± 0.00 (DIRECT-10) | - | 95.00 ± 0.00 | - | - |",
        "| MNIST-10 | 70.00 ± 0.00 | 61.00 ± 0.00 (DIRECT-5) | 73.68 | - | 92.00 ± 0.00 | 97.00 ± 0.00 |",
    ]
    assert "\n\nMean ± sample standard deviation over 2 seeds; " in text


def test_summary_says_what_differs_from_the_papers_runs():
    text = summary([content_of("table2", {"implicit": [0.7, None], "direct-1": [0.6], "direct-2": [None]}, epochs=2)])
    assert "| MNIST-10 | not finite | 60.00 (DIRECT-1) | 73.68 |" in text
    assert "over 1 or 2 seeds" in text and "fewer or more epochs than the paper's" in text
    assert summary([content_of("table2", {})]) is None


# committed


def committed_tables() -> dict[str, str]:
    contents = [json.loads((PAPER / name / "table.json").read_text()) for name in TABLES]
    trials = json.loads((PAPER / "table5" / "trials.json").read_text())
    of_tables = {content["table"]: markdown(content) for content in contents}
    return of_tables | {"table5": search_markdown(trials), "summary": summary(contents)}


@pytest.mark.parametrize("page", [page for page in PAGES if (REPOSITORY / page).exists()])
def test_committed_pages_show_the_committed_results(page, tmp_path):
    copy = tmp_path / "page.md"
    copy.write_text((REPOSITORY / page).read_text())
    fill(copy, lambda command: table_of(command, committed_tables(), REPOSITORY))
    assert copy.read_text() == (REPOSITORY / page).read_text()


def test_the_committed_summary_has_its_rows_numbers():
    contents = [json.loads((PAPER / name / "table.json").read_text()) for name in TABLES]
    rows = summary(contents).split("\n\n")[0].splitlines()[2:]
    names = ["MNIST-4, amplitude", "MNIST-10", "FashionMNIST-10", "CIFAR-10"]
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in names]
    for content, row in zip(contents, rows):
        by_name = {entry["row"]: entry["test_acc"]["mean"] for entry in content["rows"]}
        shown = [float(cell.split()[0]) for cell in row.strip("| ").split(" | ")[1:] if cell != "-"]
        prefix = "amplitude_" if content["table"] == "table1" else ""
        best = max(by_name[f"{prefix}direct-{n}"] for n in (1, 2, 5, 10))
        paper = {"table1": None, "table2": 73.68, "table3": 72.11, "table4": 24.38}[content["table"]]
        classical = [by_name[name] for name in ("linear", "classical_narrow-implicit", "classical-implicit")]
        expected = [by_name[f"{prefix}implicit"], best, paper, *classical]
        assert shown == pytest.approx([value for value in expected if value is not None], abs=0.005)


def test_what_a_killed_report_left_is_gone_with_the_next_one(tmp_path, monkeypatch):
    dead = subprocess.Popen(["true"])
    dead.wait()
    results, images = tmp_path / "results", tmp_path / "images"
    left = [results / "table1" / f".table.md.{dead.pid}.tmp", tmp_path / f".all.html.{dead.pid}.tmp",
            images / f".a.png.{dead.pid}.tmp"]  # fmt: skip
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    (results / "table1" / "table.md").write_text("whole")

    def stop(*_):
        save_figure(Figure(), images / "b.png")
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "keep_and_show", stop)
    with pytest.raises(KeyboardInterrupt):
        report.write_report(Namespace(results_dir=results, images_dir=images, html=tmp_path / "all.html"))
    assert not any(path.exists() for path in left) and (results / "table1" / "table.md").exists()
