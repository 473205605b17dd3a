"""Wrong files: something else in the place of each file that a command reads. One line or the right result, never a
traceback; a user's file stays as it is.

It knows what can be in the place of a file, and which commands read it.
"""

import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from runs.checkpoint import CheckpointError

from .children import Outcome, start
from .flips import FINISHED, KILLED, ON_DATA, write_data
from .judging import Trial, check_manners, check_refusal
from .subjects import ENOUGH, NAME, SUBJECTS, Bench, after_steps, difference, leave, without_pictures

NOBODY = 65534
CSV = {
    "not UTF-8": lambda text: text.encode().replace(b"train", b"tr\xffin"),
    "no header": lambda text: text.split("\n", 1)[1].encode(),
    "a giant field": lambda text: text.encode() + b"x" * 300_000 + b"\n",
    "a BOM": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "a NUL": lambda text: text.encode()[:-40] + b"\0" + text.encode()[-40:],
    "a line cut": lambda text: text.encode()[:-20],
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
}  # fmt: skip
WRONG_JSON = ("[]", "null", "3", '"x"', "{}", "{", "NaN", "[" * 100_000, '{"n_wires": "four"}',
              '{"name": 3, "seed": []}')  # fmt: skip
OTHER_FLAGS = ("--seed 5", "--lr 0.01", "--optim SGD", "--amplitude_encoder False", "--model linear")
# file: the folder it lies in, and the commands that read it
READERS = {
    "checkpoint_last.pt": ("half", ("restart", "evaluate last")),
    "checkpoint_best.pt": ("half", ("restart", "evaluate")),
    "config.json": ("half", ("restart", "evaluate")),
    "metrics.csv": ("half", ("restart", "reproduce run")),
    "results.json": ("finished", ("restart", "reproduce table")),
    "log.txt": ("half", ("restart",)),
    "mnist.npz": ("data", ("train on it",)),
}


def other(bench: Bench, flag: str) -> Path:
    """The folder of a run like the one that is tried, killed at the same step, with another flag."""
    work_dir = bench.fresh(f"other-{os.getpid()}")
    bench.train(KILLED, work_dir, hook=partial(after_steps, 14, leave), more=flag.split()).end(ENOUGH)
    return work_dir / NAME


def wrong(name: str, path: Path, bench: Bench) -> dict[str, Callable[[], object]]:
    """What can be in the place of a file: by name, what puts it there."""

    def instead(put: Callable[[], object]) -> Callable[[], object]:
        return lambda: [path.unlink(), put()]

    def write(content: bytes) -> Callable[[], object]:
        return lambda: path.write_bytes(content)

    zips = path.with_name("other.npz")
    ways = {
        "an empty file": write(b""),
        "garbage": write(random.Random(0).randbytes(5000)),
        "text": write(b"hello\n"),
        "half of it": lambda: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "a directory": instead(path.mkdir),
        "a loop of links": instead(lambda: path.symlink_to(path.name)),
        "a file that may not be read": lambda: path.chmod(0),
    }
    if name.endswith(".npz"):
        return ways | {"another zip": lambda: shutil.copy(bench.half(KILLED) / "checkpoint_last.pt", path)}
    ways |= {
        "nothing": path.unlink,
        "a link to nothing": instead(lambda: path.symlink_to("nowhere")),
        "another zip": lambda: [write_data(zips), zips.replace(path)],
    }
    if name.endswith(".pt"):
        ways |= {f"that of {s}": lambda s=s: shutil.copy(bench.half(s) / name, path) for s in SUBJECTS if s != KILLED}
        ways |= {f"that of {f}": lambda f=f: shutil.copy(other(bench, f) / name, path) for f in OTHER_FLAGS}
    if name.endswith(".json"):
        ways |= {f"JSON {text[:24]}": write(text.encode()) for text in WRONG_JSON}
    if name == "metrics.csv":
        ways |= {what: lambda change=change: path.write_bytes(change(path.read_text())) for what, change in CSV.items()}
    return ways


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Each wrong file for each command that reads it, in an order of chance, until there are n."""
    drawn = [
        {"file": name, "way": way, "reader": reader, "seed": rng.getrandbits(32)}
        for name, (_, readers) in READERS.items()
        for way in wrong(name, Path(name), bench)
        for reader in readers
    ]
    rng.shuffle(drawn)
    return drawn[:n]


def attempt(case: dict, bench: Bench) -> Trial:
    """Put something in the place of a file, and have it read."""
    name, way, reader = case["file"], case["way"], case["reader"]
    kind = READERS[name][0]
    trial, how = Trial(f"in the place of {name}"), f"{reader}, {way} in the place of {name}"
    folder = bench.fresh(f"files-{case['seed']}")
    work_dir = folder / "work"
    run = work_dir / NAME
    if kind == "data":
        run.mkdir(parents=True)
        write_data(run / name)
    else:
        shutil.copytree(bench.half(KILLED) if kind == "half" else bench.reference(FINISHED), run)
    wrong(name, run / name, bench)[way]()
    before = (run / name).read_bytes() if (run / name).is_file() else None
    hook = partial(as_nobody, folder) if "not be read" in way and os.geteuid() == 0 else without_pictures
    end = start(*command(reader, bench, work_dir), hook, folder).end(ENOUGH)
    if end.status != 0:
        check_refusal(trial, end, how, names=name)
    else:
        check_accepted(trial, end, case, bench, work_dir, how)
    if kind == "data" and before is not None and not ((run / name).is_file() and (run / name).read_bytes() == before):
        trial.find("lost", f"{how}: a user's own file was changed or removed")
    return trial


def command(reader: str, bench: Bench, work_dir: Path) -> tuple[Path, list[str]]:
    """Script and flags of a command that reads a run folder, or data that lie there."""
    run, out = work_dir / NAME, work_dir.parent / "out.png"
    words = {
        "evaluate": f"evaluate_qdeq.py {run} --device cpu",
        "evaluate last": f"evaluate_qdeq.py {run} --device cpu --checkpoint last",
        "reproduce run": f"reproduce.py run {run} --out {out}",
        "reproduce table": f"reproduce.py table {run}",
        "train on it": f"train_qdeq.py {ON_DATA} --data_dir {run} --work_dir {work_dir} --name trained",
        "restart": f"train_qdeq.py --restart --restart_dir {run} --device cpu --tensorboard False",
    }
    script, *flags = words[reader].split()
    return bench.source / script, flags


def as_nobody(folder: Path) -> None:
    """In the child: a user for whom permissions hold, to whom the folder belongs."""
    without_pictures()
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)


def check_accepted(trial: Trial, end: Outcome, case: dict, bench: Bench, work_dir: Path, how: str) -> None:
    """Find what a command must not have made of a wrong file that it took: other numbers, or none of its word."""
    check_manners(trial, end, how)
    subject = KILLED if READERS[case["file"]][0] == "half" else FINISHED
    if case["reader"] != "restart":
        return
    try:
        differs = difference(bench.reference(subject), work_dir / NAME)
    except (OSError, ValueError, KeyError, CheckpointError) as error:
        trial.find("lost", f"{how}: {error!r}")
        return
    said = case["file"] in end.out + end.err
    if differs and not said:
        trial.find("accepted", f"{how}: {differs}")
    elif differs and not differs.startswith("metrics.csv"):
        trial.find("numbers", f"{how}: {differs}")
