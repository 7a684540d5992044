"""Guidance by attention."""
