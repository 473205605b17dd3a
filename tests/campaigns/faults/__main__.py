"""The command line of the campaign; it is carried out by `campaign` on a copy of the source, so that no line that is
drawn can write into the repository. Knows flags and folders. Torch-free.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import PARTS

REPOSITORY = Path(__file__).resolve().parents[3]
COPIED = ("DEQ-Quantum", "results", "images", "README.md")


def parse_command_line(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the flags; `n` becomes a number for each part that is chosen."""
    parser = argparse.ArgumentParser(
        prog="test.sh faults", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Kill, signal, starve, damage and misuse the commands; exit status 1 if anything was lost.",
    )  # fmt: skip
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="of the parts")
    numbers = " ".join(f"{part}={n}" for part, n in PARTS.items())
    parser.add_argument("--n", nargs="+", default=[], metavar="[PART=]N",
                        help=f"how many are tried, of every part or of one; unless given {numbers}")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything that is drawn")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cases at a time")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write what is found, and README.md beside it")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, in a new folder that stays")
    options = parser.parse_args(arguments)
    numbers = {part: PARTS[part] for part in options.only}
    for text in options.n:
        part, _, n = text.rpartition("=")
        if not n.isdigit() or part not in ("", *numbers):
            parser.error(f"--n {text}: expected a number, or one of {', '.join(f'{part}=N' for part in numbers)}")
        numbers |= {part: int(n)} if part else dict.fromkeys(numbers, int(n))
    options.n = numbers
    if options.keep and options.keep.exists():
        parser.error(f"--keep {options.keep} is there already: name a new folder")
    return options


def commit() -> str | None:
    """The commit of the repository, with "-dirty" if tracked files differ from it."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def carry_out(options: argparse.Namespace, folder: Path) -> int:
    """Copy the source into a folder and work there, in the environment of a user; the exit status."""
    copy, home = folder / "QDEQ", folder / "home"
    for name in COPIED:
        path = REPOSITORY / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / name)
    home.mkdir()
    folder.chmod(0o755)  # some commands are given as another user
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "QDEQ", "SLURM"))}
    environment |= {
        "OMP_NUM_THREADS": "1", "HOME": str(home), "PYTHONPATH": f"{copy / 'DEQ-Quantum'}:{REPOSITORY / 'tests'}",
    }  # fmt: skip
    asked = {
        "source": str(copy / "DEQ-Quantum"), "folder": str(folder), "n": options.n, "seed": options.seed,
        "jobs": options.jobs, "out": options.out and str(options.out.resolve()), "commit": commit(),
    }  # fmt: skip
    command = [sys.executable, "-m", f"{__package__}.campaign", json.dumps(asked)]
    return subprocess.run(command, env=environment, cwd=folder).returncode


def main() -> int:
    options = parse_command_line()
    if options.keep:
        options.keep.mkdir(parents=True)
        return carry_out(options, options.keep.resolve())
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        return carry_out(options, Path(folder).resolve())


if __name__ == "__main__":
    sys.exit(main())
