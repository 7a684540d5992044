"""Point tracks and their files."""
