"""Training of an adapter on one clip: settings, losses, state on disk, memory and the plan before it runs."""
