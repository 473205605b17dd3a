"""Circuits on the terms of a quantum computer: native gates, noise as data, devices, exact noisy observables, export.

Everything here follows from a circuit and a noise model; nothing here knows of equilibria, data sets or runs. Importing
the room, its noise and its devices needs numpy alone; torch is imported by the modules that evaluate.
"""
