"""Quality of the bundled backbones."""
