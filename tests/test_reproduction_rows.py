"""The paper's tables as data: their hyper-parameters are the scripts', and each row is a command that parses."""

import shlex
import subprocess
import sys

import pytest

from conftest import REPOSITORY, SCRIPTS, user_environment
from reproduction.command_line import parse_command_line as parse_reproduce
from reproduction.jobs import SWITCHES, flags_of, make_job, same_run
from reproduction.names import BASELINES, DEPTHS
from reproduction.rows import KINDS, TABLES, Paper
from reproduction.run_tables import run_tables
from table_5 import TABLE_5, hyperparameters_of
from training.command_line import parse_command_line
from training.settings import Settings

SCRIPT_OF = {"table1": "qdeq_mnist4", "table2": "qdeq_mnist", "table3": "qdeq_fashion_mnist", "table4": "qdeq_cifar10"}
ROWS = [(table, row) for table in TABLES.values() for row in table.rows]


@pytest.mark.parametrize("table, row", [one for one in ROWS if not one[1].differs], ids=lambda part: part.name)
def test_rows_are_what_the_scripts_train(table, row, tmp_path):
    echo = tmp_path / "echo_python"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    model = row.name.removeprefix("amplitude_").removeprefix("angle_").removeprefix("released_")
    assert model == "-".join(filter(None, (row.model.replace("qdeq", ""), row.depth)))
    words = ["bash", str(REPOSITORY / "bash_scripts" / f"{SCRIPT_OF[table.name]}.sh"), "train", "--model", model]
    words += ["--amplitude_encoder", "False"] * row.name.startswith("angle")
    words += ["--trainable_gates", "released"] * row.name.startswith("released")
    shown = subprocess.run(
        words, env=user_environment(QDEQ_PYTHON=str(echo)), capture_output=True, text=True, check=True
    )
    script = parse_command_line(shown.stdout.splitlines()[1:]).settings
    ours = parse_command_line(list(flags_of(table, row, table.epochs))).settings
    ours.spectral_radius_mode = False  # only watches
    assert same_run(script.to_dict(), ours)


@pytest.mark.parametrize("table, row", ROWS, ids=lambda part: part.name)
def test_every_flag_of_a_row_has_an_effect(table, row):
    assert parse_command_line(list(flags_of(table, row, table.epochs))).warnings == []


@pytest.mark.parametrize("table, data", list(zip(TABLES.values(), TABLE_5)), ids=TABLES)
def test_the_papers_models_train_with_table_5(table, data):
    found = {
        row.depth: hyperparameters_of(parse_command_line(list(flags_of(table, row, table.epochs))).settings)
        for row in table.rows
        if row.model == "qdeq"
    }
    assert found == TABLE_5[data] and set(found) == set(DEPTHS)


def test_paper_rows_are_the_six_models_in_each_encoding(capsys):
    run_tables(parse_reproduce(["tables", "--paper_rows", "--seeds", "7", "--dry_run", "--work_dir", "/nowhere"]))
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if "train_qdeq.py" in line]
    names = [words[words.index("--work_dir") + 1] for words in commands]
    own = [f"table1/{encoding}_{depth}" for encoding in ("amplitude", "angle") for depth in DEPTHS]
    own += [f"table{number}/{depth}" for number in (2, 3, 4) for depth in DEPTHS]
    assert sorted(names) == sorted(f"/nowhere/{name}" for name in own)


def test_every_table_has_the_papers_six_models_and_numbers():
    assert list(TABLES) == ["table1", "table2", "table3", "table4"]
    for table in TABLES.values():
        names = [row.name for row in table.rows]
        assert len(set(names)) == len(names)
        assert table.epochs == (25 if table.name == "table4" else 100)
        baselines = {f"{name}-{depth}" for name in BASELINES for depth in ("direct-1", "implicit")}
        assert baselines | {"linear"} <= set(names)
    assert all(row.paper == Paper() for row in TABLES["table1"].rows if not row.differs)  # its page could not be read
    assert TABLES["table2"].row("alam2021-direct-1").paper.test_acc == 71.75
    assert TABLES["table2"].row("implicit").paper.test_acc == 73.68
    assert TABLES["table3"].row("direct-10").paper.train_seconds == 11651.96
    assert TABLES["table4"].row("warmup").paper.test_acc == 25.45


