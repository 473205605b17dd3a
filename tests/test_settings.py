"""Settings composed of parts: each field says what it is, each part checks its own, nothing is typed twice."""

import subprocess
import sys
from dataclasses import dataclass, fields

import pytest

from conftest import SCRIPTS
from qep.settings import QEPSettings
from runs.command_line import parse_settings, settings_parser
from runs.settings import (
    BaseSettings,
    OptimisationSettings,
    RunSettings,
    SettingsError,
    changeable_fields,
    changed,
    flag_of,
    result_fields,
    setting,
)
from training.settings import Settings

GROUPS = {"pendulum": "what swings", "optimisation": "how", "run": "where"}


@dataclass
class PendulumSettings(BaseSettings):
    """A part of something that this repository does not train."""

    length: float = setting(1.0, "pendulum", "metres", positive=True)
    bobs: int = setting(1, "pendulum", "how many", at_least=1, changeable=True)

    def validate(self) -> list[str]:
        warnings = super().validate()
        if self.length > 100:
            raise SettingsError("--length: no such tower")
        return [*warnings, *(["--bobs: chaos"] if self.bobs > 1 else [])]


@dataclass
class Whole(RunSettings, OptimisationSettings, PendulumSettings):
    lr: float = changed(OptimisationSettings, "lr", default=7.0)
    run_name, tags = "pendulum", ()


def parse(text: str):
    return parse_settings(text.split(), settings_parser("swing.py", "Swing.", "", Whole, GROUPS), Whole)


def test_parts_make_one_flat_whole():
    names = [f.name for f in fields(Whole)]
    assert names[:2] == ["length", "bobs"] and len(names) == len(set(names)) == 2 + 9 + 12
    command = parse("--length 2 --lr 3 --name x --log-interval 5")
    assert command.given == {"length": 2.0, "lr": 3.0, "name": "x", "log_interval": 5}
    assert Whole.from_dict(command.settings.to_dict()) == command.settings and Whole().lr == 7.0


@pytest.mark.parametrize("text, flag", [
    ("--length 101", "--length"), ("--length 0", "--length"), ("--bobs 0", "--bobs"), ("--lr 0", "--lr"),
    ("--scheduler inv_sqrt", "--warmup_step"), ("--name a/b", "--name"), ("--restart_dir x", "--restart_dir"),
    ("--epochs 2 --max_step 5", "--max_step"), ("--seed 9223372036854775808", "--seed"),
])  # fmt: skip
def test_every_part_checks_its_own_fields(text, flag, capsys):
    with pytest.raises(SystemExit) as end:
        parse(text)
    error = capsys.readouterr().err
    assert end.value.code == 2 and flag in error and error.startswith("swing.py: ") and error.count("\n") == 1


def test_every_part_warns_of_its_own_fields():
    assert parse("--bobs 2 --eta_min 0.5").warnings == [
        "--bobs: chaos", "--eta_min has no effect without --scheduler cosine"
    ]  # fmt: skip


def test_a_changed_field_keeps_all_else():
    before, after = (next(f for f in fields(kind) if f.name == "lr") for kind in (OptimisationSettings, Whole))
    assert (before.metadata, before.type) == (after.metadata, after.type) and before.default != after.default


def test_a_new_field_says_by_itself_what_it_is():
    assert "bobs" in changeable_fields(Whole) and "length" not in changeable_fields(Whole)
    results = result_fields(Whole)
    assert {"length", "bobs", "lr", "max_step", "log_interval"} <= set(results)
    assert not {"name", "work_dir", "device", "wandb"} & set(results)
    assert "work_dir" not in Whole().without_paths() and Whole().without_paths()["length"] == 1.0


def test_paths_of_one_machine_are_told_to_nobody():
    for kind, paths in ((Settings, {"data_dir", "work_dir", "restart_dir", "load"}),
                        (QEPSettings, {"data_dir", "work_dir", "restart_dir"})):  # fmt: skip
        assert set(kind().to_dict()) - set(kind().without_paths()) == paths


def test_what_both_kinds_of_training_share_is_the_same_setting():
    one, other = ({f.name: f for f in fields(kind)} for kind in (Settings, QEPSettings))
    shared = set(one) & set(other)
    assert shared == {f.name for part in (RunSettings, OptimisationSettings) for f in fields(part)} | {
        "num_classes", "data_dir", "shots"
    }  # fmt: skip
    for name in shared:
        assert one[name].type is other[name].type and flag_of(one[name]) == flag_of(other[name])
        for mark in ("at_least", "positive", "path", "surrounding", "changeable"):
            assert one[name].metadata[mark] == other[name].metadata[mark], name


# walls


HEAVY = ["torch._dynamo", "sklearn", "scipy", "matplotlib", "torchvision", "pandas", "wandb"]
TRAIN_AND_LOOK = f"""
import sys
import {{program}} as command
from {{module}} import parse_command_line

def look(training):
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
    raise SystemExit

command.measure = look
command.train(parse_command_line({{flags}}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("program, module, flags", [
    ("train_qdeq", "training.command_line", "--dataset digits --num_classes 2 --n_wires 4"),
    ("train_qep", "qep.settings", "--task digits --num_classes 2 --n_train 20"),
])  # fmt: skip
def test_training_to_the_last_step_imports_only_what_it_uses(program, module, flags, tmp_path):
    words = [*flags.split(), "--max_step", "2", "--batch_size", "10", "--work_dir", str(tmp_path)]
    code = TRAIN_AND_LOOK.format(program=program, module=module, flags=words)
    process = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, timeout=120)
    assert process.stdout.endswith("heavy: []\n"), process.stdout + process.stderr
