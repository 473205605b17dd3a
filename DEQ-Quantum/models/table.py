"""The one table of models: what `--model` can name, and everything that depends on the name. Torch-free.

    name, what --help says   what tables and figures call it   its circuit   how it is built from settings   what it reads

To add a model: its class, and an entry here. `settings` below is anything with the fields of `training.settings`.
"""

from collections.abc import Callable
from dataclasses import dataclass

PAPER_ENCODINGS = ("amplitude", "angle")
MOST_WIRES_OF_FRQI = 11
LIFTS = ("auto", "repeat", "interpolate", "projection")  # of readouts to the state, for `lift.make_lift`


@dataclass(frozen=True)
class Model:
    """A kind of classifier.

    Attributes:
        name: of `--model`, results.json and rows.
        about: for --help.
        label: what tables and figures call it; empty for the paper's own.
        build: the classifier that settings describe; initial parameters come from torch's global generator.
        circuit: the circuit that settings describe; None for models without one.
        encodings: how features can enter that circuit, as results.json says it: two where --amplitude_encoder chooses,
            none without a circuit.
        features: what images become, one of `dataset.REDUCTIONS`.
        has_dropout: whether --dropout acts on it.
        has_depth: whether its depth changes anything.
        has_head: whether anything trains beside its gates.
        n_units: without a circuit, numbers in z.
        first_images: on how many test images, the first of its classes, the work it is of was tested; 0: not known to be so.
        scales_logits: whether its logits are scaled by a setting.
        check: what is wrong with settings, in one line that names the flags; "" where nothing is.
    """

    name: str
    about: str
    label: str
    build: Callable
    circuit: Callable | None = None
    encodings: tuple[str, ...] = ()
    features: str = "pooling"
    has_dropout: bool = True
    has_depth: bool = True
    has_head: bool = True
    n_units: Callable[..., int] = lambda settings: settings.n_wires**2
    first_images: int = 0
    scales_logits: bool = False
    check: Callable[..., str] = lambda settings: ""

    def encoding(self, settings) -> str:
        """How features enter the circuit, as results.json says it; "none" without a circuit."""
        if len(self.encodings) == 2:
            return self.encodings[0 if settings.amplitude_encoder else 1]
        return self.encodings[0] if self.encodings else "none"

    def widths(self, settings) -> tuple[int, int]:
        """How many numbers x and z have."""
        if self.circuit is None:
            return settings.n_wires**2, self.n_units(settings)
        circuit = self.circuit(settings)
        return circuit.n_features, circuit.n_fed_back


def build_model(settings):
    """The classifier that settings describe, an `EquilibriumClassifier`; initial parameters come from torch's generator."""
    return MODELS[settings.model].build(settings)


# what is imported below is imported where it is built: --help and wrong flags do not wait for torch


def _circuit(s):
    return _encoded(s, s.encoding)


def _encoded(s, encoding: str):
    from circuits.circuit import build_circuit

    of_ansatz = {"n_blocks": s.n_blocks}
    if s.ansatz == "paper":
        of_ansatz["n_random_operations"] = s.n_random_operations
    return build_circuit(s.n_wires, encoding, s.ansatz, s.readout, s.trainable_gates, s.injection, s.features_per_wire, **of_ansatz)


def _quantum_layer(s):
    from models.quantum_layer import QuantumLayer

    return QuantumLayer(MODELS[s.model].circuit(s), s.engine, lift=s.lift, z_gain=s.z_gain)


def _with_head(layer, s):
    from models.qdeq_model import QDEQModel

    return QDEQModel(layer, s.num_classes, s.dropout)


def _readouts(s):
    from models.baselines import ReadoutClassifier

    return ReadoutClassifier(_quantum_layer(s), s.num_classes)


def _readouts_shared_out(s) -> str:
    n_readouts = MODELS[s.model].circuit(s).n_readouts
    if n_readouts % s.num_classes == 0:
        return ""
    return (
        f"--model {s.model} shares its {n_readouts} readouts out among the classes: choose --num_classes and --n_wires "
        "with no remainder"
    )


def _outcomes(s):
    from models.baselines import OutcomeClassifier

    layer = _quantum_layer(s)
    return OutcomeClassifier(layer, s.num_classes, 2 ** len(layer.circuit.readout.wires), s.logit_scale)


def _linear_of_readouts(s):
    from models.baselines import LinearReadoutClassifier

    return LinearReadoutClassifier(_quantum_layer(s), s.num_classes)


def _tempered(s):
    from models.baselines import TemperedClassifier

    layer = _quantum_layer(s)
    return TemperedClassifier(layer, s.num_classes, 2 ** len(layer.circuit.readout.wires), s.logit_scale)


