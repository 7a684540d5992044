"""Published experiments, from the data to the figures, next to the published figures and any differences in protocol."""
