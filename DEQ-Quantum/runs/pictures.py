"""A run's pictures as images for the dashboards: those that were saved, as drawing them again would take a second."""

from pathlib import Path

from PIL import Image


def as_image(file: Path) -> Image.Image:
    """A .png file in RGB.

    Raises:
        OSError: the file cannot be read.
    """
    with Image.open(file) as image:
        return image.convert("RGB")
