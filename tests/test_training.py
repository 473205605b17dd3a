"""End to end: the training command on small real data (scikit-learn's digits), its run folder, and resuming it."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

import evaluate_qdeq
import train_qdeq
from conftest import SCRIPTS, ctrl_c, train_here, user_environment
from figures import run_pictures
from training import memory
from wandb_reader import read_offline_run

DIGITS = ("--dataset", "digits", "--num_classes", 4, "--n_wires", 4, "--batch_size", 64, "--device", "cpu",
          "--tensorboard", "False")
TIMES = ("date", "train_seconds", "seconds_per_step", "peak_memory_mb", "name", "settings", "sha256")


def rows_of(run: Path, event: str) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["event"] == event]


def results_of(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    """An IMPLICIT run of 20 epochs with every tracker, made once."""
    work_dir = tmp_path_factory.mktemp("finished")
    train_here(*DIGITS[:-2], "--epochs", 20, "--eval-interval", 40, "--log-interval", 20, "--jac_loss_weight", 0.5,
               "--jac_loss_freq", 0.5, "--spectral_radius_mode", "--wandb", "offline", "--name", "whole",
               "--work_dir", work_dir, pictures=True)  # fmt: skip
    return work_dir / "whole"


@pytest.mark.slow
def test_run_folder_is_complete_and_the_model_has_learnt(finished_run):
    results = results_of(finished_run)
    required = (
        "dataset num_classes n_wires mode n_layer engine seed epochs test_acc test_loss test_res test_res_rel "
        "train_seconds seconds_per_step peak_memory_mb n_parameters torch torchquantum device git_commit"
    ).split()
    assert set(required) <= set(results)
    assert results["test_acc"] > 0.8  # four classes: chance is 0.25
    assert results["test_res_rel"] < 1e-2
    assert results["n_parameters"] == 39 + 16 * 4 + 4
    counts = torch.tensor(results["confusion_matrix"])
    assert counts.diagonal().sum() / counts.sum() == pytest.approx(results["test_acc"])
    for name in (
        "config.json metrics.csv log.txt checkpoint_last.pt checkpoint_best.pt "
        "curves.png circuit.png confusion_matrix.png"
    ).split():
        assert (finished_run / name).stat().st_size > 0, name
    assert not list(finished_run.glob("*.tmp"))
    assert list(finished_run.glob("tensorboard/events*"))


@pytest.mark.slow
def test_csv_has_every_metric_of_every_event(finished_run):
    train, val, test = (rows_of(finished_run, event) for event in ("train", "val", "test"))
    assert [int(row["train_step"]) for row in train] == list(range(20, 141, 20)) + [int(train[-1]["train_step"])] * (
        len(train) - 7
    )
    wanted = "loss acc res res_rel solver_steps converged".split()
    assert all(float(row[f"train_{name}"]) >= 0 for row in train for name in wanted)
    positive = ("lr", "grad_norm", "seconds_per_step", "train_jac_loss")
    assert all(float(row[name]) > 0 for row in train for name in positive)
    assert all(float(row[f"val_{name}"]) >= 0 for row in val for name in [*wanted, "spectral_radius"])
    assert len(test) == 1 and float(test[0]["test_acc"]) == results_of(finished_run)["test_acc"]
    best = max(val, key=lambda row: (float(row["val_acc"]), -float(row["val_loss"])))
    assert float(val[-1]["best_val_acc"]) == float(best["val_acc"])
    assert results_of(finished_run)["best_val_step"] == int(best["train_step"])


@pytest.mark.slow
def test_offline_wandb_run_holds_the_csv_values(finished_run):
    config, history, summary, tags = read_offline_run(finished_run)
    assert config["dataset"] == "digits" and config["f_solver"] == "broyden"
    assert set(tags) == {"digits", "4C"}
    for event, names in (("train", ["train_loss", "train_acc", "train_res", "grad_norm", "lr"]),
                         ("val", ["val_loss", "val_acc", "val_res", "best_val_acc", "val_spectral_radius"]),
                         ("test", ["test_loss", "test_acc", "test_res"])):  # fmt: skip
        rows = rows_of(finished_run, event)
        logged = [item for item in history if names[0] in item]
        assert len(logged) == len(rows)
        for row, item in zip(rows, logged):
            assert item["train_step"] == int(row["train_step"]) and item["mode"] == 1
            for name in names:
                assert item[name] == pytest.approx(float(row[name]), rel=1e-6)
    assert any("confusion_matrix" in item for item in history) and any("circuit" in item for item in history)
    assert summary["test_acc"] == results_of(finished_run)["test_acc"]


@pytest.mark.slow
def test_evaluation_repeats_the_test_and_takes_other_solvers(finished_run, run_script):
    run_script("evaluate_qdeq.py", finished_run)
    evaluation = json.loads((finished_run / "evaluation_test.json").read_text())
    results = results_of(finished_run)
    assert evaluation["acc"] == results["test_acc"]
    assert evaluation["loss"] == pytest.approx(results["test_loss"], rel=1e-5)
    run_script("evaluate_qdeq.py", finished_run, "--f_solver", "newton", "--f_thres", 20, "--f_tol", 1e-6)
    assert json.loads((finished_run / "evaluation_test.json").read_text()) == evaluation
    newton = json.loads((finished_run / "evaluation_test_f_solver-newton_f_thres-20_f_tol-1e-06.json").read_text())
    assert newton["res_rel"] < 1e-5 and newton["converged"] == 1.0
    missing = run_script("evaluate_qdeq.py", finished_run / "nothing", check=False)
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1 and "no checkpoint" in missing.stderr
    nothing = run_script("evaluate_qdeq.py", finished_run, "--max_images", 0, check=False)
    assert nothing.returncode == 2 and nothing.stderr.count("\n") == 1 and "--max_images" in nothing.stderr


def test_warmup_goes_through_layers_first_and_resets_the_best(tmp_path):
    train_here(*DIGITS, "--n_layer", 1, "--pretrain_steps", 16, "--max_step", 32, "--work_dir", tmp_path,
               "--log-interval", 8, "--eval-interval", 8, "--name", "w")  # fmt: skip
    train, val = rows_of(tmp_path / "w", "train"), rows_of(tmp_path / "w", "val")
    assert [int(row["mode"]) for row in train] == [0, 0, 1, 1]
    assert [row["train_solver_steps"] != "" for row in train] == [False, False, True, True]
    assert [int(row["mode"]) for row in val] == [0, 0, 1, 1]
    implicit = [row for row in val if row["mode"] == "1"]
    # the first implicit validation is the best so far, whatever the warm-up reached
    assert float(implicit[0]["best_val_acc"]) == float(implicit[0]["val_acc"])
    assert results_of(tmp_path / "w")["best_val_step"] > 16
    assert results_of(tmp_path / "w")["mode"] == "warmup"


@pytest.mark.slow
def test_direct_layers_converge_to_the_equilibrium(tmp_path):
    residuals = []
    for n_layer in (1, 2, 10):
        train_here(*DIGITS, "--mode", "direct", "--n_layer", n_layer, "--max_step", 4,
                   "--work_dir", tmp_path, "--name", n_layer)  # fmt: skip
        residuals.append(results_of(tmp_path / str(n_layer))["test_res_rel"])
    assert residuals[0] > residuals[1] > residuals[2]


RESUMED = (*DIGITS, "--optim", "Adam", "--scheduler", "dev_perf", "--dropout", 0.1, "--jac_loss_weight", 0.5,
           "--jac_loss_freq", 0.5, "--n_layer", 1, "--pretrain_steps", 10, "--max_step", 300, "--log-interval", 7,
           "--eval-interval", 15)  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    work_dir = tmp_path_factory.mktemp("uninterrupted")
    train_here(*RESUMED, "--work_dir", work_dir, "--name", "u")
    return work_dir / "u"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_run_ends_with_the_same_numbers(number, uninterrupted, tmp_path, capsys):
    command = [sys.executable, SCRIPTS / "train_qdeq.py", *RESUMED, "--work_dir", tmp_path, "--name", "s"]
    process = subprocess.Popen(list(map(str, command)), env=user_environment(), stdout=subprocess.PIPE, text=True)
    run = tmp_path / "s"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # somewhere in the middle, at no step in particular
        if (run / "metrics.csv").exists() and len(rows_of(run, "val")) >= 4:
            break
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number), output
    assert not (run / "results.json").exists()
    if number != signal.SIGKILL:
        assert "--restart" in output

    train_here("--restart", "--restart_dir", run)
    assert "continuing" in capsys.readouterr().out
    ours, theirs = results_of(run), results_of(uninterrupted)
    assert {k: v for k, v in ours.items() if k not in TIMES} == {k: v for k, v in theirs.items() if k not in TIMES}
    for event in ("train", "val", "test"):
        a, b = rows_of(run, event), rows_of(uninterrupted, event)
        for row in a + b:
            row.pop("seconds_per_step"), row.pop("peak_memory_mb")
        assert a == b
    last, reference = (torch.load(r / "checkpoint_last.pt", weights_only=True) for r in (run, uninterrupted))
    assert last["step"] == reference["step"]
    for name, value in reference["model"].items():
        assert torch.equal(last["model"][name], value), name
    # a finished run is left as it is
    train_here("--restart", "--restart_dir", run)
    assert "has finished" in capsys.readouterr().out and results_of(run) == ours


@pytest.mark.slow
def test_a_finished_run_can_be_extended_and_remembers_it(tmp_path):
    train_here(*DIGITS, "--max_step", 3, "--name", "e", "--work_dir", tmp_path)
    train_here("--restart", "--restart_dir", tmp_path / "e", "--max_step", 6)
    train_here(*DIGITS, "--max_step", 6, "--eval-interval", 3, "--name", "w", "--work_dir", tmp_path)
    assert json.loads((tmp_path / "e" / "config.json").read_text())["max_step"] == 6
    assert results_of(tmp_path / "e")["steps"] == 6
    assert results_of(tmp_path / "e")["test_loss"] == results_of(tmp_path / "w")["test_loss"]


def test_short_validations_leave_the_test_whole(tmp_path):
    train_here(*DIGITS, "--max_step", 1, "--max_eval_steps", 1, "--name", "s", "--work_dir", tmp_path)
    assert sum(map(sum, results_of(tmp_path / "s")["confusion_matrix"])) == 146


def test_a_checkpoint_of_the_warmup_is_evaluated_through_its_layers(tmp_path, capsys):
    train_here(*DIGITS, "--n_layer", 2, "--pretrain_steps", 4, "--max_step", 5, "--eval-interval", 4, "--name", "w",
               "--work_dir", tmp_path)  # fmt: skip
    path = tmp_path / "w" / "checkpoint_last.pt"
    content = torch.load(path, weights_only=True)
    for step, n_layer in ((4, 2), (5, 0)):
        torch.save({**content, "step": step}, path)
        evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(tmp_path / "w"), "--checkpoint", "last"]))
        evaluation = json.loads((tmp_path / "w" / "evaluation_test_checkpoint-last.json").read_text())
        assert evaluation["n_layer"] == n_layer
        assert ("solver_steps" in evaluation) == (n_layer == 0)


@pytest.mark.slow
def test_same_seed_same_run_other_seed_other_run(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_here(*DIGITS, "--max_step", 6, "--seed", seed, "--name", name, "--work_dir", tmp_path)
    a, b, c = (results_of(tmp_path / name)["test_loss"] for name in "abc")
    assert a == b != c


@pytest.mark.slow
def test_engines_train_alike(tmp_path):
    pytest.importorskip("torchquantum")
    losses = []
    for engine in ("compiled", "torchquantum"):
        train_here(*DIGITS, "--max_step", 4, "--engine", engine, "--name", engine, "--work_dir", tmp_path,
                   "--jac_loss_weight", 0.8, "--jac_loss_freq", 1, "--f_tol", 1e-6, "--f_thres", 30,
                   "--b_tol", 1e-6, "--b_thres", 30)  # fmt: skip
        losses.append(results_of(tmp_path / engine)["test_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.slow
def test_the_papers_example_command_runs_verbatim(run_script, tiny_data, tmp_path):
    """UPSTREAM's command from DEQ-Quantum/, shortened in its number of steps only."""
    flags = (
        "--optim Adam --lr 0.005 --cuda --scheduler constant --max_step 18800 --pretrain_steps 0 --mode implicit "
        "--n_layer 0 --name qdeq_mnist_warmup_10c --f_solver broyden --b_solver broyden --stop_mode rel --f_thres 10 "
        "--b_thres 10 --jac_loss_weight 0.8 --jac_loss_freq 1 --jac_incremental 0 --batch_size 256 "
        "--rand_f_thres_delta 2 --log-interval 188 --eval-interval 188 --num_classes 10 --n_wires 10 --dataset mnist"
    ).replace("18800", "3")
    process = run_script("train_qdeq.py", *flags.split(), "--work_dir", tmp_path, cwd=SCRIPTS, QDEQ_DATA=str(tiny_data))
    if not torch.cuda.is_available():
        assert "--cuda: there is no CUDA device here" in process.stdout
    assert results_of(tmp_path / "qdeq_mnist_warmup_10c")["n_wires"] == 10


