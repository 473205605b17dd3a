"""Pictures show what they were given: the circuit's gates, the CSV's numbers, the matrix's counts."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import figures
from circuits import Circuit, PauliReadout, build_circuit, from_gates, rotation_layers
from conftest import REPOSITORY
from figures import draw_circuit, draw_confusion_matrix, draw_overview, draw_training_curves, overview, save_figure
from figures.circuit_drawing import COLUMNS_PER_ROW, place_operations
from figures.overview import SOLVER_STEPS, solver_traces
from reproduce import main
from runs.metrics_csv import CsvLog
from training.metrics import COLUMNS

CIRCUITS = [
    build_circuit(4),
    build_circuit(4, "angle"),
    build_circuit(10),
    build_circuit(6, "angle", n_random_operations=7),
    build_circuit(4, n_random_operations=0),
]


def with_gid(figure: Figure, prefix: str) -> dict:
    """Artists of a figure whose gid starts so; a gid that occurs twice is a mistake."""
    found = [artist for artist in figure.findobj() if str(artist.get_gid() or "").startswith(prefix)]
    by_gid = {artist.get_gid(): artist for artist in found}
    assert len(by_gid) == len(found)
    return by_gid


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


# circuits


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda c: f"{c.n_wires}-{c.encoding.name}-{len(c.ansatz.operations)}")
def test_every_operation_is_drawn_once(circuit):
    figure = draw_circuit(circuit)
    n_operations = len(circuit.encoding.operations) + len(circuit.ansatz.operations)
    assert set(with_gid(figure, "gate-")) == {f"gate-{i}" for i in range(n_operations)}
    assert len(with_gid(figure, "amplitude-encoding")) == (circuit.encoding.name == "amplitude")
    written = texts(figure)
    assert [f"$\\theta_{{{i}}}$" in written for i in range(circuit.n_parameters)] == [
        True
    ] * circuit.n_parameters
    assert written.count("H") == sum(operation.gate == "h" for operation in circuit.ansatz.operations)
    assert sum("langle Z" in text for text in written) == circuit.n_wires


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda c: f"{c.n_wires}-{c.encoding.name}-{len(c.ansatz.operations)}")
def test_every_row_has_every_wire(circuit):
    figure = draw_circuit(circuit)
    n_rows = -(-(place_operations(circuit)[1] + 1) // COLUMNS_PER_ROW)
    lines = [line for line in figure.axes[0].lines if str(line.get_gid()).startswith("wire-")]
    assert len(lines) == n_rows * circuit.n_wires
    heights = {line.get_ydata()[0] for line in lines}
    assert len(heights) == len(lines)
    width, height = figure.axes[0].get_xlim()[1], figure.axes[0].get_ylim()[1]
    assert all(0 < h < height for h in heights)
    assert all(0 <= x <= width for line in lines for x in line.get_xdata())


@pytest.mark.parametrize("circuit", CIRCUITS, ids=lambda c: f"{c.n_wires}-{c.encoding.name}-{len(c.ansatz.operations)}")
def test_columns_keep_the_order_and_nothing_overlaps(circuit):
    placed, n_columns = place_operations(circuit)
    assert [gate.operation for gate in placed] == [*circuit.encoding.operations, *circuit.ansatz.operations]
    taken, last = set(), [-1] * circuit.n_wires
    for gate in placed:
        wires = gate.operation.wires
        crossed = {(gate.column, wire) for wire in range(min(wires), max(wires) + 1)}
        assert not crossed & taken
        taken |= crossed
        for wire in wires:
            assert gate.column > last[wire]
            last[wire] = gate.column
    assert max(last) == n_columns - 1


def test_the_blocks_gates_are_told_apart():
    circuit = build_circuit(10)
    placed, _ = place_operations(circuit)
    parts = [gate.part for gate in placed]
    assert parts == ["random"] * 50 + ["trainable"] * 16 + ["fixed"] * 12
    assert {g.operation.parameter for g in placed if g.part == "trainable"} == set(circuit.ansatz.parameters_of("block"))
    patches = with_gid(draw_circuit(circuit), "gate-")
    colours = [patches[f"gate-{i}"].get_edgecolor() for i in (0, 50, 66)]
    assert len(set(colours)) == 3


def test_two_wire_gates_join_their_wires():
    figure = draw_circuit(build_circuit(4, n_random_operations=0))
    heights = [with_wire.get_ydata()[0] for with_wire in figure.axes[0].lines if with_wire.get_gid()]
    joins = [
        tuple(float(y) for y in line.get_ydata())
        for line in figure.axes[0].lines
        if line.get_xdata()[0] == line.get_xdata()[1] and line.get_ydata()[1] in heights
    ]
    assert joins == [(heights[0], heights[2]), (heights[3], heights[0])]  # CRX from 0 to 2, CNOT from 3 to 0


def test_title_counts():
    title = next(text for text in texts(draw_circuit(build_circuit(10))) if "qubits" in text)
    assert title == "10 qubits, amplitude encoding: 78 operations, 14 CNOTs, 56 parameters"


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_blocks_that_are_not_trained_are_told_from_those_that_are():
    choices = ("all", "released", "none")
    trained, frozen, none = (draw_circuit(build_circuit(10, trainable_gates=choice)) for choice in choices)
    assert legend(trained) == ["random, rotations trainable (50)", "blocks, trainable (16)", "blocks, fixed (12)"]
    assert legend(frozen) == ["random, rotations trainable (50)", "blocks, not trained (16)", "blocks, fixed (12)"]
    assert legend(none) == ["random, not trained (50)", "blocks, not trained (16)", "blocks, fixed (12)"]
    assert next(text for text in texts(frozen) if "qubits" in text).endswith("56 parameters, 40 of them trained")
    colours = [with_gid(figure, "gate-")["gate-50"].get_edgecolor() for figure in (trained, frozen)]
    assert colours[0] != colours[1]


def test_a_circuit_of_ones_own_is_drawn_with_what_it_reads():
    ansatz = from_gates(3, [("ry", (0,)), ("cnot", (0, 1))])
    circuit = Circuit(rotation_layers(3, 1), ansatz, PauliReadout(("ZXI", "ZII")))
    figure = draw_circuit(circuit)
    assert legend(figure) == ["encoding of v = z + x (3)", "ansatz (2)"]
    assert [text for text in texts(figure) if "langle" in text] == [r"$\langle Z \rangle$", r"$\langle X \rangle$"]


# training curves


def write_csv(path, rows):
    log = CsvLog(path, COLUMNS)
    for step, (event, metrics) in enumerate(rows, 1):
        log.log(event, step, metrics)
    log.close()
    return path


def run_rows(modes):
    for epoch, mode in enumerate(modes, 1):
        yield "train", {"epoch": epoch, "mode": mode, "train_loss": 2 / epoch, "train_res_rel": 10.0**-epoch}
        yield "val", {
            "epoch": epoch, "mode": mode, "val_loss": 3 / epoch, "val_acc": 1 - 0.5 / epoch,
            "val_res_rel": 2 * 10.0**-epoch, "val_solver_steps": 4 + epoch, "val_converged": 0.25,
        }  # fmt: skip
    yield "test", {"epoch": len(modes), "mode": modes[-1], "test_acc": 0.625}


def test_lines_are_the_csv(tmp_path):
    figure = draw_training_curves(write_csv(tmp_path / "metrics.csv", run_rows([1, 1, 1])))
    epoch = np.array([1, 2, 3])
    expected = {
        "train_loss": 2 / epoch, "val_loss": 3 / epoch, "val_acc": 100 - 50 / epoch,
        "train_res_rel": 10.0**-epoch, "val_res_rel": 2 * 10.0**-epoch,
        "val_solver_steps": 4 + epoch, "val_converged": [25, 25, 25],
    }  # fmt: skip
    for name, values in expected.items():
        line = with_gid(figure, name)[name]
        np.testing.assert_array_equal(line.get_xdata(), epoch)
        np.testing.assert_allclose(line.get_ydata(), values)
    assert with_gid(figure, "train_res_rel")["train_res_rel"].axes.get_yscale() == "log"
    test_line = with_gid(figure, "test_acc")["test_acc"]
    assert set(test_line.get_ydata()) == {62.5} and test_line.get_linestyle() == "--"
    assert "train_acc" not in with_gid(figure, "train_")


@pytest.mark.parametrize(
    ("modes", "end"),
    [([0, 0, 1, 1], 2), ([1, 1, 1], None), ([0, 0, 0], None), ([0, 1], 1), ([1, 0, 0], None)],
)
def test_only_a_warmup_is_shaded(tmp_path, modes, end):
    figure = draw_training_curves(write_csv(tmp_path / "metrics.csv", run_rows(modes)))
    shades = [artist for artist in figure.findobj() if artist.get_gid() == "warm-up"]
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert len(panels) == 4
    assert len(shades) == (0 if end is None else len(panels))
    for shade in shades:
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (0, end)


def test_what_is_not_a_number_is_left_out(tmp_path):
    rows = [
        ("train", {"epoch": 1, "mode": 1, "train_loss": "nan", "train_res_rel": "inf"}),
        ("train", {"epoch": 2, "mode": 1, "train_loss": 0.5, "train_res_rel": 0.0}),
        ("train", {"epoch": 3, "mode": 1, "train_loss": "", "train_res_rel": 0.25}),
        ("train", {"epoch": 4, "mode": 1, "train_loss": "-inf", "train_res_rel": "rubbish"}),
    ]
    path = write_csv(tmp_path / "metrics.csv", rows)
    with path.open("a") as file:
        file.write("train,940")  # a killed run's last row
    figure = draw_training_curves(path)
    lines = with_gid(figure, "train_")
    assert lines["train_loss"].get_xydata().tolist() == [[2, 0.5]]
    assert lines["train_res_rel"].get_xydata().tolist() == [[3, 0.25]]
    save_figure(figure, tmp_path / "curves.png")


@pytest.mark.parametrize("content", ["", "event,train_step,epoch\n", "event,epoch,val_loss\nval,1,nan\n"])
def test_nothing_measured_is_said(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    figure = draw_training_curves(tmp_path / "metrics.csv")
    assert texts(figure) == ["no measurements yet"]
    save_figure(figure, tmp_path / "curves.png")


# confusion matrix


def test_confusion_matrix_shows_its_counts():
    counts = np.array([[8, 2, 0], [1, 4, 5], [0, 0, 0]])
    figure = draw_confusion_matrix(counts, (0, 3, 6))
    axes = figure.axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(p, t): str(counts[t, p]) for t in range(3) for p in range(3)}
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2, 0], [0.1, 0.4, 0.5], [0, 0, 0]])
    assert axes.get_title() == "accuracy 60.00 %  (12 of 20 images)"
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true", "predicted")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "3", "6"]


def test_confusion_matrix_without_images_or_with_wrong_names():
    assert draw_confusion_matrix(np.zeros((2, 2), int), ("a", "b")).axes[0].get_title() == "no images"
    with pytest.raises(ValueError, match=r"3 classes need \(3, 3\) counts, got \(2, 2\)"):
        draw_confusion_matrix(np.zeros((2, 2), int), ("a", "b", "c"))


# overview


def test_solver_curves_are_real_and_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    traces = solver_traces(n_parameter_sets=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(trace.shape == (SOLVER_STEPS + 1,) and np.isinf(trace[0]) for trace in traces.values())
    assert traces["newton"][5] < traces["broyden"][5] < traces["fixed_point"][5] < 0.1


def test_overview_is_the_same_bytes_on_every_machine(tmp_path, monkeypatch):
    committed = REPOSITORY / "images" / "qdeq.svg"
    save_figure(draw_overview(), tmp_path / "here.svg")
    if matplotlib.__version__ == re.search(r"^matplotlib==(\S+)", (REPOSITORY / "requirements.txt").read_text(), re.M)[1]:
        assert (tmp_path / "here.svg").read_bytes() == committed.read_bytes()
    traces = {name: trace * (1 + 1e-6) + 1e-14 for name, trace in solver_traces().items()}  # as another machine rounds
    monkeypatch.setattr(overview, "solver_traces", lambda: traces)
    save_figure(draw_overview(), tmp_path / "elsewhere.svg")
    assert (tmp_path / "elsewhere.svg").read_bytes() == (tmp_path / "here.svg").read_bytes()


def test_overview_texts_lie_on_the_canvas_and_apart():
    figure = draw_overview()
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    width, height = figure.canvas.get_width_height()
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    assert set(with_gid(figure, "newton")) == {"newton"}


# files and the command


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture_is_the_same_bytes_twice(tmp_path, suffix):
    paths = [tmp_path / name / f"circuit.{suffix}" for name in "ab"]
    for path in paths:
        save_figure(draw_circuit(CIRCUITS[-1]), path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    assert [file.name for file in paths[0].parent.iterdir()] == [f"circuit.{suffix}"]


def test_svg_is_well_formed_and_names_its_gates(tmp_path):
    save_figure(draw_circuit(CIRCUITS[-1]), tmp_path / "circuit.svg")
    root = ElementTree.parse(tmp_path / "circuit.svg").getroot()
    ids = [element.get("id") for element in root.iter()]
    assert [f"gate-{i}" for i in range(7)] == [name for name in ids if str(name).startswith("gate-")]


def test_an_unknown_suffix_or_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "old.png"
    path.write_bytes(b"old")
    figure = Figure()
    with pytest.raises(ValueError, match="got 'picture.bmp'"):
        save_figure(figure, tmp_path / "picture.bmp")

    def break_off(aside, **_):
        aside.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", break_off)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_pyplot_stays_out():
    package = Path(figures.__file__).parent
    program = "import sys, figures; figures.draw_overview(); print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=package.parent, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_command_draws_circuits_and_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["circuit", "--n_wires", "4"])
    main(["circuit", "--n_wires", "4", "--encoding", "angle", "--out", "c.svg"])
    (tmp_path / "run").mkdir()
    write_csv(tmp_path / "run" / "metrics.csv", run_rows([0, 1]))
    main(["run", "run"])
    assert capsys.readouterr().out.split() == ["images/circuit_4.png", "c.svg", "run/curves.png"]
    assert (tmp_path / "run" / "curves.png").exists() and (tmp_path / "c.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["circuit", "--n_wires", "5"], "even integer from 4"),
        (["circuit", "--out", "picture.bmp"], "picture.bmp"),
        (["run", "nowhere"], "nowhere"),
        (["photo"], "photo"),
        ([], "required"),
    ],
)
def test_command_errors_in_one_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code and said in error and error.count("\n") == 1
