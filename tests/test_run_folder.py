"""The run folder: new or resumed, its settings against the command's flags, its log, facts of the machine."""

import json
from pathlib import Path

import pytest
import torch

from runs import checkpoint
from runs.folder import find_run
from runs.log import log, start_log
from runs.machine import environment, free_bytes, peak_memory_mb
from runs.optim import make_optimizer
from runs.settings import RunSettings, SettingsError, changeable_fields, flag_of
from training.command_line import parse_command_line
from training.settings import Settings

FLAG = {f.name: flag_of(f) for f in Settings.__dataclass_fields__.values()}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run("--name", "x")`: the run that this command finds; folders go to tmp_path."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    return lambda *words: find_run(parse_command_line(["--work_dir", str(tmp_path), *map(str, words)]))


def content(settings: RunSettings, step: int = 7) -> dict:
    """A checkpoint of a run, made after a step."""
    model = torch.nn.Linear(2, 1)
    return {
        "settings": settings.to_dict(), "model": model.state_dict(), "step": step, "best": {}, "steps_timed": step,
        "optimizer": make_optimizer(model, settings).state_dict(), "seconds": 1.5, "skipped": 0, "wandb_id": None,
        "learning_rate": {"best_loss": float("inf"), "stalled": 0, "decay": 1.0}, "meter": {"sums": {}, "counts": {}},
    }  # fmt: skip


def begin(run, *words, step: int | None = 7) -> Path:
    """A run that has begun and, if step is given, saved a checkpoint."""
    folder = run(*words)
    folder.create()
    if step is not None:
        checkpoint.save(folder.last_path, content(folder.settings, step))
    folder.release()
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


def test_a_run_that_another_process_has_taken_further_is_not_taken_back(run):
    path = begin(run, "--name", "x")
    late = run("--name", "x", "--restart")
    begun = run("--name", "x", "--restart")
    begun.create()
    checkpoint.save(begun.last_path, begun.last | {"step": 9}, begun.previous_path)
    begun.release()
    before = listing(path)
    with pytest.raises(SettingsError, match=f"another process has gone on with the run {path} meanwhile"):
        late.create()
    assert listing(path) == before
    again = run("--name", "x", "--restart")
    assert again.last["step"] == 9
    again.create()  # the lock is free
    again.release()


def test_one_process_at_a_time_goes_on_with_a_run(run):
    path = begin(run, "--name", "x")
    (path / "results.json").write_text("{}")
    first, second = (run("--name", "x", "--restart") for _ in range(2))
    first.create()
    (path / "results.json").write_text("{}")
    before = listing(path)
    with pytest.raises(SettingsError, match=f"another process holds the run {path}"):
        second.create()
    assert listing(path) == before
    first.release()
    second.create()


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
        "max_step": 500, "data_dir": "/elsewhere", "device": "cuda", "wandb": "offline", "wandb_project": "p",
        "wandb_group": "g", "wandb_job_type": "j", "tensorboard": False, "name": "renamed",
    }  # fmt: skip
    path = begin(run, "--name", "x", "--lr", 0.25)
    words = [word for name, value in changes.items() for word in (FLAG[name], value)]
    settings = run("--restart", "--restart_dir", path, *words).settings
    assert {name: getattr(settings, name) for name in changes} == changes
    assert settings.lr == 0.25
    assert set(changes) | {"epochs", "restart", "restart_dir", "work_dir", "shard"} == changeable_fields(Settings)


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
    with pytest.raises(SettingsError, match="--work_dir or --name: cannot write"):
        folder.create()


@pytest.mark.parametrize("words", [("--name", "x" * 300), ("--work_dir", "x" * 300), ("--restart", "--name", "x" * 300),
                                   ("--restart", "--restart_dir", "x" * 300)])  # fmt: skip
def test_a_name_that_this_file_system_does_not_take_is_one_line_with_its_flag(run, words, monkeypatch):
    monkeypatch.setattr("utils.command_line.LONGEST_NAME", 1000)  # as if others took it
    monkeypatch.setattr("runs.settings.LONGEST_NAME", 1000)
    with pytest.raises(SettingsError, match=f"{words[-2]}.*x{{300}}") as error:
        run(*words).create()
    assert str(error.value).isprintable()


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


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not tell in /proc/meminfo")
def test_free_memory_is_some_of_the_machines():
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < free_bytes(torch.device("cpu")) < total
