"""Zero-shot point tracking by attention."""
