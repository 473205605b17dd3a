"""Data: where images come from.

Downloads through torchvision's own code from a web server on this machine, no network, folders that cannot be
used, corrupt files, scikit-learn's digits, and the real files where they are present.
"""

import gzip
import hashlib
import os
import pickle
import shutil
import socket
from functools import partial
from http.client import IncompleteRead
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

import data_files
import features
import load_cifar
from dataset import DataError, load_features, load_images
from load_mnist import load_mnist
from small_data import SIDES, idx, npy, synthetic, write_cifar_batches, write_mnist_mirror


@pytest.fixture
def no_network(monkeypatch):
    """Every connection fails at once, as on a machine without a network."""

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- digits ---------------------------------------------------------------------------------------


def test_digits_need_neither_network_nor_folder(no_network):
    splits = load_features("digits", 10, 4, 0, "/dev/null/no/folder", "cpu")
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == [1149, 288, 360]
    assert splits.train.features.isfinite().all()


def test_digits_are_scikit_learns_in_their_order():
    original, arrays = load_digits(), load_images("digits", "")
    images = np.concatenate([arrays["train_images"], arrays["test_images"]])
    assert images.dtype == np.uint8 and images.max() == 255 and len(arrays["test_images"]) == 360
    np.testing.assert_allclose(images / 255 * 16, original.images, atol=16 / 255 / 2)
    labels = np.concatenate([arrays["train_labels"], arrays["test_labels"]])
    assert labels.dtype == np.uint8 and np.array_equal(labels, original.target)


# --- downloads ------------------------------------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mnist_mirror(tmp_path, monkeypatch):
    """A web server on this machine with a small MNIST; torchvision's own code downloads and checks it."""
    arrays = synthetic(n_train=30, n_test=10)
    mirror = tmp_path / "mirror"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=mirror))
    monkeypatch.setattr(MNIST, "resources", write_mnist_mirror(mirror, arrays))
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Thread(target=server.serve_forever, daemon=True).start()
    yield mirror, arrays
    server.shutdown()
    server.server_close()


def test_mnist_is_downloaded_once_and_cached(mnist_mirror, tmp_path):
    mirror, arrays = mnist_mirror
    data_dir = tmp_path / "not" / "there yet"
    first = load_images("mnist", data_dir)
    shutil.rmtree(mirror)
    second = load_images("mnist", data_dir)
    for key in arrays:
        assert np.array_equal(first[key], arrays[key]) and first[key].dtype == np.uint8
        assert np.array_equal(second[key], arrays[key]) and second[key].dtype == np.uint8
    assert [p.name for p in data_dir.iterdir()] == ["mnist.npz"], "the download left something behind"


