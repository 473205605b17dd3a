"""The paper's tables as data, the runs behind them, and what is made of their results.

What a table holds: `names`, `rows`. Runs: `jobs` is one row with one seed, `schedule` runs many, on Ray (`cluster`) where
it is installed, `overview` shows how far they are; `storage` keeps folders at an fsspec address, `stored_jobs` runs there;
`search` and `tuning` search hyper-parameters; `grid` makes the points of a sweep, which `sweep_table` shows and
`wandb_sweep` writes for wandb. Results: `collect` keeps finished runs' numbers, `tables`,
`summary` and `run_table` are Markdown of them, `pictures` the figures, `markers` puts tables into pages, `page` makes one
of all. The commands of `../reproduce.py`: `run_tables`, `run_searches`, `run_sweep`, `report`, `drawing`, `checks`, `qep_studies`, whose
flags are in `command_line`.
"""
