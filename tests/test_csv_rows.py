"""metrics.csv after a spreadsheet program, a full disk or a slip of the hand: every reader gets along with it."""

import csv
import json
from argparse import Namespace
from pathlib import Path

import pytest

from figures import draw_training_curves
from figures.metrics import Metrics
from reproduction.collect import _keep_curves, curves
from reproduction.drawing import draw_run
from reproduction.jobs import Job
from reproduction.pictures import _columns
from runs.metrics_csv import CsvLog
from runs.settings import SettingsError
from training.metrics import COLUMNS
from training.settings import Settings
from utils.csv_rows import read_rows

STEPS = (10, 20, 30)
BEST = {"event": "val", "train_step": 20, "epoch": 2.0, "val_loss": 0.0625, "best_val_loss": 0.0625, "no_column": 1}


def write(path: Path, bom: str = "", separator: str = ",", comma: bool = False) -> bytes:
    """The file of a run of three epochs, in the manner of some program."""
    log = CsvLog(path, COLUMNS)
    for step in STEPS:
        log.log("train", step, {"epoch": step / 10, "mode": 1, "train_loss": 1.5 / step, "train_acc": 0.5})
        log.log("val", step, {"epoch": step / 10, "mode": 1, "val_loss": 1.25 / step, "val_acc": 0.75})
    log.close()
    text = path.read_text().replace(",", separator)
    path.write_text(bom + (text.replace(".", ",") if comma else text))
    return path.read_bytes()


WHOLE = {
    "as it was": {},
    "byte order mark": {"bom": "\ufeff"},
    "semicolons": {"separator": ";"},
    "semicolons and decimal commas": {"bom": "\ufeff", "separator": ";", "comma": True},
    "tabs": {"separator": "\t"},
}
# what is left of six rows
DAMAGED = {
    "not UTF-8": (lambda whole: whole.replace(b"val,20", b"\xff\xfe,20"), 6),  # an event of no name
    "numbers not UTF-8": (lambda whole: whole.replace(b"0.75", b"\xa00.75\xff", 1), 5),
    "UTF-16": (lambda whole: whole.decode().encode("utf-16"), 0),
    "no header": (lambda whole: whole.split(b"\n", 1)[1], 0),
    "another header": (lambda whole: b"a,b,c\n1,2,3\n", 0),
    "a giant field": (lambda whole: whole.replace(b"train,20", b"train" + b"x" * 200_000 + b",20"), 5),
    "a word": (lambda whole: whole.replace(b"0.75", b"#NAME?", 1), 5),
    "zeros": (lambda whole: whole[:-500] + bytes(400) + b"\r\nval,1\r\nval,2\r\n", None),
    "a picture": (lambda whole: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), 0),
}


@pytest.fixture
def job(tmp_path) -> Job:
    (tmp_path / "config.json").write_text(json.dumps(Settings().to_dict()))
    return Job("t", "r", "ROW", 0, 3, (), tmp_path, Settings())


@pytest.mark.parametrize("manner", WHOLE)
def test_what_a_spreadsheet_saves_is_read_by_all(tmp_path, job, warned, manner):
    path = tmp_path / "metrics.csv"
    write(path)
    expected, text = read_rows(path), curves(path)
    write(path, **WHOLE[manner])
    assert read_rows(path) == expected and len(expected[0]) == 6 and expected[1] == ""
    assert curves(path) == text and "0.0416667" in text[0]
    assert (job.progress().epoch, job.progress().val_acc) == (3.0, 0.75)
    assert Metrics(path).column("train_loss").tolist()[::2] == [0.15, 0.075, 0.05]
    log = CsvLog(path, COLUMNS, resume_step=20)
    log.close()
    assert [row["train_step"] for row in log.kept] == ["10", "10", "20", "20"]
    assert path.read_text().startswith(",".join(COLUMNS) + "\n")
    assert warned() == []


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_is_damaged_is_said_in_one_line_by_all(tmp_path, job, warned, damage):
    path, (harm, left) = tmp_path / "metrics.csv", DAMAGED[damage]
    path.write_bytes(harm(write(path)))
    damaged = path.read_bytes()
    rows, problem = read_rows(path)
    assert left is None or len(rows) == left
    assert "\n" not in problem and (str(path) in problem) == (damage != "not UTF-8")
    job.progress()
    draw_training_curves(path)
    text, lost = curves(path)
    assert bool(lost) == bool(problem) and (text == "") == (not rows)
    if rows:
        draw_run(Namespace(run=tmp_path, out=None))
    else:
        with pytest.raises(SettingsError, match="metrics.csv"):
            draw_run(Namespace(run=tmp_path, out=None))
    warned_before = len(warned())
    log = CsvLog(path, COLUMNS, resume_step=30, best=BEST)
    log.log("train", 40, {})
    log.close()
    new = warned()[warned_before:]
    assert len(new) == 1 and "\n" not in new[0] and str(path) in new[0]
    assert [row["val_loss"] for row in log.kept if (row["event"], row["train_step"]) in (("val", "20"), ("val", 20))] in (
        [0.0625], ["0.0625"]
    )  # fmt: skip
    if problem:
        assert (tmp_path / "metrics.csv.damaged").read_bytes() == damaged
    with path.open(newline="") as file:
        assert [row["train_step"] for row in csv.DictReader(file)][-1] == "40"


