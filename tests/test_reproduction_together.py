"""Jobs that differ in their seed alone run in one process, and each ends as it would have alone."""

import json
import sys
from io import StringIO

import pytest

from reproduction import hardware_rows, jobs
from reproduction.jobs import Job, Outcome, command_of, lock_path, make_job, run_jobs
from reproduction.overview import Overview
from reproduction.rows import TABLES
from reproduction.study_rows import EVERY_TABLE
from reproduction.schedule import SerialPool, run_all
from reproduction.together import pays, side_by_side
from training.command_line import parse_command_line

SEEDS = (0, 1, 2)
# what train_qdeq.py does with --seeds, as far as a job can tell, without its imports
COMMAND = """
import json, os, signal, sys
from pathlib import Path

words = sys.argv[1:]
def after(flag):
    end = next((n for n in range(words.index(flag) + 1, len(words)) if words[n].startswith('--')), len(words))
    return words[words.index(flag) + 1 : end]

folder, = after('--work_dir')
together = '--seeds' in words
Path(folder, 'calls').open('a').write(json.dumps(words) + '\\n')
failed = False
for seed, name in zip(after('--seeds' if together else '--seed'), after('--names' if together else '--name')):
    {code}
    Path(folder, name).mkdir(exist_ok=True)
    Path(folder, name, 'config.json').write_text(json.dumps({settings} | {{'seed': int(seed)}}))
    Path(folder, name, 'results.json').write_text('{{"test_acc": 0.5}}')
sys.exit(failed)
"""


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Jobs of one row of Table 1, and what their process does with a run before it finishes it."""

    def make(code: str = "", row: str = "amplitude_implicit") -> list[Job]:
        script, table = tmp_path / "command.py", TABLES["table1"]
        made = [make_job(table, table.row(row), seed, 2, tmp_path / "runs") for seed in SEEDS]
        script.write_text(COMMAND.format(code=code, settings=made[0].settings.to_dict()))
        monkeypatch.setattr(jobs, "TRAIN", script)
        return made

    return make


def calls(job: Job) -> list[list[str]]:
    return [json.loads(line) for line in (job.path.parent / "calls").read_text().splitlines()]


def test_the_command_of_several_makes_the_runs_of_each(command):
    together, alone = command(), [job.command for job in command()]
    together[1].path.mkdir(parents=True)
    (together[1].path / "config.json").write_text('{"lr": 3}')  # another run has the name
    words = command_of(together)
    assert words[0] == sys.executable
    several = parse_command_line(words[2:]).several
    singles = [parse_command_line(job.command[2:]) for job in together]
    assert [one.settings for one in several] == [one.settings for one in singles]
    assert [one.settings.name for one in several] == ["seed-0", "seed-1-2", "seed-2"]
    assert command_of(together[:1]) == alone[0]


def test_every_rows_groups_have_a_command(tmp_path):
    """Also of the study of hardware, where seeds with shots run alone."""
    rows = [(table, row) for table in EVERY_TABLE.values() for row in table.rows] + hardware_rows.rows()
    for table, row in rows:
        seeds = [make_job(table, row, seed, 2, tmp_path / "runs") for seed in SEEDS]
        groups = side_by_side(seeds, 1)
        commands = [parse_command_line(command_of(group)[2:]) for group in groups]
        found = [one.settings for command in commands for one in command.several or [command]]
        assert found == [parse_command_line(job.command[2:]).settings for job in seeds] and (len(groups) == 3 or not found[0].shots)


def test_jobs_in_one_process_finish_each_and_are_not_run_again(command, tmp_path):
    together = command()
    assert run_jobs(together, tmp_path / "stop", 1) == [Outcome("finished")] * 3
    assert run_jobs(together, tmp_path / "stop", 1) == [Outcome("finished")] * 3
    (words,) = calls(together[0])
    assert words[words.index("--seeds") + 1 :][:3] == ["0", "1", "2"]


def test_of_jobs_with_some_finished_only_the_others_run(command, tmp_path):
    together = command()
    assert run_jobs(together[:2], tmp_path / "stop", 1) == [Outcome("finished")] * 2
    assert run_jobs(together, tmp_path / "stop", 1) == [Outcome("finished")] * 3
    assert "--seeds" not in calls(together[0])[1] and calls(together[0])[1].count("seed-2") == 1


def test_a_job_that_fails_says_why_and_leaves_the_others(command, tmp_path):
    together = command("if seed == '1': print('error: seed 1: no such data', file=sys.stderr); failed = True; continue")
    outcomes = [Outcome("finished"), Outcome("failed", "error: seed 1: no such data"), Outcome("finished")]
    assert run_jobs(together, tmp_path / "stop", 1) == outcomes
    together = command("sys.exit(3)", "angle_implicit")
    assert run_jobs(together, tmp_path / "stop", 1) == [Outcome("failed", "exit status 3")] * 3
    assert len(calls(together[0])) == 1


def test_a_killed_process_of_several_is_started_again_with_those_that_are_left(command, tmp_path):
    kill = "if seed == '1' and not Path(folder, 'begun').exists(): Path(folder, 'begun').touch(); os.kill(os.getpid(), 9)"
    together = command(kill)
    assert run_jobs(together, tmp_path / "stop", 1) == [Outcome("finished")] * 3
    first, second = calls(together[0])
    assert first[first.index("--seeds") + 1 :][:3] == ["0", "1", "2"]
    assert second[second.index("--seeds") + 1 :][:2] == ["1", "2"]


def test_a_run_that_somebody_holds_keeps_all_waiting_and_stop_ends_the_wait(command, tmp_path):
    together = command()
    together[2].path.parent.mkdir(parents=True)
    with lock_path(together[2].folder).open("w") as held:
        assert jobs.acquire(held)
        for first in together[:2]:  # what could be locked is free again
            assert run_jobs_once(together, tmp_path) == [Outcome("stopped")] * 3
            with lock_path(first.folder).open("w") as free:
                assert jobs.acquire(free)
    assert not (together[0].path.parent / "calls").exists()


def run_jobs_once(together, tmp_path) -> list[Outcome]:
    class Soon:
        looks = 0

        def exists(self):
            self.looks += 1
            return self.looks > 1

    return run_jobs(together, Soon(), 1)


def test_groups_are_of_one_row_and_pay_and_fill_the_slots(tmp_path):
    table1, table2 = TABLES["table1"], TABLES["table2"]

    def made(table, *rows):
        return [make_job(table, table.row(row), seed, 2, tmp_path) for seed in SEEDS for row in rows]

    small = made(table1, "amplitude_implicit", "amplitude_direct-1")
    groups = side_by_side(small, 2)
    assert [[(job.row, job.seed) for job in group] for group in groups] == [
        [(row, seed) for seed in SEEDS] for row in ("amplitude_implicit", "amplitude_direct-1")
    ]
    assert side_by_side(small, 3) == [(job,) for job in small]  # a process would have nothing to do
    wide = made(table2, "implicit")
    assert side_by_side(wide, 1) == [(job,) for job in wide]
    cases = {"--n_wires 8": True, "--n_wires 10": False, "--n_wires 4 --engine statevector": False,
             "--n_wires 4 --amplitude_encoder False": True, "--n_wires 6 --amplitude_encoder False": False,
             "--n_wires 6 --model classical": True, "--n_wires 8 --model classical": False,
             "--n_wires 4 --trainable_gates none": True, "--n_wires 4 --trainable_gates none --keep_states": False}  # fmt: skip
    assert {words: pays(parse_command_line(words.split()).settings) for words in cases} == cases
    shorter = [make_job(table1, table1.row("amplitude_direct-1"), seed, 3, tmp_path) for seed in SEEDS]
    assert {len(group) for group in side_by_side([*shorter, *small], 2)} == {3}


def test_the_schedule_runs_groups_and_foretells_from_what_each_run_takes_of_the_time(command, tmp_path):
    together, stream, now = command(), StringIO(), [0.0]
    overview = Overview(together, 1, stream, clock=lambda: now[0])
    overview.started(*together)
    now[0] = 12.0
    for job in together[:2]:
        job.path.mkdir(parents=True)
        (job.path / "config.json").write_text(json.dumps(job.settings.to_dict()))
        (job.path / "results.json").write_text('{"test_acc": 0.5}')
        overview.ended(job, Outcome("finished"))
    assert overview.seconds_left() == pytest.approx(4)  # two epochs in 12 s for three runs
    stop = tmp_path / "stop"
    assert run_all([tuple(together)], SerialPool(stop, 1), stop, Overview(together, 1, stream)) is None
    assert stream.getvalue().count("finished in") == 2 + 3 and together[2].results() is not None