def test_fields_of_a_row_agree_with_its_flags():
    for table, row in ROWS:
        assert row.flags.get("model", "qdeq") == row.model
        if row.depth:
            assert KINDS[row.depth].items() <= row.flags.items()
        settings = parse_command_line(list(flags_of(table, row, table.epochs))).settings
        assert ("angle" in row.family) == (not settings.amplitude_encoder)
        assert ("released" in row.family) == (settings.trainable_gates == "released")
        assert ("baseline" in row.family) == (row.model != "qdeq")


def test_published_rows_have_their_works_numbers_lengths_and_classes():
    found = {(table.name, row.name): row for table, row in ROWS if row.differs}
    assert found["table1", "west2024-0123-direct-1"].paper.test_acc == 93.6
    assert found["table3", "dilip2022-14"].paper.test_acc == 85.3 and found["table3", "dilip2022_mps-1"].paper.test_acc == 62.7
    deep, shallow = ([found[name, f"west2024-direct-1{n}"].paper.test_acc for name in ("table2", "table3")] for n in ("-200", ""))
    assert deep == [79.4, 74.6] and shallow == [None, None]  # the number quoted is of 200 layers
    assert [found[name, "kiwit2025-1"].paper.test_acc for name in ("table2", "table3", "table4")] == [82.2, 74.1, 34.5]
    assert all(row.family == "published baseline" and row.epochs for row in found.values())
    settings = {}
    for (name, row), at in ((key, epochs) for key in found for epochs in (TABLES[key[0]].epochs, 5)):
        flags = flags_of(TABLES[name], found[name, row], at)
        settings[name, row, at] = parse_command_line(list(flags)).settings
    assert settings["table1", "west2024-0123-direct-1", 100].chosen_classes == (0, 1, 2, 3)
    assert settings["table2", "kiwit2025-1", 100].epochs == 20 and settings["table2", "kiwit2025-1", 5].epochs == 1
    assert all(s.chosen_classes is None for (name, *_), s in settings.items() if name != "table1")


def test_labels_name_the_model_and_its_family():
    labels = {row.name: row.label for row in TABLES["table1"].rows + TABLES["table2"].rows}
    assert labels["implicit"] == "IMPLICIT" and labels["amplitude_warmup"] == "IMPLICIT+WARMUP, amplitude"
    assert labels["released_direct-1"] == "DIRECT-1, released gates"
    assert labels["linear"] == "linear classifier, baseline"
    assert labels["angle_wang2022-implicit"] == "Wang et al. 2022: IMPLICIT, baseline, angle"


def test_shortened_runs_keep_the_warm_ups_share():
    table = TABLES["table2"]
    flags = flags_of(table, table.row("warmup"), 20)
    assert parse_command_line(list(flags)).settings.pretrain_steps == 375
    assert parse_command_line(list(flags_of(table, table.row("warmup"), 100))).settings.pretrain_steps == 1875


def test_a_job_has_as_many_epochs_as_its_run(tmp_path):
    jobs = {row: make_job(TABLES["table2"], TABLES["table2"].row(row), 0, 100, tmp_path) for row in ("implicit", "kiwit2025-1")}
    assert {row: job.epochs for row, job in jobs.items()} == {"implicit": 100, "kiwit2025-1": 20}


def test_a_job_is_its_settings(tmp_path):
    table, row = TABLES["table2"], TABLES["table2"].row("implicit")
    job = make_job(table, row, 1, 100, tmp_path, ("--device", "cpu", "--wandb", "offline"))
    assert job.folder == tmp_path / "table2" / "implicit" / "seed-1"
    job.folder.mkdir(parents=True)
    assert make_job(table, row, 1, 100, tmp_path).folder == job.folder  # an empty folder is free
    write_config(job.folder, list(job.flags))
    assert make_job(table, row, 1, 100, tmp_path).folder == job.folder  # device and trackers make no other run
    other = make_job(table, row, 1, 50, tmp_path)
    assert other.folder.name == "seed-1-2"
    other.folder.mkdir()
    (other.folder / "config.json").write_text("{")
    assert make_job(table, row, 1, 50, tmp_path).folder.name == "seed-1-3"  # damaged: left alone


def write_config(folder, flags):
    import json

    (folder / "config.json").write_text(json.dumps(parse_command_line(flags).settings.to_dict()))


