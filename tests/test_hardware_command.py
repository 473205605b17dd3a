"""`hardware.py` on trained runs: what noise costs them, beside what the other commands say; and what it refuses."""

import json
import runpy
import shutil

import numpy as np
import pytest
import torch

import evaluate_qdeq
from conftest import SCRIPTS
from deployment.evaluation import evaluate_run
from hardware.devices import FOLDER, known_devices
from quick_runs import train_quickly
from training.evaluation import load_splits
from training.settings import Settings

COMMAND = str(SCRIPTS / "hardware.py")
TIGHT = ("--f_solver", "newton", "--f_thres", 50, "--f_tol", 1e-6)


def hardware(*flags):
    """The command in this process."""
    runpy.run_path(COMMAND)["main"](list(map(str, flags)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of a few steps, by name."""
    folder = tmp_path_factory.mktemp("runs")
    kinds = {
        "implicit": (), "angle": ("--amplitude_encoder", False), "classical": ("--model", "classical"),
        "direct": ("--mode", "direct", "--n_layer", 3),
    }  # fmt: skip
    for name, flags in kinds.items():
        train_quickly(folder, name, 30, *flags)
    return folder


def evaluated(run, *flags):
    hardware("evaluate", "--run", run, *flags)
    return json.loads((run / "hardware_evaluation.json").read_text())


@pytest.mark.parametrize("name", ("implicit", "angle", "direct"))
def test_without_noise_it_is_the_models_own_evaluation(runs, name):
    found = evaluated(runs / name, "--noise", "none")
    own = evaluate_qdeq.measure(evaluate_qdeq.parse_command_line([str(runs / name)]))[0]
    (row,) = found["rows"]
    for metric in ("acc", "loss", "res_rel"):
        assert found["ideal"][metric] == pytest.approx(own[metric], rel=1e-4)
        # round-off lets some solves end a step apart
        assert row[metric] == pytest.approx(own[metric], rel=0.1 if metric == "res_rel" else 2e-3)
    assert (row["drop"], found["images"]) == (0, own["images"])
    assert row["shift"] < 1e-4


@pytest.mark.parametrize("name", ("implicit", "angle", "direct"))
def test_small_noise_moves_states_as_the_first_order_says(runs, name):
    flags = TIGHT if name == "implicit" else ("--f_thres", 40, "--f_tol", 1e-6)
    found = evaluated(runs / name, "--max_images", 40, "--noise", "depolarizing:3e-4", "depolarizing:3e-3", *flags)
    small, large = found["rows"]
    # ten times the noise, ten times the share of what is of second order
    assert small["prediction_error"] < 0.01 and 3 < large["prediction_error"] / small["prediction_error"] < 20
    assert large["shift"] == pytest.approx(10 * small["shift"], rel=0.2)
    assert small["spectral_radius"] < found["ideal"]["spectral_radius"]  # noise contracts


def test_the_drop_is_of_pairs_and_machines_name_their_dates(runs, capsys):
    found = evaluated(runs / "implicit", "--noise", "device:quito,x3", "readout:0.3")
    ideal, row = found["ideal"], found["rows"][0]
    assert row["drop"] == pytest.approx(100 * (ideal["acc"] - row["acc"]))
    low, high = row["drop_interval"]
    assert low < row["drop"] < high and low + high == pytest.approx(2 * row["drop"])
    # no wider than of two samples that were drawn apart
    apart = 196 * np.sqrt(sum(a * (1 - a) for a in (ideal["acc"], row["acc"])) / found["images"])
    assert (high - low) / 2 <= 1.01 * apart
    assert row["devices"][0]["calibrated"] == "2021-03-15" and row["noisy_gates"] == 72
    assert "quito: calibrated 2021-03-15, qiskit-ibm-runtime 0.20.0" in capsys.readouterr().out


@pytest.mark.parametrize("name", ("implicit", "angle"))
def test_noise_of_the_encoding_is_a_switch_of_its_own(runs, name):
    flags = ("--max_images", 20, "--noise", "depolarizing:1e-2")
    quiet = evaluated(runs / name, *flags)
    noisy = evaluated(runs / name, *flags, "--encoding_noise", "device:quito")
    assert quiet["encoding_noise"] is None and noisy["encoding_noise"]["devices"][0]["device"] == "quito"
    quiet, noisy = quiet["rows"][0], noisy["rows"][0]
    assert noisy["noisy_gates"] > quiet["noisy_gates"]
    assert abs(noisy["loss"] - quiet["loss"]) > 1e-3


def test_counting_tells_a_residual_of_fresh_shots_and_repeats_itself(runs, capsys):
    flags = ("--max_images", 60, "--noise", "none", "--repeat", 2, "--shots")
    found, again, more = (evaluated(runs / "implicit", *flags, n)["rows"][0]["counted"] for n in (256, 256, 4096))
    assert found == again and found["seeds"] == [0, 1]
    assert found["res_fresh"] > 0.9 * found["res_floor"]  # the least of noisy residuals would lie below
    assert found["error"] == pytest.approx(4 * more["error"], rel=0.4)
    assert not {"res", "res_rel", "converged"} & set(found)
    assert found["drop"] == pytest.approx(
        100 * (evaluated(runs / "implicit", *flags, 1)["ideal"]["acc"] - found["acc"])
    )
    assert "256 (2 draws)" in capsys.readouterr().out


@pytest.mark.parametrize("name, shots", [("implicit", 256), ("classical", 400)])
def test_images_whose_solve_has_stopped_take_no_more_circuits(runs, monkeypatch, name, shots):
    """One for every step and for the start, and one for the residual; all of them where no image stops early."""
    flags = ("--max_images", 60, "--noise", "none", "--repeat", 2, "--shots", shots, "--f_solver", "fixed_point")
    found = evaluated(runs / name, *flags)["rows"][0]["counted"]
    counts = found["counts"]
    assert 1 < found["solver_steps"] < 9
    assert found["circuits"] == counts["circuits"] == pytest.approx(60 * (found["solver_steps"] + 2))
    assert counts["circuits_residual"] == 60 and counts["circuits_solve"] == found["circuits"] - 60
    assert counts["shots"] == shots * counts["circuits"]
    assert found["solver_steps"] + 2 < counts["rounds"] <= 12 and counts["jobs"] == counts["rounds"]
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)
    all_steps = evaluated(runs / name, *flags, "--f_tol", 1e-12)["rows"][0]["counted"]["counts"]
    assert all_steps == {
        "circuits": 60 * 12, "shots": 60 * 12 * shots, "rounds": 12, "jobs": 12, "circuits_solve": 60 * 11, "circuits_residual": 60,
    }  # fmt: skip


@pytest.mark.parametrize("name, jacobian", [("implicit", 8), ("angle", 32)])
def test_newton_measures_its_jacobians(runs, monkeypatch, name, jacobian):
    """K = 11 evaluations, 10 Jacobians of 2 n circuits of amplitudes or 2 n^2 of angles, the residual; errors like floors."""
    flags = ("--max_images", 40, "--noise", "none", "--repeat", 2, "--shots", 4096, "--f_solver", "newton")
    found, again = (evaluated(runs / name, *flags)["rows"][0]["counted"] for _ in range(2))
    assert found == again and found["seeds"] == [0, 1] and found["solver_steps"] < 5
    assert found["counts"]["circuits_jacobian"] == pytest.approx(40 * found["solver_steps"] * jacobian)
    assert found["error"] < 2 * found["res_floor"]
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)
    counts = evaluated(runs / name, *flags, "--f_tol", 1e-12)["rows"][0]["counted"]["counts"]
    per_image = {"circuits_solve": 11, "circuits_residual": 1, "circuits_jacobian": 10 * jacobian}
    assert {purpose: counts[purpose] / 40 for purpose in per_image} == per_image
    assert counts["circuits"] == 40 * sum(per_image.values()) and counts["rounds"] == 11 + 10 + 1


def test_layers_are_counted(runs):
    flags = ("--split", "train", "--max_images", 400, "--noise", "none", "--repeat", 1, "--shots", 10)
    assert evaluated(runs / "direct", *flags)["rows"][0]["counted"]["counts"] == {
        "circuits": 1600, "shots": 16_000, "rounds": 4, "jobs": 8, "circuits_solve": 1200, "circuits_residual": 400,
    }  # fmt: skip


def test_newton_is_refused_to_units_that_are_counted(runs, capsys):
    with pytest.raises(SystemExit):
        hardware("evaluate", "--run", runs / "classical", "--noise", "none", "--shots", 9, "--f_solver", "newton")
    assert "--f_solver newton measures its Jacobian by --shots of a circuit" in capsys.readouterr().err


def test_a_classical_models_units_are_counted_without_bias_and_as_the_floor_says(runs, capsys):
    solved = ("--f_thres", 30)  # so that errors are those of counts, not of solves that the cap ends
    found = evaluated(runs / "classical", "--noise", "none", "--shots", 400, "--repeat", 3, *solved)
    counted = found["rows"][0]["counted"]
    assert counted["seeds"] == [0, 1, 2] and counted["res_fresh"] > 0.9 * counted["res_floor"]
    more = evaluated(runs / "classical", "--noise", "none", "--shots", 40000, *solved)["rows"][0]["counted"]
    assert counted["res_fresh"] == pytest.approx(10 * more["res_fresh"], rel=0.2)
    # means over images, some of which have another equilibrium near: on another CPU other ones
    assert counted["error"] > 2 * more["error"]
    assert more["acc"] == pytest.approx(found["ideal"]["acc"], abs=0.02)
    assert "400 (3 draws)" in capsys.readouterr().out


def test_the_own_engine_is_put_back(runs):
    from deployment.command_line import parse_command_line
    from deployment.evaluation import Condition, evaluation
    from deployment.trained import read_trained
    from hardware.engine import NoisyEngine
    from hardware.noise import parse_noise
    from training.evaluation import load_splits

    trained = read_trained(parse_command_line(["evaluate", "--run", str(runs / "implicit"), "--noise", "none"]))
    engine, splits = trained.model.layer.engine, load_splits(trained.settings, torch.device("cpu"))
    noise = parse_noise("depolarizing:1e-2")
    evaluation(trained, splits.val, [Condition(noise, NoisyEngine(trained.model.layer.circuit, noise))], splits.train)
    assert trained.model.layer.engine is engine


def test_devices_are_listed(capsys):
    hardware("devices")
    shown = capsys.readouterr().out
    assert all(f"| {name} |" in shown for name in known_devices())


def test_a_device_with_numbers_for_each_wire_is_listed_by_medians(tmp_path, monkeypatch, capsys):
    content = json.loads((FOLDER / "manila.json").read_text())
    lists = {"T1_us": [90, 20, 61], "T2_us": [30, 35, 40], "readout_1_for_0": [0.4, 0.1, 0.2], "readout_0_for_1": [0.3, 0.1, 0.5]}
    (tmp_path / "mine.json").write_text(json.dumps(content | lists | {"name": "mine"}))
    monkeypatch.setattr("hardware.devices.FOLDER", tmp_path)
    hardware("devices")
    shown = capsys.readouterr().out
    assert "| mine | 2021-07-26 | 5 | 61 / 35 |" in shown and "| 0.200 / 0.300 |" in shown


@pytest.mark.parametrize("flags, status, words", [
    ("--noise device:atlantis", 2, "argument --noise: device:atlantis is not known; known: aachen,"),
    ("--noise damping:10,30", 2, "T2 is at most 2 T1"),
    ("--noise depolarizing:2", 2, "probabilities, from 0 to 1, got 2"),
    ("--noise depolarizing:0", 1, "no gate of the ansatz carries noise"),
    ("--noise none --encoding_noise depolarizing:0", 1, "no gate of the encoding carries noise"),
    ("--noise none --encoding_noise readout:0.1", 1, "no gate of the encoding carries noise"),
    ("--noise device:aachen --encoding_noise device:quito", 1, "machines with different gates on two wires"),
    ("--noise none --max_images 0", 2, "from 1"),
    ("--noise none --shots 0", 2, "argument --shots: expected an integer from 1"),
    ("--noise none --shots 10 --f_solver newton --encoding_noise readout:0.1,depolarizing:0.1", 1, "without --encoding_noise"),
    ("", 2, "the following arguments are required: --noise"),
    ("--noise none --f_tol -1", 2, "--f_tol"),
])  # fmt: skip
def test_bad_input_is_one_line(runs, flags, status, words, capsys):
    with pytest.raises(SystemExit) as end:
        hardware("evaluate", "--run", runs / "implicit", *flags.split())
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (status, 1) and words in error, error


def test_runs_that_have_no_circuit_or_are_none_are_one_line(runs, tmp_path, capsys):
    for run, words in (
        (runs / "classical", "of --model classical, which has no circuit: --noise none --shots N alone"),
        (tmp_path, "there is no checkpoint"),
    ):
        with pytest.raises(SystemExit) as end:
            hardware("evaluate", "--run", run, "--noise", "none")
        error = capsys.readouterr().err
        assert (end.value.code, error.count("\n")) == (1, 1) and words in error, error


def test_mitigation_brings_back_what_noise_took(runs, capsys):
    noise, ways = "depolarizing:0.03,readout:0.02,0.1", ("readout", "zne", "rescale", "head", "head+rescale+readout")
    content = evaluated(runs / "implicit", "--noise", noise, "--mitigate", *ways, "--f_thres", 40)
    (row,) = content["rows"]
    found = {of_way["mitigation"]: of_way for of_way in row["mitigated"]}
    assert list(found) == ["readout", "zne", "rescale", "head", "readout+rescale+head"]
    assert all(of_way["acc"] > row["acc"] and of_way["drop"] < row["drop"] for of_way in found.values())
    assert found["zne"]["circuits_of_f"] == 2 and found["readout"]["circuits_of_calibration"] == 2
    assert found["rescale"]["circuits_of_calibration"] == 20
    for of_way in found.values():
        counts, circuits = of_way["counts"], of_way["circuits_of_f"] * content["images"] * (of_way["solver_steps"] + 1)
        assert counts["circuits_solve"] == pytest.approx(circuits)
        assert counts.get("circuits_calibration", 0) == of_way["circuits_of_calibration"]
        assert counts["circuits"] == counts["circuits_solve"] + of_way["circuits_of_calibration"]
    assert "| readout+rescale+head |" in capsys.readouterr().out
    # afterwards the run is what it was, its head too
    (again,) = evaluated(runs / "implicit", "--noise", noise, "--f_thres", 40)["rows"]
    assert again["loss"] == pytest.approx(row["loss"], rel=1e-6)


def test_the_calibration_of_layers_is_what_one_counts(runs):
    """Two circuits for the bits; two for every layer of every training image, since zne runs f twice."""
    flags = ("--noise", "depolarizing:1e-2,readout:0.02", "--max_images", 50, "--mitigate", "readout+zne+head")
    found = evaluated(runs / "direct", *flags)["rows"][0]["mitigated"][0]
    n_train = len(load_splits(Settings.from_dict(json.loads((runs / "direct" / "config.json").read_text())),
                              torch.device("cpu")).train)  # fmt: skip
    n_calibration = 2 + 3 * 2 * min(n_train, 2000)
    jobs = 1 + 3 * -(-2 * min(n_train, 2000) // 300) + 3
    assert found["circuits_of_calibration"] == n_calibration
    assert found["counts"] == {
        "circuits": n_calibration + 3 * 2 * 50, "shots": 0, "rounds": 1 + 3 + 3, "jobs": jobs,
        "circuits_solve": 300, "circuits_calibration": n_calibration,
    }  # fmt: skip


def test_a_mitigation_that_is_not_known_or_cannot_be_is_refused(runs, capsys):
    run = ("evaluate", "--run", runs / "implicit")
    for flags, message in {
        ("--noise", "none", "--mitigate", "pec"): "pec is not known; known, joined by +: readout, zne, rescale, head",
        ("--noise", "readout:0.5", "--mitigate", "readout"): "read by chance",
        ("--noise", "device:manila", "--encoding_noise", "device:manila", "--mitigate", "zne"): "zne folds the ansatz",
    }.items():
        with pytest.raises(SystemExit):
            hardware(*run, *flags)
        assert message in capsys.readouterr().err


def test_a_sweep_measures_what_is_left_and_groups_seeds(runs, tmp_path, capsys, monkeypatch):
    train_quickly(runs, "other_seed", 30, "--seed", 5)
    folders, file = [runs / "implicit", runs / "other_seed", runs / "direct"], tmp_path / "sweep.json"
    flags = ("--noise", "none", "depolarizing:1e-2", "--encoding_noise", "same", "--max_images", 50, "--json", file)
    hardware("sweep", "--runs", *folders[:2], *flags)
    first = json.loads(file.read_text())["runs"]
    capsys.readouterr()
    monkeypatch.setattr("deployment.sweeping.evaluate_run", lambda options: {**evaluate_run(options), "new": True})
    hardware("sweep", "--runs", *folders, *flags)
    content = json.loads(file.read_text())["runs"]
    assert [run.get("new") for run in content.values()] == [None, None, True]
    assert {name: content[name] for name in first} == first
    accuracies = [100 * content[str(run)]["rows"][1]["acc"] for run in folders]
    shown = capsys.readouterr().out
    spread = f"{np.mean(accuracies[:2]):.2f} ± {np.std(accuracies[:2], ddof=1):.2f}"
    (implicit,) = [line for line in shown.splitlines() if line.startswith("| IMPLICIT, amplitude, 4 wires")]
    assert spread in implicit and implicit.endswith("| 2 |")
    assert f"| {accuracies[2]:.2f} | 1 |" in shown and file.with_suffix(".png").stat().st_size > 5000
    # the encoding is noisy too: more gates, a larger drop
    row = content[str(folders[0])]["rows"][1]
    alone = evaluated(folders[0], "--noise", "depolarizing:1e-2", "--max_images", 50)["rows"][0]
    assert row["noisy_gates"] > alone["noisy_gates"] and row["shift"] > alone["shift"]
    with pytest.raises(SystemExit):
        hardware("sweep", "--runs", *folders, *flags[:2], *flags[3:])
    assert f"--json {file} holds a sweep with other flags" in capsys.readouterr().err


def test_a_sweep_takes_no_two_models_for_seeds_of_one_and_no_run_twice(runs, tmp_path, capsys):
    """Another ansatz, readout, data; trained under noise, on from another, after a warm-up, with another learning rate."""
    kinds = {
        "blocks": (("--n_blocks", 2), "n_blocks 2"), "zz": (("--readout", "zz"), "readout zz"),
        "noisy": (("--noise", "depolarizing:0.01"), "noise depolarizing:0.01"), "slow": (("--lr", 0.01), "lr 0.01"),
        "classes": (("--classes", "1,2,3,4"), "classes 1,2,3,4"),
        "fine": (("--load", tmp_path / "noisy"), "load True"),
        "warm": (("--n_layer", 1, "--pretrain_steps", 2), "IMPLICIT+WARMUP, amplitude, 4 wires |"),
    }  # fmt: skip
    for name, (flags, _) in kinds.items():
        train_quickly(tmp_path, name, 6, *flags)
    for seed in (0, 7):
        train_quickly(tmp_path, f"plain-{seed}", 6, "--seed", seed)
    folders = [tmp_path / "plain-0", tmp_path / "plain-7", *(tmp_path / name for name in kinds)]
    again = tmp_path / "noisy" / ".." / "plain-7"
    flags = ("--noise", "none", "--max_images", 50, "--json", tmp_path / "sweep.json")
    hardware("sweep", "--runs", *folders, again, folders[0], *flags)
    content = json.loads((tmp_path / "sweep.json").read_text())["runs"]
    assert list(content) == [str(folder) for folder in folders]
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| IMPLICIT")]
    plain = [100 * content[str(folder)]["ideal"]["acc"] for folder in folders[:2]]
    assert f"| {np.mean(plain):.2f} ± {np.std(plain, ddof=1):.2f} |" in rows[0]
    assert rows[0].startswith("| IMPLICIT, amplitude, 4 wires |")
    assert [row.split()[-2] for row in rows] == ["2"] + ["1"] * len(kinds)
    for row, (name, (_, words)) in zip(rows[1:], kinds.items()):
        assert words in row and f"| {100 * content[str(tmp_path / name)]['ideal']['acc']:.2f} |" in row


def test_a_sweep_measures_a_run_anew_that_was_trained_anew(tmp_path, monkeypatch):
    """Whatever the file has of its folder; what older sweeps wrote does not say of what training it is."""
    file, measured = tmp_path / "sweep.json", []
    monkeypatch.setattr("deployment.sweeping.evaluate_run", lambda o: measured.append(o.run.name) or evaluate_run(o))
    for name in ("a", "b"):
        train_quickly(tmp_path / "runs", name, 3)
    sweep = ("sweep", "--runs", tmp_path / "runs" / "a", tmp_path / "runs" / "b", "--noise", "none", "--max_images", 20,
             "--json", file)  # fmt: skip
    hardware(*sweep)
    hardware(*sweep)
    assert measured == ["a", "b"]
    first = json.loads(file.read_text())["runs"]
    shutil.rmtree(tmp_path / "runs" / "a")
    train_quickly(tmp_path / "runs", "a", 3, "--lr", 0.001)
    hardware(*sweep)
    second = json.loads(file.read_text())["runs"]
    key, other = (str(tmp_path / "runs" / name) for name in ("a", "b"))
    assert measured == ["a", "b", "a"] and second[other] == first[other]
    assert second[key]["ideal"]["loss"] != first[key]["ideal"]["loss"] and second[key]["settings"]["lr"] == 0.001
    old = json.loads(file.read_text())
    del old["runs"][other]["settings"], old["runs"][other]["checkpoint_sha256"]
    file.write_text(json.dumps(old))
    hardware(*sweep)
    assert measured == ["a", "b", "a", "b"]


def test_a_sweep_refuses_before_it_computes(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("deployment.sweeping.evaluate_run", lambda options: pytest.fail("it computes"))
    train_quickly(tmp_path, "linear", 2, "--model", "linear")
    for last, words in (
        (runs / "classical", f"--runs {runs / 'classical'} is of --model classical, which has no circuit"),
        (tmp_path / "linear", f"--runs {tmp_path / 'linear'} is of --model linear, which has no circuit"),
        (tmp_path / "nowhere", "there is no checkpoint"),
    ):
        with pytest.raises(SystemExit) as end:
            hardware("sweep", "--runs", runs / "implicit", last, "--noise", "none", "--json", tmp_path / "sweep.json")
        error = capsys.readouterr().err
        assert (end.value.code, error.count("\n")) == (1, 1) and words in error, error
    assert not (tmp_path / "sweep.json").exists()


@pytest.mark.parametrize("command", ("evaluate", "sweep", "surrogate", "cost", "run", "transpile"))
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(command, tmp_path, capsys):
    needed = {"cost": (), "sweep": ("--runs", "nowhere", "--noise", "none"), "evaluate": ("--run", "x", "--noise", "none")}
    flags = (command, *needed.get(command, ("--run", "nowhere")), "--json")
    missing = tmp_path / "missing" / "found.json"
    wrong = {missing: f"make {missing.parent} first, or name another file", tmp_path: "is a folder: name a file in it"}
    if command == "sweep":
        wrong[tmp_path / "x.png"] = "would be overwritten by the picture beside it: name it x.json"
    for file, words in wrong.items():
        with pytest.raises(SystemExit) as end:
            hardware(*flags, file)
        error = capsys.readouterr().err
        assert (end.value.code, error.count("\n")) == (2, 1) and words in error and "--json" in error, error


def test_counted_equilibria_are_held_against_the_exact_one_whatever_the_solver(runs):
    """The mean of two iterates of an exact f is no equilibrium, though a million shots tell nothing else from it."""
    flags = ("--noise", "none", "--shots", 10**6, "--repeat", 1, "--max_images", 40, "--f_tol", 1e-9)
    (row,) = evaluated(runs / "implicit", *flags, "--f_solver", "averaged", "--f_thres", 3)["rows"]
    (own,) = evaluated(runs / "implicit", *flags, "--f_solver", "broyden", "--f_thres", 12)["rows"]
    assert row["counted"]["error"] > 0.01 > 2 * own["counted"]["error"]
