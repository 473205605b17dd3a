"""Pictures of circuits, of runs and of the model, drawn from the objects and files themselves.

Pictures that one room alone needs are in that room: `theory/pictures.py`, `benchmarks/pictures.py`,
`reproduction/pictures.py`. `qep_pictures.py` is not loaded with the others.

Every `draw_` function returns a `matplotlib.figure.Figure` of its own: pyplot and its global state stay out,
so pictures can be drawn in the middle of a training run. Colours are those of Okabe and Ito, which all
readers can tell apart. `save_figure` writes the same bytes for the same picture.
"""

from figures.circuit_drawing import draw_circuit
from figures.overview import draw_overview
from figures.run_pictures import draw_confusion_matrix, draw_run, draw_training_curves
from figures.style import save_figure

__all__ = [
    "draw_circuit",
    "draw_confusion_matrix",
    "draw_overview",
    "draw_run",
    "draw_training_curves",
    "save_figure",
]
