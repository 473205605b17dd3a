"""A run's life, whatever is trained: settings, folder, lock, log, state, checkpoints, tracking, signals, machine."""
