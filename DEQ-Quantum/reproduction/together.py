"""Which jobs run side by side in one process: those that differ in their seed alone, where that takes less time.

What is shared is dispatch, so it pays where a step is little else: measured in results/benchmark.
"""

from collections.abc import Sequence

from reproduction.jobs import Job, without_seed
from training.settings import Settings

# by how features enter the circuit, wires up to which a step costs more in calls than in products
WIDEST = {"amplitude": 8, "angle": 4, "components": 4, "turned_states": 4, "none": 6}


def side_by_side(jobs: Sequence[Job], slots: int) -> list[tuple[Job, ...]]:
    """Jobs in groups that run as one process each, in the order of each group's first job.

    Args:
        jobs: those that are left.
        slots: processes at once; where there would be fewer groups, each job stays alone.
    """
    groups: dict[object, list[Job]] = {}
    for number, job in enumerate(jobs):
        kind = (job.path.parent, without_seed(job.flags)) if pays(job.settings) else number
        groups.setdefault(kind, []).append(job)
    if len(groups) < slots:
        return [(job,) for job in jobs]
    return [tuple(group) for group in groups.values()]


def pays(settings: Settings) -> bool:
    """Whether runs with these settings can run side by side, and are faster so."""
    kind = "angle" if settings.injection != "add" and settings.encoding != "none" else settings.encoding
    alone = settings.shots or settings.keep_states
    return not alone and settings.engine == "compiled" and settings.n_wires <= WIDEST.get(kind, 0)
