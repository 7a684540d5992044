"""Figures of labelled arrays."""
