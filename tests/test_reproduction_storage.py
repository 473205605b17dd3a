"""Run folders at an fsspec address: what is fetched is what was put, also after an interruption; who owns it."""

import json
import os
import pickle
import threading
import time
import uuid
from pathlib import Path

import fsspec
import pytest

from counting_job import counting
from reproduction.jobs import Job, Outcome, run_job
from reproduction.overview import Overview
from reproduction.schedule import FetchingPool, SerialPool, run_all
from reproduction.storage import Storage, StorageError, SupersededError, open_storage
from reproduction.stored_jobs import StoredRun, fetch_run, fetch_runs, run_stored_job, stored_name
from training.settings import Settings


@pytest.fixture(params=["file", "memory"])
def storage(request, tmp_path) -> Storage:
    address = tmp_path.as_uri() + "/kept" if request.param == "file" else f"memory://{uuid.uuid4().hex}"
    return open_storage(address)


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def objects(storage: Storage) -> list[str]:
    fs, root = storage.at()
    return sorted(path.removeprefix(root + "/") for path in fs.find(root))


def test_what_is_fetched_is_what_was_put(storage, tmp_path):
    folder = write(tmp_path / "run", a_dot_json="1", deep__er__b="two", empty="", double="two")
    claim = storage.claim("table/run")
    claim.push(folder)
    assert storage.fetch("table/run", tmp_path / "copy") and content(tmp_path / "copy") == content(folder)
    write(folder, a_dot_json="2", new="3", half_dot_tmp="not done")
    (folder / "empty").unlink()
    claim.push(folder)
    assert storage.fetch("table/run", tmp_path / "again")
    assert content(tmp_path / "again") == {"a.json": "2", "deep/er/b": "two", "double": "two", "new": "3"}
    assert len(objects(storage)) == 2 + 3  # claim and manifest; "two" is kept once, what is not named is gone
    assert not storage.fetch("table/other", tmp_path / "none") and not (tmp_path / "none").exists()


def test_what_is_here_already_is_not_fetched_again(storage, tmp_path):
    storage.claim("run").push(write(tmp_path / "run", a="1", b="2"))
    copy = write(tmp_path / "copy", a="1", b="old", mine="stays")
    before = (copy / "a").stat().st_mtime_ns
    storage.fetch("run", copy)
    assert content(copy) == {"a": "1", "b": "2", "mine": "stays"} and (copy / "a").stat().st_mtime_ns == before


