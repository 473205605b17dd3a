"""The command line and its settings: every flag lands, what cannot work ends with one line, help is quick."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from qep.settings import QEPSettings
from reproduction.command_line import parse_command_line as reproduce_command_line
from runs.machine import choose_device
from runs.settings import SettingsError, flag_of
from training.command_line import GROUPS, IDLE_FLAGS, build_parser, parse_command_line
from training.settings import Settings
from utils.command_line import fail
from utils.files import REPOSITORY

# the released code's example command, word for word
EXAMPLE = """--optim Adam --lr 0.005 --cuda --scheduler constant --max_step 18800 --pretrain_steps 0
--mode implicit --n_layer 0 --name qdeq_mnist_warmup_10c --f_solver broyden --b_solver broyden --stop_mode rel
--f_thres 10 --b_thres 10 --jac_loss_weight 0.8 --jac_loss_freq 1 --jac_incremental 0 --batch_size 256
--rand_f_thres_delta 2 --log-interval 188 --eval-interval 188 --num_classes 10 --n_wires 10 --dataset mnist"""
EXAMPLE_SETTINGS = {
    "optim": "Adam", "lr": 0.005, "device": "cpu", "scheduler": "constant", "max_step": 18800,
    "pretrain_steps": 0, "mode": "implicit", "n_layer": 0, "name": "qdeq_mnist_warmup_10c",
    "f_solver": "broyden", "b_solver": "broyden", "stop_mode": "rel", "f_thres": 10, "b_thres": 10,
    "jac_loss_weight": 0.8, "jac_loss_freq": 1.0, "jac_incremental": 0, "batch_size": 256,
    "rand_f_thres_delta": 2, "log_interval": 188, "eval_interval": 188, "num_classes": 10, "n_wires": 10,
    "dataset": "mnist",
}  # fmt: skip

# the released code's flags: what is typed, the field, its value, and what else such a command needs
RELEASED = [
    ("--dataset fashion_mnist", "dataset", "fashion_mnist", ""),
    ("--dataset cifar10", "dataset", "cifar10", ""),
    ("--num_classes 2", "num_classes", 2, ""),
    ("--num_classes 4", "num_classes", 4, ""),
    ("--n_wires 4", "n_wires", 4, ""),
    ("--amplitude_encoder False", "amplitude_encoder", False, ""),
    ("--amplitude_encoder True", "amplitude_encoder", True, ""),
    ("--mode direct", "mode", "direct", "--n_layer 1"),
    ("--n_layer 5", "n_layer", 5, "--mode direct"),
    ("--dropout 0.2", "dropout", 0.2, ""),
    *((f"--optim {name}", "optim", name, "") for name in ("Adam", "SGD", "Adagrad", "RMSprop", "RAdam")),
    ("--lr 1e-3", "lr", 1e-3, ""),
    ("--scheduler cosine", "scheduler", "cosine", ""),
    ("--scheduler dev_perf", "scheduler", "dev_perf", ""),
    ("--scheduler inv_sqrt", "scheduler", "inv_sqrt", "--warmup_step 5"),
    ("--warmup_step 7", "warmup_step", 7, ""),
    ("--decay_rate 0.25", "decay_rate", 0.25, ""),
    ("--lr_min 1e-5", "lr_min", 1e-5, "--scheduler dev_perf"),
    ("--eta_min 1e-4", "eta_min", 1e-4, "--scheduler cosine"),
    ("--clip 1.5", "clip", 1.5, ""),
    ("--batch_size 32", "batch_size", 32, ""),
    ("--batch_chunk 4", "batch_chunk", 4, ""),
    ("--max_step 99", "max_step", 99, ""),
    ("--max_eval_steps 3", "max_eval_steps", 3, ""),
    ("--weight_decay 0.01", "weight_decay", 0.01, ""),
    ("--patience 3", "patience", 3, "--scheduler dev_perf"),
    ("--f_solver anderson", "f_solver", "anderson", ""),
    ("--b_solver anderson", "b_solver", "anderson", ""),
    ("--stop_mode abs", "stop_mode", "abs", ""),
    ("--f_thres 20", "f_thres", 20, ""),
    ("--b_thres 21", "b_thres", 21, ""),
    ("--rand_f_thres_delta 1", "rand_f_thres_delta", 1, ""),
    ("--jac_loss_weight 0.5", "jac_loss_weight", 0.5, "--jac_loss_freq 1"),
    ("--jac_loss_freq 0.5", "jac_loss_freq", 0.5, "--jac_loss_weight 1"),
    ("--jac_incremental 100", "jac_incremental", 100, "--jac_loss_freq 1"),
    ("--spectral_radius_mode", "spectral_radius_mode", True, ""),
    ("--pretrain_steps 10", "pretrain_steps", 10, "--n_layer 1"),
    ("--start_train_steps 10", "start_train_steps", 10, ""),
    ("--seed 3", "seed", 3, ""),
    ("--log-interval 5", "log_interval", 5, ""),
    ("--log_interval 5", "log_interval", 5, ""),
    ("--eval-interval 6", "eval_interval", 6, ""),
    ("--eval_interval 6", "eval_interval", 6, ""),
    ("--work_dir /somewhere", "work_dir", "/somewhere", ""),
    ("--restart", "restart", True, ""),
    ("--restart_dir /somewhere", "restart_dir", "/somewhere", "--restart"),
    ("--debug", "debug", True, ""),
    ("--load /a.pt", "load", "/a.pt", ""),
    ("--name mine", "name", "mine", ""),
]

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

HEAVY = ["torch", "torchquantum", "torchvision", "numpy", "matplotlib", "wandb"]
START_AND_LOOK = f"""
import runpy, sys
try:
    runpy.run_path("train_qdeq.py", run_name="__main__")
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


