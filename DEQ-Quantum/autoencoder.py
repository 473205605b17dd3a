"""A small convolutional autoencoder, whose latents are an image's features: learnt from training images alone.

What Alam et al. (ICCAD 2021, arXiv 2109.02862) put before their circuits and the QDEQ paper calls their VAE; it is a plain
autoencoder, with no KL term: three convolutions, two dense layers, and latents normalised image by image. Trained as
theirs, but for fewer epochs and on batches in random order. It takes about a minute for 48,000 images and is kept in a file
of 200 kB under what it was trained on, so that a run is resumed and evaluated without training again.
"""

import hashlib
import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from given_images import resized
from utils import seeds
from utils.files import atomic_write

SIDE = 28  # pixels of its images
EPOCHS = 12  # theirs has 30
BATCH = 256  # images a step
RATE, DECAY = 1e-3, 1e-5  # of Adam
CHUNK = 2048  # images: bounds the memory of activations
VERSION = 1  # of all of this: files of another are not read

log = logging.getLogger("qdeq")


def encoder(n_latents: int) -> nn.Sequential:
    """(B, 1, 28, 28) brightnesses to (B, n_latents) of mean 0 and variance 1 in each image."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 3 * 3, 128), nn.ReLU(),
        nn.Linear(128, n_latents), nn.LayerNorm(n_latents, elementwise_affine=False),
    )  # fmt: skip


def decoder(n_latents: int) -> nn.Sequential:
    """The way back: (B, n_latents) to (B, 1, 28, 28) in [0, 1]."""
    return nn.Sequential(
        nn.Linear(n_latents, 128), nn.ReLU(), nn.Linear(128, 32 * 3 * 3), nn.ReLU(), nn.Unflatten(1, (32, 3, 3)),
        nn.ConvTranspose2d(32, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid(),
    )  # fmt: skip


class Latents:
    """The latents of an autoencoder that learns these images.

    Args:
        images: uint8 (N, S, S), grey: the training split and no other.
        n_latents: numbers an image becomes.
        seed: of parameters and batches; equal seeds, images and numbers of latents give equal features on one machine.
        folder: where its file is kept and looked for; where that cannot be written it is trained again each time, which
            is logged.
    """

    def __init__(self, images: np.ndarray, n_latents: int, seed: int, folder: Path):
        path = folder / f"autoencoder-{_key(images, n_latents, seed)}.pt"
        self.encoder = encoder(n_latents)
        if not _read(path, self.encoder):
            log.info("training an autoencoder of %d latents on %d images, %d epochs", n_latents, len(images), EPOCHS)
            self.encoder.load_state_dict(train(images, n_latents, seed))
            _keep(path, self.encoder)
        self.encoder.eval()

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> Tensor:
        """As many images as you like, uint8 (N, S, S), to float32 (N, n_latents)."""
        with _one_thread():
            starts = range(0, len(images), CHUNK)
            return torch.cat([self.encoder(_pixels(images[start : start + CHUNK])) for start in starts])


def train(images: np.ndarray, n_latents: int, seed: int, epochs: int = EPOCHS) -> dict[str, Tensor]:
    """Train an autoencoder on the mean squared error of pixels.

    Returns:
        The encoder's state_dict.
    """
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seeds.generator(seed, "autoencoder", 0).initial_seed())
        whole = nn.ModuleList([encoder(n_latents), decoder(n_latents)])
        adam = torch.optim.Adam(whole.parameters(), RATE, weight_decay=DECAY)
        steps = epochs * -(-len(images) // BATCH)
        for _, rows in zip(range(steps), seeds.batches(len(images), BATCH, seed, 0)):
            pixels = _pixels(images[rows.numpy()])
            loss = mse_loss(whole[1](whole[0](pixels)), pixels)
            adam.zero_grad()
            loss.backward()
            adam.step()
    log.info("the autoencoder's mean squared error is %.4f in its last batch", loss.item())
    return whole[0].state_dict()


def _pixels(images: np.ndarray) -> Tensor:
    return resized(images, SIDE, SIDE).unsqueeze(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums are then added in one order, whatever the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _key(images: np.ndarray, n_latents: int, seed: int) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(images).tobytes())
    digest.update(f"{images.shape} {n_latents} {seed} {EPOCHS} {VERSION}".encode())
    return digest.hexdigest()[:16]


def _read(path: Path, empty: nn.Module) -> bool:
    """Fill an encoder from its file; False where there is none that can be read."""
    try:
        empty.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, AttributeError, TypeError, ValueError) as error:
        log.warning("%s cannot be read (%s): the autoencoder is trained again", path, type(error).__name__)
        return False
    return True


def _keep(path: Path, trained: nn.Module) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            torch.save(trained.state_dict(), temporary)
    except (OSError, RuntimeError) as error:
        log.warning(
            "the autoencoder cannot be kept in %s (%s) and is trained again each time: set QDEQ_CACHE to a folder that "
            "can be written", path.parent, getattr(error, "strerror", None) or type(error).__name__
        )  # fmt: skip


def cache_folder(data_dir: str | Path) -> Path:
    """Where autoencoders are kept: $QDEQ_CACHE, else beside the data."""
    return Path(os.path.expanduser(os.environ.get("QDEQ_CACHE") or data_dir))
