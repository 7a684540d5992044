"""Attention modules seen, edited and given other positions while a context is open."""
