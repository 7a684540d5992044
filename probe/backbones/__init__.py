"""A video diffusion transformer with its pipeline: layers, token geometry, call arguments, noise schedule."""
