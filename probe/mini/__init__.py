"""The bundled backbone ``mini``: trained on :func:`store.make_scene`, a few megabytes, no download."""

from probe.mini.model import MiniConfig, load_mini, new_pipeline, save_mini

__all__ = ["MiniConfig", "load_mini", "new_pipeline", "save_mini"]
