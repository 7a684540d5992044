"""Motion transfer beside its baselines."""
