"""Attention heads by what they attend to: their own frame, the same place over time, the motion, the text."""
