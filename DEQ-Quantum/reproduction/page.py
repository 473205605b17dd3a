"""One self-contained HTML page with every table and figure, for people without an account anywhere.

Images are part of the file, no script runs and nothing is fetched: it can be sent by mail and opened from a disk.
"""

import base64
import html
import re
from pathlib import Path

from markdown import markdown
from markdown.extensions.toc import TocExtension

from reproduction.rows import TABLES
from utils.files import write_text

CAPTIONS = {
    "qdeq": "Figure 1. One quantum circuit is a layer f(z; x); its equilibrium replaces a deep stack of circuits.",
    "circuit_4": "Figure 2. The circuit of 4 qubits.",
    "circuit_10": "Figure 3. The circuit of 10 qubits: the four-qubit block in a staircase.",
    "overlap": "Figure 4. Overlap of encoded states against their squared distance; lower bounds; 3000 random pairs.",
    "solver_residuals": "Relative residual against solver step, before and after a short training.",
    "contraction": "How far f moves for how far z moves; below 1 it is a contraction.",
    "ablations": "A short training with other solver caps, starts of the parameters and Jacobian weights.",
    "accuracy_against_depth": "Test accuracy against the number of explicit layers; IMPLICIT is the limit of many.",
    "spectral_radius": "Spectral radius of df/dz at the equilibrium through training, mean over validation images.",
}
CAPTIONS |= {
    "table6_study": "Table 6. Test accuracy of readouts, and of the single-copy ceiling, which bounds the fit of one layer "
    "without ReLU; and how far every string ends from it.",
    "table7_study": "Table 7. When an equilibrium pays: against how strongly f sees z, and where the answer is a fixed point.",
    "table8_study": "Table 8. Wider and deeper circuits.",
    "table9_study": "Table 9. Test accuracy against caps and tolerance of the solver.",
}
# of one table each
CAPTIONS |= {
    f"{figure}_{table}": f"{table.capitalize()}. {text}"
    for table in TABLES
    for figure, text in {
        "training": "Training curves of all models: mean over seeds, bands from the lowest to the highest.",
        "confusion": "Confusion matrices on the test set in % of each true class, the seeds' counts added.",
    }.items()
}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; max-width: 1240px;
  margin: 2rem auto; padding: 0 1rem; }}
h2 {{ border-bottom: 1px solid #e4e7eb; margin-top: 2.5rem; }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #e4e7eb; padding: 0.3rem 0.7rem; text-align: left; white-space: nowrap; }}
img {{ max-width: 100%; height: auto; }}
figure {{ margin: 1.5rem 0; }}
figcaption {{ color: #52606d; font-size: 14px; }}
code {{ background: #f5f7fa; padding: 0 0.2rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def write_page(path: Path, tables: list[Path], images: list[Path]) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        tables: Markdown files of headings, or a bold first line, tables, paragraphs and lists.
        images: PNG files.
    """
    parts = [f"<section>\n{to_html(table.read_text())}\n</section>" for table in tables]
    if images:
        parts.append("<h2>Figures</h2>")
    parts += [_figure(image) for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, PAGE.format(title="Quantum deep equilibrium models: tables and figures", body="\n".join(parts)))


def caption(image: Path) -> str:
    """What is said below an image; its name, where nothing is known of it."""
    return CAPTIONS.get(image.stem, image.stem.replace("_", " "))


def _figure(image: Path) -> str:
    data = base64.b64encode(image.read_bytes()).decode()
    text = html.escape(caption(image))
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def to_html(text: str) -> str:
    """The Markdown of our tables and reports, its headings one level lower: the page has a title of its own.

    A first paragraph that begins in bold is a heading too.
    """
    text = re.sub(r"\A\*\*(.+?)\*\*", r"# \1", text.lstrip())
    return markdown(text, extensions=["tables", "sane_lists", TocExtension(baselevel=2)])
