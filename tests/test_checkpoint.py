"""Checkpoints: bit for bit, no code in them run, whole after a crash, every damage refused in one plain line."""

import io
import os
import random
import resource
import zipfile
from pathlib import Path

import pytest
import torch

from conftest import assert_same
from runs import checkpoint
from runs.checkpoint import CheckpointError
from training.settings import Settings


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


def test_full_disk_leaves_the_old_checkpoint(tmp_path):
    path, previous = tmp_path / "a.pt", tmp_path / "b.pt"
    checkpoint.save(path, {"step": 1}, previous)
    checkpoint.save(path, {"step": 2}, previous)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # half a checkpoint
        with pytest.raises(CheckpointError, match="cannot write .*a.pt .File too large.*--restart") as met:
            checkpoint.save(path, {"step": 3}, previous)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(met.value).isprintable() and sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]
    assert [checkpoint.load(p)["step"] for p in (path, previous)] == [2, 1]
    checkpoint.save(path, {"step": 4}, previous)
    assert [checkpoint.load(p)["step"] for p in (path, previous)] == [4, 2]


def test_the_checkpoint_before_is_kept_in_a_file_of_its_own(tmp_path):
    path, previous = tmp_path / "a.pt", tmp_path / "b.pt"
    for step in range(3):
        checkpoint.save(path, {"step": step}, previous)
        assert previous.exists() == (step > 0)
    assert checkpoint.load(previous)["step"] == 1
    path.write_bytes(b"damaged")
    assert checkpoint.load(previous)["step"] == 1
    os.replace(previous, path)  # as a run does that goes back
    checkpoint.save(path, {"step": 4}, previous)
    assert [checkpoint.load(p)["step"] for p in (path, previous)] == [4, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]


class Killed(BaseException):
    """A kill, as far as files can tell."""


@pytest.mark.parametrize("call, allowed", [("replace", 0), ("replace", 1), ("fsync", 0), ("fsync", 1), ("fsync", 2)])
def test_a_kill_while_a_checkpoint_is_written_leaves_one(tmp_path, monkeypatch, call, allowed):
    path, previous = tmp_path / "a.pt", tmp_path / "b.pt"
    for step in (1, 2):
        checkpoint.save(path, {"step": step}, previous)
    real, left = getattr(os, call), iter(range(allowed))

    def kill(*names):
        if next(left, None) is None:
            raise Killed
        return real(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, kill)
        with pytest.raises(Killed):
            checkpoint.save(path, {"step": 3}, previous)
    assert checkpoint.load(path)["step"] == 2 and checkpoint.load(previous)["step"] in (1, 2)
    assert not path.samefile(previous)  # damage to one is none to the other
    checkpoint.save(path, {"step": 4}, previous)
    assert [checkpoint.load(p)["step"] for p in (path, previous)] == [4, 2]


def flipped(whole: bytes, seed: int, n: int):
    """Copies of a file with one wrong bit each."""
    rng = random.Random(seed)
    for _ in range(n):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a.pt"
    model, optimizer = trained()
    checkpoint.save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3})
    whole = path.read_bytes()
    ends = [whole[:n] + bytes([whole[n] ^ 1 << bit]) + whole[n + 1 :] for n in range(-95, 0) for bit in range(8)
            if n + 1]  # the last record and the checksum  # fmt: skip
    for damaged in [*flipped(whole, 0, 200), *ends, *(whole[:-n] for n in range(1, 95)), whole + b"0", whole + whole]:
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="a.pt is not a usable checkpoint"):
            checkpoint.load(path)


def test_a_checkpoint_of_an_older_version_loads_and_its_parts_are_verified(tmp_path):
    path = tmp_path / "a.pt"
    model = trained()[0].state_dict()
    torch.save({"format": checkpoint.FORMAT, "model": model}, path)
    whole = path.read_bytes()
    assert_same(checkpoint.load(path)["model"], model)
    value = whole.index(model["0.weight"].numpy().tobytes())
    for n in range(48):
        path.write_bytes(whole[: value + n] + bytes([whole[value + n] ^ 64]) + whole[value + n + 1 :])
        with pytest.raises(CheckpointError, match="a.pt is not a usable checkpoint .*CRC"):
            checkpoint.load(path)


def test_torch_reads_a_checkpoint_as_it_is(tmp_path):
    checkpoint.save(tmp_path / "a.pt", {"step": 1, "x": torch.arange(3)})
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert content["step"] == 1 and content["x"].tolist() == [0, 1, 2]
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"sha256:")


@pytest.mark.parametrize("predicate, right, wrong", [
    (checkpoint.is_count, (0, 2**63 - 1), (-1, 2**63, 1.0, True, None, float("nan"), "1")),
    (checkpoint.is_duration, (0, 0.5), (-1.0, float("nan"), float("inf"), True, "1")),
    (checkpoint.is_numbers, ({}, {"a": 1, "b": float("nan")}), ([], {"a": "1"}, {1: 1}, {"a": None}, None)),
    (checkpoint.is_parameters, ({}, {"a": torch.ones(1)}), ({"a": 1.0}, [torch.ones(1)], torch.ones(1))),
])  # fmt: skip
def test_what_an_entry_must_be(predicate, right, wrong):
    assert all(map(predicate, right)) and not any(map(predicate, wrong))


def test_a_wrong_entry_is_named(tmp_path):
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"step": -3, "model": {"a": 1.0}})
    for name, predicate, shown in (("step", checkpoint.is_count, "-3"), ("model", checkpoint.is_parameters, "{'a'")):
        with pytest.raises(CheckpointError, match=f"a.pt is not a usable checkpoint .its entry {name} cannot be {shown}"):
            checkpoint.load(path, needs={name: predicate})
