"""Evaluations over whole datasets, their files and tables."""
