"""The classifiers that QDEQ is compared with; each is made deep, trained and evaluated as QDEQ is.

| name | f | classified by |
|---|---|---|
| wang2022 | the paper's circuit | its readouts, no head (Wang et al., QuantumNAS, HPCA 2022) |
| classical | tanh(W z + U x), as wide as QDEQ's z | the same head |
| classical_narrow | the same, as wide as QDEQ's readouts | the same head |
| linear | x | a linear map of the features |
| alam2021 | principal components as angles, then the paper's ansatz | the same head (Alam et al., ICCAD 2021) |

wang2022 with one layer is their model, with the paper's circuit in place of a searched one; its equilibrium shows
what depth adds where no head helps.
"""

from torch import Tensor, nn
from torch.nn.functional import pad

from circuits.circuit import build_circuit
from models.classical_layers import FeatureLayer, TanhLayer
from models.qdeq_model import EquilibriumClassifier
from models.quantum_layer import CompiledLayer, QuantumLayer


class ReadoutClassifier(EquilibriumClassifier):
    """The readouts are the logits, or, with fewer classes than wires, the sums of neighbouring ones.

    Args:
        n_wires: qubits.
        n_classes: n_wires / n_classes neighbouring readouts are added for each class.
        encoding, engine, trainable_gates: of the circuit, as in QDEQModel.

    There is neither dropout nor ReLU: both would act on the logits themselves.

    Raises:
        ValueError: n_classes does not divide n_wires.
    """

    def __init__(self, n_wires: int, n_classes: int, encoding: str, engine: str, trainable_gates: str):
        if n_wires % n_classes:
            raise ValueError(f"{n_wires} readouts cannot be shared out among {n_classes} classes")
        layer = QuantumLayer(build_circuit(n_wires, encoding), engine, trainable_gates)
        super().__init__(layer, GroupSums(n_classes))

    def classify(self, z: Tensor, generator=None) -> Tensor:
        """Logits of an equilibrium: (B, n_wires^2) to (B, n_classes)."""
        return self.head(z[:, :: self.layer.copies])


class GroupSums(nn.Module):
    """Sums of n_groups equally long runs of the last dimension: (B, n) to (B, n_groups)."""

    def __init__(self, n_groups: int):
        super().__init__()
        self.n_groups = n_groups

    def forward(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.n_groups, -1)).sum(-1)


class ClassicalClassifier(EquilibriumClassifier):
    """The classical deep equilibrium model: TanhLayer and QDEQ's head.

    Args:
        n_inputs: features of x.
        n_units: width of z.
        n_classes: width of the head.
        dropout: as in QDEQModel.
    """

    def __init__(self, n_inputs: int, n_units: int, n_classes: int, dropout: float):
        super().__init__(TanhLayer(n_inputs, n_units), nn.Linear(n_units, n_classes), dropout)


class LinearClassifier(EquilibriumClassifier):
    """A linear map of the features: with f(z; x) = x every depth gives the same logits.

    Args:
        n_inputs: features of x.
        n_classes: number of logits.
    """

    def __init__(self, n_inputs: int, n_classes: int):
        super().__init__(FeatureLayer(n_inputs), nn.Linear(n_inputs, n_classes))

    def classify(self, z: Tensor, generator=None) -> Tensor:
        """Logits: (B, n_inputs) to (B, n_classes)."""
        return self.head(z)


class ComponentClassifier(EquilibriumClassifier):
    """Principal components as angles: ComponentLayer and QDEQ's head on its n_wires readouts.

    Args:
        n_wires: qubits and principal components.
        n_classes: width of the head.
        engine, trainable_gates, dropout: as in QDEQModel.
    """

    def __init__(self, n_wires: int, n_classes: int, engine: str, trainable_gates: str, dropout: float):
        super().__init__(ComponentLayer(n_wires, engine, trainable_gates), nn.Linear(n_wires, n_classes), dropout)


class ComponentLayer(QuantumLayer):
    """f(z; x): wire k starts with RY(z_k + x_k), then the paper's ansatz and readout, nothing repeated.

    The state is injected in the space of angles: readouts in [-1, 1] are added, as radians, to the components, whose
    standard deviations are 1 (`features.PrincipalComponents`).

    Args:
        n_wires: qubits; x and z have as many entries.
        engine, trainable_gates: as in QuantumLayer.
    """

    copies = 1

    def __init__(self, n_wires: int, engine: str, trainable_gates: str):
        super().__init__(build_circuit(n_wires, "angle", n_encoding_layers=1), engine, trainable_gates)

    def compile(self) -> CompiledLayer:
        return CompiledLayer(self, _FirstAngles(super().compile().readout, self.circuit.n_inputs))


class _FirstAngles:
    """A readout of n_inputs angles, given the first n_wires of them; the encoder reads no others."""

    def __init__(self, readout, n_inputs: int):
        self.readout = readout
        self.n_inputs = n_inputs
        if hasattr(readout, "vjp"):
            self.vjp = self._vjp

    def readouts(self, v: Tensor) -> Tensor:
        """(B, n_wires) to itself."""
        return self.readout.readouts(self._padded(v))

    def _vjp(self, v: Tensor, weights: Tensor) -> Tensor:
        """weights^T dr/dv: (B, n_wires) twice to the same."""
        return self.readout.vjp(self._padded(v), weights)[:, : v.shape[1]]

    def _padded(self, v: Tensor) -> Tensor:
        return pad(v, (0, self.n_inputs - v.shape[1]))
