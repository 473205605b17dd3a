"""`reproduce.py sweep`: which points there are, what is refused before anything runs, the table, and wandb's file."""

import json
import shlex
from pathlib import Path

import pytest

import reproduce
from reproduction.grid import points_of
from reproduction.wandb_sweep import wandb_sweep, write_wandb_sweep
from runs.settings import SettingsError
from training.command_line import parse_command_line

SMALL = ["--dataset", "digits", "--num_classes", "4", "--n_wires", "4", "--epochs", "2"]


def points(grids=(), listed=(), lines=(), common=SMALL):
    return points_of(grids, listed, lines, common)[0]


def test_a_grid_is_every_combination():
    found = points(["lr=0.01,0.05", "log-interval=1,2,3"])  # the second as it is typed, with its dash
    assert [point.values["lr"] for point in found] == ["0.01"] * 3 + ["0.05"] * 3
    settings = [parse_command_line(list(point.flags)).settings for point in found]
    assert [(s.lr, s.log_interval) for s in settings] == [(lr, n) for lr in (0.01, 0.05) for n in (1, 2, 3)]
    assert {(s.dataset, s.epochs) for s in settings} == {("digits", 2)}
    assert len({point.folder for point in found}) == 6 and found[0].folder == "lr-0.01_log_interval-1"


def test_a_list_names_points_one_by_one():
    lines = ["# mode and depth belong together", "", "--mode direct --n_layer 2", "--spectral_radius_mode --lr=0.1"]
    found = points(listed=[["lr=0.2", "optim=SGD"]], lines=lines)
    assert [point.label for point in found] == ["lr 0.2, optim SGD", "mode direct, n_layer 2",
                                                "spectral_radius_mode True, lr 0.1"]  # fmt: skip
    assert parse_command_line(list(found[2].flags)).settings.spectral_radius_mode
    assert len(points(["clip=0,1"], lines=lines)) == 4  # each with each of the grid


def test_true_and_false_are_values_of_every_kind_of_flag():
    found = points(["spectral_radius_mode=True,False", "amplitude_encoder=True,False"])
    settings = [parse_command_line(list(point.flags)).settings for point in found]
    assert {(s.spectral_radius_mode, s.amplitude_encoder) for s in settings} == {
        (True, True), (True, False), (False, True), (False, False)
    }  # fmt: skip


def test_folders_of_odd_values_are_names_and_differ():
    found = points(["load=/a/b,/a:b," + "x" * 150])
    names = [point.folder for point in found]
    assert len(set(names)) == 3 and all("/" not in name and len(name) <= 100 for name in names)


