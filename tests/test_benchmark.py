"""The benchmark's commands: consistent numbers, an equality check that can fail, what an interrupt leaves."""

import json
import sys
from xml.etree import ElementTree

import pytest
import torch

import benchmark
from benchmarks import measurements, scaling, seeds, timing
from benchmarks.step import VARIANTS, Problem

SMALL = ("--batch_size", 4, "--repetitions", 2, "--device", "cpu", "--threads", 1, "--seed", 1)
FACTS = ("seed", "git_commit", "machine", "device", "torch", "torchquantum", "threads", "date", "arguments")
LABELS = [variant.label for variant in VARIANTS]


@pytest.fixture(autouse=True)
def one_call_a_block(monkeypatch):
    monkeypatch.setattr(timing, "BLOCK_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path):
    """Run the command in this process: its exit status, and its JSON file's content."""

    def run(command: str, *flags: object) -> tuple[int, dict]:
        path = tmp_path / "out.json"
        status = benchmark.main([command, *map(str, SMALL + flags), "--json", str(path)])
        assert [p.name for p in tmp_path.glob("*.json*")] == ["out.json"]
        return status, json.loads(path.read_text())

    return run


@pytest.fixture
def without_torchquantum(monkeypatch):
    monkeypatch.setitem(sys.modules, "engines.torchquantum", None)


def check_times(section: dict, repetitions: int = 2) -> None:
    """Medians are medians of the raw times, and ratios quotients of the medians."""
    for summary in section["times"].values():
        times = sorted(summary["seconds"])
        assert len(times) == repetitions and times[0] > 0
        assert summary["median"] == pytest.approx(
            (times[(repetitions - 1) // 2] + times[repetitions // 2]) / 2
        )
        assert (summary["lowest"], summary["highest"]) == (times[0], times[-1])
    for r in section["ratios"]:
        slow, fast = section["times"][r["slow"]], section["times"][r["fast"]]
        assert r["ratio"] == slow["median"] / fast["median"]
        assert 0 < r["lowest"] <= r["highest"]


# commands


@pytest.mark.slow
def test_step(run, capsys):
    status, content = run("step", "--n_wires", 4)
    shown = capsys.readouterr().out
    assert status == 0 and content["complete"] and all(content[name] for name in FACTS)
    assert content["arguments"]["n_wires"] == 4 and "json" not in content["arguments"]
    assert list(content["step"]["times"]) == LABELS
    check_times(content["step"])
    check_times(content["one_f"])
    pairs = {(r["slow"], r["fast"]) for r in content["step"]["ratios"]}
    assert pairs == {(slow, fast) for slow in LABELS[:3] for fast in LABELS[3:]}
    compared = [(row["of"], row["and"]) for row in content["equality"]]
    assert compared == [(LABELS[0], LABELS[1]), (LABELS[3], LABELS[1]), (LABELS[4], LABELS[2])]
    for row in content["equality"] + content["one_f_equality"]:
        assert row["equal"] and all(0 <= row[name] <= limit for name, limit in row["tolerances"].items())
    median = 1e3 * content["step"]["times"][LABELS[0]]["median"]
    assert all(text in shown for text in (*LABELS, f"{median:.3f}", "equal", "one call of f"))


@pytest.mark.slow
def test_ranks(run, capsys):
    status, content = run("ranks", "--wires", 4, 6)
    assert status == 0 and content["complete"]
    contestants = ["1 process, 1 thread", "1 process, 2 threads", "2 processes, batch", "2 processes, batch and columns"]
    assert [(row["n_wires"], row["label"]) for row in content["ranks"]] == [(n, c) for n in (4, 6) for c in contestants]
    check_times({"times": {row["label"]: row["times"] for row in content["ranks"][:4]}, "ratios": []})
    first, *_, last = content["ranks"][:4]
    faster = first["times"]["median"] / last["times"]["median"]
    assert f"{faster:.2f} x" in capsys.readouterr().out


def test_seeds(run, capsys, monkeypatch):
    status, content = run("seeds", "--wires", 4, "--models", "amplitude", "classical", "--seeds", 2)
    assert status == 0 and content["complete"]
    cases = [f"{model}, 4 wires, {name}" for model in ("amplitude", "classical") for name in ("broyden", "newton+exact")]
    ways = ("1 run", "2 in turn", "2 side by side")
    assert list(content["seeds"]["times"]) == [f"{case}: {way}" for case in cases for way in ways]
    check_times(content["seeds"])
    assert [row["of"] for row in content["equality"]] == [f"{case}: side by side" for case in cases]
    assert all(row["equal"] and 0 <= row["gradient"] <= 1e-3 for row in content["equality"])
    assert "amplitude, 4 wires, broyden: 2 side by side" in capsys.readouterr().out
    monkeypatch.setattr(seeds, "TOLERANCES", {"gradient": -1.0})
    assert run("seeds", "--wires", 4, "--seeds", 2)[0] == 1


def test_solve(run, capsys):
    status, content = run("solve", "--n_wires", 4, "--max_steps", 30, "--tol", "1e-4")
    assert status == 0
    check_times(content["solve"])
    solvers = ("broyden", "anderson", "fixed_point", "newton")
    labels = [f"{engine}, {solver}" for engine in ("torchquantum", "compiled") for solver in solvers]
    assert [row["label"] for row in content["solves"]] == labels
    assert {(r["slow"], r["fast"]) for r in content["solve"]["ratios"]} == set(zip(labels[:4], labels[4:]))
    for row in content["solves"]:
        assert row["n_f_evals"] == row["steps_max"] + 1 <= 31
        assert row["n_jacobians"] == (row["steps_max"] if "newton" in row["label"] else 0)
        assert (row["residual_worst"] <= 1e-4) == (row["converged"] == 1)
    assert "residual, median" in capsys.readouterr().out


@pytest.mark.slow
def test_scaling(run, tmp_path, capsys):
    plot = tmp_path / "scaling.svg"
    sizes = ("--wires", 6, 4, "--operations", 8, 4, "--n_wires", 4)
    status, content = run(
        "scaling", *sizes, "--reference_wires", 4, "--reference_operations", 0, "--plot", plot
    )
    assert status == 0
    assert plot.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    ElementTree.parse(plot)
    points = [(p["by"], p["n_wires"], p["n_operations"], p["label"]) for p in content["points"]]
    compiled = LABELS[3:]
    ways = [f"{LABELS[4]}, columns", f"{LABELS[4]}, cones"]
    assert points == [
        *(("wires", 4, 50, label) for label in [LABELS[1], *compiled, *ways]),
        *(("wires", 6, 50, label) for label in [*compiled, *ways]),
        *(("operations", 4, n, label) for n in (4, 8) for label in compiled),
    ]
    for point in content["points"]:
        assert len(point["times"]["seconds"]) == 2 and point["peak_bytes"] > 0
    assert "peak MiB" in capsys.readouterr().out


@pytest.mark.slow
def test_memory(run):
    status, content = run("memory", "--n_wires", 4, "--operations", 10, 5, "--reference_operations", 5)
    peaks = {(p["label"], p["n_operations"]): p["peak_bytes"] for p in content["points"]}
    assert status == 0 and not any("times" in p for p in content["points"])
    assert list(peaks) == [(LABELS[1], 5), (LABELS[3], 5), (LABELS[4], 5), (LABELS[3], 10), (LABELS[4], 10)]
    for label in LABELS[3:]:
        pair = [peaks[label, 5], peaks[label, 10]]
        assert content["flatness"][label] == {"from": 5, "to": 10, "ratio": max(pair) / min(pair)}


@pytest.mark.slow
def test_as_a_user_runs_it(run_script, tmp_path):
    path = tmp_path / "memory.json"
    sizes = ("--n_wires", 4, "--operations", 5, "--reference_operations", 0)
    shown = run_script("benchmark.py", "memory", *sizes, *SMALL, "--json", path)
    content = json.loads(path.read_text())
    assert shown.stdout.startswith("benchmark memory: cpu") and "not the process's memory" in shown.stdout
    assert shown.stderr == "" and content["complete"]
    assert content["notes"] == [] and content["flatness"][LABELS[3]]["ratio"] == 1


# equality


@pytest.mark.slow
def test_engines_that_differ_are_an_error(run, monkeypatch, capsys):
    honest = Problem.layer

    def wrong(problem: Problem, engine: str, way: str = "cheapest"):
        layer = honest(problem, engine, way)
        if engine == "compiled":
            with torch.no_grad():
                layer.theta[0] += 0.1
        return layer

    monkeypatch.setattr(Problem, "layer", wrong)
    status, content = run("step", "--n_wires", 4, "--repetitions", 1)
    assert status == 1 and content["complete"]
    assert [row["equal"] for row in content["equality"]] == [True, False, False]
    assert "NOT EQUAL" in capsys.readouterr().out


# other simulators


def test_without_pennylane(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pennylane", None)
    monkeypatch.delitem(sys.modules, "benchmarks.pennylane_layer", raising=False)
    monkeypatch.setattr(measurements, "VARIANTS", VARIANTS[3:])
    status, content = run("step", "--n_wires", 4, "--repetitions", 1)
    (note,) = content["notes"]
    assert status == 0 and "PennyLane" in note and "requirements-benchmark.txt" in note and "\n" not in note
    assert f"note: {note}" in capsys.readouterr().out
    assert not any("pennylane" in label for label in content["one_f"]["times"])


@pytest.mark.slow
def test_with_pennylane(run, monkeypatch):
    pytest.importorskip("pennylane", reason="requirements-benchmark.txt is not installed")
    monkeypatch.setattr(measurements, "VARIANTS", VARIANTS[3:])
    status, content = run("step", "--n_wires", 4)
    assert status == 0 and content["pennylane"] and not content["notes"]
    assert {"pennylane, f forward", "pennylane, f forward+backward"} <= set(content["one_f"]["times"])
    row = content["one_f_equality"][1]
    assert (row["of"], row["and"], row["equal"]) == ("pennylane", "torchquantum", True)


@pytest.mark.parametrize("encoding", ["amplitude", "angle"])
def test_pennylane_is_the_same_f(encoding):
    pytest.importorskip("pennylane", reason="requirements-benchmark.txt is not installed")
    from benchmarks.pennylane_layer import PennyLaneLayer
    from circuits.circuit import build_circuit
    from models.quantum_layer import QuantumLayer

    layer = QuantumLayer(build_circuit(4, encoding))
    z, x = torch.rand(2, 3, 16)
    value = PennyLaneLayer(layer.circuit, layer.theta)(z, x)
    torch.testing.assert_close(value, layer.bind(x)(z), rtol=0, atol=1e-5)


def test_without_torchquantum(run, without_torchquantum):
    status, content = run("step", "--n_wires", 4)
    assert status == 0 and any("TorchQuantum" in note for note in content["notes"])
    assert list(content["step"]["times"]) == LABELS[3:]
    assert content["equality"] == [] and content["step"]["ratios"] == []


# interrupted, or left out


@pytest.mark.slow
@pytest.mark.parametrize(("command", "timed"), [("step", "step"), ("solve", "solve"), ("scaling", "points")])
def test_an_interrupt_keeps_what_was_measured(
    command, timed, run, monkeypatch, without_torchquantum, tmp_path, capsys
):
    honest, rounds = timing.seconds_per_call, []

    def interrupted(call, n_calls, device):
        # per contestant two calls for the warm-up, then one a round: the second round is cut short
        rounds.append(call)
        if len(rounds) > 2 * len(set(rounds)) + len(set(rounds)) + 1:
            raise KeyboardInterrupt
        return honest(call, n_calls, device)

    monkeypatch.setattr(timing, "seconds_per_call", interrupted)
    more = ("--wires", 4, "--plot", tmp_path / "a.png") if command == "scaling" else ("--n_wires", 4)
    status, content = run(command, *more)
    assert status == 130 and content["complete"] is False
    summaries = (
        [point["times"] for point in content["points"]]
        if timed == "points"
        else list(content[timed]["times"].values())
    )
    assert sorted(len(summary["seconds"]) for summary in summaries) == [1] * (len(summaries) - 1) + [2]
    assert capsys.readouterr().out.rstrip().endswith("what was measured until then")


@pytest.mark.slow
def test_points_that_would_take_too_long_or_too_much_are_left_out(
    run, monkeypatch, without_torchquantum, capsys
):
    status, content = run("scaling", "--wires", 4, 6, "--operations", 5, "--seconds", "1e-9", "--n_wires", 4,
                          "--plot", "picture.png")  # fmt: skip
    assert status == 0
    first, second = content["points"][0], content["points"][4]
    assert "too long for --seconds 1e-09" in first["skipped"] and first["peak_bytes"] > 0
    assert "expected, more than --seconds" in second["skipped"] and "peak_bytes" not in second
    assert second["skipped"] in capsys.readouterr().out
    monkeypatch.setattr(scaling, "free_bytes", lambda device: 1000.0)
    _, content = run("memory", "--operations", 5, 10, "--n_wires", 4)
    assert "peak_bytes" in content["points"][0] and "MiB can be had" in content["points"][2]["skipped"]


def test_out_of_memory_is_a_left_out_point(run, monkeypatch, without_torchquantum):
    def fails(step, device):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(scaling, "peak_bytes", fails)
    status, content = run("memory", "--operations", 5, "--n_wires", 4)
    assert status == 0 and {p["skipped"] for p in content["points"]} == {"out of memory"}
    assert content["flatness"] == {}
