"""Layers that carry correspondence: the test, the choice, its stability and its files."""
