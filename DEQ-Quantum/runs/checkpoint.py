"""Checkpoints: tensors and plain data only, each replaced atomically."""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from utils.files import atomic_write

FORMAT = 1
ANOTHER_RUN = "it is of another run or version of the code: use the one that belongs here, or train anew"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used; the message is one line for the user."""


def save(path: Path, content: dict) -> None:
    """Write a checkpoint atomically (safe against a kill at any moment).

    Raises:
        CheckpointError: it cannot be written; the one that was there before still is.
    """
    try:
        with atomic_write(path) as temporary:
            torch.save({"format": FORMAT, **content}, temporary)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the disk is full
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"cannot write {path} (is the disk full? {reason}); --restart resumes from the "
                              "checkpoint before it") from error  # fmt: skip


def load(path: Path, device: torch.device | str = "cpu", needs: Sequence[str] = ()) -> dict:
    """Read a checkpoint; no code in it is run.

    Args:
        path: the file.
        device: where its tensors go.
        needs: entries that the caller will ask for.

    Raises:
        CheckpointError: missing, truncated, of another kind or format, or without such an entry.
    """
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is not a usable checkpoint: more than tensors and plain data") from error
    except Exception as error:  # damaged files make torch and pickle raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a usable checkpoint ({reason}); remove it or use another") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this version (format {FORMAT})")
    if missing := [name for name in needs if name not in content]:
        raise CheckpointError(f"{path} is not a usable checkpoint (it lacks {', '.join(missing)}); use another")
    return content


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
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} holds parameters of another shape; {remedy} ({' '.join(str(error).split())[:200]})"
        ) from error
