"""What train_qdeq.py refuses in one line that names the flag, and what it warns of."""

import re
from dataclasses import fields

import pytest

from runs.settings import SettingsError
from training.settings import Settings
from typed import parse
from utils.command_line import fail

REFUSED = [
    # out of range
    *((f"{flag} {value}", flag) for flag, value in [
        ("--n_wires", 5), ("--n_wires", 2), ("--n_wires", 0), ("--n_wires", -4), ("--num_classes", 3),
        ("--n_layer", -1), ("--dropout", 1), ("--dropout", -0.1), ("--lr", 0), ("--lr", -1), ("--lr", "nan"),
        ("--lr", "inf"), ("--warmup_step", -1), ("--eta_min", -1), ("--decay_rate", 0), ("--decay_rate", 1),
        ("--patience", -1), ("--lr_min", -1), ("--clip", -1), ("--weight_decay", -1), ("--batch_size", 0),
        ("--batch_chunk", 0), ("--epochs", 0), ("--max_step", -1), ("--pretrain_steps", -1),
        ("--start_train_steps", -1), ("--seed", -1), ("--seed", 2**64), ("--f_thres", 0), ("--b_thres", 0),
        ("--f_tol", 0), ("--b_tol", 0), ("--rand_f_thres_delta", -1), ("--jac_loss_weight", -1),
        ("--jac_loss_freq", 1.1), ("--jac_loss_freq", -0.1), ("--jac_incremental", -1),
        ("--log-interval", -1), ("--eval-interval", -1), ("--max_eval_steps", 0), ("--max_eval_steps", -2),
    ]),
    # not of the type, not among the choices
    ("--lr fast", "--lr"), ("--lr", "--lr"), ("--batch_size 1.5", "--batch_size"),
    ("--amplitude_encoder maybe", "--amplitude_encoder"), ("--amplitude_encoder", "--amplitude_encoder"),
    ("--optim AdamW", "--optim"), ("--dataset svhn", "--dataset"), ("--mode both", "--mode"),
    ("--f_solver exact", "--f_solver"), ("--b_solver newton", "--b_solver"), ("--wandb yes", "--wandb"),
    # combinations
    ("--mode direct", "--n_layer"),
    ("--model wang2022 --num_classes 4", "--model"),
    ("--model resnet", "--model"),
    ("--mode direct --n_layer 1 --pretrain_steps 5", "--pretrain_steps"),
    ("--pretrain_steps 5", "--n_layer"),
    ("--pretrain_steps 20 --n_layer 1 --max_step 10", "--pretrain_steps"),
    ("--start_train_steps 10 --max_step 10", "--start_train_steps"),
    ("--f_thres 2 --rand_f_thres_delta 2", "--rand_f_thres_delta"),
    ("--batch_size 4 --batch_chunk 5", "--batch_chunk"),
    ("--scheduler inv_sqrt", "--warmup_step"),
    ("--restart_dir x", "--restart_dir"),
    ("--restart --load a.pt", "--load"),
    ("--restart --debug", "--debug"),
    ("--epochs 3 --max_step 10", "--max_step"),
    ("--cuda --device cpu", "--device"),
    # no such flag; a flag is not abbreviated
    ("--learning_rate 1", "--learning_rate"), ("--epoch 3", "--epoch"), ("--log 5", "--log"),
    ("--wand offline", "--wand"),
    ("--pretrain 3", "--pretrain"), ("--cud", "--cud"),
]  # fmt: skip



@pytest.mark.parametrize("text, flag", REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_in_one_line_that_names_the_flag(text, flag, capsys):
    with pytest.raises(SystemExit) as end:
        parse(text)
    output, error = capsys.readouterr()
    assert end.value.code == 2 and output == ""
    assert error.startswith("train_qdeq.py: ") and error.index("\n") == len(error) - 1
    assert flag in re.findall(r"--[\w-]+", error.removesuffix("(see --help)\n"))


@pytest.mark.parametrize("f_thres", [1, 2])
def test_few_solver_steps_are_refused_with_the_flag_that_makes_them_work(f_thres, capsys):
    with pytest.raises(SystemExit):
        parse(f"--f_thres {f_thres}")
    error = capsys.readouterr().err
    assert "--rand_f_thres_delta 2 " in error and f"--f_thres {f_thres} " in error
    (remedy,) = re.findall(r"add (--rand_f_thres_delta \d+)", error)
    assert parse(f"--f_thres {f_thres} {remedy}").settings.f_thres == f_thres


@pytest.mark.parametrize("name", [f.name for f in fields(Settings) if f.type is float])
def test_not_a_number_is_refused(name):
    with pytest.raises(SettingsError, match=f"--{name} "):
        Settings(**{name: float("nan")}).validate()


@pytest.mark.parametrize("name", [f.name for f in fields(Settings) if f.metadata["choices"]])
def test_choices_hold_for_saved_settings_too(name):
    with pytest.raises(SettingsError, match=f"--{name} must be one of"):
        Settings(**{name: "odd"}).validate()


@pytest.mark.parametrize("text, flag", [
    ("--n_layer 2", "--n_layer"),
    ("--jac_loss_weight 0.5", "--jac_loss_freq"),
    ("--jac_incremental 10", "--jac_loss_freq"),
    ("--jac_loss_freq 0.5", "--jac_loss_weight"),
    ("--mode direct --n_layer 1 --jac_loss_weight 0.5 --jac_loss_freq 1", "--jac_loss_weight"),
    ("--model classical --amplitude_encoder False", "--amplitude_encoder"),
    ("--model alam2021 --amplitude_encoder False", "--amplitude_encoder"),
    ("--model classical_narrow --engine torchquantum", "--engine"),
    ("--model linear --trainable_gates released", "--trainable_gates"),
    ("--model linear --n_layer 1 --pretrain_steps 5", "--pretrain_steps"),
    ("--model wang2022 --dropout 0.1", "--dropout"),
])  # fmt: skip
def test_settings_without_effect_are_warned_of(text, flag):
    (warning,) = parse(text).warnings
    assert flag in warning and "\n" not in warning


@pytest.mark.parametrize("text", ["--mode direct --n_layer 2", "--n_layer 1 --pretrain_steps 5",
                                  "--jac_loss_weight 0.5 --jac_loss_freq 1", "--model classical --dropout 0.1",
                                  "--model linear --mode direct --n_layer 1", "--model alam2021 --engine torchquantum",
                                  "--model wang2022 --num_classes 2 --amplitude_encoder False"])  # fmt: skip
def test_no_warning_where_all_has_effect(text):
    assert parse(text).warnings == []


def test_fail_ends_with_one_line_and_status_1(capsys):
    with pytest.raises(SystemExit) as end:
        fail(SettingsError("--lr is odd"))
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: --lr is odd\n"
