"""How points are tracked: every part of the procedure, switchable, and the published setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from store.arguments import check_fields
from store.errors import InvalidInputError
from store.selection import Noise


@dataclass(frozen=True)
class TrackingOptions:
    """How points are tracked. The defaults are what helped on held-out scenes; :data:`PUBLISHED` is DiffTrack's.

    Parameters
    ----------
    geometry : "exact", or "difftrack-tracking" for the released indexing
    scale : logits are divided by the square root of the number of "channels" (as the model does), or of "heads" (as
        the released evaluation does), which is the smaller number in most models and makes the costs sharper
    most_turn : channels that rotary positions turn by more than this, in radians from one token to the next, take no
        part in the products; infinity takes all. Added positions have none. The fast channels say where a token is
        rather than what it shows: 0.5 helped on scenes and hurt on real clips, which hardly move
    encode : "images" encodes every image alone, "clip" the images of a chunk together (temporal compression)
    chunk_images : images of a chunk with the query's; by default as many latent frames as the backbone generates
    interleaved, anchored : see :func:`analyses.tracking.chunks.chunk_groups`
    average : costs of an image that lies in several chunks are averaged; otherwise the first chunk's count
    noise : what the model is shown, see :func:`probe.run.run.run_states`
    support : standard deviation, in cells, of the Gaussian by which the costs of the cells up to two cells around a
        point count, each displaced by where its cell lies (:class:`analyses.tracking.aggregation.Support`); 0 matches
        each of the four cells around a point by itself and interpolates where they went, as published
    refine : the cost-weighted mean around the best cell, otherwise the best cell
    sharpness : power to which the costs are raised before they weigh that mean
    window : cells on each side of a peak that refine and confidence look at
    candidates : peaks kept for each cell and image, among which ``stiffness`` chooses
    stiffness : 0 takes the best match of every image; above, short moves between images are preferred
        (:func:`analyses.correspondence.peaks.smoothest`). With encode="clip" every latent frame takes its best match
    return_cells : a point is hidden where its match leads back further than this from where it came, in cells, or
        lies outside the image. Infinity lets every point count as visible
    least_confidence : and where less than this share of the cost lies around the match

    Notes
    -----
    ``support``, ``scale``, ``sharpness``, ``stiffness`` and ``return_cells`` were chosen on the tuning scenes (seeds
    2000 and up) of ``benchmarks.tracking``, which also prints what each is worth there; the scenes that are reported
    were not looked at. The other defaults are the published ones.
    """

    geometry: Literal["exact", "difftrack-tracking"] = "exact"
    scale: Literal["channels", "heads"] = "heads"
    most_turn: float = math.inf
    encode: Literal["images", "clip"] = "images"
    chunk_images: int | None = None
    interleaved: bool = True
    anchored: bool = True
    average: bool = True
    noise: Noise = "clean"
    support: float = 1.0
    refine: bool = True
    sharpness: float = 1.5
    window: int = 1
    candidates: int = 5
    stiffness: float = 0.3
    return_cells: float = 0.5
    least_confidence: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_numbers()
        if self.interleaved and not self.anchored:
            raise InvalidInputError("interleaved=True needs anchored=True: chunks have no image in common otherwise.")
        if self.support and self.geometry != "exact":
            raise InvalidInputError(
                f"support={self.support} adds up costs at exact places, which geometry={self.geometry!r} does not "
                "have. Use support=0, or geometry='exact'."
            )

    def _check_numbers(self) -> None:
        for name in ("support", "sharpness", "stiffness"):
            if math.isinf(getattr(self, name)):
                raise InvalidInputError(f"{name} must be finite; got inf.")
        least = {"window": 1, "candidates": 1, "support": 0, "stiffness": 0, "most_turn": 0}
        least["return_cells"] = 0
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise InvalidInputError(f"{name} must be at least {low}; got {getattr(self, name)}.")
        if not self.sharpness > 0:
            raise InvalidInputError(f"sharpness must be positive; got {self.sharpness}.")
        if not 0 <= self.least_confidence <= 1:
            raise InvalidInputError(f"least_confidence must lie between 0 and 1; got {self.least_confidence}.")
        if self.chunk_images is not None and self.chunk_images < 2:
            raise InvalidInputError(f"chunk_images must be at least 2; got {self.chunk_images}.")


PUBLISHED = TrackingOptions(
    "difftrack-tracking",
    scale="heads",
    support=0,
    refine=False,
    sharpness=1,
    candidates=1,
    stiffness=0,
    return_cells=math.inf,
)
"""The released evaluation of DiffTrack (Nam et al., 2025): every point counts as visible."""
