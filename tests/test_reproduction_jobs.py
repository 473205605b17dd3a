"""A job meets its end whatever happens to its process; the schedule and its overview tell how far they are."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import StringIO
from types import SimpleNamespace

import pytest
import torch

from conftest import SCRIPTS, user_environment
from reproduction import cluster, jobs
from reproduction.cluster import check_machines, remedy
from reproduction.jobs import Job, Outcome, make_job, run_job
from reproduction.overview import Overview, duration
from reproduction.rows import TABLES
from reproduction.schedule import SerialPool, run_all
from runs.settings import SettingsError
from training.settings import Settings

WRITE_RESULTS = "open('results.json', 'w').write('{\"test_acc\": 0.75}')"


@dataclass(frozen=True)
class ScriptedJob(Job):
    """A job whose process is a given piece of Python, run in the job's folder, which is its own whatever lies there."""

    code: str = ""

    @property
    def folder(self):
        return self.path

    @property
    def command(self):
        return [sys.executable, "-c", f"import os, signal, sys, time; os.chdir({str(self.folder)!r})\n{self.code}"]


@pytest.fixture
def job(tmp_path):
    def make(code: str, seed: int = 0) -> ScriptedJob:
        folder = tmp_path / "t" / "r" / f"seed-{seed}"
        folder.mkdir(parents=True)
        return ScriptedJob("t", "r", "ROW", seed, 10, (), folder, Settings(), code)

    return make


def wait_for(condition, seconds=900.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def test_job_that_ends_well(job, tmp_path):
    assert run_job(job(WRITE_RESULTS), tmp_path / "stop", 1) == Outcome("finished")


def test_finished_job_is_not_run_again(job, tmp_path):
    done = job("open('again', 'w')")
    (done.folder / "results.json").write_text('{"test_acc": 0.5}')
    assert run_job(done, tmp_path / "stop", 1) == Outcome("finished")
    assert not (done.folder / "again").exists()


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "{}", "[" * 100000, '{"test_acc": 1, "settings": {"epochs": 3}}',
                                     '{"test_acc": 1, "settings": 3}'])  # fmt: skip
def test_a_job_without_results_of_its_own_is_run(job, tmp_path, content):
    begun = job(WRITE_RESULTS)
    (begun.folder / "results.json").write_text(content)
    assert begun.results() is None
    assert run_job(begun, tmp_path / "stop", 1) == Outcome("finished") and begun.results() == {"test_acc": 0.75}


def test_a_job_killed_before_its_settings_begins_in_its_own_folder(tmp_path):
    table = TABLES["table2"]
    wanted = make_job(table, table.rows[0], 0, 2, tmp_path)
    wanted.path.mkdir(parents=True)
    assert wanted.folder == wanted.path
    for name, content in (("log.txt", ""), (".config.json.1234567.tmp", "{")):
        (wanted.path / name).write_text(content)
        assert wanted.folder == wanted.path
    (wanted.path / "notes.txt").write_text("of somebody")
    assert wanted.folder == wanted.path.with_name("seed-0-2")


def test_failing_job_gives_its_last_line(job, tmp_path):
    code = "print('first', file=sys.stderr); open('runs', 'a').write('x'); sys.exit('error: no such data')"
    failing = job(code)
    assert run_job(failing, tmp_path / "stop", 1) == Outcome("failed", "error: no such data")
    assert (failing.folder / "runs").read_text() == "x"  # it would fail again


