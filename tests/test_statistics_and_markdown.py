"""Mean and spread over runs, and Markdown tables: what every report is made of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils.markdown import markdown_table
from utils.statistics import mean_and_spread

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6)


@given(NUMBERS)
def test_spread_is_that_of_a_sample(values):
    found = mean_and_spread(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9 + 1e-9 * max(map(abs, values)))


def test_text_is_rounded_and_scaled():
    assert mean_and_spread([0.75, 0.77]).text(".2f", 100) == "76.00 ± 1.41"
    assert mean_and_spread([0.01, 0.03]).text(".1e") == "2.0e-02 ± 1.4e-02"
    assert f"{math.sqrt(2):.2f}" == "1.41"  # of two values: their distance / sqrt(2)


def test_a_single_value_has_no_spread():
    found = mean_and_spread([0.5])
    assert (found.mean, found.std, found.text(".1f")) == (0.5, None, "0.5")


@pytest.mark.parametrize("value", [None, math.inf, -math.inf, math.nan])
def test_a_run_that_diverged_leaves_neither_mean_nor_spread(value):
    found = mean_and_spread([0.5, value])
    assert (found.mean, found.std, found.text(".1f", 100)) == (None, None, "not finite")


def test_table():
    assert markdown_table(("a", "b"), [["1", "**2**"], ["", "4"]]) == "| a | b |\n|---|---|\n| 1 | **2** |\n|  | 4 |"
    assert markdown_table(["a"], []) == "| a |\n|---|"


def test_a_row_with_another_number_of_cells_is_refused():
    with pytest.raises(ValueError, match="2 columns got a row of 1"):
        markdown_table(("a", "b"), [["1"]])
