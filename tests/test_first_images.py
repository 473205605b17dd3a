"""Accuracy on the first test images, which a compared work was tested on: which they are, and where it is told."""

import json

import numpy as np
import pytest
import torch

import evaluate_qdeq
from conftest import train_here
from reproduction.rows import TABLES
from reproduction.tables import build_table, markdown
from small_data import synthetic
from test_reproduction_tables import result
from training.results import accuracy_of_first

NAME = "wang2022-direct-1"


def test_it_is_that_of_the_first_alone():
    labels, predictions = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0, 1, 0, 3, 1])
    assert accuracy_of_first(4, labels, predictions) == {"test_acc_first_4": 0.75}
    assert accuracy_of_first(0, labels, predictions) == accuracy_of_first(6, labels, predictions) == {}


def test_the_75_are_the_first_of_the_chosen_digits_in_the_files_order(tmp_path, capsys):
    """As `python evaluate_qdeq.py --max_images 75` has it, and as TorchQuantum filters digits and cuts: by a mask."""
    arrays = synthetic(n_test=300)
    np.savez(tmp_path / "mnist.npz", **arrays)
    train_here("--model", "wang2022", "--num_classes", 4, "--n_wires", 4, "--mode", "direct", "--n_layer", 1, "--max_step", 2,
               "--data_dir", tmp_path, "--work_dir", tmp_path, "--name", "run", "--tensorboard", "False", "--device", "cpu")  # fmt: skip
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    run = [str(tmp_path / "run"), "--max_images", "75"]
    evaluate_qdeq.main(evaluate_qdeq.parse_command_line(run))
    (path,) = (tmp_path / "run").glob("evaluation_test*75.json")
    first = json.loads(path.read_text())
    assert first["acc"] == pytest.approx(found["test_acc_first_75"]) and first["images"] == 75
    assert found["test_acc_first_75"] != found["test_acc"]  # of 120 images
    mask = np.isin(arrays["test_labels"], (0, 3, 6, 9))
    counts = [(arrays["test_labels"][mask][:75] == digit).sum() for digit in (0, 3, 6, 9)]
    assert np.sum(first["confusion_matrix"], axis=1).tolist() == counts


def test_tables_tell_it_where_all_runs_have_it():
    runs = {(NAME, seed): result(seed, 0.8, test_acc_first_75=acc) for seed, acc in enumerate((0.8, 0.84, 0.88))}
    content = build_table(TABLES["table1"], 100, None, runs)
    (note,) = [note for note in content["notes"] if "first 75" in note]
    assert note == "Wang et al. 2022: DIRECT-1, baseline, on the first 75 test images of its classes alone: 84.00 ± 4.00 %."
    assert note in markdown(content)
    older = runs | {(NAME, 2): result(2, 0.8)}
    assert not [note for note in build_table(TABLES["table1"], 100, None, older)["notes"] if "first 75" in note]
    # the number to compare with is of MNIST-4
    others = {("wang2022-direct-1", seed): run for (_, seed), run in runs.items()}
    assert not [note for note in build_table(TABLES["table2"], 100, None, others)["notes"] if "first 75" in note]
