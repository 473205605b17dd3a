"""What `benchmark.py` is made of: the timed work, the clock, the memory meter, the tables.

Uses the public faces of the other rooms only (`QDEQModel`, `QuantumLayer`, `deq`), so that an engine or a solver
that becomes faster behind them is measured without a change here.
"""
