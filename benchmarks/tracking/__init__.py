"""Point tracking beside its baselines."""
