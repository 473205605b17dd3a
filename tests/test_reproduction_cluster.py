"""A Ray cluster of two nodes on this machine, one of which is killed in mid-work: all finishes, nothing twice."""

import os
import pickle
import signal
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest

from conftest import SCRIPTS
from counting_job import as_counting, steps_of
from reproduction.jobs import Job, make_job
from reproduction.overview import Overview
from reproduction.rows import TABLES
from reproduction.schedule import FetchingPool, RayPool, new_stop_flag, run_all
from reproduction.search import Search, trials_of
from reproduction.storage import StorageError, open_storage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("ray") is None or find_spec("optuna") is None,
        reason="Ray or Optuna is not installed (requirements-sweep.txt)",
    ),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for a node's workers in /proc"),
]
STEPS = 40


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose head runs no job; tests add the nodes that do."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SCRIPTS), os.path.dirname(__file__)]))
        patch.setenv("RAY_TMPDIR", "/tmp")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield cluster
        cluster.shutdown()


@pytest.fixture
def nodes(cluster):
    """Two nodes of one core."""
    two = [cluster.add_node(num_cpus=1, object_store_memory=100_000_000) for _ in range(2)]
    yield two
    for node in two:
        if node in cluster.worker_nodes:
            cluster.remove_node(node, allow_graceful=False)


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return found


def raylet_of(node) -> int:
    (raylet,) = node.all_processes["raylet"]
    return raylet.process.pid


def kill(cluster, node) -> None:
    """kill -9 of a node's raylet and of its workers; the processes that these started are left to themselves."""
    raylet = raylet_of(node)
    for pid in [raylet, *children(raylet)]:
        os.kill(pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def works(node) -> bool:
    """Whether a worker of a node has started a process, which is what it does with a job."""
    return any(children(worker) for worker in children(raylet_of(node)))


def when(condition, act, seconds: float = 120.0) -> threading.Thread:
    """Do something in a thread of its own once a condition holds."""

    def watch():
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def counting_jobs(work_dir: Path, n: int, pause: float = 0.1) -> list[Job]:
    table = TABLES["table2"]
    jobs = [make_job(table, table.row("implicit"), seed, STEPS, work_dir) for seed in range(n)]
    return [as_counting(job, pause) for job in jobs]


def test_a_node_killed_in_mid_table_loses_nothing(cluster, nodes, tmp_path):
    jobs, stream = counting_jobs(tmp_path, 4), StringIO()
    stop = new_stop_flag(tmp_path)
    pool = RayPool(stop, 1, None, cluster.address, False)
    assert pool.slots == 2
    doomed = nodes[0]

    def both_have_begun() -> bool:
        return works(doomed) and sum((job.folder / "checkpoint_last.pt").exists() for job in jobs) >= 2

    killer = when(both_have_begun, lambda: kill(cluster, doomed))
    assert run_all([(job,) for job in jobs], pool, stop, Overview(jobs, 2, stream)) is None
    killer.join()
    assert all(job.results() for job in jobs) and "failed" not in stream.getvalue()
    # each step was taken by one process, once, in order; and one run at least was taken up again
    assert all(steps_of(job.folder / "log.txt") == list(range(1, STEPS + 1)) for job in jobs)
    begun = [(job.folder / "log.txt").read_text().count("from") for job in jobs]
    assert sum(begun) == 5 and max(begun) == 2


def test_without_a_shared_folder_a_storage_is_enough(cluster, nodes, tmp_path):
    storage = open_storage((tmp_path / "kept").as_uri())
    jobs, stream = counting_jobs(tmp_path / "asked", 3), StringIO()
    stop = new_stop_flag(tmp_path / "asked", storage)
    pool = FetchingPool(RayPool(stop, 1, None, cluster.address, False, storage), storage)
    doomed = nodes[0]
    killer = when(lambda: works(doomed) and _n_pushed(storage) >= 2, lambda: kill(cluster, doomed))
    assert run_all([(job,) for job in jobs], pool, stop, Overview(jobs, 2, stream)) is None
    killer.join()
    assert all(job.results() for job in jobs), stream.getvalue()
    logs = [(job.folder / "log.txt").read_text() for job in jobs]
    assert sorted(log.count("from") for log in logs) == [1, 1, 2] and max(log.count("from 0\n") for log in logs) == 1
    assert all(sorted(set(steps_of(job.folder / "log.txt"))) == list(range(1, STEPS + 1)) for job in jobs)


def _n_pushed(storage) -> int:
    fs, root = storage.at()
    return sum(path.endswith("manifest.json") for path in fs.find(root))


def test_a_stop_request_reaches_other_nodes_through_the_storage(cluster, nodes, tmp_path):
    storage = open_storage((tmp_path / "kept").as_uri())
    jobs = counting_jobs(tmp_path / "asked", 3, pause=1.0)
    stop = new_stop_flag(tmp_path / "asked", storage)
    pool = FetchingPool(RayPool(stop, 1, None, cluster.address, False, storage), storage)
    ctrl_c = when(lambda: _n_pushed(storage) >= 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run_all([(job,) for job in jobs], pool, stop, Overview(jobs, 2, StringIO())) == signal.SIGTERM
    ctrl_c.join()
    begun = [job for job in jobs if (job.folder / "checkpoint_last.pt").exists()]
    assert len(begun) == 2 and not any(job.results() for job in jobs)


def test_memory_is_refused_as_a_storage(cluster, nodes):
    storage = open_storage("memory://x")
    with pytest.raises(StorageError, match="--storage memory:///x is this process's memory"):
        RayPool(pickle.loads(pickle.dumps(storage.flag("s"))), 1, None, cluster.address, False, storage)


@dataclass(frozen=True)
class CountingSearch(Search):
    """A search whose trials count."""

    def job(self, choice: dict) -> Job:
        return as_counting(super().job(choice), 0.4)  # both trials overlap, also on a busy machine


@pytest.mark.parametrize("shared", [True, False], ids=["shared-folder", "storage"])
def test_a_search_survives_a_killed_node(cluster, nodes, tmp_path, shared, capsys):
    from reproduction import tuning
    from reproduction.cluster import connect

    storage = None if shared else open_storage((tmp_path / "kept").as_uri())
    search = CountingSearch("mnist4", "direct-2", STEPS, tmp_path / "asked")
    ray = connect(cluster.address, None, 1, False)
    doomed = nodes[0]

    def both_are_kept() -> bool:
        kept = len(list(search.folder.glob("lr-*/checkpoint_last.pt"))) if storage is None else _n_pushed(storage)
        return works(doomed) and kept >= 2

    killer = when(both_are_kept, lambda: kill(cluster, doomed))
    outcome = tuning.run_search(search, 2, 1, 0, None, storage)
    killer.join()
    ray.shutdown()
    assert outcome.status == "finished", outcome
    trials = trials_of(search)
    assert len(trials) == 2 and all(trial.val_acc == 50 for trial in trials)
    assert "has lost its machine or run: lr" in capsys.readouterr().out
    logs = [path.read_text() for path in search.folder.glob("lr-*/log.txt")]
    assert len(logs) == 2 and sum(log.count("from") for log in logs) == 3
