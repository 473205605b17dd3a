"""What the benchmark is made of: its work, clock, memory meter, tables, picture and flags."""

import math

import pytest
import torch

import benchmark
from benchmarks import equality, one_f, report, scaling, step, timing
from benchmarks.command_line import parse_command_line
from benchmarks.memory import peak_bytes
from benchmarks.pictures import draw_scaling
from benchmarks.step import VARIANTS, Problem, Step, Variant
from benchmarks.timing import Series, interleave, ratio
from conftest import REPOSITORY

CPU = torch.device("cpu")
KIB = 1024


# the work, and whether it is equal


def test_steps_leave_the_parameters_where_they_are():
    """So that every repetition works on the same problem; and all variants start from the same parameters."""
    problem = Problem(4, 4, 3, CPU)
    first = None
    for variant in VARIANTS[1:4]:
        taken = Step(variant, problem)
        before = [p.detach().clone() for p in taken.model.parameters()]
        taken()
        after = list(taken.model.parameters())
        assert all(torch.equal(p, q) for p, q in zip(before, after)) and all(p.grad.any() for p in after)
        first = first or before
        assert all(torch.equal(p, q) for p, q in zip(first, before))


def test_the_step_has_the_operations_asked_for():
    model = Step(Variant("compiled", "broyden"), Problem(4, 2, 0, CPU, n_operations=7)).model
    assert len(model.layer.circuit.ansatz.operations) == 7 + 7


def test_features_are_like_mnists():
    """Pixels in [0, 1], half of them or more dark, scaled with MNIST's constants."""
    x, y = Problem(10, 256, 0, CPU).batch
    pixels = step.STD * x + step.MEAN
    assert -1e-6 <= pixels.min() and pixels.max() <= 1 + 1e-6
    assert 0.4 < (pixels < 1e-6).float().mean() < 0.9 and abs(x.mean()) < 0.5
    assert set(y.tolist()) == set(range(step.N_CLASSES))


def test_what_is_not_a_number_is_not_equal():
    a = torch.tensor([1.0, math.nan])
    row = equality.verdict("a", "b", {"value": equality.difference(a, torch.ones(2))}, {"value": 1e3})
    assert not row["equal"]


def test_difference():
    assert equality.difference(torch.zeros(2), torch.zeros(2)) == 0
    assert equality.difference(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0])) == pytest.approx(0.2)


# the clock


