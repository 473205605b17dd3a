"""Classifiers that QDEQ is compared with and that do more or less than put its head on a layer.

All take a layer and are made deep, trained and evaluated as QDEQ is; `table.py` lists every model by name.
"""

import torch
from torch import Tensor, nn

from engines.amplitude import nonzero
from models.classical_layers import FeatureLayer
from models.layer import Layer
from models.qdeq_model import EquilibriumClassifier


class ReadoutClassifier(EquilibriumClassifier):
    """The readouts are the logits, or, with fewer classes than readouts, the sums of neighbouring ones.

    With one layer it is the model of Wang et al. (QuantumNAS, HPCA 2022), with the paper's circuit in place of a searched
    one; its equilibrium shows what depth adds where no head helps. There is neither dropout nor ReLU: both would act on
    the logits themselves.

    Args:
        layer: f(z; x).
        n_classes: layer.n_units / n_classes neighbouring readouts are added for each class.

    Raises:
        ValueError: n_classes does not divide the readouts.
    """

    def __init__(self, layer: Layer, n_classes: int):
        if layer.n_units % n_classes:
            raise ValueError(f"{layer.n_units} readouts cannot be shared out among {n_classes} classes")
        super().__init__(layer, GroupSums(n_classes))

    def classify(self, z: Tensor, generator=None, whole=None) -> Tensor:
        """Logits of an equilibrium: (B, layer.width) to (B, n_classes)."""
        return self.head(self.layer.lift.readouts(z) if self.layer.lift.sees_state else z)


class OutcomeClassifier(EquilibriumClassifier):
    """Outcomes of a measurement are the classes: the logits are the probabilities of the first n_classes outcomes, scaled.

    So Dilip et al. (Phys. Rev. Research 4, 043007) measure four wires for ten classes; their loss is not known. There is neither
    dropout nor ReLU.

    Args:
        layer: f(z; x), whose readouts are probabilities times the number of outcomes.
        n_classes: at most as many as readouts.
        n_outcomes: of which the readouts are the first ones.
        scale: the logits are so many times the probabilities.

    Raises:
        ValueError: more classes than readouts.
    """

    def __init__(self, layer: Layer, n_classes: int, n_outcomes: int, scale: float):
        if n_classes > layer.n_units:
            raise ValueError(f"{layer.n_units} outcomes cannot be {n_classes} classes")
        super().__init__(layer, nn.Identity())
        self.n_classes, self.factor = n_classes, scale / n_outcomes

    def classify(self, z: Tensor, generator=None, whole=None) -> Tensor:
        """Logits of an equilibrium: (B, layer.width) or (B, layer.n_units) to (B, n_classes)."""
        readouts = self.layer.lift.readouts(z) if self.layer.lift.sees_state else z
        return self.factor * readouts[:, : self.n_classes]


class LinearReadoutClassifier(EquilibriumClassifier):
    """A linear map of the readouts, as Alam et al. (arXiv 2109.02862) end their circuits: neither dropout nor ReLU.

    Args:
        layer: f(z; x).
        n_classes: number of logits.
    """

    def __init__(self, layer: Layer, n_classes: int):
        super().__init__(layer, nn.Linear(layer.n_units, n_classes))

    def classify(self, z: Tensor, generator=None, whole=None) -> Tensor:
        """Logits of an equilibrium: (B, layer.width) or (B, layer.n_units) to (B, n_classes)."""
        return self.head(self.layer.lift.readouts(z) if self.layer.lift.sees_state else z)


class TemperedClassifier(EquilibriumClassifier):
    """A linear head on probabilities, its logits scaled, as Kiwit et al. (arXiv 2505.03399) train theirs.

    There is neither dropout nor ReLU.

    Args:
        layer: f(z; x), whose readouts are probabilities times the number of outcomes.
        n_classes: of the head.
        n_outcomes: of which the readouts are the first ones.
        scale: the logits are so many times what the head gives.
    """

    def __init__(self, layer: Layer, n_classes: int, n_outcomes: int, scale: float):
        super().__init__(layer, nn.Linear(layer.n_units, n_classes))
        self.n_outcomes, self.scale = n_outcomes, scale

    def classify(self, z: Tensor, generator=None, whole=None) -> Tensor:
        """Logits of an equilibrium: (B, layer.width) or (B, layer.n_units) to (B, n_classes)."""
        readouts = self.layer.lift.readouts(z) if self.layer.lift.sees_state else z
        return self.scale * self.head(readouts / self.n_outcomes)


class GroupSums(nn.Module):
    """Sums of n_groups equally long runs of the last dimension: (B, n) to (B, n_groups)."""

    def __init__(self, n_groups: int):
        super().__init__()
        self.n_groups = n_groups

    def forward(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.n_groups, -1)).sum(-1)


class LinearClassifier(EquilibriumClassifier):
    """A linear map of the features: with f(z; x) = x every depth gives the same logits.

    Args:
        n_inputs: features of x.
        n_classes: number of logits.
    """

    def __init__(self, n_inputs: int, n_classes: int):
        super().__init__(FeatureLayer(n_inputs), nn.Linear(n_inputs, n_classes))

    def classify(self, z: Tensor, generator=None, whole=None) -> Tensor:
        """Logits: (B, n_inputs) to (B, n_classes)."""
        return self.head(z)


class SingleCopyCeiling(EquilibriumClassifier):
    """What one copy of an amplitude-encoded state can tell: logistic regression on all products of two of its amplitudes.

    With amplitudes a = x / ||x||, any unitary, noise and readout after the encoding and a linear head give logits
    sum_ij A_ij a_i a_j + b of each class. This classifier has all such A, so none of the kind fits its training images better:
    one layer without ReLU, whatever the circuit. f(z; x) = x, and every depth gives the same logits.

    Products are those with i <= j, times n_inputs, which makes them of order 1; those of an image of zeros are zeros.

    Args:
        n_inputs: features of x, D; there are D (D + 1) / 2 products.
        n_classes: number of logits.
    """

    def __init__(self, n_inputs: int, n_classes: int):
        super().__init__(FeatureLayer(n_inputs), nn.Linear(n_inputs * (n_inputs + 1) // 2, n_classes))
        self.register_buffer("pairs", torch.triu_indices(n_inputs, n_inputs), persistent=False)

    def classify(self, z: Tensor, generator=None, whole=None) -> Tensor:
        """Logits: (B, n_inputs) to (B, n_classes)."""
        scale = (self.layer.n_inputs / nonzero(z.square().sum(1, keepdim=True))).sqrt()
        amplitudes = (z * scale).T.contiguous()  # whole rows are gathered, in a third of the time that columns take
        i, j = self.pairs
        return self.head((amplitudes.index_select(0, i) * amplitudes.index_select(0, j)).T)