@pytest.mark.parametrize("grids, listed, lines, common, words", [
    (["readuot=z"], [], [], SMALL, "--grid readuot=z: train_qdeq.py has no flag --readuot"),
    (["epoch=1"], [], [], [], "train_qdeq.py has no flag --epoch (--epochs?)"),
    (["lr=0.1,abc"], [], [], SMALL, "lr=abc: argument --lr: "),
    (["lr=0.1,-1"], [], [], SMALL, "lr=-1: --lr must be positive"),
    (["optim=Adam,adam"], [], [], SMALL, "optim=adam: argument --optim: invalid choice"),
    (["lr="], [], [], SMALL, "--grid lr=: expected FLAG=VALUE"),
    (["lr"], [], [], SMALL, "--grid lr: expected FLAG=VALUE"),
    (["lr=1,,2"], [], [], SMALL, "--grid lr=1,,2: a value is empty"),
    (["lr=1", "lr=2"], [], [], SMALL, "--lr has a grid already"),
    (["log_interval=1", "log-interval=2"], [], [], SMALL, "--log_interval has a grid already"),
    (["lr=0.1,0.10"], [], [], SMALL, "lr=0.10 and lr=0.1 are the same run"),
    (["lr=1"], [["lr=2"]], [], SMALL, "a point of the list gives --lr too"),
    (["epochs=1,2"], [], [], SMALL, "--epochs stands among the flags after -- too"),
    (["seed=1,2"], [], [], SMALL, "--seed is given by the sweep's own --seeds"),
    (["lr=1"], [], [], ["--device", "cpu"], "the flags after --: --device is given by the sweep's own --device"),
    (["lr=1"], [], [], ["--load", "x.pt"], "the flags after --: --load must be swept"),
    (["debug=True"], [], [], SMALL, "--debug is no flag to sweep"),
    (["lr=1"], [], [], ["--restart"], "--restart is no flag to sweep"),
    (["lr=1"], [], [], ["--nope", "3"], "the flags after --: unrecognized arguments: --nope 3"),
    (["spectral_radius_mode=maybe"], [], [], SMALL, "--spectral_radius_mode: expected True or False"),
    (["mode=direct"], [], [], SMALL, "mode=direct: --mode direct needs --n_layer"),
    ([], [["lr=1", "lr=2"]], [], SMALL, "--point lr=1 lr=2: --lr is given twice"),
    ([], [], ["--lr 1 2"], SMALL, "--list: --lr 1 2: expected flags"),
    ([], [], ["--lr '1"], SMALL, "--list: --lr '1: No closing quotation"),
    ([], [], ["# nothing", " "], SMALL, "a sweep needs --grid FLAG=VALUE,VALUE"),
    ([], [], [], SMALL, "a sweep needs --grid FLAG=VALUE,VALUE"),
])  # fmt: skip
def test_what_cannot_work_is_refused_with_its_name(grids, listed, lines, common, words, capsys):
    with pytest.raises(SettingsError) as caught:
        points_of(grids, listed, lines, common)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_a_wrong_flag_ends_the_command_before_anything_runs(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        reproduce.main(["sweep", "--grid", "lr=0.1,x", "--work_dir", str(tmp_path / "runs"), "--", *SMALL])
    assert end.value.code == 1 and not (tmp_path / "runs").exists()
    assert capsys.readouterr().err.startswith("error: lr=x: argument --lr: ")


def test_warnings_name_the_point():
    _, warnings = points_of(["n_layer=1,2"], [], [], SMALL)
    assert len(warnings) == 2 and warnings[0].startswith("n_layer=1: --n_layer has no effect")


def test_dry_run_prints_commands_that_train_can_read(tmp_path, capsys):
    words = ["sweep", "--grid", "lr=0.01,0.05", "--seeds", "0", "1", "--work_dir", str(tmp_path / "runs"), "--dry_run"]
    reproduce.main([*words, "--", *SMALL])
    first, *commands = capsys.readouterr().out.splitlines()
    assert first.startswith("0 of 4 runs are finished") and not (tmp_path / "runs").exists()
    settings = [parse_command_line(shlex.split(command)[2:]).settings for command in commands]
    assert [(s.seed, s.lr) for s in settings] == [(0, 0.01), (0, 0.05), (1, 0.01), (1, 0.05)]
    assert len({(s.work_dir, s.name) for s in settings}) == 4


def finish(folder: Path, command: str, test_acc: float, val_acc: float) -> None:
    """What a finished run leaves, at the folder that its command names."""
    settings = parse_command_line(shlex.split(command)[2:]).settings
    run = Path(settings.work_dir) / settings.name
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(settings.to_dict()))
    results = {"test_acc": test_acc, "best_val_acc": val_acc, "test_res_rel": 1e-4, "train_seconds": 60.0,
               "n_parameters": 100, "git_commit": "abc", "device": "cpu", "seed": settings.seed}  # fmt: skip
    (run / "results.json").write_text(json.dumps(results | {"settings": settings.to_dict()}))


