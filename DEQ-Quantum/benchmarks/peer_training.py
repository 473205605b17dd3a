"""The DEQ of a toy sequence task, trained through each library: does it learn the same, and in what time?

The block of attention of `peer_problems.py` (Bai, Kolter, Koltun, "Deep Equilibrium Models", NeurIPS 2019) between an
embedding and a linear head. The task: say which token stood `DELAY` places before, which needs attention. Same
seed, same batches, same solver settings; the steps of the contestants are taken in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.peer_problems import attention_block
from runs.log import bar_size

N_TOKENS, LENGTH, DELAY, WIDTH = 8, 16, 3, 32
LEARNING_RATE = 5e-3
N_TESTED = 512

Equilibrium = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


class SequenceModel(nn.Module):
    """Tokens (B, T) to logits (B, T, N_TOKENS) by way of z* = block(z*; embedding)."""

    def __init__(self, seed: int, equilibrium: Equilibrium):
        super().__init__()
        g = torch.Generator().manual_seed(seed)

        def draw(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(scale * torch.randn(*shape, generator=g))

        self.tokens, self.places = draw(N_TOKENS, WIDTH, scale=1.0), draw(LENGTH, WIDTH, scale=1.0)
        narrow = [draw(WIDTH, WIDTH, scale=0.3 / WIDTH**0.5) for _ in range(4)]
        up, down = draw(WIDTH, 4 * WIDTH, scale=0.3 / WIDTH**0.5), draw(4 * WIDTH, WIDTH, scale=0.15 / WIDTH**0.5)
        self.block = nn.ParameterList([*narrow, up, down])
        self.head = draw(WIDTH, N_TOKENS, scale=WIDTH**-0.5)
        self.equilibrium = equilibrium

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens[tokens] + self.places
        return self.equilibrium(attention_block(tuple(self.block), x), torch.zeros_like(x)) @ self.head


def sequences(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(n, LENGTH) tokens, and (n, LENGTH - DELAY) what is to be said from place DELAY on."""
    tokens = torch.randint(N_TOKENS, (n, LENGTH), generator=generator)
    return tokens, tokens[:, :-DELAY]


def loss_of(model: SequenceModel, tokens: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy over all places that have an answer."""
    return nn.functional.cross_entropy(model(tokens)[:, DELAY:].flatten(0, 1), wanted.flatten())


def train_in_turn(equilibria: dict[str, Equilibrium], seed: int, batch_size: int, n_steps: int) -> list[dict]:
    """Train one model through each library.

    Args:
        equilibria: by library, (f, z0) to a differentiable equilibrium.
        seed: of the parameters, the training and the test sequences.
        batch_size, n_steps: of the training with Adam.

    Returns:
        One row per library: accuracy on `N_TESTED` new sequences (chance is 1 / N_TOKENS), last training loss,
        and seconds per step: median, and all.
    """
    models = {name: SequenceModel(seed, equilibrium) for name, equilibrium in equilibria.items()}
    optimizers = {name: torch.optim.Adam(model.parameters(), LEARNING_RATE) for name, model in models.items()}
    g = torch.Generator().manual_seed(seed + 1)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses = {}
    for _ in tqdm(range(n_steps), "sequence task", leave=False, disable=None, **bar_size()):
        batch = sequences(batch_size, g)
        for name, model in models.items():
            began = time.perf_counter()
            optimizers[name].zero_grad()
            loss = loss_of(model, *batch)
            loss.backward()
            optimizers[name].step()
            seconds[name].append(time.perf_counter() - began)
            losses[name] = loss.item()
    tokens, wanted = sequences(N_TESTED, g)
    rows = []
    for name, model in models.items():
        with torch.no_grad():
            right = (model(tokens)[:, DELAY:].argmax(dim=2) == wanted).double().mean().item()
        rows.append({"library": name, "accuracy": right, "loss": losses[name], "steps": n_steps,
                     "seconds_per_step": median(seconds[name]), "seconds": seconds[name]})  # fmt: skip
    return rows
