"""Tables 6 to 9: rows as data, their columns, what stands beside them, figures, and the command that runs a part."""

import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

import reproduce
from circuits import build_circuit
from conftest import REPOSITORY
from reproduction import dashboard, gradient_variances, pictures, run_tables, study_pictures
from reproduction.collect import told_beside, write_table
from reproduction.dashboard import table_of
from reproduction.jobs import flags_of, make_job
from reproduction.rows import KINDS, TABLES
from reproduction.study_columns import COLUMNS, OF_START
from reproduction.study_rows import COMPARED, EVERY_TABLE, STUDIES
from reproduction.tables import as_csv, build_table, markdown
from runs.settings import SettingsError
from test_reproduction_tables import result
from theory.gradient_variance import first_test_images, gradient_variance
from training.command_line import parse_command_line
from utils.files import read_json, write_json

PARTS = [table for tables in STUDIES.values() for table in tables]


@pytest.mark.parametrize("table", PARTS, ids=lambda table: table.name)
def test_rows_are_what_they_say(table):
    assert len({row.name for row in table.rows}) == len({row.label for row in table.rows}) == len(table.rows)
    assert table.name == f"{table.study}_{table.part}" and set(table.columns) <= set(COLUMNS)
    assert all(EVERY_TABLE[name].row(row) for name, row in table.beside)
    seen = set()
    for row in table.rows:
        settings = parse_command_line(list(flags_of(table, row, table.epochs))).settings
        assert settings.epochs == (row.epochs or table.epochs) and settings.model == row.model
        assert not row.depth or KINDS[row.depth].items() <= row.flags.items()
        assert not settings.jac_loss_weight and settings.scheduler == "cosine"
        seen.add(json.dumps(settings.to_dict(), sort_keys=True))
    assert len(table.rows) == len(seen)  # no model twice


def test_a_readout_of_every_kind_is_in_table_6_at_three_depths():
    for table in STUDIES["table6"]:
        found = {(row.flags.get("readout"), row.depth) for row in table.rows if "ansatz" not in row.flags}
        for readout in ("z", "zz", "z_strings", "pauli1", "pauli2", "projections", "marginal"):
            assert {(readout, depth) for depth in ("implicit", "direct-1", "direct-5")} <= found


def study_result(seed: int, accuracy: float, **other) -> dict:
    return result(seed, accuracy, best_val_acc=accuracy - 0.01, n_readouts=55, measurement_settings=1, **other)


def test_a_studys_table_has_its_own_columns_and_names_its_part():
    table = EVERY_TABLE["table6_mnist10"]
    found = {("z_strings_implicit", seed): study_result(seed, 0.8 + 0.02 * seed, test_res_rel=1e-4) for seed in (0, 1)}
    found["single_copy", 0] = study_result(0, 0.97) | {"n_readouts": None, "measurement_settings": None}
    content = build_table(table, 30, None, found, ["Beside."])
    text = markdown(content)
    assert "| model | test accuracy, % | validation, % | readouts | settings | parameters | training, s | `res_rel` | seeds |" in text
    assert "| z_strings: IMPLICIT | 81.00 ± 1.41 | 80.00 ± 1.41 | 55 | 1 | 1056 | 60 ± 1 | 1.0e-04 ± 0.0e+00 | 0, 1 |" in text
    (ceiling,) = [line for line in text.splitlines() if line.startswith("| single-copy ceiling")]
    assert "| 97.00 | 96.00 |  |  | 1056 |" in ceiling
    assert "Beside." in text and "reproduce.py table6 --parts mnist10 --rows z_strings_implicit --seeds 2`" in text
    assert as_csv(content).splitlines()[0].startswith("row,label,epochs,n,seeds,test_acc_mean,test_acc_std,best_val_acc_mean")
    assert "**not the study's 30**" in markdown(build_table(table, 2, None, found))


def test_what_no_seed_found_finite_differs_from_what_a_model_has_not():
    found = {("newton", seed): study_result(seed, 0.7, test_res_rel=None, test_solver_steps=8.0, test_converged=0.6)
             for seed in (0, 1)}  # fmt: skip
    (line,) = [line for line in markdown(build_table(EVERY_TABLE["table9_strong"], 30, None, found)).splitlines()
               if line.startswith("| solver: newton")]  # fmt: skip
    assert line.split(" | ")[3:6] == ["8.0 ± 0.0", "not finite", "60 ± 0"]
    explicit = {("z_direct-1", 0): study_result(0, 0.7, test_res_rel=0.4)}
    text = markdown(build_table(EVERY_TABLE["table7_mnist4"], 30, None, explicit))
    assert "| z: DIRECT-1 | 70.00 | 69.00 |  |  | 4.0e-01 | 1056 | 0 |" in text


