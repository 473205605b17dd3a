"""wandb online: stopped anywhere it is whole after a restart, and a silent server is not waited for."""

import logging
import time
from dataclasses import replace

import pytest
import wandb

from conftest import ctrl_c
from runs import wandb_log
from runs.tracking import Tracker
from tracked import RESULTS, SETTINGS, picture, rows_of
from training.metrics import COLUMNS
from wandb_server import WandbServer

pytestmark = pytest.mark.usefixtures("wandb_home")


@pytest.fixture
def server(monkeypatch):
    server = WandbServer()
    wandb.teardown()  # it reads the environment once
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", 40 * "a")
    yield server
    server.answer_again()
    wandb.teardown()
    server.close()


ONLINE = replace(SETTINGS, wandb="online")


def test_online_run_stopped_anywhere_is_whole_after_a_restart(tmp_path, server, monkeypatch, warned):
    # stopped in its last step: the server has that step's training and validation, the test is to come
    events = [(event, step, {f"{event}_loss": step / 7}) for step in (10, 20, 60) for event in ("train", "val")]
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    for event in events:
        tracker.log(*event)
    tracker.close(failed=True)
    run = tracker.wandb_id
    assert len(server.rows[run]) == 6
    del server.rows[run][4:]  # a kill took the last two
    server.summary[run] = {key: value for key, value in server.rows[run][-1].items()}
    monkeypatch.setattr(logging.getLogger("qdeq"), "level", logging.INFO)
    tracker = Tracker(tmp_path, ONLINE, COLUMNS, resume_step=60, wandb_id=run)
    tracker.log("test", 60, {"test_loss": 0.25})
    tracker.finish(60, RESULTS, {"circuit": picture(tmp_path)})
    tracker.close()
    shown = [{name: value for name, value in row.items() if name[0] != "_"} for row in server.rows[run]]
    assert shown[:-1] == rows_of([*events, ("test", 60, {"test_loss": 0.25})])
    assert shown[-1]["train_step"] == 60 and shown[-1]["circuit"]["_type"] == "image-file"
    steps = [row["_step"] for row in server.rows[run]]
    assert steps == sorted(set(steps))
    summary = server.summary[run]
    assert {name: summary.get(name) for name in RESULTS} == RESULTS and summary["test_loss"] == 0.25
    assert not [message for message in warned() if "wandb" in message]


def test_online_run_says_where_it_is(tmp_path, server, monkeypatch):
    said = []
    monkeypatch.setattr(logging.getLogger("qdeq"), "info", lambda text, *values: said.append(text % values))
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    tracker.log("train", 1, {"train_loss": 1.0})
    tracker.close()
    assert said == [f"wandb: {server.url}/me/p/runs/{tracker.wandb_id}"]


@pytest.mark.slow
def test_a_server_that_falls_silent_is_waited_for_no_longer_than_said(tmp_path, server, monkeypatch, warned):
    monkeypatch.setattr(wandb_log, "UPLOAD_SECONDS", 4.0)
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    tracker.log("train", 1, {"train_loss": 1.0})
    server.fall_silent()
    tracker.log("val", 1, {"val_loss": 1.0})
    began = time.monotonic()
    tracker.finish(1, RESULTS, {"circuit": picture(tmp_path)})
    assert time.monotonic() - began < 3
    tracker.close()
    assert time.monotonic() - began < 15
    (warning,) = warned()
    (folder,) = tmp_path.glob("wandb/run-*")
    assert f"wandb sync --include-online {folder}" in warning


def test_ctrl_c_while_the_upload_is_waited_for_ends_the_wait(tmp_path, server, monkeypatch, warned):
    tracker = Tracker(tmp_path, ONLINE, COLUMNS)
    with monkeypatch.context() as patch:
        patch.setattr(type(wandb.run), "finish", lambda *_, **__: ctrl_c())
        tracker.close()
    (warning,) = warned()
    assert "wandb sync --include-online" in warning
    wandb.run.finish()