@pytest.mark.parametrize(("content", "said"), [(None, "is gone"), (b"", "is empty"), (",".join(COLUMNS).encode(), "lost")])
def test_rows_that_are_gone_are_said_and_the_best_is_there_again(tmp_path, warned, content, said):
    path = tmp_path / "metrics.csv"
    if content is not None:
        path.write_bytes(content)
    CsvLog(path, COLUMNS, resume_step=30, best=BEST).close()
    (warning,) = warned()
    assert said in warning and "step 20" in warning and "1 rows up to step 30 are kept" in warning
    (row,), problem = read_rows(path)
    assert (row["event"], row["train_step"], row["val_loss"], row["best_val_loss"]) == ("val", "20", "0.0625", "0.0625")


def test_a_run_that_had_no_row_yet_has_lost_none(tmp_path, warned):
    path = tmp_path / "metrics.csv"
    CsvLog(path, COLUMNS).close()
    CsvLog(path, COLUMNS, resume_step=3).close()
    assert warned() == []


@pytest.mark.parametrize("damage", ["numbers not UTF-8", "no header", "a word"])
def test_report_keeps_curves_that_were_whole(tmp_path, warned, damage):
    path, kept = tmp_path / "metrics.csv", tmp_path / "seed-0.csv"
    whole = write(path)
    _keep_curves(path, kept)
    before = kept.read_text()
    path.write_bytes(DAMAGED[damage][0](whole))
    _keep_curves(path, kept)
    assert kept.read_text() == before and "stay" in warned()[0]
    kept.unlink()
    _keep_curves(path, kept)
    assert kept.exists() == (damage != "no header") and len(warned()) == 2
    path.unlink()
    _keep_curves(path, tmp_path / "other.csv")
    assert "is gone" in warned()[2] and not (tmp_path / "other.csv").exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"epoch;mode\n1;x\n", b"x,y\n1,2\n"])
def test_kept_curves_that_are_none_are_named(tmp_path, content):
    (tmp_path / "seed-0.csv").write_bytes(content)
    with pytest.raises(SettingsError, match="seed-0.csv.*restore it, or remove it"):
        _columns(tmp_path / "seed-0.csv")


def test_a_digit_that_has_changed_is_said(tmp_path, warned):
    path = tmp_path / "metrics.csv"
    log = CsvLog(path, COLUMNS)
    log.log("train", 10, {"train_loss": 0.125})
    seal = log.seal
    log.log("train", 20, {"train_loss": 0.0625})  # not in the checkpoint yet
    log.close()
    resumed = CsvLog(path, COLUMNS, resume_step=10, seal=seal)
    resumed.close()
    assert resumed.seal == seal and warned() == []
    path.write_text(path.read_text().replace("0.125", "0.225"))
    changed = CsvLog(path, COLUMNS, resume_step=10, seal=seal)
    changed.close()
    (warning,) = warned()
    assert "not as this run has written it" in warning and str(path) in warning
    assert changed.kept[0]["train_loss"] == "0.225" and (tmp_path / "metrics.csv.damaged").exists()