def test_contestants_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "BLOCK_SECONDS", 0.0)
    called = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    series: dict[str, Series] = {}
    yielded = list(interleave(calls, 3, CPU, series))
    warm_up = [name for name in "abc" for _ in range(timing.WARM_UP_CALLS)]
    assert called == warm_up + list("abcbcacab")
    assert yielded == list("abc" + "abcbcacab")
    assert {name: len(s.seconds) for name, s in series.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_block_is_as_many_calls_as_fill_it(monkeypatch):
    monkeypatch.setattr(timing, "BLOCK_SECONDS", 1.0)
    monkeypatch.setattr(timing, "seconds_per_call", lambda call, n_calls, device: call())
    series: dict[str, Series] = {}
    list(interleave({"slow": lambda: 3.0, "fast": lambda: 0.01}, 1, CPU, series))
    assert (series["slow"].calls, series["fast"].calls) == (1, 100)


def test_ratio_of_medians_and_of_rounds():
    slow = Series(1, [8.0, 4.0, 6.0]).summary()
    fast = Series(1, [2.0, 2.0, 1.0]).summary()
    assert ratio(slow, fast) == {"ratio": 3.0, "lowest": 2.0, "highest": 6.0}


# memory


def test_peak_memory_of_a_known_pattern():
    def pattern() -> None:
        a = torch.empty(300 * KIB, dtype=torch.uint8)
        b = torch.empty(200 * KIB, dtype=torch.uint8)  # 500 at once
        del a
        c = torch.empty(400 * KIB, dtype=torch.uint8)  # 600 at once
        del b, c
        torch.empty(100 * KIB, dtype=torch.uint8)

    assert peak_bytes(pattern, CPU) == 600 * KIB
    assert peak_bytes(lambda: None, CPU) == 0


def test_what_was_there_before_does_not_count():
    held = [torch.empty(500 * KIB, dtype=torch.uint8)]

    def exchange() -> None:
        held.clear()
        held.append(torch.empty(100 * KIB, dtype=torch.uint8))

    assert peak_bytes(exchange, CPU) == 100 * KIB


def test_backward_needs_what_forward_saved():
    x = torch.ones(64 * KIB, requires_grad=True)  # 256 KiB
    chain = 5

    def work() -> None:
        y = x
        for _ in range(chain):
            y = y.exp()
        x.grad = None
        y.sum().backward()

    n_bytes = 256 * KIB
    assert chain * n_bytes <= peak_bytes(work, CPU) <= (chain + 3) * n_bytes


def test_flatness():
    points = [
        {"label": "a", "n_operations": n, "peak_bytes": peak}
        for n, peak in ((50, 200), (100, 250), (200, 210))
    ]
    points.append({"label": "b", "n_operations": 50, "skipped": "too long"})
    assert scaling.flatness(points) == {"a": {"from": 50, "to": 200, "ratio": 1.25}}


# pictures and tables


def a_point(by: str, size: int, milliseconds: float | None, mebibytes: float | None) -> dict:
    point = {"by": by, "n_wires": 4, "n_operations": 50, "label": "compiled, broyden", f"n_{by}": size}
    if milliseconds:
        point["times"] = {"median": milliseconds / 1e3}
    if mebibytes:
        point["peak_bytes"] = mebibytes * 2**20
    return point


def test_the_picture_shows_the_points():
    points = [
        a_point("wires", 4, 1.5, 2.0), a_point("wires", 6, 3.0, 4.0), a_point("wires", 8, None, None),
        a_point("operations", 50, 5.0, 7.0), a_point("operations", 800, None, 7.5),
    ]  # fmt: skip
    content = {
        "points": points,
        "arguments": {"n_wires": 4, "batch_size": 2},
        "device": "cpu",
        "machine": "m",
    }
    figure = draw_scaling(content)
    lines = {line.get_gid(): line.get_xydata().tolist() for axes in figure.axes for line in axes.lines}
    memory = "peak tensor memory, MiB"
    assert lines == {
        "median ms: wires: compiled, broyden": [[4, 1.5], [6, 3.0]],
        f"{memory}: wires: compiled, broyden": [[4, 2.0], [6, 4.0]],
        "median ms: operations: compiled, broyden": [[50, 5.0]],
        f"{memory}: operations: compiled, broyden": [[50, 7.0], [800, 7.5]],
    }
    assert all(axes.get_yscale() == "log" for axes in figure.axes)
    draw_scaling({**content, "points": []}).canvas.draw()


# the command line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "the following arguments are required"),
        (("walk",), "invalid choice"),
        (("step", "--n_wires", "5"), "argument --n_wires: expected an even integer from 4 to 28, got 5"),
        (("step", "--n_wires", "ten"), "expected an even integer from 4 to 28, got 'ten'"),
        (("step", "--repetitions", "0"), "argument --repetitions: expected an integer from 1 to 2147483647, got 0"),
        (("step", "--batch_size", "-1"), "argument --batch_size: expected an integer from 1 to 2147483647, got -1"),
        (("step", "--threads", "0"), "argument --threads"),
        (("step", "--seed", str(2**63)), "argument --seed"),
        (("step", "--device", "tpu"), "argument --device: invalid choice"),
        (("step", "--json", "missing/out.json"), "--json: cannot write the file missing/out.json"),
        (("step", "--json", "."), "--json: cannot write"),
        (("solve", "--tol", "0"), "argument --tol: expected a number above 0, at most 1e+30, got '0'"),
        (("solve", "--tol", "nan"), "argument --tol"),
        (("scaling", "--wires", "4", "3"), "argument --wires"),
        (("scaling", "--plot", "picture.bmp"), "--plot: expected a .png or .svg file, got 'picture.bmp'"),
        (("memory", "--operations", "-5"), "argument --operations"),
    ],
)
def test_wrong_flags_end_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse_command_line(list(flags))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and message in error and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_ends_in_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        benchmark.main(["step", "--device", "cuda"])
    error = capsys.readouterr().err
    assert ended.value.code == 1 and "no CUDA device" in error and error.count("\n") == 1


def test_help_teaches(run_script):
    shown = run_script("benchmark.py", "--help").stdout
    assert all(word in shown for word in ("step", "solve", "scaling", "memory", "examples:", "Exit status"))


@pytest.mark.parametrize("command", ["step", "solve", "scaling", "memory"])
def test_every_flag_has_its_default_in_the_help(command, capsys):
    with pytest.raises(SystemExit):
        parse_command_line([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, value in vars(parse_command_line([command])).items():
        assert name == "command" or f"--{name}" in shown
        if isinstance(value, int):
            assert f"(default: {value})" in shown


def test_the_same_work_is_compared_from_slow_to_fast():
    assert one_f.pairs({"torchquantum": None, "compiled": None, "pennylane": None}) == {
        ("pennylane, f forward", "torchquantum, f forward"),
        ("pennylane, f forward+backward", "torchquantum, f forward+backward"),
        *((f"{slow}, f forward", f"compiled, f forward{bound}") for slow in ("pennylane", "torchquantum")
          for bound in ("", ", once bound")),
        *((f"{slow}, f forward+backward", "compiled, f forward+backward") for slow in ("pennylane", "torchquantum")),
    }  # fmt: skip
    assert one_f.pairs({"compiled": None}) == set()


def test_tables_line_up():
    lines = report.table(["name", "value"], [["a", "1"], ["longer", "1000"]]).splitlines()
    assert lines == ["name    value", "------  -----", "a           1", "longer   1000"]


def test_requirements_are_pinned_and_give_their_reason():
    lines = (REPOSITORY / "requirements-benchmark.txt").read_text().splitlines()
    pinned = [line for line in lines if not line.startswith("#")]
    assert pinned and all(line.startswith("pennylane==") and "  # " in line for line in pinned)
