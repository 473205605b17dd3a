"""The percolation task: labels against a search site by site, pairs of one density, the same grids, and a run."""

import hashlib
import json

import numpy as np
import pytest

import evaluate_qdeq
from dataset import DataError, load_features
from load_percolation import N_TEST, N_TRAIN, load_percolation, percolates
from quick_runs import train_quickly
from training.command_line import parse_command_line

GRIDS = ("--dataset", "percolation", "--num_classes", "2", "--n_wires", "6")
# joined by one path, which goes down, up and down again
WINDING = ["#......", "#.####.", "#.#..#.", "#.#.##.", "###.#..", "....#..", "....###", "......#"]


@pytest.fixture(scope="module")
def arrays():
    return load_percolation(6)


def joins(grid: np.ndarray) -> bool:
    """Whether a walk from site to site gets from the first row to the last, depth first."""
    left = {(int(row), int(column)) for row, column in np.argwhere(grid)}
    walk = [site for site in left if site[0] == 0]
    while walk:
        row, column = walk.pop()
        if row == len(grid) - 1:
            return True
        for site in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if site in left:
                left.remove(site)
                walk.append(site)
    return False


def test_labels_are_those_of_a_search(arrays):
    for drawn, side in ((arrays, 6), (load_percolation(12), 12)):
        for half in ("train", "test"):
            grids = drawn[f"{half}_images"][:300].reshape(-1, side, side) > 0
            assert [joins(grid) for grid in grids] == drawn[f"{half}_labels"][:300].tolist()


def test_paths_may_wind_and_corners_do_not_join():
    grid = np.array([[site == "#" for site in row] for row in WINDING])
    assert percolates(grid[None]).all() and joins(grid)
    for row, column in np.argwhere(grid):
        cut = grid.copy()
        cut[row, column] = False
        assert percolates(cut[None])[0] == joins(cut)
    edges = [np.eye(6), np.zeros((6, 6)), np.ones((6, 6)), np.arange(36).reshape(6, 6) % 6 == 5]
    assert percolates(np.stack(edges).astype(bool)).tolist() == [False, False, True, True]


def test_no_number_of_open_sites_tells_the_class(arrays):
    for half, n in (("train", N_TRAIN), ("test", N_TEST)):
        images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
        assert images.shape == (n, 36) and images.dtype == np.float32 and (np.abs(images) == 1).all()
        n_open = (images > 0).sum(1)
        of_either = [np.bincount(n_open[labels == label], minlength=37) for label in (0, 1)]
        assert np.array_equal(*of_either) and of_either[0].sum() == n / 2
        assert {((n_open >= least) == labels).mean() for least in range(37)} == {0.5}  # a line has one such step
        assert 0.57 < n_open.mean() / 36 < 0.6


def test_grids_are_the_same_every_time_and_no_test_grid_is_trained_on(arrays):
    grids = np.concatenate([arrays["train_images"], arrays["test_images"]])
    assert len(np.unique(grids, axis=0)) == N_TRAIN + N_TEST
    assert hashlib.sha256(np.packbits(grids > 0).tobytes()).hexdigest()[:16] == "924cbb1c3d55c940"
    assert all(np.array_equal(values, arrays[name]) for name, values in load_percolation(6).items())


def test_every_site_is_a_feature(arrays):
    splits = load_features("percolation", 2, 6, 0, "/dev/null/no/folder", "cpu")
    assert (len(splits.train), len(splits.val), splits.classes, splits.side) == (16_000, 4_000, (0, 1), 6)
    assert np.array_equal(splits.test.features, arrays["test_images"])
    assert np.array_equal(splits.test.labels, arrays["test_labels"])
    with pytest.raises(DataError, match="side must be 6 to 28, got 4; choose another --n_wires"):
        load_features("percolation", 2, 4, 0, "", "cpu")
    with pytest.raises(DataError, match="num_classes is 4; choose one of 2"):
        load_features("percolation", 4, 6, 0, "", "cpu")


@pytest.mark.parametrize("flags, message", [
    ("--num_classes 10", "--num_classes must be 2 with --dataset percolation, got 10"),
    ("--classes 0,1", "--dataset percolation is classified whole: leave out --classes"),
])  # fmt: skip
def test_flags_that_do_not_go_with_it(flags, message, capsys):
    with pytest.raises(SystemExit):
        parse_command_line([*GRIDS, *flags.split()])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flags", [(), ("--model", "alam2021", "--mode", "direct", "--n_layer", 2)],
                         ids=["qdeq", "components"])  # fmt: skip
def test_a_run(flags, tmp_path):
    run = train_quickly(tmp_path, "run", 4, *GRIDS, *flags)
    results = json.loads((run / "results.json").read_text())
    assert np.sum(results["confusion_matrix"]) == N_TEST and results["dataset"] == "percolation"
    assert results["test_images_sha256"] == hashlib.sha256(load_percolation(6)["test_images"].tobytes()).hexdigest()
    evaluate_qdeq.main(evaluate_qdeq.parse_command_line([str(run)]))
    assert json.loads((run / "evaluation_test.json").read_text())["acc"] == results["test_acc"]
