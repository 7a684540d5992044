"""Attention motion flow: how far the content of every cell moves between frames."""
