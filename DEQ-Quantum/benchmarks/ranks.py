"""A training step by one process and by several that share it out: the batch alone, or the circuit's columns too.

All processes live throughout and contestants take turns, so that the machine's noise hits all alike: while one process
works alone, the others wait. One process has one thread, as each of several has under torchrun, or as many as there
are processes.
"""

import argparse
import multiprocessing
import os
import signal
import socket
from contextlib import closing
from multiprocessing.connection import Connection

import torch
from torch.nn import functional

from benchmarks.record import Record
from benchmarks.step import CLIP, JAC_LOSS_WEIGHT, Problem, Step, Variant
from benchmarks.timing import BLOCK_SECONDS, WARM_UP_CALLS, Series, seconds_per_call
from models.qdeq_model import Whole
from runs.optim import clip_gradient
from runs.ranks import ALONE, Ranks, joined_ranks

VARIANT = Variant("compiled", "newton+exact")


class SharedStep(Step):
    """The training step of `Step` as one of several ranks takes it: its rows of the batch, one sum of the gradients.

    Args:
        problem: the whole batch's.
        ranks: who shares it; `ALONE` for one process.
        n_threads: of this process.
        shard: "batch", or "columns": of the circuit too.
    """

    def __init__(self, problem: Problem, ranks: Ranks, n_threads: int, shard: str):
        super().__init__(VARIANT, problem)
        self.ranks, self.n_threads = ranks, n_threads
        if shard == "columns":
            self.model.layer.engine.share_columns(ranks)

    def __call__(self) -> None:
        """Take the step."""
        torch.set_num_threads(self.n_threads)
        self.optimizer.zero_grad()
        n, own = len(self.x), self.ranks.share(len(self.x))
        p = self.model(self.x[own.rows], self.depth, with_jac_loss=True, generator=self.generator,
                       whole=Whole(n, own.rows))  # fmt: skip
        loss = functional.cross_entropy(p.logits, self.y[own.rows]) + JAC_LOSS_WEIGHT * p.jac_loss
        (own.count / n * loss).backward()
        self.ranks.sum_in_place([parameter.grad for parameter in self.model.parameters()], [loss.detach()])
        clip_gradient(self.model.parameters(), CLIP)
        self.optimizer.step()


def measure_ranks(record: Record) -> None:
    """Steps of growing circuits into the section `ranks`, by one process and by several."""
    o = record.options
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1]), "WORLD_SIZE": str(o.ranks)}
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    processes = [context.Process(target=_work, args=(variables | {"RANK": str(rank)}, o, sending))
                 for rank in range(o.ranks)]  # fmt: skip
    record.content["ranks"] = []
    for process in processes:
        process.start()
    sending.close()
    try:
        while True:  # until the first rank closes its end
            record.content["ranks"] += receiving.recv()
    except EOFError:
        pass
    finally:
        for process in processes:
            process.join(5)
            process.kill()
    if len(record.content["ranks"]) < len(o.wires):
        raise ValueError("a process of the benchmark ended before it had measured all; see what it said")


def _work(variables: dict[str, str], options: argparse.Namespace, sending: Connection) -> None:
    """What each process does; the first one sends what it has measured, problem by problem."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its processes
    os.environ.update(variables)
    with joined_ranks() as ranks:
        device = ranks.device(torch.device("cuda" if options.device == "cuda" else "cpu"))
        for n_wires in sorted(set(options.wires)):
            problem = Problem(n_wires, options.batch_size, options.seed, device)
            rows = _measure(problem, ranks, options.repetitions)
            if ranks.is_first:
                sending.send(rows)
    sending.close()


def _measure(problem: Problem, ranks: Ranks, repetitions: int) -> list[dict]:
    """Times of all contestants on one problem; of what one process does alone, the others return none."""
    several = f"{ranks.size} processes"
    steps = {
        "1 process, 1 thread": SharedStep(problem, ALONE, 1, "batch"),
        f"1 process, {ranks.size} threads": SharedStep(problem, ALONE, ranks.size, "batch"),
        f"{several}, batch": SharedStep(problem, ranks, 1, "batch"),
        f"{several}, batch and columns": SharedStep(problem, ranks, 1, "columns"),
    }
    series: dict[str, Series] = {}
    for turn in range(-1, repetitions):
        for label, step in steps.items():
            ranks.wait()
            if step.ranks is ALONE and not ranks.is_first:
                continue
            if turn < 0:
                seconds_per_call(step, WARM_UP_CALLS - 1, problem.device)
                seconds = seconds_per_call(step, 1, problem.device)
                # all ranks of a step take it equally often
                seconds = step.ranks.from_first(lambda seconds=seconds: seconds)
                series[label] = Series(max(1, round(BLOCK_SECONDS / seconds)))
            else:
                block = series[label]
                block.seconds.append(seconds_per_call(step, block.calls, problem.device))
    size = {"n_wires": problem.n_wires, "batch_size": problem.batch_size}
    return [{**size, "label": label, "times": found.summary()} for label, found in series.items()]


def table_rows(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Header and lines: a step's time, and how many times faster it is than by one process with one thread."""
    lines, first = [], 1.0
    for row in rows:
        median = row["times"]["median"]
        if row["label"] == rows[0]["label"]:
            first = median
        times = [f"{1e3 * row['times'][name]:.2f}" for name in ("median", "lowest", "highest")]
        lines.append([row["label"], str(row["n_wires"]), str(row["batch_size"]), *times, f"{first / median:.2f} x"])
    return ["training step", "wires", "batch", "median ms", "lowest", "highest", "faster"], lines
