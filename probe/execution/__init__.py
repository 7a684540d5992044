"""Execution of a model by torch: under autocast, and compiled."""
