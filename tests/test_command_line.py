"""The command line of train_qdeq.py: every flag of the released code lands, devices are chosen, help is quick."""

import re
import subprocess
import sys
from dataclasses import fields

import pytest

from reproduction.command_line import parse_command_line as reproduce_command_line
from runs.machine import choose_device
from runs.settings import SettingsError, flag_of
from training.command_line import GROUPS, IDLE_FLAGS, build_parser, parse_command_line
from training.settings import Settings
from typed import another, parse
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

HEAVY = ["torch", "torchquantum", "torchvision", "numpy", "matplotlib", "wandb"]
START_AND_LOOK = f"""
import runpy, sys
try:
    runpy.run_path("train_qdeq.py", run_name="__main__")
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


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


@pytest.mark.parametrize("program", ["evaluate_qdeq", "train_qep", "make_states", "reproduce", "benchmark", "hardware"])
@pytest.mark.parametrize("text, status", [("--help", 0), ("--nonsense", 2)])
def test_no_command_waits_for_torch_to_say_so(program, text, status):
    code = f"import runpy, sys\nsys.argv = ['{program}.py', '{text}']\nsys.modules['torch'] = None\n"
    code += f"runpy.run_path('{program}.py', run_name='__main__')"
    words = [sys.executable, "-c", code]
    process = subprocess.run(words, cwd=REPOSITORY / "DEQ-Quantum", capture_output=True, text=True)
    assert process.returncode == status, process.stderr
    assert process.stderr.count("\n") == (status > 0)


@pytest.mark.parametrize("kind", [[], ["qep", "figures"]])
def test_two_dashes_are_no_value(kind, capsys):
    parse, flag = (reproduce_command_line, "--images") if kind else (parse_command_line, "--name")
    with pytest.raises(SystemExit) as end:
        parse([*kind, f"{flag}=--"])
    assert end.value.code == 2 and f"argument {flag}: expected one argument" in capsys.readouterr().err
