"""Training of the bundled backbones."""
