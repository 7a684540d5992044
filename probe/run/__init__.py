"""Forward passes: prompts and clips through a backbone, up to a layer or to the end."""
