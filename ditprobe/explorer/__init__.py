"""The explorer of recordings: one front end for JupyterLab, a local page and a file that needs no network."""
