"""All checks in order, each kept in a file of its own as soon as it is done.

    <out>/<part>.json   what was measured, with seed, plan, versions and device
    <out>/theory.md     tables of all of it
    <out>/equations.md  the paper's Eqs. 6 to 56, one by one

A part whose file was made from the same source, seed and plan is read back instead of measured again, so an interrupted
command resumes where it was.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from matplotlib.figure import Figure

from data_files import load_images
from models.classical_layers import TanhLayer
from runs.machine import environment
from theory import (
    ablations,
    construction,
    contraction,
    equations_table,
    first_experiments,
    on_models,
    overlaps,
    subjects,
    trials,
)
from theory.pictures import draw_ablations, draw_contraction, draw_overlaps, draw_solver_residuals
from theory.report import markdown
from training.evaluation import load_splits
from utils import seeds
from utils.files import REPOSITORY, read_json, write_json, write_text

log = logging.getLogger("qdeq")

SOURCES = REPOSITORY / "DEQ-Quantum"
# rooms and files of SOURCES that the numbers here come from
OF_INFLUENCE = {"circuits", "data_settings.py", "dataset.py", "deq", "engines", "features.py", "models", "runs",
                "theory", "training", "utils"}  # fmt: skip
OF_MODELS = ("contraction", "convergence", "gradient", "ablations", "equations")  # parts that look at trained models


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        dataset: of all models that are trained.
        epochs: of each model that is looked at.
        n_images: test images of each; ten-qubit Jacobians are 100 x 100 for each.
        n_overlaps: pairs of Fig. 4.
        n_pairs: of states per image, for contraction.
        n_circuits: random ones of the first experiment, each with 100 samples.
        n_directions: of finite differences.
        ablation_epochs, ablation_seeds: of every ablated training.
    """

    dataset: str = "mnist"
    epochs: int = 5
    n_images: int = 64
    n_overlaps: int = 3000
    n_pairs: int = 50
    n_circuits: int = 8
    n_directions: int = 10
    ablation_epochs: int = 3
    ablation_seeds: int = 3


def run(out: Path, seed: int, data_dir: str, runs: Sequence[Path] = (), plan: Plan = Plan()) -> dict[str, Figure]:
    """Measure everything.

    Args:
        out: folder of the results, made if need be.
        seed: of all that is random.
        data_dir: folder of <dataset>.npz.
        runs: run folders whose best checkpoints are looked at besides.
        plan: how much.

    Returns:
        Figures by name.

    Raises:
        DataError, SettingsError, CheckpointError: no data, or a run folder that cannot be used.
    """
    named = subjects.run_names(runs)
    # all that the parts show of a run: what it is called and its weights, in this order
    looked_at = [[name, _checkpoint(folder)] for folder, name in named.items()]
    book = _Book(out, {"seed": seed, "plan": asdict(plan), "runs": looked_at})
    if not all(map(book.holds, OF_MODELS)):  # before anything is written
        load_images(plan.dataset, data_dir)
        for folder, name in named.items():
            subjects.of_run(folder, name, data_dir, plan.n_images)
    out.mkdir(parents=True, exist_ok=True)
    parts = {name: book.part(name, measure) for name, measure in measurements(seed, data_dir, named, plan).items()}
    write_text(out / "theory.md", markdown(parts, book.kept))
    write_text(out / "equations.md", equations_table.markdown(parts["equations"]))
    return {
        "overlap": draw_overlaps(parts["overlaps"]),
        "solver_residuals": draw_solver_residuals(parts["convergence"]),
        "contraction": draw_contraction(parts["contraction"]),
        "ablations": draw_ablations(parts["ablations"]),
    }


