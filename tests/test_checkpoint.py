"""Checkpoints and JSON files: bit for bit, no code in them run, whole after a crash, refused in one plain line."""

import io
import json
import math
import os
from pathlib import Path

import pytest
import torch

from conftest import assert_same
from runs import checkpoint
from runs.checkpoint import CheckpointError
from training.settings import Settings
from utils.files import write_json


def trained(width: int = 3, steps: int = 3) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A model of two dtypes and an optimiser with a history."""
    torch.manual_seed(steps)
    model = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.Linear(4, 2).double())
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        model[1](model[0](torch.randn(5, width)).double()).square().sum().backward()
        optimizer.step()
    return model, optimizer


def test_checkpoint_round_trip_is_bitwise(tmp_path):
    model, optimizer = trained()
    content = {
        "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3, "wandb_id": None,
        "best": {"loss": 0.1 + 0.2, "acc": float("inf")}, "settings": Settings().to_dict(),
    }  # fmt: skip
    checkpoint.save(tmp_path / "a.pt", content)
    loaded = checkpoint.load(tmp_path / "a.pt")
    assert loaded.pop("format") == checkpoint.FORMAT
    assert_same(loaded, content)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_training_goes_on_bitwise_from_a_checkpoint(tmp_path):
    (model, optimizer), (other, its_optimizer) = trained(steps=3), trained(steps=1)
    checkpoint.save(tmp_path / "a.pt", {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    loaded = checkpoint.load(tmp_path / "a.pt")
    checkpoint.load_weights(other, loaded["model"], tmp_path / "a.pt")
    its_optimizer.load_state_dict(loaded["optimizer"])
    x = torch.randn(5, 3)
    for m, o in ((model, optimizer), (other, its_optimizer)):
        o.zero_grad()
        m[1](m[0](x).double()).square().sum().backward()
        o.step()
    assert_same(dict(model.state_dict()), dict(other.state_dict()))


class Bomb:
    """Makes a folder when it is unpickled as Python objects are."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    path, crater = tmp_path / "a.pt", tmp_path / "crater"
    torch.save({"format": checkpoint.FORMAT, "model": Bomb(crater)}, path)
    with pytest.raises(CheckpointError, match="a.pt is not a usable checkpoint"):
        checkpoint.load(path)
    assert not crater.exists()
    torch.load(path, weights_only=False)  # the bomb was live
    assert crater.exists()


def damaged(path: Path):
    """Names and contents of files that are no checkpoint."""
    checkpoint.save(path, {"model": trained()[0].state_dict()})
    whole = path.read_bytes()
    old_kind = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT}, old_kind, _use_new_zipfile_serialization=False)
    yield from ((f"cut at {part} %", whole[: len(whole) * part // 100]) for part in range(0, 100, 7))
    yield from ((f"old kind, cut by {n}", old_kind.getvalue()[:-n]) for n in (3, 9))
    yield "text", b"hello\n"
    yield from ((f"byte {n}", bytes([n, n])) for n in (0x00, 0x61, 0x62, 0x74))
    code = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, "path": Path("a")}, code)
    yield "code", code.getvalue()


def test_damaged_checkpoints_are_refused_in_one_plain_line(tmp_path):
    path = tmp_path / "a.pt"
    wrong = []
    for name, content in list(damaged(path)):
        path.write_bytes(content)
        try:
            checkpoint.load(path)
            wrong.append(f"{name}: loaded")
        except CheckpointError as error:
            if not str(error).isprintable() or "a.pt" not in str(error):
                wrong.append(f"{name}: {error}")
        except Exception as error:
            wrong.append(f"{name}: {error!r}")
    assert wrong == []


def test_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="there is no checkpoint .*a.pt"):
        checkpoint.load(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="not a usable checkpoint"):
        checkpoint.load(tmp_path)  # a folder


@pytest.mark.parametrize("content", [{"format": checkpoint.FORMAT + 1}, {"model": {}}, [1, 2], torch.ones(2)])
def test_checkpoint_of_another_format(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"not a checkpoint of this .* .format {checkpoint.FORMAT}."):
        checkpoint.load(tmp_path / "a.pt")


def test_what_is_needed_of_a_checkpoint_is_there(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {"model": {}, "step": 1})
    assert checkpoint.load(tmp_path / "a.pt", needs=("model", "step"))["step"] == 1
    with pytest.raises(CheckpointError, match="a.pt is not a usable checkpoint .it lacks best, settings."):
        checkpoint.load(tmp_path / "a.pt", needs=("model", "best", "settings"))


def test_weights_of_another_shape_or_name_are_refused(tmp_path):
    model, path = trained(width=3)[0], tmp_path / "a.pt"
    names = dict(model.state_dict())
    for state in (trained(width=5)[0].state_dict(), {}, {**names, "extra": torch.ones(1)}):
        with pytest.raises(CheckpointError, match="a.pt holds parameters of another shape; it is of another") as error:
            checkpoint.load_weights(model, state, path)
        assert str(error.value).isprintable() and "--" not in str(error.value)
        with pytest.raises(CheckpointError, match="of another shape; use --n_wires 4"):
            checkpoint.load_weights(model, state, path, "use --n_wires 4")


@pytest.mark.parametrize("error", [OSError("[Errno 28] No space left on device"), RuntimeError("unexpected pos 64\nat")])
def test_full_disk_leaves_the_old_checkpoint(error, tmp_path, monkeypatch):
    path, real_save = tmp_path / "a.pt", torch.save
    checkpoint.save(path, {"step": 1})

    def half_a_save(content, target):
        whole = io.BytesIO()
        real_save(content, whole)
        half = whole.getvalue()[: len(whole.getvalue()) // 2]
        target.write(half) if hasattr(target, "write") else Path(target).write_bytes(half)
        raise error

    monkeypatch.setattr(torch, "save", half_a_save)
    with pytest.raises(CheckpointError, match="cannot write .*a.pt .is the disk full.*--restart") as met:
        checkpoint.save(path, {"step": 2})
    assert str(met.value).isprintable() and [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert checkpoint.load(path)["step"] == 1
    monkeypatch.undo()
    checkpoint.save(path, {"step": 3})
    assert checkpoint.load(path)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    numbers = [math.nan, math.inf, -math.inf, 1.5, 2, True, None, "NaN"]
    write_json(tmp_path / "a.json", {"a": numbers, "b": {"c": (math.nan, 0.0)}})

    def refuse(name):
        raise ValueError(name)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert_same(found, {"a": [None, None, None, 1.5, 2, True, None, "NaN"], "b": {"c": [None, 0.0]}})


def test_crash_while_writing_json_leaves_the_old_file(tmp_path, monkeypatch):
    path, real_write = tmp_path / "a.json", Path.write_text
    write_json(path, {"a": 1})

    def half_a_write(self, text):
        real_write(self, text[: len(text) // 2])
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
