"""A run's life, whatever is trained: folder, lock, log, checkpoints, tracking, signals, machine."""
