"""The README pages keep their word: code runs, commands parse, files exist, numbers are those of the benchmarks and the code."""

import itertools
import re
import shlex
import subprocess
from importlib.util import find_spec
from statistics import mean, median

import numpy as np
import pytest

import benchmark
import evaluate_qdeq
import make_states
import reproduce
import train_qdeq
import train_qep
from campaigns.faults import __main__ as faults
from conftest import REPOSITORY, SCRIPTS, user_environment
from deployment import command_line as deployment
from models.table import MODELS, build_model
from readme_pages import PAGES, code, examples, kept, numbers, read, run_example
from reproduction.rows import CLASSICAL_RATE, TABLES
from reproduction.study_rows import STUDIES
from training.settings import Settings

README, RESULTS = "README.md", "results/README.md"
BENCHMARK, CODE = "results/benchmark/README.md", "DEQ-Quantum/README.md"
PARSERS = {
    "train_qdeq": train_qdeq.parse_command_line,
    "train_qep": train_qep.parse_command_line,
    "make_states": make_states.parse_command_line,
    "evaluate_qdeq": evaluate_qdeq.parse_command_line,
    "reproduce": reproduce.parse_command_line,
    "benchmark": benchmark.parse_command_line,
    "hardware": deployment.parse_command_line,
}
COMMAND = re.compile(r"^(?:python3? )?(?:DEQ-Quantum/)?(\w+)\.py (.+)$")
OTHER_PROGRAMS = ("sbatch ", "ray ", "torchrun ")  # their flags are theirs
FLAG = re.compile(r"(?<![\w-])--[\w-]+")


# pages


def test_the_first_page_is_short():
    assert (REPOSITORY / README).stat().st_size <= 12 * 1024


def test_every_page_is_looked_at():
    found = [path for room in ("results", "DEQ-Quantum", "tests", "bash_scripts")
             for path in (REPOSITORY / room).rglob("README.md")]
    assert {str(path.relative_to(REPOSITORY)) for path in found} == set(PAGES) - {README}


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_left_to_fill_in(page):
    assert not re.search(r"@[A-Z0-9]+@|TODO|TBD", read(page))


