"""What rows are called: how deep a model is, in the paper's words, and which models it is compared with. Torch-free."""

from models.table import MODELS

DEPTHS = {
    "implicit": "IMPLICIT",
    "warmup": "IMPLICIT+WARMUP",
    "direct-10": "DIRECT-10",
    "direct-5": "DIRECT-5",
    "direct-2": "DIRECT-2",
    "direct-1": "DIRECT-1",
}
# at two depths each, in the order of their rows
BASELINES = {name: MODELS[name].label for name in ("wang2022", "alam2021", "classical", "classical_narrow")}
LINEAR = MODELS["linear"].label
