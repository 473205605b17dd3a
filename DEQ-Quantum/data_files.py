"""The images of a data set: read from `<data_dir>/<dataset>.npz`, which is checked, or made from a download.

Knows files and the network, and no classes, splits or features: those are dataset.py's.
"""

import errno
import fcntl
import os
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from socket import getdefaulttimeout, setdefaulttimeout

import numpy as np

from data_settings import DATASETS, IMAGE_SIDES
from load_digits import load_digits
from utils.files import atomic_write

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
NETWORK_TIMEOUT = 20  # seconds without an answer
FOLDER_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # of a download: the disk's fault


class DataError(ValueError):
    """Data that cannot be had or used; the message is one line for the user, with the remedy."""


def load_images(dataset: str, data_dir: str | Path) -> dict[str, np.ndarray]:
    """Load a data set's images from `<data_dir>/<dataset>.npz`; a missing file is made from a download.

    Digits come with scikit-learn: data_dir is neither read nor written for them.

    Args:
        dataset: one of `DATASETS`.
        data_dir: folder of the cached .npz files, made where it is missing.

    Returns:
        `train_images` and `test_images`, uint8 (N, S, S), `train_labels` and `test_labels`, uint8 (N,), 0..9,
        in the data set's original order. S is in `IMAGE_SIDES`. CIFAR-10 is grey.

    Raises:
        DataError: unknown data set; a file that is damaged or holds something else; no network; data_dir cannot be
            written.
    """
    if dataset not in DATASETS:
        raise DataError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    if dataset == "digits":
        return load_digits()
    path = Path(data_dir).expanduser() / f"{dataset}.npz"
    try:
        cached = path.exists()
    except OSError as error:
        raise _folder_error(path.parent, error) from error
    _remove_abandoned(path.parent, dataset)
    return _read(path, dataset) if cached else _download(path, dataset)


# a file that is there


def _read(path: Path, dataset: str) -> dict[str, np.ndarray]:
    side = IMAGE_SIDES[dataset]
    takes = (
        f"train_images and test_images, uint8 (N, {side}, {side}), train_labels and test_labels, uint8 (N,), 0..9; write "
        "your data so, or choose another folder with --data_dir"
    )
    instead = ", or move it elsewhere and start again to download the data set"
    return read_arrays(path, ARRAYS, lambda found, names: _finding(found, names, side), dataset, takes, instead)


def read_arrays(
    path: Path,
    wanted: Sequence[str],
    finding: Callable[[dict[str, np.ndarray], list[str]], str],
    dataset: str,
    takes: str,
    instead: str = "",
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file, which stays as it is.

    Args:
        path: of the file.
        wanted: names of the arrays that are read, as far as there are such.
        finding: of these and of the names of all: what is not as it should be; "" where all is well.
        dataset: as --dataset names it, for messages.
        takes: what it should hold.
        instead: what else can be done about a damaged file than to put a whole one in its place.

    Raises:
        DataError: it is damaged, cannot be read or holds something else.
    """
    arrays, cause = {}, None
    try:
        with np.load(path, allow_pickle=False) as file:
            names = file.files
            arrays = {key: file[key] for key in wanted if key in names}
        found = finding(arrays, names)
    except (PermissionError, IsADirectoryError) as error:
        raise DataError(f"cannot read {path}: {error.strerror}; it should be a file that you may read") from error
    except Exception as error:  # a damaged file makes zipfile and numpy raise more kinds than a list can hold
        cause, found = error, (str(error).splitlines() or [type(error).__name__])[0]
    if not found:
        return arrays
    if not _is_whole(path):
        raise DataError(f"{path} is corrupt, or no .npz file; put a whole copy in its place{instead}") from cause
    if isinstance(cause, MemoryError):
        raise cause
    raise DataError(f"{path} holds something else than --dataset {dataset} takes ({found}): {takes}") from cause


def _finding(arrays: dict[str, np.ndarray], names: list[str], side: int) -> str:
    """What is not as it should be in a file with arrays of these names; "" where all is well."""
    if len(arrays) < len(ARRAYS):
        return f"it has {', '.join(names) or 'no arrays'}"
    for half in ("train", "test"):
        images, labels = arrays[f"{half}_images"], arrays[f"{half}_labels"]
        shapes = ((images, "images", (*images.shape[:1], side, side)), (labels, "labels", images.shape[:1]))
        for array, kind, shape in shapes:
            if array.dtype != np.uint8 or array.shape != shape:
                return f"{half}_{kind} is {array.dtype} {array.shape}, not uint8 {shape}"
        if (labels > 9).any():
            return f"{half}_labels has {labels.max()}, not 0..9"
    return ""


def _is_whole(path: Path) -> bool:
    """Whether it is a zip archive, as .npz files are, whose checksums all fit: what is wrong with it was so written."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except Exception:  # as many kinds as above
        return False


# a file that is not


def _download(path: Path, dataset: str) -> dict[str, np.ndarray]:
    """Get the images from torchvision and write the cache."""
    # here: torchvision takes seconds to import
    if dataset == "cifar10":
        from load_cifar import load_cifar10 as load
    else:
        from load_mnist import load_mnist as load
    arguments = () if dataset == "cifar10" else (dataset,)
    try:
        with _made(path.parent), _scratch_folder(path.parent, dataset) as scratch:
            arrays = _fetch(load, (*arguments, scratch), path)
            with atomic_write(path, scratch) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **arrays)
    except OSError as error:
        raise _folder_error(path.parent, error) from error
    return arrays


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing; where the block fails, what was made for it goes again."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:  # the innermost first; whatever is not empty by now stays
            with suppress(OSError):
                path.rmdir()
        raise


def _scratch_prefix(dataset: str) -> str:
    # the host's name: a lock taken on one machine need not be seen on another that shares the folder
    return f".{dataset}-{platform.node()}-"


@contextmanager
def _scratch_folder(folder: Path, dataset: str) -> Iterator[Path]:
    """A folder of this download's own, locked while it lives: what a killed one leaves is never taken for a whole one."""
    with tempfile.TemporaryDirectory(prefix=_scratch_prefix(dataset), dir=folder, ignore_cleanup_errors=True) as name:
        descriptor = os.open(name, os.O_RDONLY)
        try:
            with suppress(OSError):  # not every file system has locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def _remove_abandoned(folder: Path, dataset: str) -> None:
    """Take away what downloads left that were killed on this machine."""
    for scratch in folder.glob(_scratch_prefix(dataset) + "*"):
        with suppress(OSError):
            descriptor = os.open(scratch, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while the download lives
                shutil.rmtree(scratch, ignore_errors=True)
            finally:
                os.close(descriptor)


def _fetch(load, arguments: tuple, path: Path) -> dict[str, np.ndarray]:
    timeout = getdefaulttimeout()
    setdefaulttimeout(NETWORK_TIMEOUT)  # torchvision sets none: a silent network would hang the run
    try:
        return load(*arguments)
    except (OSError, RuntimeError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FOLDER_ERRORS:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        proxies = [f"${name}" for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
        raise DataError(  # torchvision's last line is the cause, the others list its mirrors
            f"cannot download {path.stem} ({lines[-1]}); connect to the network"
            f"{' (' + ' and '.join(proxies) + ' must name a proxy that answers)' if proxies else ''}, "
            f"or copy {path.name} from a machine that has it into {path.parent}, "
            "or try the digits data set, which needs no download"
        ) from error
    finally:
        setdefaulttimeout(timeout)


def _folder_error(folder: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    remedy = "choose another with --data_dir or $QDEQ_DATA"
    return DataError(f"cannot use the data folder {folder}: {reason}; {remedy}")
