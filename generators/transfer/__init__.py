"""Motion transfer from a reference clip: methods, the embeddings they find, and their files."""
