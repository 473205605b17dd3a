"""Wrong command lines, drawn from each parser's own actions: one line on stderr, status 1 or 2, nothing left behind,
and an end within seconds. A line that happens to be right takes two steps at most.

It knows what can be wrong with a word, and a short right line of every command; flags and their kinds it asks the
parsers.
"""

import argparse
import ast
import os
import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .children import start
from .judging import Trial, check_manners, check_refusal
from .subjects import NAME, Bench, after_steps

OF = "implicit"
SOON = 12.0  # seconds
RIGHT = 77  # the status of a line that was right and took its steps
PARSERS = "parsers"
# a short right line of every command; {run}: the folder of a finished run; the others lie in the working directory
TRAINED = "--max_step 2 --device cpu --tensorboard False --work_dir runs --name n"
STARTS = {
    "train_qdeq.py": f"--dataset digits --num_classes 4 --n_wires 4 --batch_size 64 {TRAINED}",
    "train_qep.py": f"--task xor {TRAINED}",
    "evaluate_qdeq.py": "{run} --device cpu --max_images 8",
    "benchmark.py": "--n_wires 4 --batch_size 4 --repetitions 1 --device cpu",
    "reproduce.py qep error": "--json e.json --n_spins 3 --problems 1 --repetitions 1 --betas 0.1 --shots 10",
    "reproduce.py qep time": "--json t.json --spins 5 --dense_spins 0 --repetitions 1",
    "reproduce.py qep table": "{run}", "reproduce.py table": "{run}", "reproduce.py run": "{run} --out o.png",
    "reproduce.py theory": "--dataset digits",
    "reproduce.py circuit": "--n_wires 4 --out o.png", "reproduce.py overview": "--out o.png",
}  # fmt: skip
# where a command has these flags
SHORT = {"operations": "4", "wires": "4", "results_dir": "results", "work_dir": "runs",
         "images_dir": "images", "plot": "p.png"}
WRONG_NUMBERS = ("10" + "0" * 19, "-10" + "0" * 19, str(2**63), "1e308", "-1e308", "1e400", "nan", "inf", "-inf", "",
                 " ", "abc", "1e", "0x10", "1,5", "½", "-1", "--")  # fmt: skip
ODD_NUMBERS = ("0", "1", "2", "3", "5", "17", "1030", "4096", "1e-308", "0.5", "1e39", "1e30", "65536", str(2**31))
LONG = "p" * 300
WRONG_PATHS = (LONG, f"{LONG}/x", "/dev/null/x", "/proc/x", "", "a\udcffb", "/", "~nobody-there/x", "../" * 50 + LONG)
WRONG_TEXTS = ("", LONG, "a/b", "..", "x\ny", "é", "-", "\udcff", "none of them")


@dataclass(frozen=True)
class Command:
    """A command or sub-command.

    Attributes:
        words: script and sub-commands.
        flags: of each action: spelling ("" for a positional), its type's name, how many words it takes, its choices.
    """

    words: tuple[str, ...]
    flags: tuple[tuple[str, str, object, tuple], ...]


def commands_of(parser: argparse.ArgumentParser, words: tuple[str, ...]) -> list[Command]:
    """A parser's command, or those of its sub-commands."""
    subs = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if subs:
        return [c for name, sub in subs[0].choices.items() for c in commands_of(sub, (*words, name))]
    return [Command(words, tuple(describe(action) for action in parser._actions if action.dest != "help"))]


def describe(action: argparse.Action) -> tuple[str, str, object, tuple]:
    kind = "none" if action.nargs == 0 else getattr(action.type, "__name__", "str")
    spelling = max(action.option_strings, key=len, default="")
    return spelling, kind, action.nargs, tuple(map(str, action.choices or ()))


def capture(out: Path) -> None:
    """In the child: instead of reading a command line, write down the parser's commands."""

    def parse_args(self, *_, **__):
        found = commands_of(self, ())
        out.write_text(repr([(c.words, c.flags) for c in found]))
        raise SystemExit(0)

    argparse.ArgumentParser.parse_args = parse_args


