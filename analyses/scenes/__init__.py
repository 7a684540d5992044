"""Objects, colours and motion measured in images of synthetic scenes."""
