"""What evaluates a circuit: the compiled engine, TorchQuantum, and gate by gate on state vectors."""
