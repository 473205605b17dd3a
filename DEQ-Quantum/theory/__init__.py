"""Checks of the paper's theory: overlaps and contraction, Theorem 3, first experiments, ablations.

`run` computes everything, keeps it as JSON and Markdown and returns the figures; each other module is one check.
"""

from theory.run import Plan, run

__all__ = ["Plan", "run"]
