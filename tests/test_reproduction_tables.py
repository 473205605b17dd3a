"""Tables from finished runs: arithmetic, what is kept, what is missing, what must be said."""

import csv
import io
import json

import pytest

import reproduce
from conftest import REPOSITORY
from reproduction import tables
from reproduction.collect import collect, curves, kept_path, read_kept, write_table
from reproduction.jobs import make_job
from reproduction.rows import TABLES
from reproduction.tables import as_csv, build_table, markdown
from runs.settings import SettingsError
from training.command_line import parse_command_line

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


def test_rows_have_seeds_of_their_own():
    content = build_table(TABLE, 100, None, {("implicit", seed): result(seed, 0.75) for seed in (0, 1, 2, 7)})
    assert content["rows"][0]["seeds"] == [0, 1, 2] and content["seeds"] == [0, 1, 2, 3, 4]
    wanted = {name: missing["command"].split("--seeds ")[1] for missing in content["missing"] for name in missing["rows"]}
    assert wanted["implicit"] == "3 4" and wanted["warmup"] == "0 1 2 3 4" and wanted["wang2022-implicit"] == "0 1 2"


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
    text, lost = curves(finished_job.folder / "metrics.csv")
    assert "test" not in text and lost == ""


def test_missing_leaves_out_what_is_kept(finished_job, tmp_path, capsys):
    collect([finished_job], tmp_path / "results")
    words = ["table2", "--rows", "implicit", "--seeds", "0", "1", "--work_dir", str(tmp_path / "elsewhere"),
             "--results_dir", str(tmp_path / "results"), "--dry_run"]  # fmt: skip
    for more, seeds in (([], ["0", "1"]), (["--missing"], ["1"])):
        reproduce.main([*words, *more])
        lines = capsys.readouterr().out.splitlines()
        if more:
            assert lines.pop(0) == f"1 of 2 runs are kept in {tmp_path / 'results'}"
        count, *commands = lines
        assert count.startswith(f"0 of {len(seeds)} runs") and [c.split("--seed ")[1][0] for c in commands] == seeds


def test_missing_shows_what_is_kept_beside_what_it_runs(finished_job, tmp_path, capsys):
    collect([finished_job], tmp_path / "results")
    words = ["table2", "--rows", "implicit", "--seeds", "0", "--missing", "--results_dir", str(tmp_path / "results")]
    complete = f"1 of 1 runs are kept in {tmp_path / 'results'}, none is missing\n"
    reproduce.main([*words, "--work_dir", str(tmp_path / "elsewhere"), "--dry_run"])
    assert capsys.readouterr().out == complete and not (tmp_path / "elsewhere").exists()
    reproduce.main([*words, "--work_dir", str(tmp_path / "elsewhere")])
    text = capsys.readouterr().out
    assert text.startswith(complete) and "0 of 0" not in text
    assert "| IMPLICIT | 75.00 | 73.68 |" in text and "Not run yet" not in text
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
    first = write_table(TABLE, 100, [0], [finished_job], tmp_path / "results")
    (finished_job.folder / "results.json").unlink()
    again = write_table(TABLE, 100, [0], [finished_job], tmp_path / "results")
    assert first == again == json.loads((tmp_path / "results" / "table2" / "table.json").read_text())
    assert (tmp_path / "results" / "table2" / "table.md").read_text() == markdown(first) + "\n"


def test_nothing_is_written_where_nothing_has_run(tmp_path):
    content = write_table(TABLE, 100, [0], [], tmp_path)
    assert not content["rows"] and not list(tmp_path.iterdir())
    assert "Not run yet" in markdown(content)


COMMITTED = sorted((REPOSITORY / "results" / "paper").glob("table[1-4]/table.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_tables_are_those_of_the_committed_runs(path, tmp_path):
    content = json.loads(path.read_text())
    table = TABLES[content["table"]]
    jobs = [make_job(table, row, seed, content["epochs"], tmp_path) for row in table.rows for seed in content["seeds"]]
    kept = {(job.row, job.seed): read_kept(job, path.parents[1]) for job in jobs}
    rebuilt = build_table(table, content["epochs"], None, {k: v for k, v in kept.items() if v})
    assert rebuilt == content
    assert path.with_suffix(".md").read_text() == markdown(content) + "\n"
    assert path.with_suffix(".csv").read_text() == as_csv(content)
