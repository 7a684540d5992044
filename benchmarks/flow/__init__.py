"""Attention motion flow and metrics of motion."""
