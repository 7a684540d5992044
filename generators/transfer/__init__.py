"""Motion transfer from a reference clip."""
