"""A matplotlib figure as an image for the dashboards, without pyplot: neither a display nor a notebook has a say."""

import io

from PIL import Image


def as_image(figure) -> Image.Image:
    """The figure, a `matplotlib.figure.Figure`, in RGB at its own resolution; it stays as it is."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return Image.open(buffer).convert("RGB")
