"""Ray Tune and Optuna for `search`: which trials are run, which are stopped early, and how a search resumes.

Optuna proposes, from the paper's choice on; ASHA stops trials that are hopeless at their epoch; Tune keeps the state of
both in <search>/tune, and a trial's run folder keeps the trial. Imported only where Ray and Optuna are needed.
"""

import logging
import os
import tempfile
import threading
import time
from pathlib import Path

# before the import: metrics.csv is the log, and `Lines` tells of trials that fail
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")

from optuna import logging as optuna_logging
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray import cloudpickle, tune
from ray.exceptions import RayActorError
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from reproduction.jobs import POLL, Job, Outcome, Progress, run_job
from reproduction.schedule import LOST_WORKERS
from reproduction.search import SEED, STOPPED_EARLY, Search, canonical, choices_of, papers_choice, space_of
from reproduction.storage import TAKEN_OVER, Storage, StorageError
from reproduction.stored_jobs import StoredRun, fetch_runs

METRIC = "val_acc"
FEWEST_EPOCHS = 5  # of a trial before it may be stopped
KEPT = 3  # of so many trials one continues

# our own last line says how a search ended
logging.getLogger("ray.tune.tune").addFilter(lambda record: "Trials did not complete" not in record.getMessage())


def job_of(search: Search, config: dict) -> Job:
    """The run of a trial, from what Tune knows of it."""
    return search.job({name: config[name] for name in space_of(search.data, search.model)})


class TrialOfSearch(tune.Trainable):
    """A trial as Tune sees it: each step is a validation of its run, which is a process of its own."""

    def setup(self, config: dict, search: Search, threads: int, storage: Storage | None) -> None:
        self._job, self._stored = job_of(search, config), None
        if storage is not None:
            self._stored = StoredRun(self._job, storage)
            self._job = self._stored.job
        (self._job.folder / STOPPED_EARLY).unlink(missing_ok=True)  # by a search of fewer trials: now it resumes
        self._here = tempfile.TemporaryDirectory()  # of this machine: the trial's process runs here too
        self._stop_path = Path(self._here.name) / "stop"
        self._seen, self._outcome = 0.0, None
        self._thread = threading.Thread(target=self._run, args=(threads,))
        self._thread.start()

    def _run(self, threads: int) -> None:
        if self._stored is None:
            self._outcome = run_job(self._job, self._stop_path, threads)
            return
        try:
            outcome = run_job(self._job, self._stop_path, threads, self._stored.sync)
            self._stored.put()
        except StorageError as error:
            outcome = Outcome("failed", str(error))
        self._outcome = outcome

    def step(self) -> dict:
        """Wait for the next validation.

        Raises:
            RuntimeError: the run failed; the message names it and says why.
        """
        while True:
            # asked first, so that the last validation is read after the run has ended
            outcome: Outcome | None = self._outcome
            progress: Progress | None = self._job.progress()
            if outcome is not None and outcome.status != "finished":
                raise RuntimeError(f"{self._job.label}: {outcome.message or outcome.status}")
            last = progress is not None and progress.epoch >= self._job.epochs
            if progress is not None and progress.epoch > self._seen and (outcome is not None or not last):
                self._seen = progress.epoch
                return {METRIC: progress.val_acc, "epoch": progress.epoch, "done": outcome is not None}
            time.sleep(POLL)

    def cleanup(self) -> None:
        """Stop the run softly, if it is not over."""
        self._stop_path.touch()
        self._thread.join()
        self._here.cleanup()
        if self._stored is not None:
            self._stored.remove()

    def save_checkpoint(self, folder: str) -> dict:
        return {}  # the run folder is the checkpoint

    def load_checkpoint(self, checkpoint: dict) -> None:
        pass  # as above


class Lines(tune.Callback):
    """A line for each trial that ends."""

    def on_trial_complete(self, iteration: int, trials: list, trial, **info) -> None:
        self._say(trials, trial, "ended" if _is_done(trial.last_result) else "stopped")

    def on_trial_error(self, iteration: int, trials: list, trial, **info) -> None:
        self._say(trials, trial, "has lost its machine or run" if _is_lost(_error_of(trial)) else "failed")

    def _say(self, trials: list, trial, how: str) -> None:
        result = trial.last_result or {}
        choice = " ".join(f"{name} {value:g}" for name, value in canonical(dict(trial.config)).items())
        # Tune counts this trial before or after it tells of it
        ended = 1 + sum(other.is_finished() for other in trials if other is not trial)
        accuracy = f"val {100 * result[METRIC]:.2f} % at epoch {result['epoch']:g}" if METRIC in result else "no result"
        print(f"{time.strftime('%H:%M')}  trial {ended} {how}: {choice}: {accuracy}", flush=True)


