"""Several classifiers of one kind as one: a batch is S equally long runs of samples, each for its own classifier.

They differ in their parameters and in what is drawn at random. What acts on every sample alone, as the solvers do, serves
all at the price of one. Knows models and solvers, not how or why they are trained.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from deq import Proposal, SolverSettings, hutchinson_jacobian_loss
from deq.proposals import proposal_of
from engines.protocol import ReadoutMap
from models.depth import Depth, Equilibrium
from models.layer import Bound, Compiled, Layer
from models.qdeq_model import EquilibriumClassifier, Whole


def side_by_side(models: Sequence[EquilibriumClassifier]) -> EquilibriumClassifier:
    """S classifiers of one kind as one, for batches of S runs of samples; it shares their parameters."""
    joint = copy.copy(models[0])
    joint._modules = dict(models[0]._modules)  # the first one keeps its own
    joint.layer = _Layers([model.layer for model in models])
    joint.head = _Heads([model.head for model in models])
    return joint


class _Layers(Layer):
    def __init__(self, layers: Sequence[Layer]):
        super().__init__(layers[0].n_inputs, layers[0].lift)
        self.layers = nn.ModuleList(layers)
        self.learns = any(layer.learns for layer in layers)

    def compile(self) -> Compiled:
        compile_several = self.layers[0].compile_several
        if compile_several is None:
            return _InTurn([layer.compile() for layer in self.layers])
        return compile_several(list(self.layers))


class _InTurn:
    """Compiled layers, one after another: what serves every kind of layer."""

    def __init__(self, layers: Sequence[Compiled]):
        self.layers = layers

    def bind(self, x: Tensor) -> "_BoundInTurn":
        return _BoundInTurn([layer.bind(own) for layer, own in zip(self.layers, x.chunk(len(self.layers)))])


class _MapsInTurn(ReadoutMap):
    """Maps of their own run of the samples each, with what all of them offer."""

    def __init__(self, maps: Sequence):
        self.maps = maps

    def _joined(self, name: str, *values: Tensor) -> Tensor:
        parts = zip(*(value.chunk(len(self.maps)) for value in values))
        return torch.cat([getattr(own, name)(*of_own) for own, of_own in zip(self.maps, parts)])

    def __call__(self, z: Tensor) -> Tensor:
        return self._joined("__call__", z)

    @property
    def jacobian(self) -> Callable[[Tensor], Tensor] | None:
        return None if self.maps[0].jacobian is None else partial(self._joined, "jacobian")

    @property
    def vjp(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return None if self.maps[0].vjp is None else partial(self._joined, "vjp")

    @property
    def value_and_jacobian(self) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        return None if self.maps[0].value_and_jacobian is None else self._value_and_jacobian

    def _value_and_jacobian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        found = [own.value_and_jacobian(of_own) for own, of_own in zip(self.maps, z.chunk(len(self.maps)))]
        values, jacobians = (torch.cat(parts) for parts in zip(*found))
        return values, jacobians


class _BoundInTurn(_MapsInTurn):
    """f of each, for its run."""

    def read(self, z: Tensor) -> Tensor:
        return self._joined("read", z)

    def reduced(self) -> ReadoutMap:
        return _MapsInTurn([own.reduced() for own in self.maps])


class _Heads(nn.Module):
    """Linear maps, or heads without parameters, of which one is as good as several."""

    def __init__(self, heads: Sequence[nn.Module]):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, values: Tensor) -> Tensor:
        """(S B, n) to (S B, n_classes)."""
        if not isinstance(self.heads[0], nn.Linear):
            return self.heads[0](values)
        weights, biases = (torch.stack([getattr(head, name) for head in self.heads]) for name in ("weight", "bias"))
        runs = values.unflatten(0, (len(self.heads), -1))
        return torch.baddbmm(biases.unsqueeze(1), runs, weights.mT).flatten(0, 1)


@dataclass(frozen=True)
class WholeOfSeveral(Whole):
    """The batch of several: each draws for its own samples what it would draw alone.

    Attributes:
        size: samples of one run.
        generators: of each.
        with_jac_loss: which of them estimate their Jacobian; the others draw no vectors for it.
    """

    generators: Sequence[torch.Generator] = ()
    with_jac_loss: Sequence[bool] = ()

    def draw(
        self, distribution: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Random numbers of the shape of `like` (S B, ...); `generator` is not asked."""
        shape = (self.size, *like.shape[1:])
        return torch.cat([distribution(shape, generator=own, dtype=dtype, device=like.device) for own in self.generators])

    def jac_loss(self, f: Bound, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """(S,) estimates, 0 with zero gradient for those that make none."""
        vectors = torch.zeros_like(z).view(len(self.generators), self.size, -1)
        for own, of_own, wanted in zip(vectors, self.generators, self.with_jac_loss):
            if wanted:
                torch.randn(own.shape, generator=of_own, out=own)
        return hutchinson_jacobian_loss(f, z, vectors=vectors.view(1, *z.shape), groups=len(self.generators))


def capped(depth: Depth, caps: Tensor) -> Depth:
    """The same depth, where each sample's forward solve takes at most so many steps.

    Args:
        depth: whose own cap is the largest of them.
        caps: (S B,).
    """
    if not isinstance(depth, Equilibrium):
        return depth
    return replace(depth, forward=replace(depth.forward, name=Capped(depth.forward, caps), options={}))


class Capped:
    """A solver whose samples have caps of their own, as `deq.Solver`.

    A sample that has taken its steps stays where it is: an iterate that repeats itself is no better than it was, so what
    is found is what a solve with that cap finds. Only `SolverResult.steps` counts on.

    Args:
        settings: of the solver.
        caps: (B,).
    """

    def __init__(self, settings: SolverSettings, caps: Tensor):
        self.settings, self.caps, self.least = settings, caps.unsqueeze(1), int(caps.min())
        self.__name__ = settings.label

    def start(self, f: Callable, shape: torch.Size, max_steps: int) -> Proposal:
        """A proposal with a fresh history."""
        return _CappedProposal(self, proposal_of(self.settings, f, shape))


class _CappedProposal:
    def __init__(self, solver: Capped, propose: Proposal):
        self.solver, self.propose, self.taken = solver, propose, 0
        self.evaluate = getattr(propose, "evaluate", None)

    @property
    def n_jacobians(self) -> int:
        return getattr(self.propose, "n_jacobians", 0)

    def __call__(self, z: Tensor, f_z: Tensor) -> Tensor:
        self.taken += 1
        proposed = self.propose(z, f_z)
        return proposed if self.taken <= self.solver.least else torch.where(self.taken <= self.solver.caps, proposed, z)
