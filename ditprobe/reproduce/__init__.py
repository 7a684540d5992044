"""Published experiments from the data to the figures, with the published figures and what a run does otherwise."""
