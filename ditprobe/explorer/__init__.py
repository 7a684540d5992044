"""An explorer of recordings with a pointer: one front end for JupyterLab, a local page and a file without a network."""
