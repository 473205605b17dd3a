"""Circuits as data: operations, encodings, ansätze, readouts. Nothing here simulates."""
