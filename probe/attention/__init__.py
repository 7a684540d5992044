"""Attention modules: observed, edited or given other positions while a context is open."""
