"""Text and JSON files, written aside and renamed, so that none is ever half there."""

import json
import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text)
    os.replace(aside, path)


def write_json(path: Path, content: dict) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=2) + "\n")
