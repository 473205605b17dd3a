"""Training a quantum system at its ground state: tasks, the loop, and evaluation."""