def anchors(page: str) -> set[str]:
    """As the hosting site makes them of headings."""
    titles = re.findall(r"^#+ (.+)$", read(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page):
    links = re.findall(r'(?:src="|\]\()(?!http)([^")\s]+)', read(page))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(str(target.resolve().relative_to(REPOSITORY))), link


def test_each_table_has_one_place():
    shown = re.findall(r"^<!-- reproduce\.py (\S+) -->$", "\n".join(map(read, PAGES)), re.M)
    assert sorted(shown) == sorted([*TABLES, "table5", *STUDIES, "summary"])


# code and commands


def test_the_first_pages_examples_run():
    own, circuit, _ = map(run_example, examples(README))
    converged, residual, gradient, backward_residual = own.split()
    assert converged == "True" and float(residual) < 1e-3
    assert float(gradient) > 0 and float(backward_residual) <= 1e-6
    converged, gradient = circuit.split()
    assert converged == "True" and float(gradient) > 0


def test_the_example_of_a_circuit_runs_on_every_engine_in_15_lines():
    """Own gates and Pauli strings, no library file touched; equilibrium and gradient as gate by gate."""
    (example,) = examples(CODE)
    assert len([line for line in example.splitlines() if line]) <= 15 and example.count('engine="compiled"') == 1
    norms = []
    for engine in ("statevector", "compiled", *(["torchquantum"] if find_spec("torchquantum") else [])):
        name, *holds, of_z, of_gradient = run_example(example.replace("compiled", engine, 1)).split()
        assert name.endswith("crx[0,1]") and holds == ["True", "True"]
        norms.append((float(of_z), float(of_gradient)))
    assert min(norms[0]) > 0.01
    assert all(pytest.approx(norms[0], rel=1e-4) == of_engine for of_engine in norms[1:])


def commands() -> list[tuple[str, str]]:
    """(program, arguments) of all Python commands of all pages."""
    found = [COMMAND.match(line) for page in PAGES for line in code(page)]
    return sorted({(match[1], match[2]) for match in found if match})


@pytest.mark.parametrize("program, arguments", commands())
def test_commands_parse(program, arguments):
    words = shlex.split(arguments)
    if words == ["--help"]:
        with pytest.raises(SystemExit) as end:
            PARSERS[program](words)
        assert end.value.code == 0
    else:
        PARSERS[program](words)


def test_every_command_is_shown():
    assert {program for program, _ in commands()} == set(PARSERS)


@pytest.mark.parametrize("command", sorted({line for page in PAGES for line in code(page) if line.startswith("bash ")}))
def test_script_commands_start_what_they_say(command, tmp_path):
    echo = tmp_path / "python"
    echo.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    echo.chmod(0o755)
    _, script, *arguments = shlex.split(command)
    assert (REPOSITORY / script).exists()
    if script.endswith(("setup.sh", "test.sh", "slurm/submit.sh")):  # test_setup.py and test_slurm.py have these
        return
    process = subprocess.run(
        ["bash", str(REPOSITORY / script), *arguments],
        env=user_environment(QDEQ_PYTHON=str(echo)), cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    (at,) = [i for i, line in enumerate(lines) if re.fullmatch(rf"{SCRIPTS}/train_\w+\.py", line)]
    words = list(itertools.takewhile(lambda line: line.strip(), lines[at + 1 :]))
    PARSERS["train_qep" if "train_qep" in lines[at] else "train_qdeq"](words)


def test_flags_exist(capsys):
    sub_commands = [[name] for name in (*TABLES, *STUDIES, "tables", "table5", "sweep", "figures", "report", "theory")]
    every = [(name, []) for name in PARSERS] + [("reproduce", before) for before in sub_commands]
    every += [("hardware", [name]) for name in ("evaluate", "surrogate", "cost", "export", "run", "transpile", "devices")]
    for program, before in every:
        with pytest.raises(SystemExit):
            PARSERS[program]([*before, "--help"])
    with pytest.raises(SystemExit):
        faults.parse_command_line(["--help"])
    known = set(FLAG.findall(capsys.readouterr().out))
    known.update(flag for _, arguments in commands() for flag in FLAG.findall(arguments))  # parsed above
    lines = [line for page in PAGES for line in code(page) if not line.lstrip().startswith(OTHER_PROGRAMS)]
    assert {flag for line in lines for flag in FLAG.findall(line)} <= known


# numbers


def test_speeds_are_those_of_the_committed_benchmark():
    measured = kept("benchmark/step.json")
    names = ("torchquantum, broyden, in z-space", "compiled, broyden", "compiled, newton+exact")
    medians = [1e3 * measured["step"]["times"][name]["median"] for name in names]
    table = read(BENCHMARK).split("| training step | ms | times faster |")[1].split("\n\n")[0]
    shown = re.findall(r"\| ([\d.]+) \| ([\d.]+) \|$", table, re.M)
    times = [(f"{ms:.0f}" if ms > 100 else f"{ms:.1f}", f"{medians[0] / ms:.3g}") for ms in medians]
    assert shown == times
    arguments = measured["arguments"]
    assert numbers(README, "training step") == [str(arguments["n_wires"]), str(arguments["batch_size"]), *times[1]]
    compiled = [row for row in measured["equality"] if row["of"].startswith("compiled")]
    errors = [row[name] for row in compiled for name in ("loss", "gradient", "equilibrium")]
    assert numbers(BENCHMARK, "Loss, gradient") == [f"{max(errors):.1e}".replace("e-0", "e-")]
    ratios = [r for r in measured["step"]["ratios"] if r["slow"] == names[0] and r["fast"] in names[1:]]
    lowest, highest = min(r["lowest"] for r in ratios), max(r["highest"] for r in ratios)
    assert numbers(BENCHMARK, "single rounds") == [f"{lowest:.0f}", f"{highest:.0f}"]
    one_f = [measured["one_f"]["times"][f"{name}, f forward+backward"]["median"]
             for name in ("torchquantum", "pennylane", "compiled")]  # fmt: skip
    assert numbers(BENCHMARK, "PennyLane") == [f"{1e3 * s:.2g}" if s < 0.1 else f"{1e3 * s:.0f}" for s in one_f]


def test_growing_circuits_are_those_of_the_committed_benchmark():
    points = {(p["n_wires"], p["label"].removeprefix("compiled, newton+exact").strip(", ")): p
              for p in kept("benchmark/scaling.json")["points"]
              if p["by"] == "wires" and p["label"].startswith("compiled, newton+exact")}  # fmt: skip

    def shown(n, way, name, scale):
        value = (points[n, way].get("times", {}) | points[n, way]).get(name)
        return "-" if value is None else f"{scale * value:.0f}"

    rows = [[str(n), *(shown(n, way, "median", 1e3) for way in ("columns", "cones", "")),
             *(shown(n, way, "peak_bytes", 2**-20) for way in ("columns", "cones"))] for n in range(10, 21, 2)]  # fmt: skip
    table = read(BENCHMARK).split("the engine's choice, ms |")[1].split("\n\n")[0]
    assert [line.strip("| ").split(" | ") for line in table.splitlines()[2:]] == rows


def test_whole_runs_and_engines():
    run = kept("whole_run/broyden.json")
    steps = run["train_seconds"] / run["seconds_per_step"] / run["epochs"]
    epochs, shown_steps, papers, _ = numbers(BENCHMARK, "with a validation each")
    assert float(epochs) == run["epochs"] and float(shown_steps) == pytest.approx(steps, abs=1)
    assert papers == f"{TABLES['table2'].row('implicit').paper.train_seconds:.0f}"
    compiled, reference = (
        [kept(f"engines/{engine}-{seed}.json")["test_acc"] for seed in range(3)]
        for engine in ("compiled", "torchquantum")
    )
    apart = max(abs(a - b) for a, b in zip(compiled, reference))
    assert numbers(BENCHMARK, "No seed's")[:2] == ["150", f"{100 * apart:.2f}"]


def test_memory_of_a_step():
    points = kept("benchmark/memory.json")["points"]
    of = {engine: {p["n_operations"]: p["peak_bytes"] for p in points if p["label"] == f"{engine}, broyden"}
          for engine in ("compiled", "torchquantum")}  # fmt: skip
    compiled, reference = of["compiled"], of["torchquantum"]
    few, many = min(compiled), max(compiled)
    ends = [f"{end(compiled.values()) / 2**20:.0f}" for end in (min, max)]
    mib = f"{reference[few] / 2**20:.0f}"
    assert numbers(BENCHMARK, "Peak memory") == [*ends, str(few), str(many), mib, str(few)]


def test_steps_then_and_now_are_those_of_the_committed_benchmark():
    page, rows = read(BENCHMARK), kept("benchmark/against_start.json")["rows"]
    for broyden, newton in zip(rows[::2], rows[1::2]):
        cells = []
        for row in (broyden, newton):
            then, now = mean(row["ms_at_start"]), mean(row["ms"])
            cells += [f"{then:.1f}, {now:.1f}", f"{then / now:.1f}"]
        assert f"| {broyden['n_wires']} | {' | '.join(cells)} |" in page


def test_the_whole_papers_time_and_accuracies_are_those_of_the_committed_runs():
    content = kept("benchmark/whole_paper.json")
    hours, minutes = divmod(round(content["seconds"] / 60), 60)
    text = " ".join(read(BENCHMARK).split("## The whole paper")[1].split("## A whole run")[0].split())
    assert f"took {hours} h {minutes} min" in text and sum(len(row["seeds"]) for row in content["rows"]) == content["runs"] == 90
    apart = {(row["table"], row["row"]): abs(mean(row["test_acc"]) - mean(row["kept_before"]["test_acc"])) for row in content["rows"]}
    assert f"by {median(apart.values()):.1f} points in the middle and {max(apart.values()):.1f} at most" in text
    assert max(apart, key=apart.get) == ("table1", "angle_implicit")
    seconds = {0: [], 1: []}  # of training: Table 1's rows, and those of ten qubits, by seed
    for row in content["rows"]:
        seconds[row["table"] != "table1"].append(row["train_seconds"])
    small, large = (np.sum(of_rows, axis=0) for of_rows in seconds.values())
    cores = 2
    assert f"Training was {100 * (sum(small) + sum(large)) / (cores * content['seconds']):.0f} % of the time of both cores" in text
    hours, minutes = divmod(round((sum(small) + 3 * min(large)) / cores / 60), 60)
    assert f"training alone would have taken {hours} h {minutes} min" in text


def test_parameter_counts_of_the_baselines_are_the_models():
    rows = re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\|[^|]*\| (\d+) \| (\d+) \|$", read(CODE), re.M)
    shown = re.findall(r"^\| `(\w+)`[^|]*\|", read(CODE).partition("## Baselines")[2].partition("\n## ")[0], re.M)
    assert sorted(shown) == sorted(MODELS)
    for name, *counts in rows:
        for n, count in zip((4, 10), counts):
            model = build_model(Settings(model=name, n_wires=n, num_classes=n))
            assert sum(p.numel() for p in model.parameters()) == int(count), name


def test_settings_that_the_code_page_names():
    assert str(CLASSICAL_RATE["lr"]) in numbers(CODE, "None of them was tuned")
    (tolerance,) = numbers(CODE, "Solver tolerances")
    assert float(tolerance) == Settings().f_tol == Settings().b_tol
