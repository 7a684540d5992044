"""Attention rows of given points, their affinity over frames and text, and principal components."""
