"""Captures: queries and keys handed to sinks while the model runs."""
