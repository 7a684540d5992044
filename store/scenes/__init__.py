"""Synthetic scenes with exact tracks, and the prompts that describe them."""