@pytest.mark.slow
def test_load_starts_from_saved_parameters(finished_run, tmp_path, capsys):
    train_here(*DIGITS, "--load", finished_run, "--lr", 1e-9, "--max_step", 1, "--name", "l",
               "--work_dir", tmp_path)  # fmt: skip
    assert results_of(tmp_path / "l")["test_acc"] == results_of(finished_run)["test_acc"]
    with pytest.raises(SystemExit) as end:
        train_here("--dataset", "digits", "--n_wires", 6, "--load", finished_run, "--work_dir", tmp_path)
    assert end.value.code == 1 and "--n_wires" in capsys.readouterr().err


def test_a_run_that_diverged_writes_json_for_strict_readers(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        train_here(*DIGITS, "--model", "linear", "--optim", "SGD", "--lr", 1e30, "--weight_decay", 1e30, "--clip", 0,
                   "--max_step", 4, "--work_dir", tmp_path, "--name", "d")  # fmt: skip
    shown = capsys.readouterr()
    assert end.value.code == 1 and "loss nan" in shown.out and shown.err.count("\n") == 1
    assert "the run has learnt nothing" in shown.err
    text = (tmp_path / "d" / "results.json").read_text()
    results = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert results["test_loss"] is None and 0 <= results["test_acc"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("gates, shown", [("all", "blocks, trainable (4)"), ("released", "blocks, not trained (4)")])
def test_the_circuits_picture_tells_what_is_trained(tmp_path, monkeypatch, gates, shown):
    drawn, draw = [], run_pictures.draw_circuit
    monkeypatch.setattr(run_pictures, "draw_circuit", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])
    train_here(*DIGITS, "--trainable_gates", gates, "--max_step", 1, "--work_dir", tmp_path, pictures=True)
    assert shown in [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()]


def test_debug_leaves_nothing_behind(tmp_path, capsys):
    train_here(*DIGITS, "--debug", "--max_step", 2, "--work_dir", tmp_path)
    output = capsys.readouterr().out
    assert "test accuracy" in output and not os.listdir(tmp_path)
    assert tempfile.gettempdir() not in output, "it names a folder that is gone"


@pytest.mark.slow
def test_an_existing_run_is_never_overwritten(tmp_path):
    for _ in range(2):
        train_here(*DIGITS, "--max_step", 1, "--name", "n", "--work_dir", tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["n", "n-2"]


@pytest.mark.slow
def test_quiet_without_a_terminal(run_script, tmp_path):
    process = run_script("train_qdeq.py", *DIGITS, "--max_step", 2, "--name", "q", "--work_dir", tmp_path)
    assert process.stderr == ""
    assert "val loss" in process.stdout and (tmp_path / "q" / "log.txt").read_text().count("val loss") == 1


def test_ctrl_c_before_the_training_is_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_qdeq, "load_splits", ctrl_c)
    with pytest.raises(SystemExit) as end:
        train_here(*DIGITS, "--work_dir", tmp_path)
    assert end.value.code == 130 and "stopped before training" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_more_wires_than_memory_are_refused(tmp_path, monkeypatch, capsys):
    """Too much for the light cones of an amplitude circuit, for a validation, or for a training step."""
    angle = ("--amplitude_encoder", "False")
    for n, free, flags, remedy in ((26, 2e9, (), "use fewer wires\n"), (18, 4e9, angle, "use fewer wires\n"),
                                   (14, 4e9, (*angle, "--batch_size", 2**14), "or a smaller --batch_size\n")):  # fmt: skip
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        with pytest.raises(SystemExit) as end:
            train_here(*DIGITS, "--n_wires", n, *flags, "--work_dir", tmp_path)
        error = capsys.readouterr().err
        assert end.value.code == 1 and f"--n_wires {n}: state vectors alone take" in error and error.endswith(remedy)
    train_here(*DIGITS, "--n_wires", 24, "--model", "linear", "--max_step", 1, "--work_dir", tmp_path)  # no circuit


@pytest.mark.slow
def test_evaluation_is_shown_where_it_cannot_be_kept(finished_run, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(evaluate_qdeq, "write_json", refuse)
    with pytest.raises(SystemExit) as end:
        evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(finished_run), "--device", "cpu"]))
    shown = capsys.readouterr()
    assert json.loads(shown.out)["acc"] == results_of(finished_run)["test_acc"]
    assert end.value.code == 1 and "Permission denied" in shown.err and shown.err.count("\n") == 1


