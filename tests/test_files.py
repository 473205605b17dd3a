"""Files written atomically: whole after a crash, on the disk, named in errors, and what kills left is removed."""

import json
import math
import os
import subprocess
from pathlib import Path

import pytest
import torch

from conftest import assert_same
from utils.files import is_blank, read_json, remove_leftovers, sealed, write_json


def test_json_has_null_for_what_is_not_finite(tmp_path):
    numbers = [math.nan, math.inf, -math.inf, 1.5, 2, True, None, "NaN"]
    write_json(tmp_path / "a.json", {"a": numbers, "b": {"c": (math.nan, 0.0)}})

    def refuse(name):
        raise ValueError(name)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert_same(found, {"a": [None, None, None, 1.5, 2, True, None, "NaN"], "b": {"c": [None, 0.0]}})


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_an_error_of_an_atomic_write_names_the_file(tmp_path, folder):
    (tmp_path / "file").write_text("")
    path = tmp_path / folder / "a.json"
    with pytest.raises(OSError) as error:
        write_json(path, {})
    assert error.value.filename == str(path) and str(path) in str(error.value)


def test_an_atomic_write_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a)))
    write_json(tmp_path / "a.json", {})
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    parent = os.getppid()  # which lives
    for process in (parent, os.getpid(), dead.pid):
        (tmp_path / f".curves.png.{process}.tmp").write_text("half")
    for name in ("notes.tmp", ".hidden", ".a.tmp", "curves.png"):
        (tmp_path / name).write_text("mine")
    assert not is_blank(tmp_path)
    remove_leftovers(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"notes.tmp", ".hidden", ".a.tmp", "curves.png", f".curves.png.{parent}.tmp"}


def test_crash_while_writing_json_leaves_the_old_file(tmp_path, monkeypatch):
    path, real_write = tmp_path / "a.json", Path.write_text
    write_json(path, {"a": 1})

    def half_a_write(self, text, **how):
        real_write(self, text[: len(text) // 2], **how)
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half_a_write)
    with pytest.raises(OSError, match="full"):
        write_json(path, {"a": 2})
    with pytest.raises(TypeError):
        write_json(path, {"a": torch.ones(1)})
    assert json.loads(path.read_text()) == {"a": 1}
    monkeypatch.undo()
    write_json(path, {"a": [1.5, None, "x"]})
    assert json.loads(path.read_text()) == {"a": [1.5, None, "x"]}
    assert path.read_text().endswith("}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_sealed_json_is_read_back_and_a_changed_number_is_noticed(tmp_path):
    path, content = tmp_path / "a.json", {"acc": 0.95, "loss": float("nan"), "rows": [1, {"b": None}], "name": "\u00fc"}
    write_json(path, sealed(content))
    found = read_json(path)
    assert found["acc"] == 0.95 and found["loss"] is None and len(found["sha256"]) == 64
    path.write_text(path.read_text().replace("0.95", "0.15"))
    with pytest.raises(ValueError, match="checksum"):
        read_json(path)
    write_json(path, {"acc": 0.15})  # of an older version
    assert read_json(path) == {"acc": 0.15}


def test_json_that_is_nested_too_deeply_is_no_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested"):
        read_json(path)
