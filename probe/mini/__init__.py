"""The bundled backbones ``mini`` and ``mini-rope``: trained on :func:`store.make_scene`, megabytes, no download."""

from probe.mini.model import BUNDLED, MiniConfig, load_mini, new_pipeline, save_mini

__all__ = ["BUNDLED", "MiniConfig", "load_mini", "new_pipeline", "save_mini"]
