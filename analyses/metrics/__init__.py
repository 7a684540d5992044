"""Metrics of matches, tracks, motion and appearance."""
