"""Do two checkouts train the same, bit for bit? For changes that must change no number.

    .venv/bin/python tests/campaigns/same_runs.py BEFORE AFTER
    .venv/bin/python tests/campaigns/same_runs.py BEFORE AFTER --runs warm_up resumed --keep /tmp/same

Each checkout trains RUNS with its own train_qdeq.py and train_qep.py: on the CPU, on one thread, each run in a process
of its own, right before the same run of the other checkout. Every value of results.json and every cell of metrics.csv
must then be the same text, but for times, memory, date, versions, device and commit. One line a run says "equal" or
what differs first; the exit status is 1 where something differs or fails. Entries of results.json that only AFTER has
are new and differ from nothing. Two minutes on one core.
"""

import argparse
import csv
import json
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path

CLASSIFIER = "train_qdeq.py --num_classes 4 --n_wires 4 --max_step 8 --batch_size 32"
TEN_WIRES = "train_qdeq.py --num_classes 10 --n_wires 10 --max_step 6 --batch_size 32"
QEP = "train_qep.py --max_step 6 --log-interval 1 --eval-interval 3"
EACH_CLASSIFIER = "--log-interval 1 --eval-interval 4 --max_eval_steps 2"
EACH_RUN = "--device cpu --tensorboard False"

# name: the command; a second one resumes where the first one stopped
RUNS = {
    "amplitude_4": [CLASSIFIER],
    "amplitude_10": [f"{TEN_WIRES} --spectral_radius_mode"],
    "angle_4": [f"{CLASSIFIER} --amplitude_encoder False --spectral_radius_mode"],
    "angle_10": [f"{TEN_WIRES} --amplitude_encoder False --batch_size 16"],
    "newton_exact": [f"{TEN_WIRES} --f_solver newton --b_solver exact"],
    "anderson_chunks": [f"{CLASSIFIER} --f_solver anderson --b_solver anderson --batch_chunk 2 --scheduler cosine"],
    "jacobian_loss": [f"{TEN_WIRES} --jac_loss_weight 0.8 --jac_loss_freq 0.5 --jac_incremental 2"],
    "warm_up": [f"{TEN_WIRES} --n_layer 1 --pretrain_steps 3"],
    "direct_2": [f"{TEN_WIRES} --mode direct --n_layer 2"],
    "direct_5_angle": [f"{CLASSIFIER} --mode direct --n_layer 5 --amplitude_encoder False"],
    "released_gates": [f"{CLASSIFIER} --trainable_gates released"],
    "torchquantum": [f"{CLASSIFIER} --engine torchquantum"],
    "wang2022": [f"{TEN_WIRES} --model wang2022 --mode direct --n_layer 1"],
    "wang2022_implicit": [f"{CLASSIFIER} --model wang2022"],
    "classical": [f"{TEN_WIRES} --model classical --lr 0.005"],
    "classical_narrow": [f"{TEN_WIRES} --model classical_narrow --lr 0.005 --mode direct --n_layer 2"],
    "linear": [f"{TEN_WIRES} --model linear --lr 0.005"],
    "alam2021": [f"{TEN_WIRES} --model alam2021 --mode direct --n_layer 1 --batch_size 16"],
    "alam2021_implicit": [f"{CLASSIFIER} --model alam2021"],
    "alam2021_direct": [f"{CLASSIFIER} --model alam2021 --mode direct --n_layer 1 --batch_size 64"],
    "resumed": [f"{CLASSIFIER} --n_layer 1 --pretrain_steps 2 --max_step 3", "train_qdeq.py --restart --max_step 8"],
    "qep_digits": [f"{QEP} --task digits --n_train 64 --batch_size 16 --n_spins 6 --compare 2"],
    "qep_shots": [f"{QEP} --task digits --num_classes 2 --n_train 64 --batch_size 8 --n_spins 5 --shots 200 --beta .3"],
    "qep_krylov": [f"{QEP} --task xor --solver krylov --estimator positive --on_degenerate skip"],
    "qep_oscillators": [f"{QEP} --task oscillators"],
    "qep_resumed": [f"{QEP} --task xor --max_step 3 --shots 50", "train_qep.py --restart --max_step 6"],
}  # fmt: skip

# what may differ between two runs of the same numbers
OF_THE_MACHINE = {"train_seconds", "seconds_per_step", "seconds_per_sample", "peak_memory_mb", "date", "torch",
                  "torchquantum", "python", "device", "git_commit", "sha256"}  # fmt: skip

# imported once, before processes are forked off; what is not installed is passed over
PRELOADED = ["torch", "torchvision", "sklearn.datasets", "matplotlib.pyplot"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="a checkout of the repository")
    parser.add_argument("after", type=Path, metavar="AFTER", help="another one")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME",
                        help=f"only these of {', '.join(RUNS)}")  # fmt: skip
    parser.add_argument("--data_dir", type=Path, metavar="DIR",
                        help="classifiers train on DIR/mnist.npz (default: on the digits of scikit-learn)")  # fmt: skip
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the run folders and logs there")
    args = parser.parse_args()
    for checkout in (args.before, args.after):
        if not (checkout / "DEQ-Quantum" / "train_qdeq.py").is_file():
            parser.error(f"{checkout} has no DEQ-Quantum/train_qdeq.py: name a checkout of the repository")
    if args.keep and args.keep.exists() and any(args.keep.iterdir()):
        parser.error(f"--keep {args.keep} is not empty: name a new folder")
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in [name for name in os.environ if name.startswith(("WANDB", "QDEQ"))]:
        del os.environ[name]  # the runs' flags say everything
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep.resolve() if args.keep else Path(temporary)
        return compare_checkouts(args.before.resolve(), args.after.resolve(), args.runs, folder, args.data_dir)


