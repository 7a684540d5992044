"""Recordings, planned and made."""