def test_settings_that_make_another_run():
    wanted = Settings(lr=0.05, seed=1)
    assert same_run(Settings(lr=0.05, seed=1, data_dir="/elsewhere", name="x", wandb="offline").to_dict(), wanted)
    for changed in ({"lr": 0.01}, {"seed": 2}, {"epochs": 5}, {"max_step": 7}, {"trainable_gates": "released"}):
        assert not same_run(Settings(**{"lr": 0.05, "seed": 1} | changed).to_dict(), wanted)
    assert not same_run({"of another": "version"}, wanted)


def test_switches_are_those_of_the_command_line():
    assert "spectral_radius_mode" in SWITCHES and "amplitude_encoder" not in SWITCHES


@pytest.mark.parametrize("text, status", [("--help", 0), ("table2 --help", 0), ("theory --help", 0), ("table12", 2),
                                          ("table2 --rows no", 2), ("theory --runs", 2), ("table2 --epochs 0", 2),
                                          ("table2 --report --rows implicit", 2), ("table --help", 0),
                                          ("run --help", 0), ("qep time", 2),
                                          ("circuit --help", 0), ("qep error --help", 0), ("qep table", 2)])  # fmt: skip
def test_help_and_wrong_flags_do_not_wait_for_torch(text, status):
    look = (
        "import sys, runpy; sys.argv[0] = 'reproduce.py'\n"
        "try: runpy.run_path('reproduce.py', run_name='__main__')\n"
        "finally: print('heavy:', [m for m in ('torch', 'numpy', 'ray', 'matplotlib', 'optuna') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", look, *text.split()], cwd=SCRIPTS, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == status, run.stderr
    assert run.stdout.endswith("heavy: []\n")
    assert run.stderr.count("\n") == (status != 0)


@pytest.mark.parametrize("flags", ["--jobs 2", "--threads 2", "--address auto", "--data_dir data", "--device cuda",
                                   "--wandb offline", "--wandb_project p", "--dry_run", "--missing", "--trials 3"])  # fmt: skip
def test_nothing_that_runs_goes_with_report(flags, capsys):
    command = "table5" if "trials" in flags else "tables"
    parse_reproduce([command, *flags.split()])
    with pytest.raises(SystemExit, match="2"):
        parse_reproduce([command, "--report", *flags.split()])
    assert f"--report runs nothing: leave out {flags.split()[0]}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["table5 --seeds 0", "figures --seeds 0", "figures --work_dir runs"])
def test_no_command_takes_a_flag_that_it_would_ignore(command, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse_reproduce(command.split())
    assert "unrecognized arguments: --" in capsys.readouterr().err


def test_folders_of_shortened_runs_are_their_own():
    assert parse_reproduce(["table2"]).results_dir == REPOSITORY / "results" / "paper"
    short = parse_reproduce(["table2", "--epochs", "3"])
    assert short.work_dir.name == short.results_dir.name == "paper_3-epochs"


def test_the_committed_folders_are_known_by_relative_names(monkeypatch):
    monkeypatch.chdir(REPOSITORY / "DEQ-Quantum")
    wanted = parse_reproduce(["report"])
    for flags in (["--results_dir", "../results/paper"], ["--images_dir", "../images/paper"]):
        given = parse_reproduce(["report", *flags])
        assert (given.results_dir, given.images_dir) == (wanted.results_dir, wanted.images_dir)
    assert parse_reproduce(["report", "--results_dir", "../results/trial"]).images_dir != wanted.images_dir


def test_dry_run_prints_commands_that_parse_and_writes_nothing(run_script, tmp_path):
    flags = ("table2", "--rows", "warmup", "direct-5", "--seeds", 4, 5, "--work_dir", tmp_path / "runs", "--dry_run")
    first, *commands = run_script("reproduce.py", *flags).stdout.splitlines()
    assert first.startswith("0 of 4 runs are finished")
    settings = [parse_command_line(shlex.split(command)[2:]).settings for command in commands]
    assert [(s.run_name, s.mode, s.seed) for s in settings] == [
        ("seed-4", "implicit", 4), ("seed-4", "direct", 4), ("seed-5", "implicit", 5), ("seed-5", "direct", 5)
    ]  # fmt: skip
    assert not (tmp_path / "runs").exists()
