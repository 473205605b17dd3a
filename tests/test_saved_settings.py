"""The settings of a run: saved and read again, where they look for data and runs, and what a run is called by them."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from qep.settings import QEPSettings
from runs.settings import SettingsError
from training.settings import Settings
from typed import another, parse
from utils.files import REPOSITORY


def test_settings_survive_json():
    settings = Settings(**{f.name: another(f) for f in fields(Settings)})
    assert all(getattr(settings, f.name) != f.default for f in fields(Settings))
    saved = json.loads(json.dumps(settings.to_dict()))
    assert Settings.from_dict(saved) == settings
    assert list(saved) == [f.name for f in fields(Settings)]


def test_settings_saved_before_there_were_baselines_are_of_qdeq():
    saved = Settings().to_dict()
    del saved["model"]
    assert Settings.from_dict(saved) == Settings()


def test_unknown_saved_settings_are_refused():
    with pytest.raises(SettingsError, match="unknown entries: moons, stars"):
        Settings.from_dict(Settings().to_dict() | {"stars": 1, "moons": 2})


def test_data_dir_is_the_flag_else_the_environment_else_the_repository(monkeypatch):
    monkeypatch.delenv("QDEQ_DATA", raising=False)
    assert parse("").settings.data_folder == REPOSITORY / "data"
    monkeypatch.setenv("QDEQ_DATA", "/elsewhere")
    assert parse("").settings.data_folder == Path("/elsewhere")
    assert parse("--data_dir here").settings.data_folder == Path("here").absolute()


@pytest.mark.parametrize("kind", [Settings, QEPSettings])
def test_a_default_is_not_saved_as_a_path_and_what_is_given_is(kind, monkeypatch):
    """A run that is moved follows $QDEQ_DATA where it is; one of an older version has the path it was saved with."""
    monkeypatch.setenv("QDEQ_DATA", "/here")
    saved = kind().to_dict()
    assert [value for value in saved.values() if "/" in str(value)] == []
    monkeypatch.setenv("QDEQ_DATA", "~/there")
    monkeypatch.setenv("HOME", "/home/me")
    assert kind.from_dict(saved).data_folder == Path("/home/me/there")
    assert kind.from_dict(saved).runs_folder == REPOSITORY / "runs"
    old = kind.from_dict(saved | {"data_dir": "/old/data", "work_dir": "/old/runs"})
    assert (old.data_folder, old.runs_folder) == (Path("/old/data"), Path("/old/runs"))


def test_run_name_says_what_was_chosen():
    names = {
        "": "mnist_10c_10q_amplitude_implicit_seed1111",
        "--n_layer 1 --pretrain_steps 5": "mnist_10c_10q_amplitude_warmup_seed1111",
        "--mode direct --n_layer 5 --seed 2": "mnist_10c_10q_amplitude_direct5_seed2",
        "--num_classes 4 --n_wires 4 --amplitude_encoder False": "mnist_4c_4q_angle_implicit_seed1111",
        "--model wang2022 --num_classes 4 --n_wires 4": "mnist_4c_4q_amplitude_wang2022_implicit_seed1111",
        "--model alam2021 --mode direct --n_layer 1": "mnist_10c_10q_alam2021_direct1_seed1111",
        "--model classical --n_layer 1 --pretrain_steps 5": "mnist_10c_10q_classical_warmup_seed1111",
        "--model linear": "mnist_10c_10q_linear_seed1111",
        "--name mine": "mine",
    }
    assert {text: parse(text).settings.run_name for text in names} == names
