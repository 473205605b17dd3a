"""What models are called in tables and figures: the paper's by how deep they are, baselines by --model."""

MODELS = {
    "implicit": "IMPLICIT",
    "warmup": "IMPLICIT+WARMUP",
    "direct-10": "DIRECT-10",
    "direct-5": "DIRECT-5",
    "direct-2": "DIRECT-2",
    "direct-1": "DIRECT-1",
}

BASELINES = {
    "wang2022": "Wang et al. 2022",
    "alam2021": "Alam et al. 2021 (PCA)",
    "classical": "classical DEQ",
    "classical_narrow": "narrow classical DEQ",
}

LINEAR = "linear classifier"
