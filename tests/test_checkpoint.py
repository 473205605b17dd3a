"""What a run leaves on disk and goes on from: checkpoints, JSON, the run folder; and its random streams."""

import io
import json
import os
import random
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from utils import checkpoint, seeds
from utils.checkpoint import CheckpointError
from utils.cli import parse_command_line
from utils.run_folder import CHANGEABLE, environment, find_run, log, peak_memory_mb, start_log
from utils.settings import Settings, SettingsError, flag_of

FLAG = {f.name: flag_of(f) for f in Settings.__dataclass_fields__.values()}


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


def assert_same(a, b) -> None:
    """Equal in structure, type and every bit."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            assert_same(x, y)
    else:
        assert a == b


# checkpoints


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


def test_weights_of_another_shape_or_name_are_refused(tmp_path):
    model, path = trained(width=3)[0], tmp_path / "a.pt"
    names = dict(model.state_dict())
    for state in (trained(width=5)[0].state_dict(), {}, {**names, "extra": torch.ones(1)}):
        with pytest.raises(CheckpointError, match="a.pt holds a model of another shape.*--n_wires") as error:
            checkpoint.load_weights(model, state, path)
        assert str(error.value).isprintable()


def test_crash_while_saving_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, real_save = tmp_path / "a.pt", torch.save
    checkpoint.save(path, {"step": 1})

    def half_a_save(content, target):
        whole = io.BytesIO()
        real_save(content, whole)
        half = whole.getvalue()[: len(whole.getvalue()) // 2]
        target.write(half) if hasattr(target, "write") else Path(target).write_bytes(half)
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", half_a_save)
    with pytest.raises(OSError, match="full"):
        checkpoint.save(path, {"step": 2})
    assert checkpoint.load(path)["step"] == 1
    monkeypatch.undo()
    checkpoint.save(path, {"step": 3})
    assert checkpoint.load(path)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_crash_while_writing_json_leaves_the_old_file(tmp_path, monkeypatch):
    path, real_write = tmp_path / "a.json", Path.write_text
    checkpoint.write_json(path, {"a": 1})

    def half_a_write(self, text):
        real_write(self, text[: len(text) // 2])
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", half_a_write)
    with pytest.raises(OSError, match="full"):
        checkpoint.write_json(path, {"a": 2})
    with pytest.raises(TypeError):
        checkpoint.write_json(path, {"a": torch.ones(1)})
    assert json.loads(path.read_text()) == {"a": 1}
    monkeypatch.undo()
    checkpoint.write_json(path, {"a": [1.5, None, "x"]})
    assert json.loads(path.read_text()) == {"a": [1.5, None, "x"]}
    assert path.read_text().endswith("}\n")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


# the run folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run("--name", "x")`: the run that this command finds; folders go to tmp_path."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return lambda *words: find_run(parse_command_line(["--work_dir", str(tmp_path), *map(str, words)]))


def begin(run, *words, step: int | None = 7) -> Path:
    """A run that has begun and, if step is given, saved a checkpoint."""
    folder = run(*words)
    folder.create()
    if step is not None:
        checkpoint.save(folder.last_path, {"step": step})
    return folder.path


def listing(path: Path) -> dict:
    """Names, times and contents of all that a folder holds."""
    found = path.rglob("*")
    return {p.relative_to(path): (p.stat().st_mtime_ns, p.is_file() and p.read_bytes()) for p in found}


def test_new_run_gets_the_next_free_name_and_overwrites_nothing(run, tmp_path):
    for expected in ("x", "x-2", "x-3"):
        before = listing(tmp_path)
        folder = run("--name", "x", "--lr", 0.25)
        folder.create()
        assert folder.path == tmp_path / expected and folder.last is None
        saved = json.loads((folder.path / "config.json").read_text())
        assert Settings.from_dict(saved) == folder.settings and saved["lr"] == 0.25
        assert {name: listing(tmp_path)[name] for name in before} == before
    (tmp_path / "y").write_text("a file of this name")
    assert begin(run, "--name", "y") == tmp_path / "y-2"


def test_finding_a_run_writes_nothing(run, tmp_path):
    assert run("--work_dir", tmp_path / "new", "--name", "x").path == tmp_path / "new" / "x"
    assert not (tmp_path / "new").exists()
    path = begin(run, "--name", "x")
    before = listing(tmp_path)
    run("--name", "x")
    run("--name", "x", "--restart")
    run("--restart", "--restart_dir", path, "--max_step", 50)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("how", [["--name", "x"], ["--restart_dir"]])
def test_restart_goes_on_in_the_same_folder_with_its_settings(run, tmp_path, how):
    path = begin(run, "--name", "x", "--lr", 0.25, "--seed", 5)
    how = how if len(how) == 2 else [*how, path]
    names = set(listing(tmp_path))
    folder = run("--restart", *how, "--max_step", 60)
    assert folder.last["step"] == 7
    assert (folder.settings.lr, folder.settings.seed, folder.settings.restart) == (0.25, 5, True)
    folder.create()
    assert folder.path == path and set(listing(tmp_path)) == names
    # what was changed is remembered
    assert json.loads((path / "config.json").read_text())["max_step"] == 60
    assert folder.best_path == path / "checkpoint_best.pt" and folder.results_path == path / "results.json"


def test_restart_of_a_run_killed_before_its_first_checkpoint(run):
    path = begin(run, "--name", "x", "--lr", 0.25, step=None)
    folder = run("--name", "x", "--restart")
    folder.create()
    assert (folder.path, folder.last, folder.settings.lr) == (path, None, 0.25)


def test_restart_of_a_run_that_has_not_begun_starts_it(run, tmp_path):
    path = begin(run, "--name", "x", "--restart")
    assert path == tmp_path / "x"
    assert run("--name", "x", "--restart").last["step"] == 7  # the same command once more


def test_restart_of_a_run_that_started_from_loaded_parameters(run):
    begin(run, "--name", "x", "--load", "other.pt")
    folder = run("--name", "x", "--restart")
    assert folder.last["step"] == 7 and folder.settings.restart


def test_restart_of_no_run_folder(run, tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(SettingsError, match=f"--restart_dir {path} is not a run folder"):
            run("--restart", "--restart_dir", path)


def test_restart_with_an_unusable_checkpoint(run):
    path = begin(run, "--name", "x")
    (path / "checkpoint_last.pt").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="checkpoint_last.pt"):
        run("--name", "x", "--restart")


@pytest.mark.parametrize("saved", ['{"lr": 0.', "[1]", '{"stars": 1}', '{"lr": "fast"}'])
def test_restart_with_unusable_saved_settings(run, saved):
    (begin(run, "--name", "x") / "config.json").write_text(saved)
    with pytest.raises(SettingsError) as error:
        run("--name", "x", "--restart")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name, value", [
    ("lr", 0.5), ("seed", 2), ("batch_size", 32), ("n_wires", 4), ("dataset", "digits"), ("optim", "SGD"),
    ("amplitude_encoder", False), ("engine", "torchquantum"), ("f_thres", 20), ("log_interval", 5),
    ("eval_interval", 5), ("spectral_radius_mode", True),
])  # fmt: skip
def test_restart_refuses_a_flag_that_contradicts_the_run(run, name, value):
    begin(run, "--name", "x")
    words = [FLAG[name]] if value is True else [FLAG[name], value]
    with pytest.raises(SettingsError, match=f"^{FLAG[name]} {value} contradicts the run") as error:
        run("--name", "x", "--restart", *words)
    assert f"({Settings.__dataclass_fields__[name].default})" in str(error.value)


def test_restart_of_a_run_older_than_a_setting_takes_its_default(run):
    path = begin(run, "--name", "x")
    saved = json.loads((path / "config.json").read_text())
    del saved["model"]
    (path / "config.json").write_text(json.dumps(saved))
    assert run("--name", "x", "--restart", "--model", "qdeq").settings.model == "qdeq"
    with pytest.raises(SettingsError, match=r"--model linear contradicts the run to continue \(qdeq\)"):
        run("--name", "x", "--restart", "--model", "linear")


def test_restart_accepts_the_whole_command_again(run):
    words = "--name x --lr 0.25 --mode direct --n_layer 2 --amplitude_encoder False --cuda".split()
    begin(run, *words)
    assert run(*words, "--restart").last["step"] == 7


def test_restart_may_change_how_long_where_and_how_watched(run, tmp_path):
    changes = {
        "max_step": 500, "data_dir": "elsewhere", "device": "cuda", "wandb": "offline", "wandb_project": "p",
        "wandb_group": "g", "wandb_job_type": "j", "tensorboard": False, "name": "renamed",
    }  # fmt: skip
    path = begin(run, "--name", "x", "--lr", 0.25)
    words = [word for name, value in changes.items() for word in (FLAG[name], value)]
    settings = run("--restart", "--restart_dir", path, *words).settings
    assert {name: getattr(settings, name) for name in changes} == changes
    assert settings.lr == 0.25
    assert set(changes) | {"epochs", "restart", "restart_dir", "work_dir"} == CHANGEABLE


def test_restart_with_epochs_replaces_max_step_and_the_other_way_round(run):
    begin(run, "--name", "x", "--max_step", 40)
    assert run("--name", "x", "--restart").settings.max_step == 40
    settings = run("--name", "x", "--restart", "--epochs", 3).settings
    assert (settings.epochs, settings.max_step) == (3, 0)
    begin(run, "--name", "y", "--epochs", 3)
    assert run("--name", "y", "--restart", "--max_step", 50).settings.max_step == 50


def test_restart_still_refuses_what_cannot_work(run):
    begin(run, "--name", "x", "--n_layer", 1, "--pretrain_steps", 30, "--max_step", 40)
    with pytest.raises(SettingsError, match="--pretrain_steps"):
        run("--name", "x", "--restart", "--max_step", 20)


def test_unwritable_work_dir(run, tmp_path):
    (tmp_path / "file").write_text("")
    folder = run("--work_dir", tmp_path / "file", "--name", "x")
    with pytest.raises(SettingsError, match="--work_dir: cannot write"):
        folder.create()


def test_log_goes_to_screen_and_file(tmp_path, capsys):
    try:
        start_log(None)
        log.info("before")
        start_log(tmp_path / "log.txt")
        log.warning("after")
    finally:
        for handler in list(log.handlers):
            log.removeHandler(handler)
            handler.close()
        log.propagate = True
    assert capsys.readouterr().out == "before\nafter\n"
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.endswith("WARNING after")


def test_facts_of_the_machine_are_plain_data():
    facts = environment(torch.device("cpu"))
    assert set(facts) == {"date", "torch", "torchquantum", "python", "device", "git_commit"}
    assert json.loads(json.dumps(facts)) == facts
    assert facts["torch"] == torch.__version__ and facts["device"].startswith("cpu (")
    assert 10 < peak_memory_mb(torch.device("cpu")) < 1e6


# random streams


def draw(*where) -> int:
    return int(torch.randint(2**62, (), generator=seeds.generator(*where)))


def test_streams_repeat_and_differ_from_each_other():
    everywhere = list(product((0, 1, 11, 1111), ("batches", "draws", "1/1", "1"), range(120)))
    numbers = {where: draw(*where) for where in everywhere}
    assert len(set(numbers.values())) == len(everywhere)
    random.Random(0).shuffle(everywhere)
    assert all(draw(*where) == numbers[where] for where in everywhere)


def test_streams_of_neighbouring_steps_are_uncorrelated():
    streams = [seeds.generator(1, "dropout", step) for step in range(6)]
    rows = torch.stack([torch.randn(4000, generator=stream) for stream in streams])
    apart = torch.corrcoef(rows) - torch.eye(6)
    assert apart.abs().max() < 5 / 4000**0.5


def test_streams_and_global_generators_leave_each_other_alone():
    seeds.seed_everything(1)
    expected = draw(1, "draws", 3), torch.rand(3), np.random.rand(), random.random()
    seeds.seed_everything(1)
    torch.rand(17)
    first = draw(1, "draws", 3)
    seeds.seed_everything(1)
    draw(1, "draws", 4)
    again = first, torch.rand(3), np.random.rand(), random.random()
    assert_same(again, expected)


@pytest.mark.parametrize("seed", [0, 1111, 2**32, 2**63])
def test_seed_everything_repeats_every_global_generator(seed):
    def numbers(of: int) -> tuple:
        seeds.seed_everything(of)
        return torch.rand(()).item(), np.random.rand(), random.random()

    assert numbers(seed) == numbers(seed)
    assert all(one != other for one, other in zip(numbers(seed), numbers(seed + 1)))
