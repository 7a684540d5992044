"""Matching costs and expected cells, computed in blocks within a memory budget."""