@pytest.mark.parametrize("survives", range(8))
def test_a_machine_lost_in_mid_upload_damages_nothing(storage, tmp_path, monkeypatch, survives):
    old, new = ({"config.json": f"{n}", "checkpoint_last.pt": f"{n}" * 9, "metrics.csv": f"row {n}"} for n in (1, 2))
    claim = storage.claim("run")
    for name, text in old.items():
        write(tmp_path / "run", **{name: text})
    claim.push(tmp_path / "run")
    for name, text in new.items():
        write(tmp_path / "run", **{name: text})
    kind = type(storage.at()[0])
    real = {name: getattr(kind, name) for name in ("pipe_file", "mv", "rm")}
    left = [survives]

    def until_lost(name):
        def act(fs, path, *arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                if name == "pipe_file" and left[0] == -1:  # half of it arrives
                    real[name](fs, path, arguments[0][: len(arguments[0]) // 2])
                raise KeyboardInterrupt
            return real[name](fs, path, *arguments, **more)

        return act

    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(kind, name, until_lost(name))
        with pytest.raises(KeyboardInterrupt):
            claim.push(tmp_path / "run")
    storage.fetch("run", tmp_path / "copy")
    assert content(tmp_path / "copy") == (new if survives == 8 else old)
    # the next owner goes on from it, and leaves nothing of it behind
    following = storage.claim("run")
    following.push(tmp_path / "copy")
    assert storage.newest("run")[0] == 2
    assert [path for path in objects(storage) if path.startswith("run/1/")] == []


def test_the_last_to_claim_a_folder_owns_it(storage, tmp_path):
    folder = write(tmp_path / "run", a="first")
    first = storage.claim("run")
    first.push(folder)
    second = storage.claim("run")
    with pytest.raises(SupersededError, match=r"--storage .* another worker has taken this run over \(run\)"):
        first.push(folder)
    storage.fetch("run", tmp_path / "copy")  # the second has put nothing yet: what the first left holds
    assert content(tmp_path / "copy") == {"a": "first"}
    second.push(write(folder, a="second"))
    storage.fetch("run", tmp_path / "copy")
    assert content(tmp_path / "copy") == {"a": "second"}


def test_of_two_claims_of_one_turn_the_later_holds(storage, tmp_path, monkeypatch):
    monkeypatch.setattr(Storage, "_turns", lambda self, name: [])  # both look before either has written
    first, second = storage.claim("run"), storage.claim("run")
    monkeypatch.undo()
    assert first.turn == second.turn
    with pytest.raises(SupersededError):
        first.push(write(tmp_path / "run", a="1"))
    second.push(tmp_path / "run")


def test_a_copy_is_of_one_moment(storage, tmp_path, monkeypatch):
    folder = write(tmp_path / "run", checkpoint_best_dot_pt="1", checkpoint_last_dot_pt="1")
    real, replaced = Path.read_bytes, []

    def read(path):
        answer = real(path)
        if path.name == "checkpoint_last.pt" and not replaced:  # between the two the run saves both
            replaced.append(path)
            for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
                write(folder, **{"new": "2"})
                os.replace(folder / "new", folder / name)
        return answer

    monkeypatch.setattr(Path, "read_bytes", read)
    storage.claim("run").push(folder)
    monkeypatch.undo()
    storage.fetch("run", tmp_path / "copy")
    assert content(tmp_path / "copy") == {"checkpoint_best.pt": "2", "checkpoint_last.pt": "2"}


def test_a_damaged_object_is_named(storage, tmp_path):
    storage.claim("run").push(write(tmp_path / "run", a="12345"))
    fs, path = storage.at(f"run/1/{storage.newest('run')[1]['a']['sha256']}")
    fs.pipe_file(path, b"12346")
    with pytest.raises(StorageError, match=r"--storage .*: run/1/\w+ is damaged; remove run there"):
        storage.fetch("run", tmp_path / "copy")
    assert not (tmp_path / "copy" / "a").exists()


def test_a_flag_is_seen_by_all(storage):
    mine, theirs = storage.flag(".stop"), pickle.loads(pickle.dumps(storage.flag(".stop")))
    assert not mine.exists() and not theirs.exists()
    mine.touch()
    assert mine.exists() and not theirs.exists()  # looked a moment ago
    theirs._looked = -1e9
    assert theirs.exists()
    mine.unlink()
    assert objects(storage) == []


@pytest.mark.parametrize("address, words", [
    ("nope://bucket", "Protocol not known: nope; give a folder, file://, s3://"),
    ("", "an empty address"),
    ("s3://bucket/runs", "Install s3fs to access S3 (with pip, into this environment, on every machine)"),
    ("file:///proc/version/runs", "no access ("),
])  # fmt: skip
def test_what_cannot_work_is_refused_with_the_flag_and_the_remedy(address, words):
    if address.startswith("s3") and fsspec.utils.infer_storage_options(address) and _has("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(StorageError) as caught:
        open_storage(address)
    message = str(caught.value)
    assert message.startswith(f"--storage {address}: ") and words in message and "\n" not in message


def _has(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def test_a_relative_folder_is_an_address_for_all_machines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("kept").address == (tmp_path / "kept").as_uri()


def test_a_fetch_that_is_cut_short_leaves_a_folder_that_is_known_and_not_finished(storage, tmp_path, monkeypatch):
    files = {"checkpoint_best.pt": "b", "config.json": "c", "results.json": "r", "zoo.txt": "z"}
    storage.claim("run").push(write(tmp_path / "run", **files))
    real, left = Storage._fetch_file, [0]

    def until_lost(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(self, *arguments)

    monkeypatch.setattr(Storage, "_fetch_file", until_lost)
    for survives in range(1, 4):
        left[0] = survives
        with pytest.raises(KeyboardInterrupt):
            storage.fetch("run", tmp_path / f"{survives}", first="config.json", last="results.json")
        assert (tmp_path / f"{survives}" / "config.json").exists()
        assert not (tmp_path / f"{survives}" / "results.json").exists()


# jobs


TEN = "while n < 10:\n    n += 1; save(); time.sleep(0.02)\nfinish()"


class Never:
    def exists(self) -> bool:
        return False


def test_a_job_leaves_its_run_in_the_storage_alone(storage, tmp_path):
    job = counting(tmp_path, TEN)
    assert run_stored_job(job, Never(), 1, storage) == Outcome("finished")
    assert not job.folder.exists()
    fetch_run(job, storage)
    assert content(job.folder)["checkpoint_last.pt"] == "10" and job.results()["test_acc"] == 0.5
    assert run_stored_job(job, Never(), 1, storage) == Outcome("finished")  # elsewhere: it finds that it is
    fetch_run(job, storage)
    assert (job.folder / "log.txt").read_text() == "from 0\n"


def test_runs_of_two_lengths_are_two(storage, tmp_path):
    short, long = counting(tmp_path, TEN, epochs=10), counting(tmp_path, TEN, epochs=20)
    assert stored_name(short) != stored_name(long)
    assert stored_name(short) == stored_name(counting(tmp_path / "elsewhere", TEN, epochs=10))
    for job in (short, long):
        assert run_stored_job(job, Never(), 1, storage) == Outcome("finished")
    fetch_runs([short, long], storage)
    assert short.results() and long.results() and short.folder != long.folder


def test_another_machine_goes_on_where_a_lost_one_was(storage, tmp_path):
    """The first is lost as kill -9 loses it: nothing of it runs any more, and its folder is out of reach."""
    job = counting(tmp_path, "while n < 5:\n    n += 1; save()\ntime.sleep(60)")
    lost = StoredRun(job, storage)
    lost.job.folder.mkdir(parents=True)
    stop = tmp_path / "stop"
    thread = threading.Thread(target=lambda: run_job(lost.job, stop, 1, lambda: None if stop.exists() else lost.sync()))
    thread.start()
    until = time.monotonic() + 60
    while not _holds(job, storage, "5"):
        assert time.monotonic() < until
        time.sleep(0.05)
    stop.touch()
    thread.join(60)
    following = counting(tmp_path, TEN)
    assert run_stored_job(following, Never(), 1, storage) == Outcome("finished")
    fetch_run(following, storage)
    assert (following.folder / "log.txt").read_text() == "from 0\nfrom 5\n"
    # and were it not lost after all, it would learn it at its next checkpoint, and its copy would not be taken
    (lost.job.folder / "checkpoint_last.pt").write_text("6")
    with pytest.raises(SupersededError):
        lost.sync()
    lost.put()
    lost.remove()
    assert not lost.job.folder.exists() and _holds(following, storage, "10")


def _holds(job: Job, storage: Storage, count: str) -> bool:
    turn, files = storage.newest(stored_name(job))
    name = files.get("checkpoint_last.pt", {}).get("sha256")
    return name is not None and storage._read(f"{stored_name(job)}/{turn}/{name}") == count.encode()


def test_a_worker_whose_run_was_taken_over_stops_its_process(storage, tmp_path):
    job = counting(tmp_path, "while True:\n    n += 1; save(); time.sleep(0.05)")
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(run_stored_job(job, Never(), 1, storage)))
    thread.start()
    until = time.monotonic() + 60
    while not storage.newest(stored_name(job))[1]:
        assert time.monotonic() < until
        time.sleep(0.05)
    storage.claim(stored_name(job))
    thread.join(60)
    (outcome,) = outcomes
    assert outcome.status == "failed" and "another worker has taken this run over" in outcome.message


@pytest.mark.slow
def test_a_stop_request_reaches_a_job_through_the_storage(storage, tmp_path):
    job, stop, outcomes = counting(tmp_path, "n = 3; save()\ntime.sleep(60)"), storage.flag(".stop"), []
    thread = threading.Thread(
        target=lambda: outcomes.append(run_stored_job(job, pickle.loads(pickle.dumps(stop)), 1, storage))
    )
    thread.start()
    until = time.monotonic() + 60
    while not storage.newest(stored_name(job))[1]:
        assert time.monotonic() < until
        time.sleep(0.05)
    stop.touch()
    thread.join(60)
    assert outcomes == [Outcome("stopped")] and _holds(job, storage, "3")


def test_a_command_runs_what_the_storage_lacks_and_fetches_it(storage, tmp_path):
    done, begun, new = (counting(tmp_path, TEN, seed) for seed in range(3))
    assert run_stored_job(done, Never(), 1, storage) == Outcome("finished")
    config = json.dumps(begun.settings.to_dict())  # here, before there was a storage
    write(begun.folder, checkpoint_last_dot_pt="7", log_dot_txt="from 0\n", config_dot_json=config)
    fetch_runs([done, begun, new], storage)
    assert done.results() and not begun.results() and not new.results()
    stop = storage.flag(".stop")
    pool = FetchingPool(SerialPool(stop, 1, storage), storage)
    assert run_all([(begun,), (new,)], pool, stop, Overview([begun, new], 1)) is None
    assert begun.results() and new.results()
    assert (begun.folder / "log.txt").read_text() == "from 0\nfrom 7\n"
    assert not [path for path in objects(storage) if ".stop" in path]


def test_a_run_that_cannot_be_put_is_kept_and_named(tmp_path, monkeypatch):
    storage = open_storage((tmp_path / "kept").as_uri())
    monkeypatch.setattr("reproduction.stored_jobs.PAUSE", 0.0)
    job = counting(tmp_path, "n = 4; save(); finish()")
    real = Storage._write

    def refuse(self, name, content):
        if "claim" not in name:
            raise PermissionError("no more room")
        real(self, name, content)

    monkeypatch.setattr(Storage, "_write", refuse)
    outcome = run_stored_job(job, Never(), 1, storage)
    assert outcome.status == "failed" and "no access (no more room)" in outcome.message
    kept = Path(outcome.message.split("the run is kept in ")[1].split(" on ")[0])
    assert (kept / "checkpoint_last.pt").read_text() == "4"


def test_settings_at_their_defaults_are_no_part_of_a_name(tmp_path, monkeypatch):
    """So that a setting that is new does not make runs of before unknown."""
    job = counting(tmp_path, TEN)
    before = stored_name(job)
    monkeypatch.setattr("reproduction.stored_jobs.result_fields", lambda kind: [*_result_fields(), "tensorboard"])
    assert stored_name(job) == before


def _result_fields() -> list[str]:
    from runs.settings import result_fields

    return result_fields(Settings)
