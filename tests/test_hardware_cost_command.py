"""`hardware.py cost`: the numbers of HARDWARE's table without running a model, of runs and of flags."""

import json
import runpy

import pytest

from conftest import SCRIPTS
from hardware.devices import FOLDER
from quick_runs import train_quickly

LABELS = ("DIRECT, 1 layer", "DIRECT, 2 layers", "DIRECT, 5 layers", "DIRECT, 10 layers", "IMPLICIT",
          "IMPLICIT, Jacobian-free", "IMPLICIT, Jacobian loss")  # fmt: skip


def cost(tmp_path, *flags):
    """What the command writes."""
    file = tmp_path / "cost.json"
    arguments = ["cost", "--json", str(file), *map(str, flags)]
    runpy.run_path(str(SCRIPTS / "hardware.py"))["main"](arguments)
    return json.loads(file.read_text())


@pytest.mark.parametrize("flags, training, inference", [
    (("--n_wires", 4), (81, 170, 437, 882, 99, 91, 261), (1, 2, 5, 10, 11, 11, 11)),
    (("--n_wires", 10), (121, 262, 685, 1390, 151, 131, 393), (1, 2, 5, 10, 11, 11, 11)),
])  # fmt: skip
def test_the_table(tmp_path, flags, training, inference):
    found = cost(tmp_path, *flags)
    rows = {row["label"]: row for row in found["rows"][1:]}
    assert tuple(rows) == LABELS
    assert tuple(rows[label]["training_sample"]["circuits"] for label in LABELS) == training
    assert tuple(rows[label]["inference_sample"]["circuits"] for label in LABELS) == inference
    assert [rows[label]["training_sample"]["rounds"] for label in LABELS] == [1, 2, 5, 10, 12, 12, 12]
    assert found["surrogate_circuits"] == {4: 256, 10: 10_000}[found["n_wires"]]


def test_the_papers_training_and_inference(tmp_path, capsys):
    """5.9 years for 18,800 steps of 256, 7.8 hours for 10,000 images, at 1024 shots and 250 us."""
    found = cost(tmp_path, "--max_step", 18_800)
    own = found["rows"][0]
    assert own["training"]["circuits"] == 18_800 * 256 * 151
    assert own["training"]["hours"] / 8766 == pytest.approx(5.9, abs=0.05)
    assert own["inference"]["hours"] == pytest.approx(7.8, abs=0.05)
    # 11 rounds of 10,000 circuits
    assert (own["inference"]["rounds"], own["inference"]["jobs"]) == (11, 11 * 34)
    assert "5.9 years" in capsys.readouterr().out
    halved = cost(tmp_path, "--max_step", 18_800, "--shots", 512, "--delay_us", 125, "--max_circuits", 900)
    assert halved["rows"][0]["training"]["hours"] == pytest.approx(own["training"]["hours"] / 4)
    assert halved["rows"][0]["inference"]["jobs"] == 11 * 12


def test_a_device_gives_jobs_and_delay_and_flags_win(tmp_path, capsys):
    """manila: 900 circuits and 8192 shots a job, 250 us. By hand: 11 rounds of 10,000 circuits are 11 x 12 jobs, and
    20,000 shots take each three times; a step of 2 images is 12 rounds, the last of 2 x (80 + 8) circuits."""
    content = json.loads((FOLDER / "manila.json").read_text())
    assert (content["max_circuits"], content["max_shots"], content["repetition_us"]) == (900, 8192, 250)
    flags = ("--n_wires", 4, "--shots", 20_000, "--max_step", 10, "--batch_size", 2)
    found = cost(tmp_path, *flags, "--device", "manila")
    inference, training = found["rows"][0]["inference"], found["rows"][0]["training"]
    assert (found["device"], found["max_shots"], found["calibrated"]) == ("manila", 8192, "2021-07-26")
    assert (inference["jobs"], training["jobs"]) == (3 * 11 * 12, 3 * 10 * 12)
    assert inference["hours"] == pytest.approx(11 * 10_000 * 20_000 * 250e-6 / 3600)
    assert "up to 900 circuits in a job, with up to 8192 shots of each: 3 for all shots" in capsys.readouterr().out
    # all shots in one job, and one more
    jobs = [cost(tmp_path, *flags, "--device", "manila", "--shots", n)["rows"][0]["inference"]["jobs"] for n in (8192, 8193)]
    assert jobs == [11 * 12, 2 * 11 * 12]
    by_hand = cost(tmp_path, *flags, "--device", "manila", "--max_circuits", 100, "--delay_us", 50)
    assert by_hand["rows"][0]["training"]["jobs"] == 3 * 10 * (11 + 2)
    assert by_hand["rows"][0]["inference"]["hours"] == pytest.approx(inference["hours"] / 5)
    (tmp_path / "mine.json").write_text(json.dumps(content | {"repetition_us": 1000, "name": "mine", "max_circuits": 50}))
    own = cost(tmp_path, *flags, "--device", tmp_path / "mine.json")
    assert own["rows"][0]["inference"]["hours"] == pytest.approx(4 * inference["hours"])
    assert own["rows"][0]["inference"]["jobs"] == 3 * 11 * 200


