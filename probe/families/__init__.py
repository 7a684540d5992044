"""The supported families of video diffusion transformers, one small module each."""

from __future__ import annotations

from typing import Any

from probe.backbones.backbone import Backbone
from probe.families.cogvideox import CogVideoX
from probe.families.hunyuan_video import HunyuanVideo
from probe.families.wan import Wan

FAMILIES: tuple[type[Backbone], ...] = (CogVideoX, Wan, HunyuanVideo)


def family_of(pipeline: Any) -> type[Backbone] | None:
    """The family whose pipelines this is one of, or None.

    Examples
    --------
    >>> family_of(object()) is None
    True
    """
    names = {kind.__name__ for kind in type(pipeline).__mro__}
    for family in FAMILIES:
        if names.intersection(family.pipelines):
            return family
    return None
