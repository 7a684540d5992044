"""Trained motion transfer beside its baselines."""