@pytest.mark.slow
def test_evaluations_under_other_flags_have_files_of_their_own(tmp_path, capsys):
    train_here(*DIGITS, "--max_step", 1, "--name", "r", "--work_dir", tmp_path)
    run = tmp_path / "r"

    def files_after(*flags: object) -> set[str]:
        before = set(run.iterdir())
        evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(run), *map(str, flags)]))
        return {path.name for path in set(run.iterdir()) - before}

    assert files_after() == {"evaluation_test.json", "confusion_test.png"}
    plain = (run / "evaluation_test.json").read_bytes()
    for flags, name in (
        (("--checkpoint", "last"), "test_checkpoint-last"),
        (("--max_images", 3), "test_max_images-3"),
        (("--f_solver", "newton", "--f_thres", 20), "test_f_solver-newton_f_thres-20"),
        (("--split", "val", "--spectral_radius_mode"), "val_spectral_radius_mode"),
        (("--f_memory", 2, "--z0", "x"), "test_f_memory-2_z0-x"),
    ):
        assert files_after(*flags) == {f"evaluation_{name}.json", f"confusion_{name}.png"}
    # what is as it was trained, and more images than there are, change nothing
    assert files_after("--f_solver", "broyden", "--max_images", 999, "--device", "cpu") == set()
    assert (run / "evaluation_test.json").read_bytes() == plain


def test_an_evaluation_is_kept_where_nobody_reads_it(tmp_path, monkeypatch):
    train_here(*DIGITS, "--max_step", 1, "--name", "r", "--work_dir", tmp_path)

    def nobody_reads(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", nobody_reads)
    with pytest.raises((SystemExit, BrokenPipeError)):
        evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(tmp_path / "r")]))
    assert json.loads((tmp_path / "r" / "evaluation_test.json").read_text())["images"] == 146


@pytest.mark.slow
def test_missing_data_is_one_line(run_script, tmp_path):
    process = run_script("train_qdeq.py", "--data_dir", tmp_path / "no" / "such", "--work_dir", tmp_path / "runs",
                         "--dataset", "mnist", check=False, http_proxy="http://127.0.0.1:9",
                         https_proxy="http://127.0.0.1:9")  # fmt: skip
    assert process.returncode == 1 and "Traceback" not in process.stderr
    assert process.stderr.strip().count("\n") == 0, process.stderr
    assert not (tmp_path / "runs").exists()