def test_angles_warm_ups_and_jacobian_losses(tmp_path):
    angle = cost(tmp_path, "--n_wires", 4, "--amplitude_encoder", False)
    assert angle["rows"][0]["training_sample"]["circuits"] == 123 and angle["surrogate_circuits"] is None
    flags = ("--n_wires", 4, "--max_step", 10, "--batch_size", 2)
    warm = cost(tmp_path, *flags, "--n_layer", 1, "--pretrain_steps", 4, "--jac_loss_weight", 1, "--jac_loss_freq", 0.5)
    own = warm["rows"][0]
    assert own["training_sample"]["circuits"] == pytest.approx((4 * 81 + 3 * 261 + 3 * 99) / 10)
    assert own["training"]["circuits"] == 2 * (4 * 81 + 3 * 261 + 3 * 99)
    assert own["training"]["rounds"] == 4 + 6 * 12
    assert cost(tmp_path, *flags, "--b_solver", "identity")["rows"][0]["training"]["circuits"] == 20 * 91


def test_of_a_run_it_is_what_the_run_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)  # no sample stops at its floor before the steps are used up
    flags = ("--shots", 16, "--rand_f_thres_delta", 0, "--f_tol", 1e-9)
    run = train_quickly(tmp_path, "run", 2, *flags)
    found = cost(tmp_path, "--run", run, "--images", 146)
    own, counted = found["rows"][0], json.loads((run / "results.json").read_text())["cost"]
    assert (own["label"], found["shots"], found["n_steps"]) == ("run", 16, 2)
    without_residual = counted["training"]["circuits"] - counted["training"]["circuits_residual"]
    assert own["training"]["circuits"] == without_residual
    assert own["training"]["rounds"] == counted["training"]["rounds"]
    assert own["inference"]["circuits"] == counted["test"]["circuits_solve"]


def test_the_last_step_alone_may_be_an_equilibrium(tmp_path):
    flags = ("--n_wires", 4, "--n_layer", 1, "--epochs", 1, "--train_images", 1281, "--batch_size", 64)
    own = cost(tmp_path, *flags, "--pretrain_steps", 20)["rows"][0]
    assert own["training"]["circuits"] == 64 * (20 * 81 + 99)


@pytest.mark.parametrize("flags, status, words", [
    ("--model linear", 1, "--model linear has no circuit"),
    ("--model west2024_head --n_wires 4", 1, "no gates here prepare the states of complex_amplitude encoding"),
    ("--run nowhere", 1, "--run nowhere is no run folder of train_qdeq.py"),
    ("--device atlantis", 1, "--device atlantis is not known; known: aachen,"),
    ("--n_wires 10 --device manila", 1, "--device manila has 5 qubits, the circuit 10 wires"),
    ("--shots 0", 2, "argument --shots: expected an integer from 1"),
    ("--delay_us 0", 2, "argument --delay_us: expected a number above 0"),
    ("--max_circuits 0", 2, "argument --max_circuits: expected an integer from 1"),
    ("--n_wires 5", 1, "--n_wires must be an even number"),
    ("--mode direct", 1, "--mode direct needs --n_layer"),
    ("--n_wires 4 --n_layer 1 --pretrain_steps 20 --epochs 1 --train_images 1281 --batch_size 64 --max_step 20", 1,
     "--pretrain_steps must be smaller than --max_step"),
    ("--n_wires 4 --n_layer 1 --pretrain_steps 21 --epochs 1 --train_images 1281 --batch_size 64", 1,
     "--pretrain_steps 21 fills the 21 steps of --epochs 1 with --train_images 1281 and --batch_size 64"),
])  # fmt: skip
def test_bad_input_is_one_line(flags, status, words, capsys):
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPTS / "hardware.py"))["main"](["cost", *flags.split()])
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (status, 1) and words in error, error