def measurements(seed: int, data_dir: str, runs: dict[Path, str], plan: Plan) -> dict[str, Callable[[], object]]:
    """What measures each part, by name; each draws from a generator of its own.

    Args:
        seed, data_dir, plan: as in `run`.
        runs: run folders and what they are called.
    """
    looked_at = cache(lambda: _subjects(seed, data_dir, runs, plan))  # trained once, if a part needs them

    def generator(stream: str):
        seeds.seed_everything(seed)  # parameters come from torch's global generator
        return seeds.generator(seed, stream, 0)

    return {
        "overlaps": lambda: overlaps.measure(plan.n_overlaps, generator("overlaps")),
        "contraction": lambda: [contraction.measure(s, plan.n_pairs, generator("contraction")) for s in looked_at()],
        "construction": lambda: _construction(generator("construction")),
        "fixed_points": lambda: _fixed_points(plan, generator("fixed points")),
        "convergence": lambda: [first_experiments.convergence(s) for s in looked_at()],
        "gradient": lambda: [
            first_experiments.gradient(s, plan.n_directions, generator("gradient")) for s in looked_at()
        ],
        "ablations": lambda: _ablations(seed, data_dir, plan),
        "equations": lambda: {
            "rows": equations_table.measure(generator("equations")),
            "trained": equations_table.other_verdicts(generator("equations"), **_trained_layers(looked_at())),
            "models": [
                on_models.measure(s, plan.n_pairs, generator("on models"))
                for s in looked_at()
                if not isinstance(s.model.layer, TanhLayer)
            ],
        },
    }


class _Book:
    """Files of the parts, read back where nothing that made them has changed.

    Attributes:
        kept: what the files of all parts so far hold, by name.
    """

    def __init__(self, out: Path, asked: dict):
        self.out = out
        # now: the code that is loaded, and results that are tracked do not make their own commit look changed
        self.made_from = asked | {"source": _source()}
        self.environment = environment(subjects.CPU)
        self.kept = {}

    def _read(self, name: str) -> dict | None:
        try:
            content = read_json(self.out / f"{name}.json")
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and content.get("made_from") == self.made_from else None

    def holds(self, name: str) -> bool:
        """Whether that part need not be measured."""
        return self._read(name) is not None

    def part(self, name: str, measure: Callable):
        """What was measured, or is now."""
        if (content := self._read(name)) is not None:
            log.info("theory: %s is there", name)
        else:
            began = time.process_time()  # not the clock's: the command may share its core
            measured = measure()
            seconds = round(time.process_time() - began, 1)
            log.info("theory: %s, %.0f s", name, seconds)
            content = {"made_from": self.made_from, **self.environment, "seconds": seconds, "measured": measured}
            write_json(self.out / f"{name}.json", content)
        self.kept[name] = content
        return content["measured"]


def _source() -> str:
    """A fingerprint of the Python source, so that no result outlives the code that made it."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        if path.relative_to(SOURCES).parts[0] in OF_INFLUENCE:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _checkpoint(folder: Path) -> str | None:
    """A fingerprint of a run's best checkpoint, None where there is none."""
    path = folder / "checkpoint_best.pt"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else None


def _subjects(seed: int, data_dir: str, runs: dict[Path, str], plan: Plan) -> list[subjects.Subject]:
    found = [subjects.of_run(folder, name, data_dir, plan.n_images) for folder, name in runs.items()]
    for name, settings in subjects.wanted(plan.dataset, seed, data_dir).items():
        log.info("theory: training %s for %d epochs", name, plan.epochs)
        found += subjects.untrained_and_trained(name, settings, plan.epochs, plan.n_images)
    return found


def _trained_layers(looked_at: Sequence[subjects.Subject]) -> dict:
    """The layers of the trained four-qubit models with a circuit, by encoding."""
    own = [s for s in looked_at if s.state.startswith("trained") and s.settings.n_wires == trials.N_WIRES]
    return {s.settings.encoding: s.model.layer for s in own if not isinstance(s.model.layer, TanhLayer)}


def _construction(generator) -> list[dict]:
    cases = [(n_layers, kind, 4) for kind in ("amplitude", "angle", "tanh") for n_layers in (2, 3, 5)]
    cases += [(3, "amplitude", 10)]
    return [construction.measure(n_layers, kind, n_wires, 20, generator) for n_layers, kind, n_wires in cases]


def _fixed_points(plan: Plan, generator) -> list[dict]:
    return [
        first_experiments.fixed_points(encoding, 100, plan.n_circuits, 4, generator)
        for encoding in ("amplitude", "angle")
    ]


def _ablations(seed: int, data_dir: str, plan: Plan) -> list[dict]:
    (settings, *_) = subjects.wanted(plan.dataset, seed, data_dir).values()
    used = range(seed, seed + plan.ablation_seeds)
    splits = {s: load_splits(replace(settings, seed=s), subjects.CPU) for s in used}
    return [
        ablations.measure(variant, settings, splits, plan.ablation_epochs, used) for variant in ablations.variants()
    ]