def test_killed_process_is_started_again(job, tmp_path):
    code = (
        f"if os.path.exists('begun'): {WRITE_RESULTS}\nelse: open('begun', 'w'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_job(job(code), tmp_path / "stop", 1) == Outcome("finished")


def test_process_that_is_killed_for_ever_is_given_up(job, tmp_path):
    outcome = run_job(job("os.kill(os.getpid(), signal.SIGKILL)"), tmp_path / "stop", 1)
    assert outcome.status == "failed" and "3 times" in outcome.message


def test_threads_reach_the_process(job, tmp_path):
    threads = job(f"open('threads', 'w').write(os.environ['OMP_NUM_THREADS']); {WRITE_RESULTS}")
    run_job(threads, tmp_path / "stop", 3)
    assert (threads.folder / "threads").read_text() == "3"


def test_stop_file_asks_the_process_softly(job, tmp_path):
    code = (
        "signal.signal(signal.SIGTERM, lambda *a: (open('saved', 'w').close(), sys.exit(143)))\n"
        "open('begun', 'w').close()\nwhile True: time.sleep(0.05)"
    )
    running, outcomes = job(code), []
    thread = threading.Thread(target=lambda: outcomes.append(run_job(running, tmp_path / "stop", 1)))
    thread.start()
    wait_for((running.folder / "begun").exists)
    (tmp_path / "stop").touch()
    thread.join(900)
    assert outcomes == [Outcome("stopped")] and (running.folder / "saved").exists()
    assert run_job(running, tmp_path / "stop", 1) == Outcome("stopped")  # and none is begun


def test_one_run_has_one_writer(job, tmp_path):
    both, outcomes = job(f"open('writers', 'a').write('x'); time.sleep(1); {WRITE_RESULTS}"), []
    threads = [threading.Thread(target=lambda: outcomes.append(run_job(both, tmp_path / "stop", 1))) for _ in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(900)
    assert outcomes == [Outcome("finished")] * 2
    assert (both.folder / "writers").read_text() == "x"


class RecordedJob(Job):
    """A job whose process writes what a run does: its settings, a while later its results."""

    @property
    def command(self):
        config, results = json.dumps(self.settings.to_dict()), json.dumps({"test_acc": self.epochs})
        code = "import sys, time; from pathlib import Path; folder = Path(sys.argv[1]); folder.mkdir()\n"
        code += "aside = folder.with_suffix('.tmp'); aside.write_text(sys.argv[2])\n"
        code += "aside.rename(folder / 'config.json'); time.sleep(1)\n"
        code += "(folder / 'results.json').write_text(sys.argv[3])"
        return [sys.executable, "-c", code, str(self.folder), config, results]


@pytest.mark.slow
def test_runs_of_two_lengths_begun_at_once_are_two(tmp_path):
    table, outcomes = TABLES["table2"], []
    short, long, again = (
        RecordedJob(**vars(make_job(table, table.row("implicit"), 0, epochs, tmp_path))) for epochs in (2, 3, 3)
    )
    assert short.folder == long.folder  # it is free: who comes first takes it
    threads = [
        threading.Thread(target=lambda job=job: outcomes.append(run_job(job, tmp_path / "stop", 1)))
        for job in (short, long, again)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(900)
    assert outcomes == [Outcome("finished")] * 3
    assert short.results() == {"test_acc": 2} and long.results() == again.results() == {"test_acc": 3}
    assert {short.folder.name, long.folder.name} == {"seed-0", "seed-0-2"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asking the kernel for a signal at the parent's end is Linux's")
def test_process_whose_worker_is_killed_saves(job, tmp_path):
    running = job(
        "signal.signal(signal.SIGTERM, lambda *a: (open('saved', 'w').close(), sys.exit(143)))\n"
        "open('begun', 'w').write(str(os.getppid()))\nwhile True: time.sleep(0.05)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.path += sys.argv[1:3]\nfrom pathlib import Path\n"
         "from test_reproduction_jobs import ScriptedJob, Settings, run_job\n"
         "run_job(ScriptedJob('t', 'r', 'ROW', 0, 10, (), Path(sys.argv[3]), Settings(), sys.argv[4]), Path('never'), 1)",
         str(SCRIPTS), os.path.dirname(__file__), str(running.folder), running.code],
        env=user_environment(), cwd=tmp_path,
    )  # fmt: skip
    wait_for((running.folder / "begun").exists)
    wait_for(lambda: (running.folder / "begun").read_text())
    assert int((running.folder / "begun").read_text()) == worker.pid
    worker.kill()
    worker.wait()
    wait_for((running.folder / "saved").exists)


# the schedule


def schedule(all_jobs, tmp_path):
    stream, stop_path = StringIO(), tmp_path / "stop"
    number = run_all([(job,) for job in all_jobs], SerialPool(stop_path, 1), stop_path, Overview(all_jobs, 1, stream))
    assert not stop_path.exists()
    return number, stream.getvalue()


def test_schedule_goes_on_after_a_failure(job, tmp_path):
    good, bad = job(WRITE_RESULTS, 1), job("sys.exit('error: bad')", 0)
    number, text = schedule([bad, good], tmp_path)
    assert number is None and good.results() and not bad.results()
    assert "ROW, seed 0 failed: error: bad" in text and "1 of 2 runs finished, 1 failed" in text


def test_signal_stops_the_running_job_and_begins_no_other(job, tmp_path):
    code = (
        "signal.signal(signal.SIGTERM, lambda *a: (open('saved', 'w').close(), sys.exit(143)))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\nwhile True: time.sleep(0.05)"
    )
    first, second = job(code, 0), job(WRITE_RESULTS, 1)
    number, text = schedule([first, second], tmp_path)
    assert number == signal.SIGTERM and second.results() is None
    assert (first.folder / "saved").exists() and "seed 0 stopped" in text


@pytest.mark.parametrize("threads, gpu, words", [
    (5, False, "--threads 5: the largest machine has 4 cores for Ray; use --threads 4"),  # though there are 6 in all
    (3, True, "--threads 3: the largest machine with a GPU has 2 cores for Ray; use --threads 2"),
])  # fmt: skip
def test_a_run_that_no_machine_can_take_is_refused(threads, gpu, words):
    machines = [{"CPU": 4.0}, {"CPU": 2.0, "GPU": 1.0}, {"memory": 1e9}]
    check_machines(machines, threads - 1, gpu)
    with pytest.raises(SettingsError, match=f"^{words}$"):
        check_machines(machines, threads, gpu)


def test_where_nothing_fits_the_remedy_is_another():
    with pytest.raises(SettingsError, match="--device cuda: Ray sees no GPU here; use --device cpu"):
        check_machines([{"CPU": 4.0}], 1, True)
    with pytest.raises(SettingsError, match="start Ray there with --num-cpus"):
        check_machines([{"memory": 1e9}], 1, False)


MISMATCH = "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.1\nThis process"
LARGE = "The configured object store size (0.1 GB) exceeds /dev/shm size (0.06 GB). This will harm performance."
PORT = "Ray component gcs_server is trying to use a port number 6379 that is used by other components."


@pytest.mark.parametrize("error, words", [
    (OSError("AF_UNIX path length cannot exceed 107 bytes: /x"), "RAY_TMPDIR=/tmp"),
    (PermissionError(13, "Permission denied", "/tmp/ray/session_1"), "set RAY_TMPDIR to one of yours"),
    (OSError(28, "No space left on device"), "RAY_TMPDIR to another"),
    (ValueError(LARGE), "--shm-size"),
    (ValueError("Attempting to cap object store memory usage at 1 bytes, but the minimum allowed is 2"), "/dev/shm"),
    (OSError(98, "Address already in use"), "ray start --port"),
    (ValueError(PORT), "ray start --port"),
    (RuntimeError(MISMATCH), "this repository's environment"),
])  # fmt: skip
@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_each_cause_has_its_remedy_and_is_not_tried_again(error, words, address):
    tries = []

    def init(*arguments, **options):
        tries.append(arguments)
        raise error

    with pytest.raises(SettingsError) as caught:
        cluster._start(SimpleNamespace(init=init, shutdown=lambda: None), address, 1)
    message = str(caught.value)
    assert words in message and "\n" not in message and "try again" not in message and len(tries) == 1
    assert message.startswith(f"--address {address}: " if address else "Ray does not start: ")


def test_only_what_may_pass_is_tried_again():
    assert remedy(Exception("The current node timed out during startup.")) is None


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (requirements-sweep.txt)")
def test_a_long_temporary_folder_names_ray_tmpdir(tmp_path, monkeypatch):
    folder = tmp_path / ("t" * (106 - len(str(tmp_path))))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with pytest.raises(SettingsError, match=r"Ray does not start: .* set RAY_TMPDIR=/tmp \(.*AF_UNIX"):
        cluster.connect(None, 1, 1, False)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (requirements-sweep.txt)")
@pytest.mark.parametrize("command", ["table1 --threads 4096", "table5 --device cuda"])
def test_commands_that_ray_could_never_serve_end_with_one_line(tmp_path, command):
    if "cuda" in command and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    words = [sys.executable, str(SCRIPTS / "reproduce.py"), *command.split(), "--work_dir", str(tmp_path / "runs")]
    run = subprocess.run(words, env=user_environment(), capture_output=True, text=True, timeout=900, check=False)
    flag = " ".join(command.split()[1:])
    assert run.returncode == 1 and run.stderr.startswith(f"error: {flag}: ") and run.stderr.count("\n") == 1, run.stderr


# the overview


@pytest.mark.parametrize("seconds, text", [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3570, "1 h 00 min"),
                                           (11100, "3 h 05 min")])  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def metrics(job: Job, epoch: float, accuracy: float) -> None:
    (job.folder / "metrics.csv").write_text(f"event,epoch,val_acc\nval,{epoch},{accuracy}\n")


def test_overview_counts_averages_and_foretells(job):
    now, stream = [0.0], StringIO()
    everything = [job("", seed) for seed in range(4)]
    overview = Overview(everything, 2, stream, clock=lambda: now[0])
    assert overview.seconds_left() is None
    (everything[0].folder / "results.json").write_text('{"test_acc": 0.5}')
    overview.already(everything[0])
    overview.started(everything[1])
    now[0] = 20.0
    (everything[1].folder / "results.json").write_text('{"test_acc": 0.7}')
    overview.ended(everything[1], Outcome("finished"))  # ten epochs in 20 s
    assert overview.seconds_left() == pytest.approx(20)  # two runs of 20 s on two slots
    overview.started(everything[2])
    now[0] = 30.0
    metrics(everything[2], 5, 0.6)
    assert overview.seconds_left() == pytest.approx(20)  # 10 s and 20 s: the longer one
    assert overview.status() == "2 of 4 runs finished, 1 running; 30 s so far, about 20 s left"
    (line,) = overview.lines()
    assert "2/4 seeds, test 60.00 ± 14.14 %, seed 2 at epoch 5/10, val 60.00 %" in line
    overview.ended(everything[2], Outcome("failed", "no memory"))
    assert "seed 2 failed: no memory" in stream.getvalue() and "1 failed" in overview.status()


def test_overview_draws_over_itself_on_a_terminal(job):
    class Terminal(StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    overview = Overview([job("")], 1, stream)
    overview.started(overview._jobs[0])
    overview.refresh()
    assert "\x1b[" not in stream.getvalue()
    overview.refresh()
    assert "\x1b[2A\x1b[J" in stream.getvalue()


def test_overview_of_many_rows_stays_on_the_screen(job):
    template = job("")
    rows = [replace(template, label=f"ROW-{n}", path=template.path / str(n)) for n in range(9)]
    overview = Overview(rows, 1, StringIO())
    for row in rows:
        overview.started(row)
        if row.label != "ROW-2":  # runs on
            overview.ended(row, Outcome("failed", "no memory"))
    assert len(overview.lines()) == 9 == len(overview.lines(9))
    shown = overview.lines(4)
    assert [text.split()[1] for text in shown] == ["ROW-2", "ROW-7", "ROW-8", "6"]
    assert shown[-1] == "  and 6 more rows"


def test_progress_of_a_row_that_is_being_written(job):
    running = job("")
    assert running.progress() is None
    metrics(running, 3, 0.5)
    assert running.progress() == jobs.Progress(3.0, 0.5)
    (running.folder / "metrics.csv").write_text("event,epoch,val_acc\nval,4")
    assert running.progress() is None
