"""What a model takes, known from its configuration: tokens and memory of captures, sweeps, flows and decoding."""
