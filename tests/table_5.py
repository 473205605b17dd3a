"""Table 5 of the paper, typed from the paper: the tests hold the scripts and the rows of `reproduce.py` against it."""

from typing import NamedTuple

from training.settings import Settings


class Best(NamedTuple):
    """The best hyper-parameters of one model on one data set; of DIRECT models only the learning rate is given."""

    lr: float
    pretrain_steps: int = 0
    warmup_depth: int = 0
    jac_loss_weight: float = 0.0
    jac_loss_freq: float = 0.0


# columns MNIST-4, MNIST-10, FashionMNIST-10, CIFAR-10
COLUMNS = ("mnist4", "mnist10", "fashion10", "cifar10")
LINES = {
    "warmup": [(0.05, 1875, 1, 0, 0), (0.05, 1875, 1, 0.8, 1), (0.05, 1875, 1, 0.8, 0.8), (0.01, 2350, 1, 0.8, 1)],
    "implicit": [(0.05, 0, 0, 0, 0), (0.05, 0, 0, 0.8, 1), (0.05, 0, 0, 0.5, 0.8), (0.05, 0, 0, 0, 0)],
    "direct-10": [(0.1,), (0.05,), (0.05,), (0.0075,)],
    "direct-5": [(0.05,), (0.05,), (0.0075,), (0.0075,)],
    "direct-2": [(0.05,), (0.05,), (0.05,), (0.01,)],
    "direct-1": [(0.05,), (0.05,), (0.01,), (0.01,)],
}
TABLE_5 = {
    data: {depth: Best(*cells[column]) for depth, cells in LINES.items()} for column, data in enumerate(COLUMNS)
}


def hyperparameters_of(settings: Settings) -> Best:
    """What a run's settings say of the table's columns."""
    depth = settings.n_layer if settings.mode == "implicit" else 0
    return Best(settings.lr, settings.pretrain_steps, depth, settings.jac_loss_weight, settings.jac_loss_freq)
