"""Single flipped bits in what a run keeps and in the data: never a traceback, never other content silently, and after
one in a checkpoint the run resumes, from this one or the one before, and ends with the same numbers.

It knows which files are damaged and who reads them. Commands are stopped where training would begin, which is cheap,
and what they have loaded is compared; the first of every case goes on to its end.
"""

import hashlib
import json
import random
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import torch

from .children import Outcome, start
from .judging import Trial, check_manners, last_line
from .subjects import ENOUGH, NAME, Bench, before_training, check_finished, without_pictures

KILLED, FINISHED, DATA = "implicit", "direct", "data"
# (file, the command that reads it): whose folder, and how many of a hundred flips
WHERE = {
    ("checkpoint_last.pt", "restart"): (KILLED, 30), ("checkpoint_previous.pt", "restart"): (KILLED, 6),
    ("checkpoint_best.pt", "restart"): (KILLED, 8), ("checkpoint_best.pt", "evaluate"): (KILLED, 10),
    ("config.json", "restart"): (KILLED, 12), ("metrics.csv", "restart"): (KILLED, 12),
    ("results.json", "table"): (FINISHED, 12), ("mnist.npz", "train"): (DATA, 10),
}  # fmt: skip
ON_DATA = "--num_classes 4 --n_wires 4 --max_step 2 --device cpu --tensorboard False --name trained"
A_CASE = 25  # flips


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Flips of one file, 25 a case; each is a place in the file, from 0 to 1, and a bit."""
    drawn = []
    for (name, reader), (_, share) in WHERE.items():
        count = n * share // 100
        flips = [(rng.random(), rng.randrange(8)) for _ in range(count)]
        drawn += [{"file": name, "reader": reader, "flips": flips[i : i + A_CASE], "seed": rng.getrandbits(32)}
                  for i in range(0, count, A_CASE)]  # fmt: skip
    rng.shuffle(drawn)
    return drawn


def attempt(case: dict, bench: Bench) -> Trial:
    """Flip bits of one file, one after the other, each in a fresh folder."""
    name, reader = case["file"], case["reader"]
    trial = Trial(f"in {name}, {reader}", 0)
    folder = bench.fresh(f"flips-{case['seed']}")
    whole = lay_out(name, reader, bench, folder)
    path = folder / "work" / NAME / name
    content = path.read_bytes()
    right = read(reader, bench, folder)
    accepted = [right[0]]
    if name == "checkpoint_last.pt":  # what is loaded where it is not there at all, is the one before
        path.unlink()
        accepted.append(read(reader, bench, folder)[0])
    for place, bit in case["flips"]:
        shutil.rmtree(folder / "work")
        shutil.copytree(whole, folder / "work")
        at = int(place * len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
        trial.count += 1
        how = f"{name}, bit {bit} of byte {at}"
        loaded, end = read(reader, bench, folder)
        judge(trial, case, loaded, end, accepted, right, how)
        if trial.count == 1 and reader == "restart" and name.endswith(".pt"):
            ended = bench.finish(KILLED, folder / "work")
            check_finished(trial, ended, bench, KILLED, folder / "work", f"{how}, to the end")
    return trial


def lay_out(name: str, reader: str, bench: Bench, folder: Path) -> Path:
    """What is there before the damage, in `folder`/work; and a copy of it."""
    kind = WHERE[name, reader][0]
    if kind == DATA:
        (folder / "work" / NAME).mkdir(parents=True)
        write_data(folder / "work" / NAME / name)
    else:
        shutil.copytree(bench.half(kind) if kind == KILLED else bench.reference(kind), folder / "work" / NAME)
    return Path(shutil.copytree(folder / "work", folder / "whole"))


def write_data(path: Path) -> None:
    """A small mnist.npz: noise around one pattern per class."""
    rng = np.random.default_rng(0)
    patterns, arrays = rng.uniform(0, 200, (10, 28, 28)), {}
    for split, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 10
        arrays[f"{split}_images"] = (patterns[labels] + rng.uniform(0, 55, (count, 28, 28))).astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    np.savez_compressed(path, **arrays)


def read(reader: str, bench: Bench, folder: Path) -> tuple[str | None, Outcome]:
    """Have the folder read by a command; what it loaded (None: nothing), and how it ended."""
    run, out = folder / "work" / NAME, folder / "loaded"
    out.unlink(missing_ok=True)
    if reader in ("table", "evaluate"):
        script, flags = ("reproduce.py", ["table"]) if reader == "table" else ("evaluate_qdeq.py", ["--max_images", 20])
        end = start(bench.source / script, [*flags, run], without_pictures).end(ENOUGH)
        return (end.out if end.status == 0 else None), end
    flags = ["--restart", "--restart_dir", run]  # as a user resumes it: what the run is stands in its folder
    if reader == "train":
        flags = [*ON_DATA.split(), "--work_dir", folder / "work", "--data_dir", run]
    end = start(bench.source / "train_qdeq.py", flags, partial(before_training, partial(write_down, out))).end(ENOUGH)
    return (out.read_text() if out.exists() else None), end


def write_down(out: Path, training) -> None:
    """In the child: all that a training has loaded, as digests by name; then stop."""
    state, splits = training.state, training.splits
    settings = {k: v for k, v in training.settings.to_dict().items() if not k.endswith("_dir")}
    best = state.folder.best_path
    content = {
        "model": state.model.state_dict(), "optimizer": state.optimizer.state_dict(), "step": state.step,
        "best": state.best, "meter": state.meter.state(), "learning_rate": state.learning_rate.state_dict(),
        "seconds": (state.seconds, state.steps_timed, state.skipped), "settings": settings,
        "best model": torch.load(best, weights_only=True)["model"] if best.exists() else None,
        "metrics": (state.folder.path / "metrics.csv").read_text(),
        "data": [(split.features, split.labels) for split in (splits.train, splits.val, splits.test)],
    }  # fmt: skip
    torch.set_printoptions(precision=17, threshold=1 << 30)
    out.write_text(json.dumps({k: hashlib.sha256(repr(v).encode()).hexdigest()[:12] for k, v in content.items()}))
    raise SystemExit(0)


def judge(
    trial: Trial,
    case: dict,
    loaded: str | None,
    end: Outcome,
    accepted: list[str],
    right: tuple[str, Outcome],
    how: str,
) -> None:
    """Find what a command must not do with a damaged file.

    Args:
        trial: what is written into.
        case: which file, and who reads it.
        loaded, end: what the command loaded of it, and how it ended.
        accepted: what it may have loaded.
        right: what it loads of the whole file, and how it ends then.
        how: which damage, in words.
    """
    check_manners(trial, end, how)
    known = {without_numbers(line) for line in (right[1].out + right[1].err).splitlines()}
    said = [line for line in (end.out + end.err).splitlines() if without_numbers(line) not in known]
    resumes = case["reader"] == "restart" and case["file"].endswith(".pt")
    if loaded == right[0] or (loaded in accepted and said):
        return
    if loaded is None:
        if end.status in (None, 0) or not end.err:
            trial.find("line", f"{how}: status {end.status} without a word")
        elif resumes:
            trial.find("lost", f"{how}: not resumed; {last_line(end.out + end.err)}")
    elif case["reader"] in ("table", "evaluate"):
        if not end.err:
            trial.find("accepted", f"{how}: {differing_words(right[0], loaded)}")
    elif not said:
        trial.find("accepted", f"{how}: another {differing(right[0], loaded)}")
    elif resumes:
        trial.find("numbers", f"{how}: another {differing(right[0], loaded)}; {said[0][:200]}")


def differing(ours: str, theirs: str) -> str:
    """Names of what was loaded otherwise."""
    ours, theirs = json.loads(ours), json.loads(theirs)
    return ", ".join(name for name in ours if ours[name] != theirs[name])


def differing_words(ours: str, theirs: str) -> str:
    """The first word that a command prints otherwise."""
    pairs = zip(ours.split(), theirs.split())
    return next((f"{a} is now {b}" for a, b in pairs if a != b), "more or fewer words")


def without_numbers(line: str) -> str:
    return "".join(c for c in line if not c.isdigit())
