"""What systems, costs and estimators are given: refused in one line where it would be broadcast or fail deep inside.

Knows shapes and numbers, and nothing of Hamiltonians.
"""

import torch
from torch import Tensor

Shape = tuple[int | str, ...]  # a letter stands for any number


def check_tensor(
    name: str,
    values: Tensor,
    shape: Shape,
    of: str = "",
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> None:
    """Refuse what is no tensor of finite numbers of a shape.

    Args:
        name: of the values.
        shape: as it should be.
        of: what the shape follows from, with its own shape.
        dtype: as it should be; None: any of real numbers.
        device: as it should be; None: any.

    Raises:
        ValueError: one line that names both shapes, or the number of samples that are not finite.
    """
    check_shape(name, values, shape, of)
    if device is not None and values.device != device:
        raise ValueError(f"{name} must be on {device}, got {values.device}: move it, as with {name}.to({device})")
    if dtype is not None and values.dtype != dtype:
        raise ValueError(f"{name} must be {dtype}, got {values.dtype}: convert it, as with {name}.to({dtype})")
    if dtype is None and (values.is_complex() or values.dtype == torch.bool):
        raise ValueError(f"{name} must be real numbers, got {values.dtype}")
    finite = values.isfinite()
    if not finite.all():
        wrong = int((~finite.flatten(1).all(1) if values.dim() > 1 else ~finite).sum())
        raise ValueError(f"{name} has NaN or inf in {wrong} of {len(values)} samples: leave these samples out")


def check_shape(name: str, values: Tensor, shape: Shape, of: str = "") -> None:
    """The same without a look at the numbers."""
    if not isinstance(values, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(values).__name__}: convert it, as with torch.as_tensor")
    found = tuple(values.shape)
    fits = len(found) == len(shape) and all(isinstance(w, str) or n == w for n, w in zip(found, shape))
    if not fits:
        wanted = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        raise ValueError(f"{name} must have shape {wanted}{f' for {of}' if of else ''}, got {found}")
