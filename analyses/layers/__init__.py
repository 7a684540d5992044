"""Layer sweeps: every measure at every layer, step and head."""
