"""The part of the contract that differs for pipelines that begin with a clip."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from probe import Backbone


class OfAClip:
    """Of a family whose pipeline begins with a clip, ``video``: it takes that or latents, not both."""

    def sample(self, backbone: Backbone, **options: Any) -> Tensor:
        if options.get("latents") is None:
            return super().sample(backbone, **options)
        given = self.conditioning
        self.conditioning = lambda *args, **kwargs: {**given(*args, **kwargs), "video": None}
        try:
            return super().sample(backbone, **options)
        finally:
            del self.conditioning
