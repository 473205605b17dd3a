"""Layers and solvers built on deq's public interface alone."""