def run_search(
    search: Search, n_trials: int, threads: int, gpu: float, at_once: int | None, storage: Storage | None = None
) -> Outcome:
    """Run a search, from where it was stopped if it has begun; a trial whose machine is lost goes on elsewhere.

    Args:
        search: what is searched.
        n_trials: how many proposals are looked at; where there are not more choices, each of them once.
        threads: cores of a trial.
        gpu: its share of one.
        at_once: trials; None: as many as Ray has cores for. A search that resumes keeps what it began with.
        storage: where runs and the search's own state lie; None: in a folder that all machines share.

    Returns:
        "finished" where all its trials have ended, "stopped" where Ctrl-C left some for the same command, else "failed"
        with the first failed trial and its reason.
    """
    n_trials = min(n_trials, len(choices_of(search.data, search.model)))
    optuna_logging.set_verbosity(optuna_logging.WARNING)
    trainable = tune.with_resources(
        tune.with_parameters(TrialOfSearch, search=search, threads=threads, storage=storage),
        {"cpu": threads, "gpu": gpu},
    )
    for _ in range(LOST_WORKERS):
        results = list(_tuner(search, trainable, n_trials, at_once, storage).fit())
        outcome = _outcome(results, n_trials)
        if outcome.status != "failed" or not any(_is_lost(result.error) for result in results):
            break
    if storage is not None:
        fetch_runs([job_of(search, result.config) for result in results if result.config], storage)
    _mark_stopped(search, results)
    return outcome


def _tuner(search: Search, trainable, n_trials: int, at_once: int | None, storage: Storage | None) -> tune.Tuner:
    """The search as Tune has it: new, or where it was left, with the trials that failed."""
    name = f"{n_trials}-trials_{search.epochs}-epochs"
    where = {"storage_filesystem": None}
    path = str(search.folder / "tune")
    if storage is not None:
        fs, path = storage.at(f"table5/{search.data}/{search.model}/tune")
        where = {"storage_filesystem": PyFileSystem(FSSpecHandler(fs))}
    if tune.Tuner.can_restore(f"{path}/{name}", **where):
        return tune.Tuner.restore(f"{path}/{name}", trainable, resume_errored=True, **where)
    first = [papers_choice(search.data, search.model)]
    every = choices_of(search.data, search.model)
    if n_trials == len(every):
        first += [choice for choice in every if choice not in first]
    return tune.Tuner(
        trainable,
        param_space={flag: tune.choice(values) for flag, values in space_of(search.data, search.model).items()},
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=n_trials,
            max_concurrent_trials=at_once,
            search_alg=OptunaSearch(seed=SEED, points_to_evaluate=first),
            scheduler=ASHAScheduler(
                time_attr="epoch",
                max_t=search.epochs,
                grace_period=min(FEWEST_EPOCHS, search.epochs),
                reduction_factor=KEPT,
            ),
        ),
        run_config=tune.RunConfig(name=name, storage_path=path, verbose=0, callbacks=[Lines()], **where),
    )


def _error_of(trial) -> Exception | None:
    """Why a trial has just ended; Tune's own method finds it later only."""
    path = trial.pickled_error_file
    return cloudpickle.loads(Path(path).read_bytes()) if path and Path(path).exists() else None


def _is_lost(error: Exception | None) -> bool:
    """Whether a trial ended because its machine did, or because a later trial of the same choice claimed their run."""
    return isinstance(error, RayActorError) or TAKEN_OVER in str(error)


def _mark_stopped(search: Search, results: list[tune.Result]) -> None:
    """Tell the runs that the scheduler has stopped from those that an interruption did; two trials may share a run."""
    known = [(job_of(search, result.config), _is_done(result.metrics)) for result in results if result.config]
    left = {job for job, is_done in known if not is_done}
    for job, _ in known:
        if job in left:
            (job.folder / STOPPED_EARLY).unlink(missing_ok=True)
        elif job.results() is None and job.progress() is not None:
            (job.folder / STOPPED_EARLY).touch()


def _outcome(results: list[tune.Result], n_trials: int) -> Outcome:
    left = [result for result in results if not _is_done(result.metrics)]
    if len(results) < n_trials or any(result.error is None for result in left):
        return Outcome("stopped")
    if not left:
        return Outcome("finished")
    # of Ray's traceback the last line: the message of `TrialOfSearch.step`, or how a worker was lost
    reason = str(left[0].error).strip().splitlines()[-1].removeprefix("RuntimeError: ")
    return Outcome("failed", f"{len(left)} of {n_trials} trials failed; the first, {reason}")


def _is_done(result: dict | None) -> bool:
    """Whether a trial has ended, by itself or by the scheduler: a stopped search leaves the others as they are."""
    return bool(result and result.get("done"))
