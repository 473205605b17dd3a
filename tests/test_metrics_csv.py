"""metrics.csv holds the right values by the right names, through stops and kills."""


import pytest

from runs.metrics_csv import CsvLog
from tracked import rows, steps
from training.metrics import COLUMNS

RELEASED_METRICS = """train_loss train_acc train_res val_loss val_acc val_res best_val_loss best_val_acc
best_val_res test_loss test_acc test_res epoch train_step mode""".split()
ISSUE_METRICS = """train_solver_steps val_converged val_res_rel train_jac_loss grad_norm lr seconds_per_step
peak_memory_mb val_spectral_radius""".split()


def test_columns_have_the_names_of_the_released_code_and_ours():
    assert set(RELEASED_METRICS + ISSUE_METRICS) <= set(COLUMNS)
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_csv_holds_each_value_under_its_name_at_once(tmp_path):
    log = CsvLog(tmp_path / "m.csv", COLUMNS)
    assert (tmp_path / "m.csv").read_text().strip() == ",".join(COLUMNS)
    log.log("train", 10, {"train_loss": 0.1 + 0.2, "mode": 1})
    first = rows(tmp_path / "m.csv")  # the log is still open
    log.log("val", 20, {"val_loss": float("nan"), "val_acc": 0.5})
    log.close()
    assert rows(tmp_path / "m.csv")[:1] == first
    values = [{name: value for name, value in row.items() if value} for row in rows(tmp_path / "m.csv")]
    assert values == [
        {"event": "train", "train_step": "10", "train_loss": "0.30000000000000004", "mode": "1"},
        {"event": "val", "train_step": "20", "val_loss": "nan", "val_acc": "0.5"},
    ]


def test_csv_refuses_a_name_that_is_no_column(tmp_path):
    with pytest.raises(ValueError, match="train_los"):
        CsvLog(tmp_path / "m.csv", COLUMNS).log("train", 1, {"train_los": 1.0})


def test_csv_of_a_resumed_run_is_rewound_to_its_checkpoint(tmp_path):
    log = CsvLog(tmp_path / "m.csv", COLUMNS)
    for event, step in [("train", 10), ("val", 10), ("train", 20), ("val", 20), ("test", 20), ("train", 30)]:
        log.log(event, step, {"epoch": step / 10})
    log.close()
    log = CsvLog(tmp_path / "m.csv", COLUMNS, resume_step=20)
    log.log("train", 30, {"epoch": 33.0})
    log.close()
    kept = [("train", 10), ("val", 10), ("train", 20), ("val", 20)]
    assert steps(tmp_path / "m.csv") == [*kept, ("train", 30)]
    assert [float(row["epoch"]) for row in rows(tmp_path / "m.csv")] == [1, 1, 2, 2, 33]
    CsvLog(tmp_path / "m.csv", COLUMNS).close()
    assert steps(tmp_path / "m.csv") == []  # a new run starts anew


def test_csv_line_cut_anywhere_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "m.csv"
    log = CsvLog(path, COLUMNS)
    log.log("train", 10, {"train_loss": 1.25})
    before = path.read_bytes()
    log.log("val", 123, {"epoch": 12.5, "val_loss": 2.25, "val_spectral_radius": 0.75})
    log.close()
    whole, expected = path.read_bytes(), rows(path)
    for cut in range(len(before), len(whole) + 1):
        path.write_bytes(whole[:cut])
        resumed = CsvLog(path, COLUMNS, resume_step=200)
        resumed.log("train", 130, {})
        resumed.close()
        is_whole = cut >= len(whole) - len("\r\n")
        assert rows(path)[:-1] == (expected if is_whole else expected[:1])
        assert steps(path)[-1] == ("train", 130)


def test_csv_resumed_without_a_file_starts_one(tmp_path):
    CsvLog(tmp_path / "m.csv", COLUMNS, resume_step=5).close()
    assert (tmp_path / "m.csv").read_text().strip() == ",".join(COLUMNS)
