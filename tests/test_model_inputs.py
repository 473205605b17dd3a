"""What models and layers are given: one ValueError that says what to do, whatever is wrong and wherever it enters."""

import pytest
import torch

from circuits import build_circuit
from models.baselines import LinearClassifier, ReadoutClassifier, SingleCopyCeiling
from models.classical_layers import FeatureLayer, TanhLayer
from models.depth import Equilibrium, Stack
from models.qdeq_model import QDEQModel
from models.quantum_layer import QuantumLayer

LAYERS = {
    "amplitude": lambda: QuantumLayer(build_circuit(4, "amplitude")),
    "angle": lambda: QuantumLayer(build_circuit(4, "angle")),
    "components": lambda: QuantumLayer(build_circuit(4, "components")),
    "statevector": lambda: QuantumLayer(build_circuit(4, "amplitude"), "statevector"),
    "tanh": lambda: TanhLayer(16, 16),
    "narrow": lambda: TanhLayer(16, 4),
}
MODELS = {name: lambda layer=layer: QDEQModel(layer(), 4) for name, layer in LAYERS.items()}
MODELS |= {
    "wang2022": lambda: ReadoutClassifier(LAYERS["amplitude"](), 4),
    "linear": lambda: LinearClassifier(16, 4),
    "single_copy": lambda: SingleCopyCeiling(16, 4),
}
DEPTHS = (Equilibrium(), Stack(2))
CALLS = {
    "model": lambda model, x, good: model(x, DEPTHS[0]),
    "stack": lambda model, x, good: model(x, DEPTHS[1]),
    "layer": lambda model, x, good: model.layer(torch.zeros(len(good), model.layer.width), x),
    "bind": lambda model, x, good: model.layer.bind(x),
    "compiled": lambda model, x, good: model.layer.compile().bind(x),
}
STATES = {
    "layer": lambda layer, z, x: layer(z, x),
    "bound": lambda layer, z, x: layer.bind(x)(z),
}
# what is wrong, made from what is right, and what is said of it
WRONG = {
    "float64": (lambda x: x.double(), "is torch.float64, the layer torch.float32: convert one of them"),
    "float16": (lambda x: x.half(), "is torch.float16, the layer torch.float32: convert one of them"),
    "uint8": (lambda x: (255 * x).to(torch.uint8), "is torch.uint8, the layer torch.float32: convert the real numbers"),
    "int64": (lambda x: x.long(), "is torch.int64, the layer torch.float32: convert"),
    "bool": (lambda x: x > 0.5, "is torch.bool, the layer torch.float32: convert"),
    "complex": (lambda x: x.to(torch.complex64), "is torch.complex64, the layer torch.float32: convert"),
    "features": (lambda x: x[:, 1:], "must have shape "),
    "more features": (lambda x: torch.cat([x, x], 1), "must have shape "),
    "one image": (lambda x: x[0], "must have shape "),
    "pictures": (lambda x: x.unsqueeze(1), "must have shape "),
    "a number": (lambda x: x[0, 0], "must have shape "),
    "numpy": (lambda x: x.numpy(), "must be a tensor, got ndarray"),
    "list": (lambda x: x.tolist(), "must be a tensor, got list"),
    "nothing": (lambda x: None, "must be a tensor, got NoneType"),
    "another device": (lambda x: x.to("meta"), "is on meta, the layer on cpu: move one of them"),
}


def features(layer) -> torch.Tensor:
    return torch.rand(3, layer.n_inputs, generator=torch.Generator().manual_seed(0))


def said(call) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", MODELS)
def test_wrong_features_are_refused_wherever_they_enter(name, call):
    torch.manual_seed(0)
    model = MODELS[name]()
    x = features(model.layer)
    CALLS[call](model, x, x)
    for case, (spoil, message) in WRONG.items():
        if isinstance(model.layer, FeatureLayer) and case in ("float64", "float16", "another device"):
            if call not in ("model", "stack"):
                continue  # it has no parameters to differ from: f(z; x) = x
        found = said(lambda: CALLS[call](model, spoil(x), x))
        assert found.startswith("x ") and message in found, case


@pytest.mark.parametrize("call", STATES)
@pytest.mark.parametrize("name", [*LAYERS, "linear"])
def test_wrong_states_are_refused(name, call):
    """None is broadcast, as a state of one sample for all of them would be."""
    layer = MODELS[name]().layer
    x, z = features(layer), torch.zeros(3, layer.width)
    assert STATES[call](layer, z, x).shape == z.shape
    cases = WRONG | {"too few": (lambda z: z[:1], f"must have shape (3, {layer.width}), got (1, {layer.width})")}
    for case, (spoil, message) in cases.items():
        found = said(lambda: STATES[call](layer, spoil(z), x))
        assert found.startswith("z ") and message in found, case


def test_the_remedy_of_a_single_image_works():
    model = MODELS["amplitude"]()
    x = features(model.layer)[0]
    assert said(lambda: model(x, DEPTHS[0])).endswith("got (16,); of a single sample, x.unsqueeze(0)")
    assert model(x.unsqueeze(0), DEPTHS[0]).logits.shape == (1, 4)


@pytest.mark.parametrize("depth", DEPTHS, ids=["implicit", "direct"])
@pytest.mark.parametrize("name", MODELS)
def test_an_empty_batch_has_no_answers_and_black_images_have_finite_ones(name, depth):
    """Features of zeros have no amplitudes; the first state, zero too, has none either."""
    model = MODELS[name]()
    n = model.layer.n_inputs
    empty = model(torch.zeros(0, n), depth)
    assert empty.logits.shape == (0, 4) and empty.z.shape == (0, model.layer.width)
    black = model(torch.zeros(3, n), depth, with_jac_loss=True)
    assert black.logits.isfinite().all() and black.failed is None
    (black.logits.sum() + black.jac_loss).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", LAYERS)
def test_a_pixel_that_is_not_finite_spoils_its_own_image_alone(name, value):
    model = MODELS[name]().eval()
    x = features(model.layer)
    spoilt = x.clone()
    spoilt[1, 2] = value
    z = torch.zeros(3, model.layer.width)
    values, clean = model.layer(z, spoilt), model.layer(z, x)
    torch.testing.assert_close(values[[0, 2]], clean[[0, 2]])
    answer = model(spoilt, DEPTHS[0])
    assert answer.failed.tolist() == [False, True, False] and answer.logits[1].isnan().all()
    good = model(x, DEPTHS[0])
    torch.testing.assert_close(answer.logits[[0, 2]], good.logits[[0, 2]])
    radii = [model.spectral_radius(model.layer.bind(images), found.z.detach(), torch.Generator().manual_seed(0))
             for images, found in ((spoilt, answer), (x, good))]  # fmt: skip
    assert radii[0][1].isnan()
    torch.testing.assert_close(radii[0][[0, 2]], radii[1][[0, 2]])
