"""Random streams: functions of (seed, stream, step), apart from each other and from the global generators."""

import random
from itertools import islice, product

import numpy as np
import pytest
import torch

from conftest import assert_same
from utils import seeds


def draw(*where) -> int:
    return int(torch.randint(2**62, (), generator=seeds.generator(*where)))


def test_streams_repeat_and_differ_from_each_other():
    everywhere = list(product((0, 1, 11, 1111), ("batches", "draws", "1/1", "1"), range(120)))
    numbers = {where: draw(*where) for where in everywhere}
    assert len(set(numbers.values())) == len(everywhere)
    random.Random(0).shuffle(everywhere)
    assert all(draw(*where) == numbers[where] for where in everywhere)


def test_streams_of_neighbouring_steps_are_uncorrelated():
    streams = [seeds.generator(1, "dropout", step) for step in range(6)]
    rows = torch.stack([torch.randn(4000, generator=stream) for stream in streams])
    apart = torch.corrcoef(rows) - torch.eye(6)
    assert apart.abs().max() < 5 / 4000**0.5


def test_streams_and_global_generators_leave_each_other_alone():
    seeds.seed_everything(1)
    expected = draw(1, "draws", 3), torch.rand(3), np.random.rand(), random.random()
    seeds.seed_everything(1)
    torch.rand(17)
    first = draw(1, "draws", 3)
    seeds.seed_everything(1)
    draw(1, "draws", 4)
    again = first, torch.rand(3), np.random.rand(), random.random()
    assert_same(again, expected)


@pytest.mark.parametrize("seed", [0, 1111, 2**32, 2**63])
def test_seed_everything_repeats_every_global_generator(seed):
    def numbers(of: int) -> tuple:
        seeds.seed_everything(of)
        return torch.rand(()).item(), np.random.rand(), random.random()

    assert numbers(seed) == numbers(seed)
    assert all(one != other for one, other in zip(numbers(seed), numbers(seed + 1)))


def taken(n_batches: int, *where) -> list[list[int]]:
    return [chosen.tolist() for chosen in islice(seeds.batches(*where), n_batches)]


def test_each_epoch_takes_every_sample_once_in_its_own_order():
    all_batches = taken(9, 10, 4, 1, 0)
    assert [len(batch) for batch in all_batches] == [4, 4, 2] * 3
    epochs = [sum(all_batches[first : first + 3], []) for first in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert taken(9, 10, 4, 2, 0) != all_batches == taken(9, 10, 4, 1, 0)


@pytest.mark.parametrize("step", range(8))
def test_batches_from_a_step_on_are_those_of_the_whole_run(step):
    assert taken(9, 10, 4, 1, step) == taken(9 + step, 10, 4, 1, 0)[step:]