def test_what_stands_beside_is_read_from_the_other_tables(tmp_path):
    table = EVERY_TABLE["table6_mnist10"]
    found = {("linear", 0): result(0, 0.91), ("linear", 1): result(1, 0.93)}
    (tmp_path / "table2").mkdir()
    write_json(tmp_path / "table2" / "table.json", build_table(TABLES["table2"], 100, None, found))
    job = make_job(table, table.row("zz_direct-1"), 0, 30, tmp_path / "runs")
    job.folder.mkdir(parents=True)
    write_json(job.folder / "results.json", study_result(0, 0.8) | {"settings": job.settings.to_dict()})
    content = write_table(table, 30, None, [job], tmp_path)
    assert content["notes"] == ["Of Table 2 (100 epochs), to compare with: linear classifier, baseline 92.00 ± 1.41 %."]
    (tmp_path / "table6_cifar10").mkdir()
    of_study = build_table(EVERY_TABLE["table6_cifar10"], 30, None, {("single_copy", 0): study_result(0, 0.4)})
    write_json(tmp_path / "table6_cifar10" / "table.json", of_study)
    (told,) = told_beside(EVERY_TABLE["table7_cifar10"], tmp_path)
    assert told == "Of Table 6 (30 epochs), to compare with: single-copy ceiling, baseline 40.00 %."


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": [1]}'])
def test_a_damaged_table_is_refused_by_name(tmp_path, content):
    for name in ("table2", "table6_mnist10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "table.json").write_text(content)
    for use in (lambda: told_beside(EVERY_TABLE["table6_mnist10"], tmp_path), lambda: study_pictures.draw_studies(tmp_path),
                lambda: pictures.load_rows(TABLES["table2"], tmp_path)):  # fmt: skip
        with pytest.raises(SettingsError, match=r"^\S+/table.json is no table .*; remove it, and write it anew with --report$"):
            use()


def test_columns_are_keys_of_results():
    kept = read_json(REPOSITORY / "results" / "paper" / "table1" / "west2024-0123-implicit" / "seed-0.json")
    assert set(COLUMNS) - {"test_spectral_radius", *OF_START} <= set(kept)  # the one, that run did not ask for


def test_figures_show_what_is_kept(tmp_path):
    assert study_pictures.draw_studies(tmp_path) == []
    for table in PARTS:
        runs = {(row.name, seed): study_result(seed, 0.5 + 0.1 * seed, test_solver_steps=3.0, test_spectral_radius=0.4,
                                               test_converged=1.0)
                for row in table.rows for seed in row.seeds}  # fmt: skip
        (tmp_path / table.name).mkdir()
        write_json(tmp_path / table.name / "table.json", build_table(table, table.epochs, None, runs))
    drawn = {stem: figure for _, stem, figure in study_pictures.draw_studies(tmp_path)}
    assert list(drawn) == [f"{study}_study" for study in STUDIES]
    of_readouts = drawn["table6_study"].axes[0]
    assert [tick.get_text() for tick in of_readouts.get_xticklabels()][:2] == ["z", "zz"]
    assert {line.get_label() for line in of_readouts.lines} >= {"IMPLICIT", "DIRECT-1", "DIRECT-5", "single-copy ceiling"}
    points = of_readouts.lines[0]  # of IMPLICIT: not joined, the bars from seed to seed
    assert points.get_linestyle() == "None" and [tuple(bar[:, 1]) for bar in of_readouts.collections[0].get_segments()][0] == (50.0, 70.0)
    assert list(points.get_xdata() - points.get_xdata()[0]) == pytest.approx(range(len(COMPARED)))
    above = drawn["table6_study"].axes[4]  # three data sets, and none of MNIST-4
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["MNIST-10", "FashionMNIST-10", "CIFAR-10 (grey)"]
    lines = {line.get_label(): line for line in above.lines}
    assert list(lines) == ["IMPLICIT", "DIRECT-1", "DIRECT-5", "single-copy ceiling"]
    assert list(lines["IMPLICIT"].get_ydata()) == pytest.approx([0, 0, 0])
    assert tuple(above.collections[0].get_segments()[0][:, 1]) == pytest.approx((-10, 10))
    against_depth = {line.get_label(): line for line in drawn["table7_study"].axes[6].lines}
    assert list(against_depth["z_strings"].get_xdata()) == [1, 2, 5]  # the first is Table 6's
    assert list(against_depth["z_strings, gain 3"].get_xdata()) == [1, 2, 5]
    assert list(against_depth["z_strings: IMPLICIT"].get_ydata()) == [60.0]
    for place, at in ((4, [10, 50, 200, 800]), (5, [0, 1, 2, 3])):  # operations, and where z enters
        shown = {line.get_label(): line.get_xdata() for line in drawn["table7_study"].axes[place].lines}
        assert list(shown) == ["DIRECT-1", "IMPLICIT", "DIRECT-2", "DIRECT-5"] and np.allclose(shown["IMPLICIT"], at, atol=0.1)
    assert len(drawn["table7_study"].axes) == 8 and len(drawn["table8_study"].axes) == 6 and len(drawn["table9_study"].axes) == 3


def test_a_ceiling_that_is_not_finite_is_left_out(tmp_path):
    table = EVERY_TABLE["table6_mnist4"]
    runs = {("zz_implicit", 0): study_result(0, 0.8), ("single_copy", 0): study_result(0, 0.9) | {"test_acc": None}}
    (tmp_path / table.name).mkdir()
    write_json(tmp_path / table.name / "table.json", build_table(table, 30, None, runs))
    ((study, _, figure),) = study_pictures.draw_studies(tmp_path)
    assert study == "table6" and [line.get_label() for line in figure.axes[0].lines] == ["IMPLICIT"]


def test_a_studys_figure_is_logged_with_every_part(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(pictures, "draw_results", lambda *_: [pictures.Picture("table9", (tmp_path / "table9_study.png",))])
    monkeypatch.setattr(dashboard, "log_summary", lambda content, images, *_: logged.append((content["table"], len(images))))
    contents = [{"table": name} for name in ("table9_strong", "table8_wires", "table1")]
    run_tables.log_summaries(contents, tmp_path, Namespace(wandb_project="tests", wandb="offline", work_dir=tmp_path))
    assert logged == [("table9_strong", 1), ("table8_wires", 0), ("table1", 0)]


def test_parts_without_a_row_that_is_asked_for_are_left_out(monkeypatch, tmp_path, capsys):
    shown = []
    monkeypatch.setattr(run_tables, "run_unfinished", lambda *_: True)
    monkeypatch.setattr(run_tables, "keep_and_show", lambda table, *_: shown.append(table.name))
    words = ["--rows", "zz_gain3_implicit", "classical_implicit", "--work_dir", str(tmp_path)]
    reproduce.main(["table7", "--rows", "classical_implicit", "--work_dir", str(tmp_path)])
    reproduce.main(["table7", *words])
    assert shown == ["table7_percolation", "table7_mnist4", "table7_percolation"]
    with pytest.raises(SystemExit) as stopped:
        reproduce.main(["table7", "--parts", "mnist4", *words])
    assert stopped.value.code == 2
    assert "--parts mnist4 has no --rows classical_implicit: name their part too" in capsys.readouterr().err


def test_a_part_and_a_row_can_be_run_alone(tmp_path, capsys):
    words = ["table7", "--parts", "percolation", "--rows", "zz_implicit", "--seeds", "4", "--epochs", "2", "--dry_run"]
    reproduce.main([*words, "--work_dir", str(tmp_path)])
    (command,) = [line for line in capsys.readouterr().out.splitlines() if "train_qdeq.py" in line]
    words = command.split()
    assert words[words.index("--dataset") + 1] == "percolation" and words[words.index("--readout") + 1] == "zz"
    assert words[words.index("--work_dir") + 1] == f"{tmp_path}/table7_percolation/zz_implicit"
    for wrong in (["table7", "--parts", "mnist10"], ["table7", "--rows", "implicit"], ["table7", "--parts", "mnist4", "--report"]):
        with pytest.raises(SystemExit) as stopped:
            reproduce.main(wrong)
        assert stopped.value.code == 2


# gradient variances of initial models

SMALL = ("4_wires_implicit", "4_wires_direct-1", "6_wires_implicit")


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """Rows of Table 8 on digits, and their jobs with two seeds; two draws."""
    monkeypatch.setattr(gradient_variances, "N_DRAWS", 2)
    table = EVERY_TABLE["table8_wires"]
    table = replace(table, flags=table.flags | {"dataset": "digits"}, rows=tuple(table.row(name) for name in SMALL))
    return table, [make_job(table, row, seed, 5, tmp_path / "runs") for row in table.rows for seed in (0, 1)]


def test_variances_are_measured_once_a_circuit_kept_and_shown(growing, tmp_path, monkeypatch, capsys):
    table, jobs = growing
    path = tmp_path / "runs" / "table8_wires" / "gradient_variance.json"
    gradient_variances.measure(jobs, None, dry_run=True)
    assert not path.exists() and "0 of 2 circuits are measured" in capsys.readouterr().out
    measured, measure = [], gradient_variances._measured

    def once(settings):
        if measured:
            raise KeyboardInterrupt
        measured.append(settings.n_wires)
        return measure(settings)

    monkeypatch.setattr(gradient_variances, "_measured", once)
    with pytest.raises(KeyboardInterrupt):
        gradient_variances.measure(jobs, None, dry_run=False)
    assert measured == [4] and len(gradient_variances.read(path)) == 1
    measured.clear()
    gradient_variances.measure(jobs, None, dry_run=False)
    gradient_variances.measure(jobs[1::2], None, dry_run=False)  # other seeds of the same circuits
    assert measured == [6] and "2 of 2 circuits" in capsys.readouterr().out
    four, six = read_json(path)["circuits"]
    assert {"git_commit", "device", "date", "torch", "seed"} <= set(four) and six["made_from"]["n_wires"] == 6
    x, labels = first_test_images("digits", 4, "")
    assert four["variances"] == gradient_variance(build_circuit(4), x, labels, n_draws=2, seed=0)

    for job in jobs:
        job.path.mkdir(parents=True)
        write_json(job.path / "config.json", job.settings.to_dict())
        own = study_result(job.seed, 0.8, test_solver_steps=3, test_spectral_radius=0.1) | {"settings": job.settings.to_dict()}
        write_json(job.path / "results.json", own)
    content = write_table(table, 5, None, jobs, tmp_path / "kept")
    implicit, direct, _ = content["rows"]
    numbers = four["variances"]
    shown = {name: numbers[name] / numbers[f"{name}_share"] for name in ("first_readout", "implicit", "direct_1")}
    assert numbers["first_readout_share"] < 1
    assert implicit["readout_variance"]["values"] == direct["readout_variance"]["values"] == [shown["first_readout"]] * 2
    assert implicit["loss_variance"]["mean"] == shown["implicit"]
    assert direct["loss_variance"]["mean"] == shown["direct_1"] != shown["implicit"]
    text = markdown(content)
    assert "variance of d⟨Z₀⟩/dθ | variance of dL/dθ |" in text and f"| {shown['first_readout']:.1e} | {shown['implicit']:.1e} |" in text
    kept = tmp_path / "kept" / "table8_wires" / "gradient_variance.json"
    assert kept.read_text() == path.read_text()
    path.unlink()  # what is kept stays, and is shown
    assert write_table(table, 5, None, jobs, tmp_path / "kept")["rows"] == content["rows"]
    gradient_variances.measure(jobs, tmp_path / "kept", dry_run=False)
    assert path.read_text() == kept.read_text() and measured == [6]


def test_a_table_without_variances_shows_none(growing, tmp_path):
    table, (job, *_) = growing
    found = {(job.row, 0): study_result(0, 0.8)}
    assert "| 80.00 | 79.00 |  |  | 1.0e-03 | 1056 |  |  | 0 |" in markdown(build_table(table, 5, None, found))
    assert gradient_variances.columns_of(table, tmp_path) == {}


@pytest.mark.parametrize("flags", [{"z_gain": 3.0}, {"f_thres": 30}, {"z0": "x"}, {"model": "alam2021"}, {"lift": "projection"}],
                         ids=str)  # fmt: skip
def test_variances_of_rows_with_more_of_their_own_are_refused(growing, flags, tmp_path):
    table, (job, *_) = growing
    other = replace(table.row(job.row), flags=table.row(job.row).flags | flags)
    ((name, value),) = flags.items()
    with pytest.raises(SettingsError, match=rf"^table8_wires, {job.row}: .* with --{name} .*, not {value}: "):
        gradient_variances.measure([make_job(table, other, 0, 5, tmp_path)], None, dry_run=True)


@pytest.mark.parametrize("content", ["{", "[]", '{"circuits": [{"made_from": {}, "variances": {"first_readout": 1}}]}'])
def test_damaged_variances_are_refused_by_name(growing, tmp_path, content):
    table, jobs = growing
    path = tmp_path / "runs" / "table8_wires" / "gradient_variance.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for use in (lambda: gradient_variances.measure(jobs, None, False), lambda: write_table(table, 5, None, jobs, tmp_path),
                lambda: gradient_variances.of_rows(table, tmp_path / "runs")):  # fmt: skip
        with pytest.raises(SettingsError, match=r"^\S+/gradient_variance.json holds no gradient variances .*: remove it$"):
            use()


def test_variances_are_drawn_against_size_also_without_runs(tmp_path):
    for part in STUDIES["table8"]:
        settings = [parse_command_line(list(flags_of(part, row, 5))).settings for row in part.rows[::2]]
        variances = dict.fromkeys(gradient_variances.NEEDED, 1e-6)
        variances |= {"implicit": 1e-5, "implicit_share": 0.5, "two_designs": 4e-4}
        entries = [{"made_from": gradient_variances.made_from(s), "variances": variances} for s in settings]
        (tmp_path / part.name).mkdir()
        write_json(tmp_path / part.name / "gradient_variance.json", {"circuits": entries})
    ((_, stem, figure),) = study_pictures.draw_studies(tmp_path)
    assert stem == "table8_study" and [axes.get_yscale() for axes in figure.axes] == ["log", "log"]
    wires = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(wires["of IMPLICIT's loss"].get_ydata()) == pytest.approx([2e-5] * 6)
    (two_designs,) = [line for label, line in wires.items() if "two-designs" in label]
    assert list(two_designs.get_ydata()) == pytest.approx([4e-4] * 6)
    assert [list(line.get_xdata()) for line in wires.values()] == [[4, 6, 8, 10, 12, 14]] * 4


def test_what_is_kept_is_of_every_row_and_ends_where_two_designs_do():
    """The committed files: the longest circuit is nearly random, and rows of one circuit share it."""
    for part in STUDIES["table8"]:
        found = gradient_variances.of_rows(part, REPOSITORY / "results" / "paper")
        assert list(found) == [row.name for row in part.rows]
    longest = found["1600_operations_implicit"]
    assert longest == found["1600_operations_direct-1"]
    assert longest["first_readout"][0] == pytest.approx(longest["two_designs"][0], rel=0.05)


def test_the_command_measures_only_the_rows_it_is_asked_for(tmp_path, monkeypatch, capsys):
    measured = []
    numbers = dict.fromkeys(gradient_variances.NEEDED, 1.0)

    def fake(settings):
        measured.append((settings.n_wires, settings.n_random_operations, settings.seed))
        return {"made_from": gradient_variances.made_from(settings), "variances": numbers}

    monkeypatch.setattr(gradient_variances, "_measured", fake)
    monkeypatch.setattr(run_tables, "run_unfinished", lambda *_: False)
    words = ["table8", "--work_dir", str(tmp_path / "runs"), "--results_dir", str(tmp_path / "kept")]
    reproduce.main([*words, "--dry_run"])
    reproduce.main([*words, "--report"])
    assert measured == [] and "0 of 12 circuits" in capsys.readouterr().out
    rows = ["--rows", "4_wires_implicit", "4_wires_direct-1", "8_wires_implicit"]
    reproduce.main([*words, "--parts", "wires", *rows, "--seeds", "3", "1"])
    assert measured == [(4, 50, 3), (8, 50, 3)]
    reproduce.main([*words, "--report"])  # keeps what is measured, though nothing is trained
    assert len(gradient_variances.read(tmp_path / "kept" / "table8_wires" / "gradient_variance.json")) == 2
    reproduce.main(["table8", *rows, "--missing", "--work_dir", str(tmp_path / "other"), *words[3:]])
    assert len(measured) == 2


def test_a_studys_table_is_one_of_wandbs_too():
    content = build_table(EVERY_TABLE["table6_mnist4"], 30, None, {("zz_implicit", 0): study_result(0, 0.8)})
    columns, (line,) = table_of(content)
    found = dict(zip(columns, line))
    assert found["row"] == "zz: IMPLICIT" and found["test_acc_mean"] == 80 and found["n_readouts_mean"] == 55
    assert "test_acc_paper" not in found
