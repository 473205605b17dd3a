"""What all pictures share: colours, a blank figure, and how a figure becomes a file.

The colours are the palette of Okabe and Ito (Color Universal Design, 2008), chosen to be told apart with any
kind of colour vision. Backgrounds are opaque white, so that pictures read on dark pages too.
"""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from utils.files import atomic_write, remove_leftovers

BLUE, ORANGE, GREEN, VERMILION, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
INK, GREY, PALE = "#1F2933", "#7B8794", "#E4E7EB"
DPI = 150
# neither a date nor a version of the library: the same picture is the same bytes
METADATA = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def tint(colour: str, strength: float) -> tuple[float, ...]:
    """A colour mixed with white, as RGB in [0, 1]: strength 1 is the colour itself, 0 is white."""
    return tuple(1 - strength * (1 - channel) for channel in to_rgb(colour))


def blank_canvas(width: float, height: float, inches_per_unit: float = 1.0) -> tuple[Figure, Axes]:
    """A white figure and one axis-free canvas over all of it.

    Args:
        width, height: of the canvas in its own units; x runs from 0 to width, y from 0 (bottom) to height.
        inches_per_unit: size of a unit on paper.
    """
    figure = Figure(figsize=(width * inches_per_unit, height * inches_per_unit), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(0, height))
    return figure, axes


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure, atomically; its suffix chooses the format.

    Args:
        figure: what to write, at 150 dots per inch where the format has dots.
        path: .png, .svg or .pdf file; its folder is made if need be.

    Raises:
        ValueError: another suffix.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in METADATA:
        raise ValueError(f"a figure is written as {', '.join(METADATA)}, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    # paths instead of text: an SVG looks the same where the font is not installed
    with atomic_write(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "qdeq", "svg.fonttype": "path"}):
        figure.savefig(temporary, format=suffix[1:], dpi=DPI, metadata=METADATA[suffix])
