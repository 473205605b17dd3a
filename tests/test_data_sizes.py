"""Asking for more data than there are takes all of them, and every command says so with both numbers."""

import pytest

import evaluate_qdeq
from conftest import train_here, train_qep_here
from training.command_line import parse_command_line

DIGITS = ("--dataset", "digits", "--num_classes", 2, "--n_wires", 4, "--mode", "direct", "--n_layer", 1)
HERE = ("--device", "cpu", "--tensorboard", "False", "--max_step", 1, "--eval-interval", 1)
TOO_MANY = {  # 290 digits are 3 or 6 and not in the test split: 232 of them train, 58 validate
    "--batch_size": ((999,), "--batch_size 999 is more than the 232 training images"),
    "--max_eval_steps": ((4, "--batch_size", 20), "--max_eval_steps 4 is more than the 3 batches of the 58 validation"),
}
JUST_ENOUGH = {"--batch_size": (232,), "--max_eval_steps": (3, "--batch_size", 20)}


def warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if "warning: " in line]


@pytest.mark.parametrize("flag", TOO_MANY)
def test_training_says_when_there_are_fewer_images(flag, tmp_path):
    values, line = TOO_MANY[flag]
    train_here(*DIGITS, *HERE, "--work_dir", tmp_path, "--name", "many", flag, *values)
    train_here(*DIGITS, *HERE, "--work_dir", tmp_path, "--name", "enough", flag, *JUST_ENOUGH[flag])
    (found,) = warnings((tmp_path / "many" / "log.txt").read_text())
    assert line in found
    assert not warnings((tmp_path / "enough" / "log.txt").read_text())


@pytest.mark.parametrize("n_train, warned", [(999, True), (232, False)])
def test_qep_says_when_there_are_fewer_samples(n_train, warned, tmp_path):
    flags = ("--task", "digits", "--num_classes", 2, "--n_spins", 4, "--n_train", n_train, "--batch_size", 4)
    train_qep_here(*flags, *HERE, "--work_dir", tmp_path, "--name", "q")
    found = warnings((tmp_path / "q" / "log.txt").read_text())
    assert len(found) == warned
    assert not warned or "--n_train 999 is more than the 232 training samples: all are used" in found[0]


def test_evaluation_says_when_there_are_fewer_images(tmp_path, capsys):
    train_here(*DIGITS, *HERE, "--work_dir", tmp_path, "--name", "e")
    capsys.readouterr()
    for max_images, warned in ((58, False), (59, True)):
        words = [tmp_path / "e", "--device", "cpu", "--split", "val", "--max_images", max_images]
        evaluate_qdeq.main(evaluate_qdeq.parse_command_line(list(map(str, words))))
        (*found,) = warnings(capsys.readouterr().err)
        assert len(found) == warned and all("--max_images 59 is more than the 58 images of the val" in f for f in found)


def test_flags_that_fit_are_silent():
    assert parse_command_line(["--max_eval_steps", "5"]).warnings == []
