"""Guided sampling: steps, strategies and the scheduler they change."""
