"""Speed, cost and faults of recordings."""
