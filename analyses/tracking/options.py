"""Options of tracking: switches for every part of the procedure, and the published setting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from store.arguments import check_fields
from store.errors import InvalidInputError
from store.selection import Noise

_MAX_LEVEL = 8


@dataclass(frozen=True)
class TrackingOptions:
    """Options of point tracking. The defaults were chosen on separate tuning scenes; :data:`PUBLISHED` has DiffTrack's.

    Parameters
    ----------
    geometry : "exact" or "difftrack-tracking"
        "difftrack-tracking" is the indexing of the released code.
    scale : "channels" or "heads"
        Logits are divided by the square root of the number of channels (as the model does) or of heads (as the
        released evaluation does). Most models have fewer heads than channels, so the latter gives sharper costs.
    max_rotation : float
        Channels that rotary positions rotate by more than this, in radians from one token to the next, are left out of
        the products; infinity takes all of them. Models with added positions have no such channels. Fast channels
        encode the position of a token rather than its content: 0.5 helped on scenes and hurt on real clips, which
        hardly move.
    encode : "images" or "clip"
        "images" encodes every image alone, "clip" the images of a chunk together (temporal compression).
    chunk_images : int, optional
        Number of images of a chunk, including that of the query; by default the number of latent frames that the
        backbone generates.
    interleaved, anchored : bool
        See :func:`analyses.tracking.chunks.chunk_groups`.
    overlapping : bool
        Whether interleaved chunks may share images other than the query's, and points of different images are tracked
        separately, as published. Otherwise as few images as possible are shown to the model: chunks share only the
        query's image, and points that are known in different images share chunks that hold several of these images
        (:func:`analyses.tracking.chunks.shared_chunks`). With encode="clip" chunks overlap in any case.
    average : bool
        Whether to average the costs of an image that lies in several chunks, or to take those of the first chunk.
    noise : "clean", "forward" or "inversion"
        Noise of the latents, see :func:`probe.run.run.run_states`.
    support : float
        Standard deviation, in cells, of the Gaussian that weights the costs of the cells up to two cells around a
        point, each displaced by the offset of its cell (:class:`analyses.tracking.aggregation.Support`). 0 matches each
        of the four cells around a point separately and interpolates their matches, as published.
    refine : bool
        Whether to take the cost-weighted mean around the best cell, or the best cell.
    sharpness : float
        Power to which the costs are raised as weights of that mean.
    window : int
        Number of cells on each side of a peak that refinement and confidence use.
    candidates : int
        Number of peaks kept for each cell and image, from which ``smoothness`` chooses.
    smoothness : float
        0 takes the best match of every image; above 0, short moves between images are preferred
        (:func:`analyses.correspondence.peaks.smoothest_path`). With encode="clip" every latent frame takes its best
        match.
    max_cycle_error : float
        A point is hidden if its cycle error in cells is larger than this, or if it lies outside the image. Infinity
        makes every point visible.
    min_confidence : float
        A point is also hidden if less than this fraction of the cost lies around the match.
    visibility : "limits", "calibrated" or "flow"
        "limits" hides points beyond the two limits above. "calibrated" hides points with a probability of being visible
        below 0.5, and that probability is then the confidence
        (:func:`analyses.tracking.visibility.visibility_probability`). "flow" does so too, from the same matches and
        from their agreement with chained optical flow, which needs OpenCV; positions stay those of the matches.
    levels : tuple of int
        After the whole image (1), points are looked at again in crops whose sides are smaller by these factors
        (:class:`analyses.tracking.closer.CloserLook`); a factor that is listed twice is used twice. (1,) takes no
        closer look, as published.
    crops : "auto", "compensate" or "follow"
        "compensate" removes the coarse motion from the images, so that points that move differently share a crop, and
        measures the remaining motion (:class:`analyses.tracking.compensation.Compensator`). "follow" moves a crop along
        with points that move alike; points that move differently need separate crops. "auto" compensates the whole
        image, where all points are known in one image, and then follows: more accurate, and with more crops, than
        compensating closer crops too. A level that comes twice is looked at once unless it is compensated.
    crop_margin : float
        Least distance in cells of a point from the border of its crop.
    max_crops : int, optional
        Largest number of crops of level 2 for each chunk of the whole image, those with the most points first; other
        levels are scaled by the area that their crops show. So the time of level 2 is at most this times that of the
        whole image; more than 5 hardly helped. A point in no crop keeps its coarse track. None sets no limit.
    trusted_cycle_error : float
        Crops follow the coarse track where its cycle error is at most this, in cells.
    max_correction : float
        A closer look that moves a point by more than this, in cells of the level before, has lost the point and does
        not count.
    max_crop_cycle_error : float
        A closer look with a larger cycle error, in its own cells, does not count either.

    Notes
    -----
    ``support``, ``scale``, ``sharpness``, ``smoothness`` and ``max_cycle_error`` were chosen on the tuning scenes
    (seeds 2000 and up) of ``benchmarks.tracking``, which also prints the effect of each; the reported scenes were not
    used. The other defaults are the published ones.
    """

    geometry: Literal["exact", "difftrack-tracking"] = "exact"
    scale: Literal["channels", "heads"] = "heads"
    max_rotation: float = math.inf
    encode: Literal["images", "clip"] = "images"
    chunk_images: int | None = None
    interleaved: bool = True
    anchored: bool = True
    overlapping: bool = False
    average: bool = True
    noise: Noise = "clean"
    support: float = 1.0
    refine: bool = True
    sharpness: float = 1.5
    window: int = 1
    candidates: int = 5
    smoothness: float = 0.3
    max_cycle_error: float = 0.5
    min_confidence: float = 0.0
    visibility: Literal["limits", "calibrated", "flow"] = "limits"
    levels: tuple[int, ...] = (1,)
    crops: Literal["auto", "compensate", "follow"] = "auto"
    crop_margin: float = 1.0
    max_crops: int | None = 5
    trusted_cycle_error: float = 1.0
    max_correction: float = 1.0
    max_crop_cycle_error: float = math.inf

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

    @property
    def shares_chunks(self) -> bool:
        """True if as few images as possible are shown: only images of queries are in two chunks."""
        return not self.overlapping and self.interleaved and self.encode == "images"

    def crops_at(self, level: int) -> int | None:
        """Return the largest number of crops of a level for each chunk of the whole image; None for no limit.

        Examples
        --------
        >>> [TrackingOptions(max_crops=5).crops_at(level) for level in (1, 2, 4)]
        [2, 5, 20]
        """
        return None if self.max_crops is None else math.ceil(self.max_crops * level**2 / 4)

    def compensates(self, level: int, anchors: np.ndarray) -> bool:
        """Return whether the coarse motion is removed from the crops of a level, for points known in images (point,).

        Examples
        --------
        >>> here, later = np.array([3, 3]), np.array([0, 3])
        >>> [TrackingOptions().compensates(*how) for how in ((1, here), (1, later), (2, here))]
        [True, False, False]
        """
        return self.crops == "compensate" or (self.crops == "auto" and level == 1 and len(np.unique(anchors)) < 2)

    def _check_numbers(self) -> None:
        for name in ("support", "sharpness", "smoothness"):
            if math.isinf(getattr(self, name)):
                raise InvalidInputError(f"{name} must be finite; got inf.")
        least = {"window": 1, "candidates": 1, "support": 0, "smoothness": 0, "max_rotation": 0}
        least["max_cycle_error"] = 0
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise InvalidInputError(f"{name} must be at least {low}; got {getattr(self, name)}.")
        for name in ("crop_margin", "trusted_cycle_error", "max_correction", "max_crop_cycle_error"):
            if not getattr(self, name) >= 0:
                raise InvalidInputError(f"{name} must be at least 0; got {getattr(self, name)}.")
        if self.levels[:1] != (1,) or list(self.levels) != sorted(self.levels) or self.levels[-1] > _MAX_LEVEL:
            raise InvalidInputError(
                f"levels must begin with 1, which is the whole image, and not fall, to at most {_MAX_LEVEL}; got "
                f"{self.levels}. Use (1, 1, 2), (1, 2) or (1, 2, 4)."
            )
        if self.max_crops is not None and self.max_crops < 1:
            raise InvalidInputError(f"max_crops must be at least 1, or None; got {self.max_crops}.")
        if not self.sharpness > 0:
            raise InvalidInputError(f"sharpness must be positive; got {self.sharpness}.")
        if not 0 <= self.min_confidence <= 1:
            raise InvalidInputError(f"min_confidence must lie between 0 and 1; got {self.min_confidence}.")
        if self.chunk_images is not None and self.chunk_images < 2:
            raise InvalidInputError(f"chunk_images must be at least 2; got {self.chunk_images}.")


PUBLISHED = TrackingOptions(
    "difftrack-tracking",
    scale="heads",
    support=0,
    refine=False,
    sharpness=1,
    candidates=1,
    smoothness=0,
    max_cycle_error=math.inf,
    overlapping=True,
)
"""The released evaluation of DiffTrack (Nam et al., 2025): every point counts as visible."""