def test_the_table_has_mean_and_sample_deviation_and_what_is_missing(tmp_path, capsys):
    words = ["sweep", "--grid", "lr=0.01,0.05,0.1", "--seeds", "0", "1", "--work_dir", str(tmp_path), "--name", "rates"]
    reproduce.main([*words, "--dry_run", "--", *SMALL])
    commands = capsys.readouterr().out.splitlines()[1:]
    for command, accuracy in zip(commands[:5], (0.5, 0.6, 0.7, 0.7, 0.62)):  # lr 0.01 0.05 0.1 of seed 0, then of 1
        finish(tmp_path, command, accuracy, accuracy + 0.1)
    reproduce.main([*words, "--report", "--", *SMALL])
    content = json.loads((tmp_path / "rates" / "table.json").read_text())
    first, second, third = content["rows"]
    assert first["point"] == {"lr": "0.01"} and first["seeds"] == [0, 1]
    assert first["test_acc"]["mean"] == pytest.approx(60) and first["test_acc"]["std"] == pytest.approx(200**0.5)
    assert third["test_acc"]["std"] is None and content["missing"] == ["lr 0.1, seed 1"]
    text = (tmp_path / "rates" / "table.md").read_text()
    assert "| 0.01 | 60.00 ± 14.14 | 70.00 ± 14.14 |" in text and "Best on the validation set: lr 0.1." in text
    assert text.strip() in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_runs_resumes_and_ends_with_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("reproduction.schedule.connect", _no_ray)
    words = ["sweep", "--seeds", "0", "--work_dir", str(tmp_path / "runs"), "--data_dir", str(tmp_path / "data")]
    reproduce.main([*words, "--grid", "lr=0.01", "--", *SMALL])
    assert "| 0.01 | " in capsys.readouterr().out
    run = tmp_path / "runs" / "sweep" / "lr-0.01" / "seed-0" / "results.json"
    before = run.stat().st_mtime_ns
    reproduce.main([*words, "--grid", "lr=0.01,0.05", "--storage", str(tmp_path / "kept"), "--", *SMALL])
    text = capsys.readouterr().out
    assert "1 of 2 runs are finished" in text and "| 0.01 | " in text and "| 0.05 | " in text
    assert run.stat().st_mtime_ns == before
    assert list((tmp_path / "kept").rglob("manifest.json"))  # the second was trained there


def _no_ray(*_):
    raise ImportError("no Ray here")


# wandb


def test_the_file_for_wandb_makes_the_same_runs(tmp_path):
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    grid = ["lr=0.01,0.05", "spectral_radius_mode=True,False", "amplitude_encoder=True,False"]
    found = points(grid)
    write_wandb_sweep(wandb_sweep(found, [0, 1], [*SMALL, "--wandb", "online"], "qdeq"), tmp_path / "sweep.yaml")
    config = utils.load_sweep_config(str(tmp_path / "sweep.yaml"))
    assert config["method"] == "grid" and Path(config["program"]).name == "train_qdeq.py"
    assert (Path(__file__).parents[1] / config["program"]).exists()
    # as wandb's agent does it
    command = utils.create_sweep_command(config["command"])
    made = []
    for values in _combinations(config["parameters"]):
        words = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
        at = command.index("${args_no_boolean_flags}")
        line = command[:at] + words["args_no_boolean_flags"] + command[at + 1 :]
        assert line[:3] == ["${env}", "${interpreter}", "${program}"]
        made.append(parse_command_line(line[3:]).settings)
    wanted = [parse_command_line([*point.flags, "--seed", str(seed)]).settings for seed in (0, 1) for point in found]
    names = ("lr", "spectral_radius_mode", "amplitude_encoder", "seed", "dataset", "epochs")
    assert {tuple(getattr(s, n) for n in names) for s in made} == {tuple(getattr(s, n) for n in names) for s in wanted}
    assert len(made) == len(wanted) == 16


def _combinations(parameters: dict) -> list[dict]:
    combined = [{}]
    for name, about in parameters.items():
        combined = [one | {name: value} for one in combined for value in about["values"]]
    return combined


def test_the_command_writes_the_file_and_runs_nothing(tmp_path, capsys):
    words = ["sweep", "--grid", "lr=0.01,0.05", "--work_dir", str(tmp_path / "runs")]
    reproduce.main([*words, "--wandb_sweep", str(tmp_path / "sweep.yaml"), "--", *SMALL])
    assert "6 runs; begin with: wandb sweep" in capsys.readouterr().out and not (tmp_path / "runs").exists()
    assert "- 0.05" in (tmp_path / "sweep.yaml").read_text()
    with pytest.raises(SystemExit):
        reproduce.main(["sweep", "--point", "lr=0.1", "--wandb_sweep", str(tmp_path / "other.yaml"), "--", *SMALL])
    assert "leave out --point and --list" in capsys.readouterr().err and not (tmp_path / "other.yaml").exists()
