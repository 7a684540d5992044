"""How points are tracked: every part of the procedure, switchable, and the published setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from probe.run import Noise, check_noise
from store.errors import InvalidInputError


@dataclass(frozen=True)
class TrackingOptions:
    """How points are tracked. The defaults are what helped on held-out scenes; :data:`PUBLISHED` is DiffTrack's.

    Parameters
    ----------
    geometry : "exact", or "difftrack-tracking" for the released indexing and its scale of the logits
    encode : "images" encodes every image alone, "clip" the images of a chunk together (temporal compression)
    chunk_images : images of a chunk with the query's; by default as many latent frames as the backbone generates
    interleaved, anchored : see :func:`analyses.chunks.chunk_groups`
    average : costs of an image that lies in several chunks are averaged; otherwise the first chunk's count
    noise : what the model is shown, see :func:`probe.run.run_states`
    refine : the cost-weighted mean around the best cell, otherwise the best cell
    window : cells on each side of a peak that refine and confidence look at
    candidates : peaks kept for each cell and image, among which ``stiffness`` chooses
    stiffness : 0 takes the best match of every image; above, short moves between images are preferred
        (:func:`analyses.candidates.smoothest`)
    return_cells : a point is hidden where its match leads back further than this from where it came, in cells
    least_confidence : and where less than this share of the cost lies around the match
    """

    geometry: Literal["exact", "difftrack-tracking"] = "exact"
    encode: Literal["images", "clip"] = "images"
    chunk_images: int | None = None
    interleaved: bool = True
    anchored: bool = True
    average: bool = True
    noise: Noise = "clean"
    refine: bool = True
    window: int = 1
    candidates: int = 5
    stiffness: float = 0.0
    return_cells: float = 1.5
    least_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("geometry", ("exact", "difftrack-tracking")), ("encode", ("images", "clip"))):
            if getattr(self, name) not in known:
                raise InvalidInputError(
                    f"{name} {getattr(self, name)!r} is unknown. Known: {', '.join(map(repr, known))}."
                )
        check_noise(self.noise)
        if math.isinf(self.stiffness):
            raise InvalidInputError("stiffness must be finite; got inf.")
        for name, low in (("window", 1), ("candidates", 1), ("stiffness", 0), ("return_cells", 0)):
            if not getattr(self, name) >= low:
                raise InvalidInputError(f"{name} must be at least {low}; got {getattr(self, name)}.")
        if not 0 <= self.least_confidence <= 1:
            raise InvalidInputError(f"least_confidence must lie between 0 and 1; got {self.least_confidence}.")
        if self.chunk_images is not None and self.chunk_images < 2:
            raise InvalidInputError(f"chunk_images must be at least 2; got {self.chunk_images}.")
        if self.interleaved and not self.anchored:
            raise InvalidInputError("interleaved=True needs anchored=True: chunks have no image in common otherwise.")
        if self.encode == "clip" and self.stiffness:
            raise InvalidInputError("stiffness chooses a match in every image, which encode='clip' does not have.")


PUBLISHED = TrackingOptions("difftrack-tracking", refine=False, candidates=1, return_cells=math.inf)
"""The released evaluation of DiffTrack (Nam et al., 2025): every point counts as visible."""
