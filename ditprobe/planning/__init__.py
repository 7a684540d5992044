"""Plans of a model from its configuration: tokens and memory of captures, sweeps, flows and decoding."""
