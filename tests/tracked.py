"""What the tests of a run's trackers share: reading metrics.csv, a picture, the settings and events of a run."""

import csv
from pathlib import Path

from PIL import Image

from training.settings import Settings


def rows(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def steps(path: Path) -> list[tuple[str, int]]:
    return [(row["event"], int(row["train_step"])) for row in rows(path)]


def picture(folder: Path) -> Path:
    Image.new("RGBA", (200, 100), "white").save(folder / "picture.png")
    return folder / "picture.png"


SETTINGS = Settings(
    dataset="fashion_mnist", num_classes=4, lr=0.125, name="read_me_back",
    wandb="offline", wandb_project="tests", tensorboard=False,
)  # fmt: skip
EVENTS = [
    (event, step, {f"{event}_loss": step / 7, f"{event}_res": 1 / step, "mode": step % 2, "epoch": step / 3})
    for step in range(1, 301)
    for event in [("train", "val")[step % 2]]
]
RESULTS = {"test_acc": 0.75, "dataset": "fashion_mnist", "settings": {"lr": 0.125}, "torchquantum": None,
           "confusion_matrix": [[1, 2], [3, 4]]}  # fmt: skip


def rows_of(events: list[tuple]) -> list[dict]:
    return [{"train_step": step, **metrics} for _, step, metrics in events]