def parse(text: str):
    return parse_command_line(shlex.split(text))


def another(f):
    """A value of a settings field that is not its default."""
    if f.metadata["choices"]:
        return next(choice for choice in f.metadata["choices"] if choice != f.default)
    return not f.default if f.type is bool else f.default + {int: 3, float: 0.125, str: "/else/where" if f.metadata["path"] else "elsewhere"}[f.type]


# what lands


@pytest.mark.parametrize("text, name, value, needs", RELEASED, ids=[row[0] for row in RELEASED])
def test_every_flag_of_the_released_code_lands(text, name, value, needs):
    command = parse(f"{text} {needs}")
    landed = getattr(command.settings, name)
    assert landed == value and type(landed) is type(value)
    assert command.given[name] == value
    assert command.warnings == []


def test_released_example_runs_verbatim(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command = parse(EXAMPLE)
    assert command.settings == Settings(**EXAMPLE_SETTINGS)
    assert command.given == EXAMPLE_SETTINGS
    assert len(command.warnings) == 1 and "--cuda" in command.warnings[0]


@pytest.mark.parametrize("f", fields(Settings), ids=lambda f: f.name)
def test_every_setting_has_a_flag_in_both_spellings(f):
    value = another(f)
    for flag in {flag_of(f), f"--{f.name}", f"--{f.name}".replace("_interval", "-interval")}:
        words = [flag] if f.type is bool and not f.default else [flag, str(value)]
        assert vars(build_parser().parse_args(words)) == {f.name: value}


def test_no_flag_at_all_is_the_defaults():
    command = parse("")
    assert (command.settings, command.given, command.warnings) == (Settings(), {}, [])


@pytest.mark.parametrize("word, value", [
    ("False", False), ("false", False), ("0", False), ("no", False),
    ("True", True), ("true", True), ("1", True), ("yes", True),
])  # fmt: skip
def test_booleans_mean_what_they_say(word, value):
    assert parse(f"--amplitude_encoder {word}").settings.amplitude_encoder is value
    assert parse(f"--tensorboard {word}").settings.tensorboard is value


@pytest.mark.parametrize("text", ["--init normal", "--not_tied", "--pre_lnorm", "--wnorm", "--clip_nonemb"])
def test_idle_flags_are_accepted_with_a_warning(text):
    command = parse(text + " --lr 0.5")
    assert command.settings == Settings(lr=0.5) and command.given == {"lr": 0.5}
    (warning,) = command.warnings
    assert text.split()[0] in warning and "nothing" in warning


# devices


def test_cuda_flag_falls_back_to_the_cpu_with_a_warning(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    command = parse("--cuda")
    (warning,) = command.warnings
    assert "--cuda" in warning and "CPU" in warning
    assert choose_device(command.settings).type == "cpu"


def test_cuda_flag_takes_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    command = parse("--cuda")
    assert command.settings.device == "cuda" and command.warnings == []


@pytest.mark.parametrize("flag, there_is_one, kind", [
    ("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda"),
])  # fmt: skip
def test_choose_device(monkeypatch, flag, there_is_one, kind):
    monkeypatch.setattr("torch.cuda.is_available", lambda: there_is_one)
    assert choose_device(parse(f"--device {flag}").settings).type == kind


def test_device_cuda_without_cuda_is_an_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="--device cuda"):
        choose_device(parse("--device cuda").settings)


# what is refused, and what is warned of


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


# help


@pytest.mark.parametrize("text, status", [("--help", 0), ("--n_wires 5", 2), ("--nonsense", 2),
                                          ("--cuda --n_wires 5", 2)])  # fmt: skip
def test_help_and_wrong_flags_do_not_wait_for_torch(text, status):
    words = [sys.executable, "-c", START_AND_LOOK, *text.split()]
    run = subprocess.run(words, cwd=REPOSITORY / "DEQ-Quantum", capture_output=True, text=True, timeout=60)
    assert run.returncode == status, run.stderr
    assert run.stdout.endswith("heavy: []\n")
    assert ("usage: train_qdeq.py" in run.stdout) == (status == 0)
    assert run.stderr.count("\n") == (status != 0)


def test_help_names_every_setting_and_its_default():
    helped = {action.dest: action for action in build_parser()._actions}
    undocumented = []
    for f in fields(Settings):
        assert flag_of(f) in helped[f.name].option_strings
        assert len(helped[f.name].help) > 5
        is_switch = f.type is bool and not f.default  # off until given, as all switches are
        if f.default != "" and not is_switch and f"default: {f.default})" not in helped[f.name].help:
            undocumented.append(f.name)
    assert undocumented == []


def test_help_is_grouped_and_leaves_idle_flags_out(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = build_parser().format_help()
    assert all(f"\n{name}:\n  {about}\n" in text for name, about in GROUPS.items())
    assert all(f"\n  {flag_of(f)}" in text for f in fields(Settings)) and "\n  --cuda" in text
    assert not any(flag in text for flag in IDLE_FLAGS)
    assert set(IDLE_FLAGS) <= set(build_parser()._option_string_actions)


def test_examples_in_the_help_parse():
    examples = re.findall(r"^ +python train_qdeq\.py (.*)$", build_parser().epilog, re.MULTILINE)
    assert len(examples) >= 3
    for text in examples:
        assert parse(text).warnings == []


# the settings themselves


def test_settings_survive_json():
    settings = Settings(**{f.name: another(f) for f in fields(Settings)})
    assert all(getattr(settings, f.name) != f.default for f in fields(Settings))
    saved = json.loads(json.dumps(settings.to_dict()))
    assert Settings.from_dict(saved) == settings
    assert list(saved) == [f.name for f in fields(Settings)]


def test_settings_saved_before_there_were_baselines_are_of_qdeq():
    saved = Settings().to_dict()
    del saved["model"]
    assert Settings.from_dict(saved) == Settings()


def test_unknown_saved_settings_are_refused():
    with pytest.raises(SettingsError, match="unknown entries: moons, stars"):
        Settings.from_dict(Settings().to_dict() | {"stars": 1, "moons": 2})


def test_data_dir_is_the_flag_else_the_environment_else_the_repository(monkeypatch):
    monkeypatch.delenv("QDEQ_DATA", raising=False)
    assert parse("").settings.data_folder == REPOSITORY / "data"
    monkeypatch.setenv("QDEQ_DATA", "/elsewhere")
    assert parse("").settings.data_folder == Path("/elsewhere")
    assert parse("--data_dir here").settings.data_folder == Path("here").absolute()


@pytest.mark.parametrize("kind", [Settings, QEPSettings])
def test_a_default_is_not_saved_as_a_path_and_what_is_given_is(kind, monkeypatch):
    """A run that is moved follows $QDEQ_DATA where it is; one of an older version has the path it was saved with."""
    monkeypatch.setenv("QDEQ_DATA", "/here")
    saved = kind().to_dict()
    assert [value for value in saved.values() if "/" in str(value)] == []
    monkeypatch.setenv("QDEQ_DATA", "~/there")
    monkeypatch.setenv("HOME", "/home/me")
    assert kind.from_dict(saved).data_folder == Path("/home/me/there")
    assert kind.from_dict(saved).runs_folder == REPOSITORY / "runs"
    old = kind.from_dict(saved | {"data_dir": "/old/data", "work_dir": "/old/runs"})
    assert (old.data_folder, old.runs_folder) == (Path("/old/data"), Path("/old/runs"))


def test_run_name_says_what_was_chosen():
    names = {
        "": "mnist_10c_10q_amplitude_implicit_seed1111",
        "--n_layer 1 --pretrain_steps 5": "mnist_10c_10q_amplitude_warmup_seed1111",
        "--mode direct --n_layer 5 --seed 2": "mnist_10c_10q_amplitude_direct5_seed2",
        "--num_classes 4 --n_wires 4 --amplitude_encoder False": "mnist_4c_4q_angle_implicit_seed1111",
        "--model wang2022 --num_classes 4 --n_wires 4": "mnist_4c_4q_amplitude_wang2022_implicit_seed1111",
        "--model alam2021 --mode direct --n_layer 1": "mnist_10c_10q_alam2021_direct1_seed1111",
        "--model classical --n_layer 1 --pretrain_steps 5": "mnist_10c_10q_classical_warmup_seed1111",
        "--model linear": "mnist_10c_10q_linear_seed1111",
        "--name mine": "mine",
    }
    assert {text: parse(text).settings.run_name for text in names} == names


@pytest.mark.parametrize("program", ["evaluate_qdeq", "train_qep", "reproduce", "benchmark", "hardware"])
@pytest.mark.parametrize("text, status", [("--help", 0), ("--nonsense", 2)])
def test_no_command_waits_for_torch_to_say_so(program, text, status):
    code = f"import runpy, sys\nsys.argv = ['{program}.py', '{text}']\nsys.modules['torch'] = None\n"
    code += f"runpy.run_path('{program}.py', run_name='__main__')"
    process = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY / "DEQ-Quantum", capture_output=True, text=True)
    assert process.returncode == status, process.stderr
    assert process.stderr.count("\n") == (status > 0)


@pytest.mark.parametrize("kind", [[], ["qep", "figures"]])
def test_two_dashes_are_no_value(kind, capsys):
    parse, flag = (reproduce_command_line, "--images") if kind else (parse_command_line, "--name")
    with pytest.raises(SystemExit) as end:
        parse([*kind, f"{flag}=--"])
    assert end.value.code == 2 and f"argument {flag}: expected one argument" in capsys.readouterr().err
