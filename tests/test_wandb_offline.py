"""wandb, really, offline: one run, stopped and continued, read back from its files."""

import time

import pytest
import wandb

from runs import wandb_log
from runs.tracking import Tracker
from runs.wandb_files import records
from tracked import EVENTS, RESULTS, SETTINGS, picture, rows_of, steps
from training.metrics import COLUMNS
from training.settings import Settings
from wandb_reader import read_offline_run

pytestmark = pytest.mark.usefixtures("wandb_home")


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A run folder with an offline run in two parts, the ids of the parts, and the calls of wandb.init."""
    path = tmp_path_factory.mktemp("runs") / "read_me_back"
    path.mkdir()
    calls, real_init = [], wandb.init
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wandb, "init", lambda **options: calls.append(options) or real_init(**options))
        first = Tracker(path, SETTINGS, COLUMNS)
        ids = [first.wandb_id]
        for event in EVENTS[:250]:
            first.log(*event)
        first.close(failed=True)
        second = Tracker(path, SETTINGS, COLUMNS, resume_step=250, wandb_id=ids[0])
        ids.append(second.wandb_id)
        for event in EVENTS[250:]:
            second.log(*event)
        second.finish(300, RESULTS, {"circuit": picture(path)})
        second.close()
    return path, ids, calls


def test_wandb_config_is_the_settings_and_tags_are_the_released_ones(offline):
    config, _, _, tags = read_offline_run(offline[0])
    assert Settings.from_dict(config) == SETTINGS
    assert tags == ["fashion_mnist", "4C"]


def test_wandb_history_holds_each_value_under_its_name(offline):
    _, history, _, _ = read_offline_run(offline[0])
    assert history[:-1] == [{"train_step": step, **metrics} for _, step, metrics in EVENTS]
    assert set(history[-1]) == {"train_step", "circuit"} and history[-1]["train_step"] == 300
    picture = history[-1]["circuit"]
    assert picture["_type"] == "image-file"
    (part,) = offline[0].glob("wandb/offline-run-*/files/media/images/*.png")
    assert part.name in picture["path"]


def test_wandb_summary_holds_the_results(offline):
    _, _, summary, _ = read_offline_run(offline[0])
    assert RESULTS.items() <= summary.items()
    assert summary["val_loss"] == EVENTS[-2][2]["val_loss"]


def test_wandb_is_initialised_once_and_goes_on_under_its_id(offline):
    path, ids, calls = offline
    assert len(calls) == 2  # one for each part
    assert ids[0] == ids[1] is not None
    parts = sorted(path.glob("wandb/offline-run-*/run-*.wandb"))
    assert [part.name for part in parts] == [f"run-{ids[0]}.wandb"] * 2
    assert all((call["project"], call["name"]) == ("tests", "read_me_back") for call in calls)
    assert [len(read_offline_run(part.parent)[1]) for part in parts] == [250, 51]


def test_wandb_files_of_several_blocks_and_cut_ones_are_read(offline):
    data = min(offline[0].glob("wandb/offline-run-*/run-*.wandb")).read_bytes()
    assert len(data) > 2 * 32768
    whole = list(records(data))
    assert list(records(data[:-1])) == whole[:-1] and whole[-1][1] == len(data)
    damage = bytearray(data)
    damage[40000] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        list(records(bytes(damage)))
    with pytest.raises(FileNotFoundError):
        read_offline_run(offline[0] / "home")


def test_csv_holds_the_same_run(offline):
    assert steps(offline[0] / "metrics.csv") == [(event, step) for event, step, _ in EVENTS]


@pytest.mark.parametrize("cut", [0, 7, 20_000, 32_768, 50_001, None])
def test_offline_run_cut_by_a_kill_is_whole_after_a_restart(tmp_path, cut):
    first = Tracker(tmp_path, SETTINGS, COLUMNS)
    for event in EVENTS[:120]:
        first.log(*event)
    first.close()
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    file.write_bytes(data[:cut])
    time.sleep(1)  # the parts' names tell seconds
    # the checkpoint is of step 100: those after it are taken again
    second = Tracker(tmp_path, SETTINGS, COLUMNS, resume_step=100, wandb_id=first.wandb_id)
    for event in EVENTS[100:130]:
        second.log(*event)
    second.close()
    _, history, summary, _ = read_offline_run(tmp_path)
    assert history == rows_of(EVENTS[:130])
    assert summary["train_step"] == 130
    for part in tmp_path.glob("wandb/offline-run-*/run-*.wandb"):
        assert list(records(part.read_bytes()))[-1][1] == part.stat().st_size  # which `wandb sync` asks for


def test_offline_run_killed_before_its_first_checkpoint_stays_one_run(tmp_path):
    for n in (5, 9):
        tracker = Tracker(tmp_path, SETTINGS, COLUMNS)
        for event in EVENTS[:n]:
            tracker.log(*event)
        tracker.close()
        time.sleep(1)
    assert len({path.name for path in tmp_path.glob("wandb/offline-run-*/run-*.wandb")}) == 1
    assert read_offline_run(tmp_path)[1] == rows_of(EVENTS[:9])


def test_run_of_an_older_version_is_not_logged_twice():
    # its history had our steps for wandb's, and one row for training and validation
    assert wandb_log._last_place(60, 60) == wandb_log.place("val", 60) < wandb_log.place("test", 60)
    for event in wandb_log.EVENTS:
        for step in (0, 1, 60):
            assert wandb_log._last_place(wandb_log.place(event, step), step) == wandb_log.place(event, step)
    assert wandb_log._last_place(-1) == -1