def test_a_broken_download_does_not_spoil_the_next(mnist_mirror, tmp_path):
    mirror, arrays = mnist_mirror
    images = mirror / "t10k-images-idx3-ubyte.gz"
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot download mnist \(File not found or corrupted.\); connect"):
        load_images("mnist", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    images.write_bytes(whole)
    assert np.array_equal(load_images("mnist", tmp_path / "data")["test_images"], arrays["test_images"])


@pytest.mark.parametrize("folder, name", [("MNIST", "mnist"), ("FashionMNIST", "fashion_mnist")])
def test_each_of_the_mnist_family_is_read_from_its_own_files(folder, name, tmp_path, no_network):
    arrays = synthetic(n_train=30, n_test=10)
    for file, _ in write_mnist_mirror(tmp_path / "gz", arrays):
        raw = tmp_path / folder / "raw" / file.removesuffix(".gz")
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_bytes(gzip.decompress((tmp_path / "gz" / file).read_bytes()))
    loaded = load_mnist(name, tmp_path)
    assert all(np.array_equal(loaded[key], arrays[key]) for key in arrays)


def test_cifar_becomes_grey_by_luma(tmp_path, monkeypatch, no_network):
    colour, labels = write_cifar_batches(tmp_path / "cifar-10-batches-py", np.random.default_rng(0))
    monkeypatch.setattr(load_cifar.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setitem(load_cifar.CIFAR10.meta, "md5", None)
    arrays = load_cifar.load_cifar10(tmp_path)
    for half in ("train", "test"):
        luma = colour[half] @ np.array([0.299, 0.587, 0.114])
        grey, digits = arrays[f"{half}_images"], arrays[f"{half}_labels"]
        assert grey.dtype == digits.dtype == np.uint8
        assert grey.shape == (len(luma), 32, 32) and np.abs(grey - luma).max() < 0.502
        assert digits.tolist() == labels[half]


@pytest.mark.parametrize("name", SIDES)
def test_no_network_is_one_line_with_the_remedy(name, tmp_path, no_network):
    with pytest.raises(DataError) as caught:
        load_images(name, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"cannot download {name} (") and "\n" not in message
    assert "Name or service not known" in message and f"copy {name}.npz" in message and "digits" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [URLError("timed out"), TimeoutError(), RuntimeError("a\nb"), IncompleteRead(b"")]
)
def test_the_network_timeout_is_put_back(error, tmp_path, monkeypatch):
    seen = []

    def fail(root):
        seen.append(socket.getdefaulttimeout())
        raise error

    monkeypatch.setattr(load_cifar, "load_cifar10", fail)
    before = socket.getdefaulttimeout()
    with pytest.raises(DataError, match="cannot download cifar10"):
        load_images("cifar10", tmp_path)
    assert seen == [data_files.NETWORK_TIMEOUT] and socket.getdefaulttimeout() == before


def test_a_folder_that_cannot_be_used(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(DataError, match=f"cannot use the data folder {folder}: .*--data_dir"):
            load_images("mnist", folder)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    """By monkeypatch: permissions do not stop root."""

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(data_files.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(DataError, match="cannot use the data folder .*: Permission denied; choose another"):
        load_images("mnist", tmp_path)


# --- what downloads leave -------------------------------------------------------------------------


@pytest.mark.parametrize("error", [URLError("timed out"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_download_leaves_nothing(error, tmp_path, monkeypatch):
    """Neither a half download nor the folders made for it; a folder that was there stays."""

    def fail(root):
        (root / "half").write_bytes(b"half")
        raise error

    monkeypatch.setattr(load_cifar, "load_cifar10", fail)
    (tmp_path / "there").mkdir()
    for data_dir in (tmp_path / "new" / "data", tmp_path / "there"):
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError):
            load_images("cifar10", data_dir)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_full_disk_is_not_blamed_on_the_network(tmp_path, monkeypatch):
    def fail(root):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(load_cifar, "load_cifar10", fail)
    with pytest.raises(DataError, match=f"cannot use the data folder {tmp_path}: No space left on device; choose"):
        load_images("cifar10", tmp_path)


def test_what_a_killed_download_left_is_taken_away_and_a_living_one_is_not(tmp_path):
    np.savez(tmp_path / "mnist.npz", **synthetic(n_train=10, n_test=10))
    with data_files._scratch_folder(tmp_path, "mnist") as living:
        killed = [tmp_path / f"{data_files._scratch_prefix('mnist')}{n}" for n in range(2)]
        for folder in killed:
            folder.mkdir()
            (folder / "half").write_bytes(b"half")
        other = tmp_path / f"{data_files._scratch_prefix('cifar10')}0"
        other.mkdir()
        load_images("mnist", tmp_path)
        assert living.exists() and other.exists() and not any(folder.exists() for folder in killed)
    assert not living.exists()


def test_a_proxy_is_named_where_one_is_set(tmp_path, monkeypatch):
    """By its variable: its address may hold a password."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def fail(root):
        raise URLError("Connection refused")

    monkeypatch.setattr(load_cifar, "load_cifar10", fail)
    for proxied in (False, True):
        if proxied:
            monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
        with pytest.raises(DataError) as caught:
            load_images("cifar10", tmp_path)
        assert ("$HTTPS_PROXY must name a proxy that answers" in str(caught.value)) == proxied
        assert "secret" not in str(caught.value)


# --- damaged files, and files with something else --------------------------------------------------

DAMAGED = {
    "no zip": lambda path: path.write_bytes(b"<html>not found</html>"),
    "empty": lambda path: path.write_bytes(b""),
    "one array": lambda path: path.write_bytes(npy(synthetic()["train_images"])),
    "pickle": lambda path: path.write_bytes(pickle.dumps(synthetic())),
    "half": lambda path: (np.savez(path, **synthetic()), path.write_bytes(path.read_bytes()[:50000])),
}
# what is stored in place of an array, made from the right one (None: nothing), and what is said of it
OTHER_ARRAYS = {
    "no labels": ("test_labels", lambda labels: None, "it has train_images, train_labels, test_images"),
    "objects": ("train_labels", lambda labels: labels.astype(object), "Object arrays cannot be loaded"),
    "floats": ("test_images", lambda images: images / 255, "test_images is float64 (60, 28, 28), not uint8 (60, 28"),
    "not finite": ("test_images", lambda images: images * np.nan, "test_images is float64 (60, 28, 28)"),
    "flat": ("train_images", lambda images: images.reshape(len(images), -1), "train_images is uint8 (200, 784), not"),
    "wrong side": ("train_images", lambda images: images[:, 1:, 1:], "(200, 27, 27), not uint8 (200, 28, 28)"),
    "colour": ("train_images", lambda images: np.stack([images] * 3, -1), "(200, 28, 28, 3), not uint8 (200, 28, 28)"),
    "lengths": ("train_labels", lambda labels: labels[:-1], "train_labels is uint8 (199,), not uint8 (200,)"),
    "wide labels": ("test_labels", lambda labels: labels.astype(np.int64), "test_labels is int64 (60,), not uint8"),
    "label 10": ("test_labels", lambda labels: labels + np.uint8(1), "test_labels has 10, not 0..9"),
}


def refusal(tmp_path: Path) -> str:
    """The one line about mnist.npz, which stays as it is and never is to be deleted."""
    path = tmp_path / "mnist.npz"
    before = path.read_bytes()
    with pytest.raises(DataError) as caught:
        load_features("mnist", 10, 4, 0, tmp_path, "cpu")
    message = str(caught.value)
    assert message.startswith(f"{path} ") and "\n" not in message and path.read_bytes() == before
    assert not any(word in message for word in ("delete", "remove", "overwrite"))
    return message


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_and_nothing_is_downloaded(case, tmp_path, no_network):
    DAMAGED[case](tmp_path / "mnist.npz")
    message = refusal(tmp_path)
    assert "is corrupt, or no .npz file; put a whole copy in its place, or move it elsewhere" in message


@pytest.mark.parametrize("case", OTHER_ARRAYS)
def test_a_file_with_something_else_says_what_it_has_and_what_is_expected(case, tmp_path, no_network):
    key, change, found = OTHER_ARRAYS[case]
    arrays = synthetic()
    arrays[key] = change(arrays[key])
    np.savez(tmp_path / "mnist.npz", **{k: v for k, v in arrays.items() if v is not None})
    message = refusal(tmp_path)
    assert found in message and "corrupt" not in message
    assert "train_images and test_images, uint8 (N, 28, 28), train_labels and test_labels, uint8 (N,), 0..9" in message
    assert "--data_dir" in message


def test_a_folder_in_place_of_the_file(tmp_path, no_network):
    (tmp_path / "mnist.npz").mkdir()
    with pytest.raises(DataError, match="cannot read .*mnist.npz: Is a directory; it should be a file"):
        load_images("mnist", tmp_path)


def test_no_memory_is_no_damage(tmp_path, monkeypatch):
    np.savez(tmp_path / "mnist.npz", **synthetic())
    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", lambda self, key: np.empty((2**62,), np.uint8))
    with pytest.raises(MemoryError):
        load_images("mnist", tmp_path)


def test_any_damage_is_a_data_error_or_harmless(tmp_path):
    """Truncated anywhere, or any byte overwritten: never another exception, never wrong images, never called whole."""
    arrays = synthetic(n_train=10, n_test=10)
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, **arrays)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for case in range(300):
        damaged = bytearray(whole)
        place = int(rng.integers(len(whole)))
        if case % 3:
            damaged[place] ^= int(rng.integers(1, 256))
        else:
            del damaged[place:]
        path.write_bytes(damaged)
        try:
            loaded = load_images("mnist", tmp_path)
        except DataError as error:
            assert "is corrupt" in str(error)
        else:
            assert all(np.array_equal(loaded[key], arrays[key]) for key in arrays)


# --- the real files -------------------------------------------------------------------------------


def real(name: str) -> Path:
    folder = os.environ.get("QDEQ_DATA")
    if not folder or not (Path(folder) / f"{name}.npz").exists():
        pytest.skip(f"needs the real data: no {name}.npz in $QDEQ_DATA ({folder or 'not set'})")
    return Path(folder)


# md5 of the published idx files, unpacked: training and test images
PUBLISHED = {
    "mnist": ("6bbc9ace898e44ae57da46a324031adb", "2646ac647ad5339dbf082846283269ea"),
    "fashion_mnist": ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "8181f5470baa50b63fa0f6fddb340f0a"),
}
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_images_are_the_published_ones(name):
    arrays = load_images(name, real(name))
    found = tuple(hashlib.md5(idx(arrays[f"{half}_images"])).hexdigest() for half in ("train", "test"))
    assert found == PUBLISHED[name]


def test_real_mnist_labels_and_constants():
    arrays = load_images("mnist", real("mnist"))
    assert np.bincount(arrays["train_labels"]).tolist() == TRAIN_COUNTS
    assert np.bincount(arrays["test_labels"]).tolist() == TEST_COUNTS
    assert arrays["train_labels"][:5].tolist() == [5, 0, 4, 1, 9]
    pixels = arrays["train_images"] / np.float32(255)
    assert pixels.mean() == pytest.approx(features.MEAN, abs=5e-5)
    assert pixels.std() == pytest.approx(features.STD, abs=5e-5)


@pytest.mark.parametrize("num_classes, sizes", [(10, [48000, 12000, 10000]), (4, [19136, 4785, 3957])])
def test_real_mnist_splits(num_classes, sizes):
    splits = load_features("mnist", num_classes, 10, 1111, real("mnist"), "cpu")
    assert [len(s) for s in (splits.train, splits.val, splits.test)] == sizes
    counts = torch.cat([splits.train.labels, splits.val.labels]).bincount().tolist()
    assert counts == [TRAIN_COUNTS[c] for c in splits.classes]


@pytest.mark.parametrize(
    "name, n_train, n_test, side", [("fashion_mnist", 60000, 10000, 28), ("cifar10", 50000, 10000, 32)]
)
def test_real_shapes_and_balance(name, n_train, n_test, side):
    arrays = load_images(name, real(name))
    assert arrays["train_images"].shape == (n_train, side, side)
    assert arrays["test_images"].shape == (n_test, side, side)
    assert np.bincount(arrays["train_labels"]).tolist() == [n_train // 10] * 10
    assert np.bincount(arrays["test_labels"]).tolist() == [n_test // 10] * 10
