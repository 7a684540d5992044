"""Backbones from pipelines, folders, hub ids and the bundled weights."""