def all_commands(bench: Bench) -> list[Command]:
    """The commands of every script, asked of their parsers."""
    found = []
    for script in sorted(bench.source.glob("*.py")):
        if "__main__" not in script.read_text():
            continue
        out = bench.fresh(PARSERS) / script.stem
        start(script, [], partial(capture, out)).end(60)
        if out.exists():
            found += [Command((script.name, *words), flags) for words, flags in ast.literal_eval(out.read_text())]
    return found


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Lines with one to three wrong words, of every command in turn, those with many flags more often."""
    commands = all_commands(bench)
    turns = [c for c in commands for _ in range(1 + len(c.flags) // 4)]
    rng.shuffle(turns)
    used: dict[Command, list] = {c: [] for c in commands}  # every flag once before any comes twice
    drawn = []
    for i in range(n):
        command = turns[i % len(turns)]
        if not used[command]:
            used[command] = rng.sample(command.flags, len(command.flags)) or [("", "str", None, ())]
        flag = used[command].pop()
        words, wrong = draw_words(flag, rng)
        another = draw_words(rng.choice(command.flags or [flag]), rng)[0]
        more = rng.choice([(), (), (), ("--no_such_flag",), ("superfluous",), another])
        drawn.append({"command": command.words, "flags": [f[0] for f in command.flags], "words": [*words, *more],
                      "wrong": wrong and not more, "number": i})  # fmt: skip
    return drawn


def draw_words(flag: tuple, rng: random.Random) -> tuple[list[str], bool]:
    """A flag with something wrong behind it; and whether it must be refused, or may be right after all."""
    spelling, kind, nargs, choices = flag
    prefix = [spelling] if spelling else []
    if kind == "none":
        return rng.choice([[f"{spelling}=x"], [spelling, spelling, "extra"], [spelling]]), False
    if spelling and rng.random() < 0.1:
        return prefix, nargs not in ("?", "*")
    if choices:
        return [*prefix, rng.choice(("", "nothing like it", choices[0] + "x", LONG))], True
    if kind == "Path" or spelling.endswith("_dir") or "load" in spelling:
        return [*prefix, rng.choice(WRONG_PATHS)], False
    if kind == "str":
        return [*prefix, rng.choice(WRONG_TEXTS)], False
    if kind == "boolean":
        return [*prefix, rng.choice(("maybe", "", "2", "Falsch"))], True
    wrong = rng.random() < 0.7
    value = rng.choice(WRONG_NUMBERS if wrong else ODD_NUMBERS)
    return ([f"{spelling}={value}"] if spelling and rng.random() < 0.3 else [*prefix, value]), False


def attempt(case: dict, bench: Bench) -> Trial:
    """Give one command line."""
    words, number = case["command"], case["number"]
    trial = Trial(" ".join(words))
    folder = bench.fresh(f"lines-{number}")
    run = folder / "of" / NAME
    shutil.copytree(bench.reference(OF), run)
    cwd = folder / "here"
    cwd.mkdir()
    line = right_line(words, case["flags"], run) + case["words"]
    before = list_of(folder)
    hook = partial(two_steps, folder / "trained")
    child = start(bench.source / words[0], [*words[1:], *line], hook, cwd)
    end = child.end(SOON)
    shown = " ".join([*words, *(word[:40] if word else "''" for word in line)])
    if end.status in (0, RIGHT):
        check_manners(trial, end, shown)
        if case["wrong"]:
            trial.find("accepted", f"{shown}: status {end.status}")
    elif end.status is None and not beyond(case["words"]):
        pass  # right, and long
    else:
        check_refusal(trial, end, shown)
        left = sorted(list_of(folder) - before - {"trained"})
        if left and not (folder / "trained").exists():
            trial.find("left", f"{shown}: {', '.join(left)[:200]}")
    return trial


def right_line(words: list[str], flags: list[str], run: Path) -> list[str]:
    """A short right line of a command, all it writes below the working directory."""
    text = STARTS.get(" ".join(words)) or STARTS.get(" ".join(words[:1]), "")
    line = text.format(run=run).split()
    for name, value in SHORT.items():
        if f"--{name}" in flags and f"--{name}" not in line:
            line += [f"--{name}", value]
    if "--dry_run" in flags:
        line += ["--dry_run"]
    return line


def beyond(words: list[str]) -> bool:
    """Whether a word is a number that no machine can do so much work for."""
    values = [word.rpartition("=")[2].lstrip("-") for word in words]
    return any(len(value) > 18 and value.isdigit() for value in values)


def list_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def two_steps(mark: Path) -> None:
    """In the child: training ends with its second step."""
    after_steps(1, mark.touch)
    after_steps(2, lambda: os._exit(RIGHT))
