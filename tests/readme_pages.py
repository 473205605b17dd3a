"""The Markdown pages that people read, and what tests want of them: the numbers in their prose, code, commands; and the
committed results that the numbers are of."""

import io
import json
import re
from contextlib import redirect_stdout

from conftest import REPOSITORY

PAGES = ("README.md", "results/README.md", "results/benchmark/README.md", "results/qep/README.md",
         "results/paper/theory/README.md", "results/hardware/README.md", "DEQ-Quantum/README.md", "DEQ-Quantum/deq/README.md",
         "bash_scripts/slurm/README.md", "results/faults/README.md", "results/alam/README.md",
         "results/dilip/README.md", "results/west/README.md")  # fmt: skip
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")
# neither parts of names, as in MNIST-10 or 4x4, nor the numbers of tables, theorems and figures
NUMBER = re.compile(r"(?<![\w.\-/])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)")
NAMED = re.compile(r"(?:Tables?|Theorem|Figure) \d(?: to \d)?")


def read(page: str) -> str:
    return (REPOSITORY / page).read_text()


def examples(page: str) -> list[str]:
    """The page's Python."""
    return [code for language, code in FENCED.findall(read(page)) if language == "python"]


def run_example(example: str) -> str:
    """What the code prints, run with DEQ-Quantum on the path, as in these tests."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(example, "example", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def code(page: str) -> list[str]:
    """Its indented lines of code, without their comments, and its inline code."""
    text = FENCED.sub("", read(page))
    lines = [line.split(" #")[0].strip() for line in re.findall(r"^    (.+)$", text, re.M)]
    return lines + SPAN.findall(text)


def numbers(page: str, *words: str) -> list[str]:
    """The numbers, in order, of the one paragraph or list item with these words in it; those in code do not count."""
    text = re.sub(r"^(?:    |\|).*$", "", FENCED.sub("", read(page)), flags=re.M)
    blocks = [re.sub(r"\s+", " ", block.replace("**", "")) for block in re.split(r"\n\s*\n|^- ", text, flags=re.M)]
    found = [block for block in blocks if all(word in block for word in words)]
    assert len(found) == 1, f"{page}: {len(found)} paragraphs with {words}"
    return NUMBER.findall(NAMED.sub("", SPAN.sub("", found[0])))


def kept(path: str) -> dict:
    return json.loads((REPOSITORY / "results" / path).read_text())


def accuracies(table: str, key: str = "mean", measure: str = "test_acc") -> dict[str, float]:
    """Of a committed table, in %, by the row's name."""
    return {row["row"]: row[measure][key] for row in kept(f"paper/{table}/table.json")["rows"]}
