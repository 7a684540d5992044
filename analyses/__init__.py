"""Pure functions on queries, keys and tracks: matching, affinity, accuracy and the selection of layers."""
