"""Figures and the page show what the kept results say; the page's images load in a real browser."""

import base64
import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from conftest import REPOSITORY
from figures.panels import Line, Panel, draw_confusion_grid, draw_panels
from figures.style import BLUE, save_figure
from reproduction import page, pictures
from reproduction.collect import CURVES, write_table
from reproduction.dashboard import table_of
from reproduction.jobs import make_job
from reproduction.rows import TABLES
from training.command_line import parse_command_line

EPOCHS = 4


def make_results(folder: Path, table_name: str, rows: tuple[str, ...], seeds=(0, 1)) -> Path:
    """Kept results of made-up runs: accuracy 0.5 + seed / 10 at the end, growing by 0.1 per epoch towards it."""
    table, jobs = TABLES[table_name], []
    n = table.flags["num_classes"]
    for name in rows:
        for seed in seeds:
            job = make_job(table, table.row(name), seed, EPOCHS, folder / "runs")
            job.folder.mkdir(parents=True)
            settings = parse_command_line(list(job.flags)).settings.to_dict()
            (job.folder / "config.json").write_text(json.dumps(settings))
            results = {
                "seed": seed, "test_acc": 0.5 + seed / 10, "peak_memory_mb": 800.0, "train_seconds": 60.0, "test_res": 0.01,
                "test_res_rel": 0.001, "n_parameters": 9, "git_commit": "abc", "device": "cpu", "settings": settings,
                "test_images_sha256": "0", "confusion_matrix": (np.eye(n, dtype=int) * (seed + 1)).tolist(),
            }  # fmt: skip
            (job.folder / "results.json").write_text(json.dumps(results))
            with (job.folder / "metrics.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, ("event", "train_step", "epoch", "mode", *CURVES))
                writer.writeheader()
                for epoch in range(1, EPOCHS + 1):
                    values = dict.fromkeys(CURVES, 0.5 + seed / 10 - (EPOCHS - epoch) / 10)
                    if not settings["spectral_radius_mode"]:
                        values["val_spectral_radius"] = ""
                    writer.writerow({"event": "val", "train_step": epoch, "epoch": epoch, "mode": 1} | values)
            jobs.append(job)
    write_table(table, EPOCHS, list(seeds), jobs, folder / "results")
    return folder / "results"


def lines_of(figure: Figure, axes: int = 0) -> dict[str, tuple]:
    return {line.get_label(): tuple(line.get_ydata()) for line in figure.axes[axes].lines}


def test_training_curves_are_means_over_seeds(tmp_path):
    results = make_results(tmp_path, "table1", ("amplitude_implicit", "amplitude_direct-2", "angle_implicit"))
    rows = pictures.load_rows(TABLES["table1"], results)
    figure = pictures.draw_training(TABLES["table1"], rows)
    assert len(figure.axes) == 6  # three measures for each encoding
    assert [axes.get_title("left") for axes in figure.axes] == ["MNIST-4, amplitude"] * 3 + ["MNIST-4, angle"] * 3
    assert [axes.get_ylabel().split()[0] for axes in figure.axes] == ["validation", "training", "validation"] * 2
    shown = lines_of(figure)
    assert set(shown) == {"IMPLICIT", "DIRECT-2"}
    np.testing.assert_allclose(shown["IMPLICIT"], [25, 35, 45, 55])
    assert {line.get_color() for line in figure.axes[0].lines if line.get_label() == "IMPLICIT"} == {BLUE}


def test_accuracy_against_depth_shows_ours_the_papers_and_the_limit(tmp_path):
    names = ("implicit", "direct-1", "direct-10", "released_implicit", "released_direct-1")
    results = make_results(tmp_path, "table2", names)
    figure = pictures.draw_depth({"table2": pictures.load_rows(TABLES["table2"], results)})
    assert len(figure.axes) == 1  # a single depth is no curve
    shown = lines_of(figure)
    np.testing.assert_allclose(shown["DIRECT"], [55, 55])
    assert shown["DIRECT, paper"] == (72.78, 71.18)
    np.testing.assert_allclose(shown["IMPLICIT"], [55, 55])
    assert list(figure.axes[0].get_xticks()) == [1, 2, 5, 10]


def test_every_row_has_its_style_and_no_style_is_idle():
    shown = {row.name if row.differs else (row.model, row.depth) for table in TABLES.values() for row in table.rows}
    assert shown == set(pictures.STYLES) and len(shown) == len(pictures.STYLES)
    shared = {(row.model, row.depth) for row in TABLES["table1"].rows if not row.differs}
    assert all(shared == {(row.model, row.depth) for row in table.rows if not row.differs} for table in TABLES.values())


def test_accuracy_against_depth_keeps_seeds_apart(tmp_path):
    """A depth with fewer seeds shortens no other's mean."""
    shallow = pictures.load_rows(TABLES["table2"], make_results(tmp_path / "a", "table2", ("direct-1",), (1,)))
    deep = pictures.load_rows(TABLES["table2"], make_results(tmp_path / "b", "table2", ("direct-10",), (0, 1, 2)))
    shown = lines_of(pictures.draw_depth({"table2": shallow + deep}))
    np.testing.assert_allclose(shown["DIRECT"], [60, 60])


def test_spectral_radius_only_where_it_was_measured(tmp_path):
    results = make_results(tmp_path, "table1", ("amplitude_implicit", "angle_implicit"))
    tables = {"table1": pictures.load_rows(TABLES["table1"], results)}
    figure = pictures.draw_spectral_radii(tables)
    assert [axes.get_title("left") for axes in figure.axes] == ["MNIST-4, amplitude"]
    np.testing.assert_allclose(lines_of(figure)["IMPLICIT"], [0.25, 0.35, 0.45, 0.55])
    assert pictures.draw_spectral_radii({"table1": tables["table1"][1:]}) is None


def test_confusion_matrices_add_the_seeds(tmp_path, monkeypatch):
    results = make_results(tmp_path, "table1", ("angle_implicit",))
    shown = {}
    monkeypatch.setattr(pictures, "draw_confusion_grid", lambda counts, classes: shown.update(counts) or classes)
    classes = pictures.draw_confusions(TABLES["table1"], pictures.load_rows(TABLES["table1"], results))
    assert classes == (0, 3, 6, 9)
    np.testing.assert_array_equal(shown["IMPLICIT, angle"], 3 * np.eye(4))


def test_confusion_grid_writes_percent():
    figure = draw_confusion_grid({"a": np.array([[3, 1], [0, 0]])}, ("x", "y"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]  # a class without images has none
    with pytest.raises(ValueError, match="2 classes"):
        draw_confusion_grid({"a": np.eye(3)}, ("x", "y"))


def test_panels_leave_out_what_is_no_number():
    line = Line("l", np.arange(4), np.array([[1.0, np.nan, -1.0, 4.0], [3.0, np.nan, np.nan, np.inf]]), 0)
    figure = draw_panels([Panel("t", "x", "y", [line], log_y=True, level=(1.0, "one"))], 2)
    drawn = figure.axes[0].lines[0]
    assert list(drawn.get_xdata()) == [0, 3] and list(drawn.get_ydata()) == [2.0, 4.0]
    with pytest.raises(ValueError, match="at least one panel"):
        draw_panels([], 1)


def test_lines_beyond_the_colours_differ_in_their_dashes():
    lines = [Line(str(style), np.arange(2), np.ones((1, 2)), style) for style in range(21)]
    drawn = draw_panels([Panel("t", "x", "y", lines)], 1).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 21


def test_figures_command_writes_vector_and_pixels(tmp_path, run_script):
    results = make_results(tmp_path, "table2", ("implicit", "direct-1", "direct-2"))
    drawn = pictures.draw_results(results, tmp_path / "images")
    assert [picture.table for picture in drawn] == ["table2", "table2", None, None]
    assert all(path.stat().st_size > 1000 for picture in drawn for path in picture.paths)
    names = {path.name for path in (tmp_path / "images").iterdir()}
    stems = ("training_table2", "confusion_table2", "accuracy_against_depth", "spectral_radius")
    assert names == {stem + suffix for stem in stems for suffix in (".svg", ".png")}
    assert pictures.draw_results(tmp_path / "none", tmp_path / "images") == []


NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.mark.slow
def test_figures_1_to_3_are_the_committed_ones(tmp_path):
    written = pictures.draw_fixed(tmp_path)
    assert {path.stem for path in written} == {"qdeq", "circuit_4", "circuit_10"}
    for path in written:
        committed = REPOSITORY / "images" / path.name
        assert committed.exists()
        if path.suffix == ".svg":
            ours, theirs = path.read_text(), committed.read_text()
            assert NUMBER.split(ours) == NUMBER.split(theirs)
            numbers = [[float(number) for number in NUMBER.findall(text)] for text in (ours, theirs)]
            np.testing.assert_allclose(*numbers, atol=1e-3)  # points; round-off differs between machines


def test_summary_table_for_the_dashboard(tmp_path):
    results = make_results(tmp_path, "table2", ("implicit",))
    columns, (line,) = table_of(json.loads((results / "table2" / "table.json").read_text()))
    values = dict(zip(columns, line))
    assert values["row"] == "IMPLICIT" and values["seeds"] == 2 and values["test_acc_paper"] == 73.68
    assert values["test_acc_mean"] == pytest.approx(55)


# the page


@pytest.fixture
def written_page(tmp_path):
    table = tmp_path / "table.md"
    table.write_text(
        "**A & B**, 2 epochs\n\n| model | `res` |\n|---|---|\n| a < b | **1** |\n| c |  |\n\n- one `x`\n- two\n"
    )
    images = []
    for name in ("training_table2", "circuit_4", "something_else"):
        figure = Figure(figsize=(2, 1))
        figure.add_subplot().plot([0, 1])
        save_figure(figure, tmp_path / f"{name}.png")
        images.append(tmp_path / f"{name}.png")
    path = tmp_path / "out" / "report.html"
    page.write_page(path, [table], images)
    return path, images


def test_page_holds_tables_and_images_and_fetches_nothing(written_page):
    path, images = written_page
    text = path.read_text()
    assert re.search("<h2.*>A &amp; B, 2 epochs</h2>", text)
    assert "<td>a &lt; b</td>\n<td><strong>1</strong></td>" in text and "<td>c</td>\n<td></td>" in text
    assert "<th>model</th>\n<th><code>res</code></th>" in text and "<li>one <code>x</code></li>" in text
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert [base64.b64decode(data) for data in embedded] == [image.read_bytes() for image in images]
    assert text.count("src=") == len(images) and "href=" not in text and "<script" not in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert captions[0].startswith("Table2. Training curves") and captions[1].startswith("Figure 2.")
    assert captions[2] == "something else"


def test_headings_and_bars_within_cells():
    text = page.to_html("# One\n\n## Two `x`\n\n| a \\|b\\| | c |\n|---|---|\n| 1 | \\|2 |\n")
    assert re.search("<h2.*>One</h2>", text) and re.search("<h3.*>Two <code>x</code></h3>", text)
    assert "<th>a |b|</th>\n<th>c</th>" in text and "<td>1</td>\n<td>|2</td>" in text


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COUNT = """<script>addEventListener("load", () => {
  const all = [...document.images];
  document.body.dataset.images = all.length;
  document.body.dataset.loaded = all.filter((image) => image.complete && image.naturalWidth > 100).length;
  document.body.dataset.rows = document.querySelectorAll("tr").length;
})</script>"""


def seen_by_browser(path: Path, profile: Path) -> dict[str, str]:
    """What a headless browser finds in a page: number of images, of those that have loaded, and of table rows."""
    counted = path.with_name("counted.html")
    counted.write_text(path.read_text().replace("</body>", COUNT + "</body>"))
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}", "--dump-dom", counted.as_uri()]  # fmt: skip
    shown = subprocess.run(words, capture_output=True, text=True, timeout=900, check=True).stdout
    return dict(re.findall(r'data-(images|loaded|rows)="(\d+)"', shown))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
def test_every_image_of_the_page_loads_in_a_browser(written_page, tmp_path):
    path, _ = written_page
    assert seen_by_browser(path, tmp_path / "profile") == {"images": "3", "loaded": "3", "rows": "3"}
    damaged = path.with_name("damaged.html")
    damaged.write_text(path.read_text().replace("base64,", "base64,xx", 1))
    assert seen_by_browser(damaged, tmp_path / "profile2")["loaded"] == "2"  # the test can fail


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page in")
def test_report_command_makes_a_page_that_loads(tmp_path, run_script):
    results = make_results(tmp_path, "table2", ("implicit", "direct-1"))
    run_script("reproduce.py", "report", "--epochs", EPOCHS, "--seeds", 0, 1, "--work_dir", tmp_path / "none",
               "--results_dir", results, "--html", cwd=tmp_path)  # fmt: skip
    seen = seen_by_browser(results / "report.html", tmp_path / "profile")
    assert seen["images"] == seen["loaded"] and int(seen["images"]) >= 3 + 4
