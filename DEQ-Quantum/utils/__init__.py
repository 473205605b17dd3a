"""What a run needs besides mathematics: settings, command line, seeds, optimisers, checkpoints, tracking."""
