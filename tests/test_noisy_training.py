"""Training, validation and test under noise and with shots: resumed bit for bit, counted, evaluated again, refused."""

import csv
import json

import pytest
import torch

import evaluate_qdeq
import hardware.shots
from conftest import assert_same, train_here
from deployment.trained import WITHOUT_NOISE
from engines.compiled import CompiledEngine
from hardware.counted import CountedEngine
from hardware.cost import Counter
from hardware.engine import NoisyEngine
from quick_runs import DIGITS, train_quickly
from runs import checkpoint
from runs.settings import SettingsError
from training.command_line import parse_command_line
from training.evaluation import depth_of
from training.hardware import build_trained_model, count_pass
from training.settings import Settings

NOISE = ("--noise", "depolarizing:1e-2,readout:0.02,0.05")
KINDS = {
    "noise": NOISE,
    "shots": (*NOISE, "--shots", 64, "--batch_chunk", 2, "--jac_loss_weight", 0.5, "--jac_loss_freq", 0.5),
    "angle": ("--shots", 64, "--amplitude_encoder", False, "--encoding_noise", "depolarizing:1e-3"),
    "direct": ("--shots", 64, "--mode", "direct", "--n_layer", 3),
}
TIMES = {"seconds_per_step", "peak_memory_mb"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of six steps, by name."""
    folder = tmp_path_factory.mktemp("whole")
    for name, flags in KINDS.items():
        train_quickly(folder, name, 6, "--eval-interval", 3, "--log-interval", 3, *flags)
    return folder


def results(run):
    return json.loads((run / "results.json").read_text())


def rows(run):
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", KINDS)
def test_a_resumed_run_is_the_same_bit_for_bit(runs, tmp_path, name):
    train_quickly(tmp_path, name, 3, "--eval-interval", 3, "--log-interval", 3, *KINDS[name])
    train_quickly(tmp_path, name, 6, "--restart")
    whole, resumed = (checkpoint.load(folder / name / "checkpoint_last.pt", needs={}) for folder in (runs, tmp_path))
    for entry in ("model", "optimizer", "best", "meter", *(("cost",) if name != "noise" else ())):
        assert_same(whole[entry], resumed[entry])
    assert rows(runs / name) == rows(tmp_path / name)
    one, other = results(runs / name), results(tmp_path / name)
    assert one.get("cost") == other.get("cost")
    assert {k: v for k, v in one.items() if k.startswith("test_")} == {
        k: v for k, v in other.items() if k.startswith("test_")
    }


@pytest.mark.parametrize("name", KINDS)
def test_evaluating_it_again_draws_what_its_test_drew(runs, name):
    found = evaluate_qdeq.measure(evaluate_qdeq.parse_command_line([str(runs / name), "--device", "cpu"]))[0]
    own = results(runs / name)
    assert all(found[metric] == own[f"test_{metric}"] for metric in ("loss", "acc", "res_rel"))
    for key in ("noise", "encoding_noise", "shots"):
        assert found[key] == own[key]
    assert (name == "noise") == ("cost" not in found)


def test_results_say_under_what_they_hold_and_others_do_not(runs, tmp_path):
    own = results(runs / "shots")
    assert (own["noise"], own["encoding_noise"], own["shots"]) == (NOISE[1], None, 64)
    assert results(runs / "angle")["encoding_noise"]["noise"] == "depolarizing:1e-3"
    assert results(runs / "noise")["shots"] is None
    plain = train_quickly(tmp_path, "plain", 1)
    assert not {"noise", "encoding_noise", "shots", "cost"} & set(results(plain))
    assert not any("circuits" in name for name in rows(plain)[0])


def test_a_run_under_noise_is_deployed_without_it(runs):
    """`hardware.py` starts from the model without noise; it names its own."""
    from deployment.command_line import parse_command_line
    from deployment.trained import read_trained

    for name in KINDS:
        trained = read_trained(parse_command_line(["export", "--run", str(runs / name)]))
        assert isinstance(trained.model.layer.engine, CompiledEngine)
        assert all(getattr(trained.settings, setting) == value for setting, value in WITHOUT_NOISE.items())


@pytest.mark.parametrize("flags, per_image", [
    ((), 11 + 8 + 80),
    (("--amplitude_encoder", False), 11 + 32 + 80),
    (("--mode", "direct", "--n_layer", 3), 3 * 81 + 2 * 8),
    (("--jac_loss_weight", 0.5, "--jac_loss_freq", 1), 261),
    (("--b_solver", "identity"), 11 + 80),
])  # fmt: skip
def test_what_a_step_costs(tmp_path, monkeypatch, flags, per_image):
    """The formulas', the residual apart; values are drawn as often as they are counted."""
    monkeypatch.setattr("deq.noise.FLOORS", 0.0)  # no sample stops at its floor before the steps are used up,
    drawn = []  # nor at a residual of 0, which few shots show by chance
    own = hardware.shots.CompiledShots.readouts

    def readouts(self, v):
        drawn.append((self.stream, len(v), torch.is_grad_enabled()))
        return own(self, v)

    monkeypatch.setattr(hardware.shots.CompiledShots, "readouts", readouts)
    run = train_quickly(tmp_path, "run", 2, "--shots", 1000, "--f_tol", 1e-9, "--rand_f_thres_delta", 0, *flags)
    cost = results(run)["cost"]
    step = cost["training_step"]
    assert step["circuits"] - step["circuits_residual"] == 64 * per_image
    assert (step["circuits_residual"], step["shots"]) == (64, 1000 * step["circuits"])
    n_test = sum(n for stream, n, _ in drawn if stream == "test")
    assert cost["test"]["circuits"] == n_test and cost["test"]["shots"] == 1000 * n_test
    # an equilibrium is called once more for its derivatives alone, whose value no chip would measure
    n_training = sum(n for stream, n, graph in drawn if stream == "training 0" and not (graph and "direct" not in flags))
    assert 2 * (step["circuits_solve"] + step["circuits_residual"]) == n_training
    (test,) = [row for row in rows(run) if row["event"] == "test"]
    assert int(test["test_circuits"]) == n_test


def test_samples_that_stopped_at_their_floor_cost_nothing_more():
    """A sample that stands repeats its residual, so changes of the trace are steps; the simulation draws them all."""
    settings = Settings(dataset="digits", num_classes=4, n_wires=4, shots=64, f_solver="fixed_point")
    torch.manual_seed(0)
    model, depth, counter = build_trained_model(settings), depth_of(settings), Counter()
    p = model(torch.randn(40, 16), depth)
    count_pass(counter, model.layer.engine, depth, p, with_gradient=True)
    trace = p.solver.trace
    steps = (trace[1:] != trace[:-1]).sum(0)
    assert len(steps.unique()) > 2
    found = counter.describe()
    assert found["circuits_solve"] == int(steps.sum()) + 40 < 40 * (p.solver.n_f_evals - 1)
    assert [found[f"circuits_{purpose}"] for purpose in ("jacobian", "shift", "residual")] == [40 * n for n in (8, 80, 1)]
    assert found["circuits"] == sum(value for name, value in found.items() if name.startswith("circuits_"))
    assert (found["shots"], found["rounds"]) == (64 * found["circuits"], int(steps.max()) + 2)


def test_no_two_calls_share_their_draws(tmp_path, monkeypatch):
    keys = []
    own = hardware.shots.seeds.generator
    monkeypatch.setattr(hardware.shots.seeds, "generator", lambda *key: keys.append(key[:3]) or own(*key))
    train_quickly(tmp_path, "run", 4, "--eval-interval", 2, *KINDS["shots"])
    drawn = [key for key in keys if key[1].split(" ")[0] in ("training", "val", "test")]
    assert len(set(drawn)) == len(drawn) > 50
    assert {key[1].rsplit(" ", 1)[0] for key in drawn} == {"training 0", "training 1", "val", "test"}


def test_entries_of_the_log_are_of_one_step_and_sum_up(runs):
    train = [row for row in rows(runs / "shots") if row["event"] == "train"]
    assert [int(row["train_step"]) for row in train] == [3, 6]
    assert sum(3 * float(row["train_shots"]) for row in train) == float(train[-1]["shots_so_far"])
    assert results(runs / "shots")["cost"]["training"]["shots"] == float(train[-1]["shots_so_far"])
    assert all(float(row["train_rounds"]) > 2 * 3 for row in train)  # two chunks, one after the other


def test_seeds_side_by_side_under_noise_are_the_runs_of_their_own(runs, tmp_path):
    flags = (*DIGITS, "--max_step", 6, "--eval-interval", 3, *NOISE, "--work_dir", tmp_path)
    train_here(*flags, "--seeds", 1111, 1, "--names", "a", "b")
    assert results(tmp_path / "a")["test_loss"] == pytest.approx(results(runs / "noise")["test_loss"], rel=1e-4)


def test_engines():
    def engine(**settings):
        return build_trained_model(Settings(n_wires=4, num_classes=4, **settings)).layer.engine

    assert isinstance(engine(), CompiledEngine) and isinstance(engine(noise="device:manila"), NoisyEngine)
    counted = engine(shots=10, seed=5)
    assert isinstance(counted, CountedEngine) and isinstance(counted.exact, CompiledEngine)
    assert (counted.shots, counted.counting.seed) == (10, 5)
    same = engine(noise="device:manila", encoding_noise="same", shots=3)
    assert same.exact.encoding.n_noisy > 0


@pytest.mark.parametrize("settings, words", [
    ({"n_wires": 10, "noise": "depolarizing:1e-2"}, "--noise: a training step of 10 wires needs 2 GiB"),
    ({"n_wires": 8, "noise": "readout:0.1", "shots": 10}, "--shots with noise: observables of all bit strings of 8 wires"),
])  # fmt: skip
def test_more_wires_than_steps_can_have_are_refused(settings, words):
    with pytest.raises(SettingsError, match=words):
        build_trained_model(Settings(**settings))
    for can in ({"n_wires": settings["n_wires"] - 2}, {"noise": "none"}):
        assert build_trained_model(Settings(**settings | can)).layer.engine is not None


@pytest.mark.parametrize("flags, words", [
    ("--shots 0", "--shots 0 reads nothing"),
    ("--shots -1", "--shots must be at least 0"),
    ("--noise fog:1", "--noise: 'fog:1' is not known; known: depolarizing,"),
    ("--noise depolarizing:2", "--noise: depolarizing:2: "),
    ("--encoding_noise damping:10,30", "--encoding_noise: damping:10,30: T2 is at most 2 T1"),
    ("--encoding_noise same", "there is none: give --noise"),
    ("--noise device:aachen --encoding_noise device:quito", "machines with different gates on two wires"),
    ("--noise readout:0.1 --engine torchquantum", "--noise has an engine of its own: leave out --engine torchquantum"),
    ("--shots 5 --engine statevector", "--shots has an engine of its own: leave out --engine statevector"),
    ("--shots 5 --model linear", "--shots is of circuits, and --model linear has none"),
    ("--noise readout:0.1 --shard columns", "--shard columns is of circuits without noise and shots"),
    ("--shots 5 --f_solver newton", "measure it by --gradient shift, or choose another"),
    ("--shots 5 --seeds 0 1", "--shots are drawn for one run, --seeds has several"),
])  # fmt: skip
def test_what_cannot_work_is_one_line(flags, words, capsys):
    with pytest.raises(SystemExit) as end:
        parse_command_line(flags.split())
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (2, 1) and words in error, error


def test_shots_are_of_one_process(monkeypatch):
    monkeypatch.setattr("training.hardware_settings.world_size", lambda: 2)
    with pytest.raises(SettingsError, match="--shots are drawn for the whole batch in one process"):
        Settings(shots=5).validate()
    Settings(noise="readout:0.1").validate()


@pytest.mark.parametrize("flags, words", [
    (("--noise", "depolarizing:0"), "no gate of the ansatz carries noise"),
    (("--encoding_noise", "readout:0.1"), "no gate of the encoding carries noise"),
    (("--shots", 5, "--readout", "pauli1"), "for strings of Z, and the readout has others"),
])  # fmt: skip
def test_noise_that_no_gate_carries_leaves_no_run_behind(tmp_path, flags, words, capsys):
    with pytest.raises(SystemExit) as end:
        train_here(*DIGITS, "--max_step", 1, "--work_dir", tmp_path, *flags)
    error = capsys.readouterr().err
    assert (end.value.code, error.count("\n")) == (1, 1) and words in error, error
    assert not list(tmp_path.iterdir())


def test_settings_of_before_load_and_names_tell_noise():
    saved = Settings().to_dict()
    for name in WITHOUT_NOISE:
        del saved[name]
    assert Settings.from_dict(saved) == Settings()
    noisy = Settings(noise="depolarizing:1e-2,x0.3", encoding_noise="same", shots=64)
    assert noisy.run_name == "mnist_10c_10q_amplitude_depolarizing-1e-2-x0.3_encoding-same_64shots_implicit_seed1111"
