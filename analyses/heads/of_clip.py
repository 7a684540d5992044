"""Classes of all heads of a model from one clip at one step, as the published rules are applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr

from analyses.heads.classify import HeadPreset, classify_heads
from probe.backbones.backbone import Backbone
from probe.capture.capture import Capture
from probe.run.run import run_clip
from store.arguments import checked
from store.clips.clip import Clip
from store.selection import Noise, Selection


@checked
def classify_clip_heads(
    backbone: Backbone,
    clip: Clip,
    *,
    preset: HeadPreset = "exact",
    margin: float | None = None,
    radius: int = 1,
    step: int = -1,
    steps: int = 50,
    noise: Noise = "forward",
    seed: int = 0,
    prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Class of each head of every layer, from one pass of a clip at one step.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of a size that the backbone takes, with several latent frames.
    preset, margin, radius
        As of :func:`analyses.heads.classify.classify_heads`.
    step, steps : int
        The step at which the clip is shown, and the number of steps of the run.
    noise, seed
        As of :func:`analyses.heads.sweep.sweep_heads`.
    prompt : str, optional
        By default the clip's own.
    conditioning : mapping, optional
        Further arguments of the pipeline.

    Returns
    -------
    Dataset over ``layer`` and ``head``: ``spatial``, ``temporal``, ``log_ratio``, ``class``

    Raises
    ------
    InvalidInputError
        As of :func:`analyses.heads.classify.classify_heads`, and for a size that the backbone does not take.
    UnknownLayerError
        For a step that does not exist.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> dict(classify_clip_heads(mini, make_scene(0))["class"].sizes)
    {'layer': 2, 'head': 4}
    """
    found: dict[int, xr.Dataset] = {}

    def sink(capture: Capture) -> None:
        found[capture.layer] = classify_heads(
            capture.query, capture.key, capture.layout, capture.text_key, preset=preset, margin=margin, radius=radius
        )

    given: dict[str, Any] = {"noise": noise, "seed": seed, "steps": steps, "prompt": prompt}
    run_clip(backbone, clip, Selection(steps=[step], layers="all"), sink, conditioning=conditioning, **given)
    layers = sorted(found)
    return xr.concat([found[layer] for layer in layers], "layer").assign_coords(layer=layers)
