"""Published experiments, from the data to the figures, with the published figures and any differences in protocol."""
