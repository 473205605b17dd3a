"""Percolation: generated grids of open and closed sites, and whether a path of open sites joins top and bottom.

The answer is the fixed point of an iteration: flood the open sites from the top row, neighbour by neighbour, until
nothing changes. It takes as many rounds as the shortest path, which may wind, has steps. The paper does not use it.

Site percolation on the square lattice, four neighbours, open borders. Sites are open with the probability at which an
infinite lattice begins to percolate. Each grid that percolates is paired with one of as many open sites that does not,
so counting them tells nothing, among the training images and among the test images. The same grids are drawn on every
machine; nothing is downloaded or kept.
"""

import numpy as np

SEED = 20251
N_TRAIN, N_TEST = 20_000, 4_000
THRESHOLD = 0.592746  # of site percolation: Newman and Ziff, Phys. Rev. Lett. 85, 4104 (2000)
LEAST_SIDE, MOST_SIDE = 6, 28  # smaller grids are too few: the test images would be training images too
CHUNK = 8_000  # grids drawn at a time; another number draws other grids


def load_percolation(side: int) -> dict[str, np.ndarray]:
    """Draw the grids: a second at the most.

    Args:
        side: sites of a side, `LEAST_SIDE` to `MOST_SIDE`.

    Returns:
        `train_images` float32 (20000, side^2) and `test_images` float32 (4000, side^2), sites row by row from the top,
        1 where open and -1 where closed: as vectors, so that each site is one feature and no pooling blurs it.
        `train_labels` and `test_labels`, uint8: 1 where top and bottom are joined, else 0, in turns.

    Raises:
        ValueError: side is out of range.
    """
    if not LEAST_SIDE <= side <= MOST_SIDE:
        raise ValueError(f"side must be {LEAST_SIDE} to {MOST_SIDE}, got {side}")
    n_pairs = (N_TRAIN + N_TEST) // 2
    draw = np.random.RandomState(SEED)  # the one generator of numpy's whose numbers never change
    found, n_found = [], 0
    while n_found < n_pairs:
        grids = draw.random_sample((CHUNK, side, side)) < THRESHOLD
        pairs = draw.permutation(_pairs(grids))
        found.append(grids[pairs])
        n_found += len(pairs)
    grids = np.concatenate(found)[:n_pairs].reshape(2 * n_pairs, side**2)
    images = np.where(grids, np.float32(1), np.float32(-1))
    labels = np.tile(np.array([1, 0], np.uint8), n_pairs)
    return {
        "train_images": images[:N_TRAIN],
        "train_labels": labels[:N_TRAIN],
        "test_images": images[N_TRAIN:],
        "test_labels": labels[N_TRAIN:],
    }


def _pairs(grids: np.ndarray) -> np.ndarray:
    """(P, 2) grids with as many open sites, by their numbers: the first percolates, the second does not; none twice."""
    joined, n_open = percolates(grids), grids.sum((1, 2))
    pairs = [np.empty((0, 2), np.int64)]
    for n in np.unique(n_open):
        of_either = [np.flatnonzero((n_open == n) & (joined == wanted)) for wanted in (True, False)]
        n_pairs = min(map(len, of_either))
        pairs.append(np.stack([numbers[:n_pairs] for numbers in of_either], axis=1))
    return np.concatenate(pairs)


def percolates(grids: np.ndarray) -> np.ndarray:
    """Whether open sites join the first row to the last: bool (N, rows, columns), columns < 63, to bool (N,)."""
    open_ = (grids * 2 ** np.arange(grids.shape[2])).sum(2)  # a row is the bits of one number: neighbours are shifts
    flooded = np.zeros_like(open_)
    flooded[:, 0] = open_[:, 0]
    while True:
        reached = flooded | flooded << 1 | flooded >> 1
        reached[:, 1:] |= flooded[:, :-1]
        reached[:, :-1] |= flooded[:, 1:]
        reached &= open_
        if np.array_equal(reached, flooded):
            return flooded[:, -1] != 0
        flooded = reached
