"""Checkpoints: tensors and plain data only, each replaced atomically, with a checksum over the whole file.

A checkpoint is the zip archive that `torch.save` writes, and as its comment the SHA-256 of all bytes before the comment:
`torch.load` reads it as it is. One without a comment is older than the checksum; the archive's own CRCs are then checked.
"""

import copy
import hashlib
import io
import math
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from utils.files import atomic_write

FORMAT = 1
ANOTHER_RUN = "it is of another run or version of the code: use the one that belongs here, or train anew"
MARK = b"sha256:"
COMMENT = len(MARK) + 64  # bytes
# of a zip archive: the last record without a comment, as torch writes it
RECORD, SIGNATURE = 22, b"PK\x05\x06"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message is one line for the user."""


def save(path: Path, content: dict, previous: Path | None = None) -> None:
    """Write a checkpoint atomically (safe against a kill at any moment).

    Args:
        path: the file.
        content: tensors and plain data.
        previous: where the checkpoint that was at `path` is kept.

    Raises:
        CheckpointError: it cannot be written; the one that was there before still is.
    """
    buffer = io.BytesIO()
    torch.save(_compact({"format": FORMAT, **content}), buffer)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(_sealed(buffer.getvalue()))
            if previous is not None and path.exists():
                with atomic_write(previous) as copy:  # no link: what damages one file must not damage the other
                    shutil.copyfile(path, copy)
    except OSError as error:
        raise CheckpointError(f"cannot write {path} ({error.strerror}); once that is mended, --restart resumes from the "
                              "checkpoint before it") from error  # fmt: skip


def _compact(content: object) -> object:
    """The same with tensors that share no memory with others: torch saves all the memory that one is a part of."""
    if isinstance(content, Tensor):
        return content.clone() if content.untyped_storage().nbytes() > content.nbytes else content
    if isinstance(content, dict):
        made = copy.copy(content)
        made.update((name, _compact(value)) for name, value in content.items())
        return made
    if isinstance(content, (list, tuple)):
        return type(content)(_compact(value) for value in content)
    return content


def _sealed(archive: bytes) -> bytes:
    """The archive with its checksum as comment."""
    archive = archive[:-2] + struct.pack("<H", COMMENT)
    return archive + MARK + hashlib.sha256(archive).hexdigest().encode()


def _verify(archive: bytes) -> None:
    """Refuse an archive of which a single bit is wrong.

    Raises:
        ValueError: it is.
    """
    if archive[-RECORD:].startswith(SIGNATURE) and archive.endswith(b"\0\0"):  # older than the checksum
        if damaged := zipfile.ZipFile(io.BytesIO(archive)).testzip():
            raise ValueError(f"its part {damaged} has a wrong CRC")
        return
    body, comment = archive[:-COMMENT], archive[-COMMENT:]
    if comment != MARK + hashlib.sha256(body).hexdigest().encode():
        raise ValueError("its checksum is wrong: the file is damaged or cut")


def load(path: Path, device: torch.device | str = "cpu", needs: Sequence[str] | Mapping = ()) -> dict:
    """Read a checkpoint; no code in it is run.

    Args:
        path: the file.
        device: where its tensors go.
        needs: entries that the caller will ask for; with a predicate each, what they must be.

    Raises:
        CheckpointError: missing, damaged, of another kind or format, or without such an entry.
    """
    try:
        archive = path.read_bytes()
        _verify(archive)
        content = torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise CheckpointError(f"{path} is not a usable checkpoint ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: more than tensors and plain data") from error
    except Exception as error:  # damaged files make torch and pickle raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a usable checkpoint ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version (format {FORMAT})")
    if missing := [name for name in needs if name not in content]:
        raise CheckpointError(f"{path} is not a usable checkpoint (it lacks {', '.join(missing)}); use another")
    if isinstance(needs, Mapping):
        check(content, needs, path)
    return content


def check(content: dict, entries: Mapping[str, Callable[[object], bool]], path: Path) -> None:
    """Refuse entries, where they are there, that are not what they must be.

    Args:
        content: of a checkpoint.
        entries: a predicate for each.
        path: of the checkpoint.

    Raises:
        CheckpointError: names the first that is wrong.
    """
    for name, is_right in entries.items():
        if name in content and not is_right(content[name]):
            shown = repr(content[name])
            shown = shown if len(shown) < 40 and shown.isprintable() else type(content[name]).__name__
            raise CheckpointError(f"{path} is not a usable checkpoint (its entry {name} cannot be {shown})")


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def is_duration(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


def is_table(value: object, kinds: type | tuple[type, ...]) -> bool:
    """Whether it is a dict from names to values of these types."""
    return isinstance(value, dict) and all(type(k) is str and isinstance(v, kinds) for k, v in value.items())


def is_numbers(value: object) -> bool:
    return is_table(value, (int, float))


def is_parameters(value: object) -> bool:
    return is_table(value, Tensor)


def load_weights(module: torch.nn.Module, state: dict, path: Path, remedy: str = ANOTHER_RUN) -> None:
    """Load a state_dict strictly.

    Args:
        module: what gets the parameters.
        state: of a module with the same names and shapes.
        path: where it comes from.
        remedy: what to do, or how it may come, where names or shapes differ.

    Raises:
        CheckpointError: other names or shapes.
    """
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} holds parameters of another shape; {remedy} ({' '.join(str(error).split())[:200]})"
        ) from error
