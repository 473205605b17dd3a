"""How large a progress bar may be."""

import os
import sys

UNKNOWN = {"ncols": 79, "nrows": 23}  # as tqdm, without the last column and line


def bar_size() -> dict:
    """tqdm's options for the terminal behind stderr: as large as that, or 80 x 24 where it tells no size.

    Terminals of containers, of CI and of `script` often say 0 x 0, on which tqdm draws nothing.
    """
    try:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):  # no terminal, and no bar
        return {}
    return {"dynamic_ncols": True} if columns and rows else UNKNOWN
