"""Data at rest: token layout, selection and plan, recordings, clips and synthetic scenes. No torch here."""