def _of_whole_images(s) -> str:
    if s.n_wires <= MOST_WIRES_OF_FRQI:
        return ""
    return f"--model {s.model} takes images of up to 32 x 32 pixels: choose --n_wires {MOST_WIRES_OF_FRQI} or fewer"


def _of_probabilities(s) -> str:
    if s.readout not in ("marginal", "projections"):
        return f"--model {s.model} reads probabilities: choose --readout marginal"
    return _of_whole_images(s)


def _outcomes_suffice(s) -> str:
    if wrong := _of_probabilities(s):
        return wrong
    if (n := MODELS[s.model].circuit(s).n_readouts) < s.num_classes:
        return f"--model {s.model} reads a probability for each class, and there are {n}: choose --num_classes {n} or fewer"
    return ""


def _tanh_layer(s):
    from models.classical_layers import TanhLayer

    return _with_head(TanhLayer(*MODELS[s.model].widths(s)), s)


def _linear(s):
    from models.baselines import LinearClassifier

    return LinearClassifier(s.n_wires**2, s.num_classes)


def _single_copy(s):
    from models.baselines import SingleCopyCeiling

    return SingleCopyCeiling(s.n_wires**2, s.num_classes)


def _quantum(s):
    return _with_head(_quantum_layer(s), s)


MODELS = {
    model.name: model
    for model in (
        Model("qdeq", "qdeq", "", _quantum, _circuit, PAPER_ENCODINGS),
        Model(
            "wang2022",
            "the circuit's readouts are the logits, no head",
            "Wang et al. 2022",
            _readouts,
            _circuit,
            PAPER_ENCODINGS,
            has_dropout=False,
            has_head=False,
            first_images=75,
            check=_readouts_shared_out,
        ),
        Model(
            "classical",
            "f = tanh(W z + U x), z as wide as qdeq's",
            "classical DEQ",
            _tanh_layer,
        ),
        Model(
            "classical_narrow",
            "the same, as wide as qdeq's readouts",
            "narrow classical DEQ",
            _tanh_layer,
            n_units=lambda s: s.n_wires,
        ),
        Model(
            "linear",
            "of the features, whatever the --mode: f = x",
            "linear classifier",
            _linear,
            has_dropout=False,
            has_depth=False,
        ),
        Model(
            "single_copy",
            "linear in the products of two amplitudes: all that one amplitude-encoded layer can be without ReLU",
            "single-copy ceiling",
            _single_copy,
            has_dropout=False,
            has_depth=False,
        ),
        Model(
            "alam2021",
            "n_wires principal components as angles",
            "Alam et al. 2021 (PCA)",
            _quantum,
            _circuit,
            ("components",),
            features="components",
        ),
        Model(
            "alam2021_pca",
            "principal components as angles, several a wire, and a linear map of the readouts",
            "Alam et al. 2021 (PCA), several a wire",
            _linear_of_readouts,
            _circuit,
            ("hadamard_angles",),
            features="component_angles",
            has_dropout=False,
        ),
        Model(
            "alam2021_vae",
            "the same of an autoencoder's latents",
            "Alam et al. 2021 (VAE)",
            _linear_of_readouts,
            _circuit,
            ("hadamard_angles",),
            features="latent_angles",
            has_dropout=False,
        ),
        Model(
            "west2024",
            "pixels as complex amplitudes, the readouts are the logits",
            "West et al. 2024",
            _readouts,
            _circuit,
            ("complex_amplitude",),
            features="pixels",
            has_dropout=False,
            has_head=False,
            check=_readouts_shared_out,
        ),
        Model(
            "west2024_head",
            "the same with a linear head",
            "West et al. 2024 with a head",
            _quantum,
            _circuit,
            ("complex_amplitude",),
            features="pixels",
        ),
        Model(
            "dilip2022",
            "images as FRQI, probabilities of outcomes are the classes'",
            "Dilip et al. 2022",
            _outcomes,
            lambda s: _encoded(s, "frqi_colour_first"),
            ("frqi",),
            features="frqi_reversed",
            has_dropout=False,
            has_head=False,
            scales_logits=True,
            check=_outcomes_suffice,
        ),
        Model(
            "dilip2022_mps",
            "the same of matrix product states",
            "Dilip et al. 2022, compressed",
            _outcomes,
            lambda s: _encoded(s, "state"),
            ("amplitude",),
            features="compressed_frqi",
            has_dropout=False,
            has_head=False,
            scales_logits=True,
            check=_outcomes_suffice,
        ),
        Model(
            "kiwit2025",
            "images as FRQI and a linear head",
            "Shen et al. 2024, Kiwit et al. 2025",
            _tempered,
            lambda s: _encoded(s, "frqi_colour_first"),
            ("frqi",),
            features="frqi_blocks",
            has_dropout=False,
            scales_logits=True,
            check=_of_probabilities,
        ),
    )
}
