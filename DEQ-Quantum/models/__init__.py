"""The quantum layer: its circuit as data, two engines that evaluate it, and the classifier built on it."""
