"""Training of QDEQ classifiers: settings, the loop, evaluation."""
