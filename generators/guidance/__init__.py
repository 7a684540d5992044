"""Guidance by attention: away from a prediction made with perturbed attention."""