def compare_checkouts(before: Path, after: Path, names: list[str], folder: Path, data_dir: Path | None = None) -> int:
    """Run `names` with both checkouts in `folder`, print how they compare; the exit status."""
    start, n_values, n_different = time.perf_counter(), 0, 0
    for name in names:
        folders = folder / "before" / name, folder / "after" / name
        problem = None
        for checkout, run_folder in zip((before, after), folders):
            problem = problem or train(checkout, name, run_folder, data_dir)
        if problem is None:
            problem, n_compared = compare_runs(*folders)
            n_values += n_compared
        n_different += problem is not None
        print(f"{name:18} {problem or 'equal'}", flush=True)
    seconds = time.perf_counter() - start
    verdict = f"{n_different} of {len(names)} runs differ" if n_different else f"all {len(names)} runs are equal"
    print(f"{verdict} ({n_values} values compared, {seconds:.0f} s)")
    return 1 if n_different else 0


# --- training -------------------------------------------------------------------------------------


def train(checkout: Path, name: str, folder: Path, data_dir: Path | None) -> str | None:
    """Train run `name` of `checkout` in `folder`; what went wrong, or None."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    for command in RUNS[name]:
        script, *flags = command.split()
        if script == "train_qdeq.py":
            flags += ["--data_dir", str(data_dir.resolve())] if data_dir else []
            if "--restart" not in flags:
                flags += [*EACH_CLASSIFIER.split(), "--dataset", "mnist" if data_dir else "digits"]
        flags += [*EACH_RUN.split(), "--work_dir", str(folder.parent), "--name", folder.name]
        process = forking().Process(target=run_script, args=(checkout / "DEQ-Quantum" / script, flags, log))
        process.start()
        process.join()
        if process.exitcode:
            last = (log.read_text().split("\n")[:-1] or ["nothing was printed"])[-1]
            return f"{checkout}: {script} ended with status {process.exitcode}: {last}"
    return None


def forking() -> multiprocessing.context.ForkServerContext:
    """Where processes come from: forked off one that has imported torch (seconds) and nothing of a checkout."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run_script(script: Path, flags: list[str], log: Path) -> None:
    """In a process of its own: `python script flags`, what it prints into `log`."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.path = [str(script.parent), *(p for p in sys.path if Path(p) != Path(__file__).parent)]
    sys.argv = [str(script), *flags]
    runpy.run_path(str(script), run_name="__main__")


# --- comparing ------------------------------------------------------------------------------------


def compare_runs(before: Path, after: Path) -> tuple[str | None, int]:
    """The first difference between two run folders, or None, and how many values were compared."""
    n_values = 0
    for read in (read_results, read_metrics):
        ours, theirs = read(before), read(after)
        known = {name_of(place) for place in ours}
        # an entry, a setting or a column that is new altogether changes no number
        added = [p for p in theirs if p not in ours and name_of(p) in known]
        for place in [*ours, *added]:
            if ours.get(place) != theirs.get(place):
                values = [values.get(place, "nothing") or "an empty cell" for values in (ours, theirs)]
                return f"DIFFERENT {place}: {values[0]} before, {values[1]} after", n_values
            n_values += 1
    return None, n_values


def name_of(place: str) -> str:
    """What stands there: a setting, an entry of results.json with all its parts, or a column of metrics.csv."""
    words = place.split()
    if words[0] == "metrics.csv":
        return words[-1]
    return " ".join(words[1 : 3 if words[1] == "settings" else 2])


def read_results(folder: Path) -> dict[str, str]:
    """The values of results.json as they are written there, by where they stand."""
    results = json.loads((folder / "results.json").read_text(), parse_float=str, parse_int=str, parse_constant=str)
    values = {}

    def walk(value, place: str) -> None:
        if isinstance(value, dict | list) and value:
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                walk(part, f"{place} {key}")
        else:
            values[place] = value if isinstance(value, str) else json.dumps(value)

    for key, value in results.items():
        if key not in OF_THE_MACHINE:
            walk(value, f"results.json {key}")
    return values


def read_metrics(folder: Path) -> dict[str, str]:
    """The cells of metrics.csv, by line (the header is line 1) and column."""
    with (folder / "metrics.csv").open(newline="") as file:
        return {
            f"metrics.csv line {number} {column}": cell
            for number, row in enumerate(csv.DictReader(file), start=2)
            for column, cell in row.items()
            if column not in OF_THE_MACHINE
        }


if __name__ == "__main__":
    sys.exit(main())
