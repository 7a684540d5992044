"""Matching: speed, intervals, pseudo-truth, inversion."""
