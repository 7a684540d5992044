"""Files: written atomically, checked for damage, and read without trusting their content."""
