"""Matches between frames from queries and keys, features or raw patches."""
