"""A full disk, in every command that writes: files that may not grow beyond a size, or a file system of a few kB where
mounting is allowed. One line names the file, what was there stays, and with space again the command comes to its end.

It knows how space is taken away, and the commands that write.
"""

import ctypes
import os
import random
import resource
import shutil
import subprocess
from functools import lru_cache, partial
from pathlib import Path

from .children import start
from .judging import Trial, check_manners, check_refusal, last_line
from .signals import OF, OTHERS
from .subjects import ENOUGH, NAME, SUBJECTS, Bench, check_finished, without_pictures

# {run}: the folder of a finished run, {out}: a new file
WRITING = OTHERS | {
    "benchmark": "benchmark.py solve --n_wires 4 --batch_size 4 --repetitions 1 --json {out}.json",
    "reproduce circuit": "reproduce.py circuit --n_wires 4 --out {out}.svg",
    "reproduce overview": "reproduce.py overview --out {out}.png",
    "reproduce figures": "reproduce.py figures --results_dir {out}.results --images_dir {out}.images",
    "reproduce report": "reproduce.py report --results_dir {out}.results --work_dir {out}.runs --html",
}
LIMITS = (0, 100, 700, 3_000, 8_000, 30_000, 100_000)  # bytes a file
PRIVATE, NEW_NAMESPACE, RECURSIVE, REMOUNT = 1 << 18, 0x00020000, 1 << 14, 32  # of Linux


def cases(n: int, rng: random.Random, bench: Bench) -> list[dict]:
    """Training from its start and from the middle, and every other command that writes."""
    commands = [*SUBJECTS, *WRITING]
    rng.shuffle(commands)
    return [
        {
            "command": commands[i % len(commands)], "begun": rng.random() < 0.5, "limit": rng.choice(LIMITS),
            "mounted": rng.random() < 0.5, "pictures": rng.random() < 0.3, "seed": rng.getrandbits(32),
        }
        for i in range(n)
    ]  # fmt: skip


@lru_cache
def may_mount() -> bool:
    """Whether this process can have mounts of its own; from then on none of them is seen by others."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not Path("/proc/self/ns/mnt").exists():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_NAMESPACE) != 0:
        return False
    return libc.mount(b"none", b"/", None, RECURSIVE | PRIVATE, None) == 0


def mount(folder: Path, size: int | None, again: bool = False) -> bool:
    """A file system of so many bytes at a folder; None: of enough."""
    options = f"size={max(size, 4096) if size is not None else '1g'}" + (",remount" if again else "")
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def attempt(case: dict, bench: Bench) -> Trial:
    """Give a command too little space, then enough."""
    command, limit = case["command"], case["limit"]
    folder = bench.fresh(f"disk-{case['seed']}")
    work_dir = folder / "work"
    work_dir.mkdir()
    mounted = case["mounted"] and may_mount() and mount(work_dir, None)
    trial = Trial("a file system of a few kB" if mounted else "files that may not grow")
    how = f"{command}{', begun' if case['begun'] else ''}, {limit} bytes {'in all' if mounted else 'a file'}"
    try:
        if command in WRITING:
            shutil.copytree(bench.reference(OF), work_dir / NAME)
        elif case["begun"]:
            shutil.copytree(bench.half(command), work_dir / NAME)
        before = {path: path.read_bytes() for path in work_dir.rglob("*") if path.is_file()}
        if mounted:  # what is there, and so many bytes
            used = sum(-(-len(content) // 4096) * 4096 for content in before.values())
            mount(work_dir, used + limit, again=True)
        script, flags = words(command, bench, work_dir)
        hook = partial(start_poor, None if mounted else limit, case["pictures"])
        end = start(script, flags, hook, folder).end(ENOUGH)
        check_poor(trial, end, command, work_dir, before, how)
        if mounted:
            mount(work_dir, None, again=True)
        again = start(script, flags, without_pictures, folder).end(ENOUGH)
        if command in SUBJECTS:
            check_finished(trial, again, bench, command, work_dir, how)
        else:
            check_manners(trial, again, f"{how}, given again")
            if again.status != 0:
                trial.find("lost", f"{how}: status {again.status} when given again; {last_line(again.out + again.err)}")
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(work_dir)], check=True)
    return trial


def words(command: str, bench: Bench, work_dir: Path) -> tuple[Path, list[str]]:
    """Script and flags of a command that writes into `work_dir`."""
    if command in SUBJECTS:
        return bench.command(command, work_dir)
    script, *flags = WRITING[command].format(run=work_dir / NAME, out=work_dir / "out").split()
    return bench.source / script, flags


def start_poor(limit: int | None, pictures: bool) -> None:
    """In the child: pictures or not, and the limit of a file's size."""
    if not pictures:
        without_pictures()
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def check_poor(trial: Trial, end, command: str, work_dir: Path, before: dict[Path, bytes], how: str) -> None:
    """Find what a command without space must not do; one that had enough is content."""
    if end.status == 0:
        check_manners(trial, end, how)
    else:
        check_refusal(trial, end, how, names=str(work_dir))
    gone = [path.name for path, content in before.items() if content and not (path.exists() and path.stat().st_size)]
    if gone:
        trial.find("lost", f"{how}: {', '.join(gone)} gone or empty")
    if half := [path.name for path in work_dir.rglob("*.tmp*")]:
        trial.find("left", f"{how}: {', '.join(half)}")
