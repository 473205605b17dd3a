"""Layers f(z; x) and the classifiers built on them."""
