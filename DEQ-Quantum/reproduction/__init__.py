"""The paper's tables as data, the runs behind them, and what is made of their results.

Left to right: `rows` says what a table holds, `jobs` runs one row with one seed, `schedule` runs many, `overview` shows
how far they are; `collect` keeps finished runs' numbers, `tables` and `page` present them. `../reproduce.py` is the
command.
"""
