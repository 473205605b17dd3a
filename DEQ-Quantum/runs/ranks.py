"""What the processes of one run are to each other: who is first, which rows are whose, what is added up over all.

    torchrun --nproc-per-node 2 DEQ-Quantum/train_qdeq.py ...

Every process (rank) holds the whole model and takes its share of every batch; the first one alone has the run's folder
and sends the others what it finds there. Knows torch.distributed, not what is trained. Without torchrun there is one
rank, which has all rows and sends nothing.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runs.collectives import GatherColumns, Total, noticing
from runs.settings import SettingsError
from utils.launch import rank_here, world_size

TIMEOUT = timedelta(minutes=30)  # for a rank that still lives; the end of one is noticed at once
Made = TypeVar("Made")


class RanksDiffer(RuntimeError):
    """The ranks' parameters are no longer the same; the message is one line for the user."""


@dataclass(frozen=True)
class Share:
    """The rows of a batch that a rank computes.

    Attributes:
        rows: never none: where there are fewer rows than ranks, some compute the first one and do not count it, so that
            all take part in what they do together.
        count: how many of them count, all or none.
    """

    rows: slice
    count: int


class Ranks:
    """The ranks of a run, seen by one of them.

    Attributes:
        rank: this one's number, from 0.
        size: how many there are.
        backend: what sends between them, e.g. "gloo"; None for one rank.
    """

    def __init__(self, rank: int = 0, size: int = 1, backend: str | None = None):
        self.rank, self.size, self.backend = rank, size, backend

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def is_first(self) -> bool:
        """Whether this rank has the folder, the log and the trackers."""
        return self.rank == 0

    # who does what

    def bounds(self, n: int) -> list[int]:
        """Where each rank's part of n rows begins, and n: (size + 1,). Parts differ by one row at most."""
        return [rank * n // self.size for rank in range(self.size + 1)]

    def share(self, n: int) -> Share:
        """This rank's part of n rows."""
        begin, end = self.bounds(n)[self.rank : self.rank + 2]
        return Share(slice(begin, end) if end > begin else slice(0, 1), end - begin)

    def device(self, kind: torch.device) -> torch.device:
        """This rank's device of a kind: the GPU of its number on this machine.

        Raises:
            SettingsError: there are fewer GPUs than ranks.
        """
        if self.alone or kind.type != "cuda":
            return kind
        local, n_devices = int(os.environ.get("LOCAL_RANK", self.rank)), torch.cuda.device_count()
        if local >= n_devices:
            raise SettingsError(
                f"--device cuda: process {local} of this machine has none of its {n_devices} GPUs; "
                f"use --nproc-per-node {max(1, n_devices)} or --device cpu"
            )
        torch.cuda.set_device(local)
        return torch.device("cuda", local)

    # what is sent

    def from_first(self, make: Callable[[], Made]) -> Made:
        """What the first rank makes (plain data and tensors on the CPU), on all; its error is an error on all."""
        if self.alone:
            return make()
        made = [None, None]
        if self.is_first:
            try:
                made[0] = make()
            except Exception as error:
                made[1] = error
        with noticing():
            dist.broadcast_object_list(made, device=torch.device("cpu"))
        value, error = made
        if error is not None:
            raise error
        return value

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block in which each rank works for itself; an error of one is raised on all."""
        if self.alone:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as found:
            error = found
        errors = [None] * self.size
        with noticing():
            dist.all_gather_object(errors, error)
        if error := next(filter(None, errors), None):
            raise error

    def wait(self) -> None:
        """Until all ranks are here."""
        self._reduce(torch.zeros(1))

    def sum_in_place(self, tensors: Sequence[Tensor], numbers: Sequence[Tensor | float]) -> Sequence[Tensor | float]:
        """Sums over the ranks, in one reduction, in float64.

        Args:
            tensors: get their sums in place; all on one device.
            numbers: scalars.

        Returns:
            The numbers' sums; those that were given where there is one rank.
        """
        if self.alone:
            return numbers
        device = tensors[0].device
        scalars = [torch.as_tensor(number, dtype=torch.float64, device=device) for number in numbers]
        flat = torch.cat([*(tensor.detach().flatten().double() for tensor in tensors), torch.stack(scalars)])
        self._reduce(flat)
        *sums, totals = flat.split([*(tensor.numel() for tensor in tensors), len(scalars)])
        for tensor, total in zip(tensors, sums):
            tensor.copy_(total.view_as(tensor))
        return totals.cpu().unbind()

    def total(self, values: Tensor) -> Tensor:
        """The sum over the ranks, differentiable: see `runs.collectives`."""
        return Total.apply(values)

    def gather_columns(self, own: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
        """(rows, ..., own columns) to (own rows, ..., columns), with `bounds` of both, differentiable."""
        return GatherColumns.apply(own, rows, columns, self.rank)

    def check_equal(self, module: nn.Module) -> None:
        """Refuse parameters and buffers that are not the same on all ranks, bit by bit.

        Raises:
            RanksDiffer: they are not.
        """
        if self.alone:
            return
        digest = hashlib.blake2b(digest_size=7)
        for tensor in module.state_dict().values():
            digest.update(tensor.detach().cpu().numpy().tobytes())
        number = int.from_bytes(digest.digest(), "little")
        largest = torch.tensor([number, -number])
        self._reduce(largest, dist.ReduceOp.MAX)
        if largest.sum() != 0:
            raise RanksDiffer("the processes' parameters differ: --restart continues from the last checkpoint, where they do not")

    def _reduce(self, tensor: Tensor, how=dist.ReduceOp.SUM) -> None:
        if not self.alone:
            with noticing():
                dist.all_reduce(tensor, how)


ALONE = Ranks()


@contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """The ranks that torchrun started, or the one that there is without it; all leave together.

    Raises:
        SettingsError: they cannot be joined.
        RankLost: another one ended.
    """
    if world_size() == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"cannot join the {world_size()} processes that $WORLD_SIZE speaks of ({reason})") from error
    ranks = Ranks(rank_here(), world_size(), backend)
    yield ranks
    ranks.wait()
    dist.destroy_process_group()
