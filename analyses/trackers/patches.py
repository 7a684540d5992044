"""Raw patches of pixels as a tracker, a baseline that any feature of a model should beat on the same grid."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from analyses.arrays import BUDGET_BYTES, cells_as_xy
from analyses.correspondence.bilinear import Corners
from analyses.correspondence.matching import corners_of, match_feature_sources
from analyses.correspondence.patches import patch_features
from store.arguments import check_fields
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import clip_and_queries


@dataclass(frozen=True)
class PatchTracker:
    """Match cells of pixels by their cosine, between the image of the query and every other image.

    Points between cell centres move by the interpolated displacement of the cells around them, like points matched by
    attention, so that a grid of the same cells is as precise as a backbone: :meth:`on_grid`.

    Parameters
    ----------
    cell : side of a cell in pixels of ``size``
    size : (height, width) in pixels that clips are resized to; by default the clip's own, to the nearest whole cells
    max_cycle_error : largest distance in cells between a point and where its match leads back, above which it is
        hidden; ``math.inf`` makes every point visible
    budget_bytes : working memory of the matching; two images at a time are compared, whatever the length of the clip

    Raises
    ------
    InvalidInputError
        For a cell below one pixel, a size that is not a multiple of it, or a negative distance.

    Examples
    --------
    >>> first = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    >>> images = np.stack([np.roll(first, 8 * n, axis=1) for n in range(3)])
    >>> PatchTracker(cell=8)(images, [[1, 20.0, 12.0]]).tracks[:, 0]
    array([[12., 12.],
           [20., 12.],
           [28., 12.]])
    """

    cell: int = 16
    size: tuple[int, int] | None = None
    max_cycle_error: float = 1.5
    budget_bytes: int = BUDGET_BYTES

    def __post_init__(self) -> None:
        check_fields(self)
        if self.cell < 1:
            raise InvalidInputError(f"cell must be at least 1 pixel; got {self.cell}.")
        if not self.max_cycle_error >= 0:
            raise InvalidInputError(f"max_cycle_error must be at least 0; got {self.max_cycle_error}.")
        if self.size is not None and (min(self.size) < 1 or self.size[0] % self.cell or self.size[1] % self.cell):
            raise InvalidInputError(
                f"size {self.size[0]} x {self.size[1]} (height x width) is not a multiple of its cell, {self.cell} px."
            )

    @classmethod
    def on_grid(cls, layout: TokenLayout, *, max_cycle_error: float = 1.5) -> PatchTracker:
        """Return a tracker with the cells of a backbone's layout, at its size.

        Raises
        ------
        InvalidInputError
            For cells that are not square or not whole pixels.

        Examples
        --------
        >>> PatchTracker.on_grid(TokenLayout(3, 5, 7, 80, 112, 9)).cell
        16
        """
        high, wide = layout.cell_size
        if high != wide or high % 1:
            raise InvalidInputError(f"patches need square cells of whole pixels; got {high:g} x {wide:g} px.")
        return cls(int(high), (layout.pixel_height, layout.pixel_width), max_cycle_error)

    def __call__(self, images: Any, queries: Any) -> PointTracks:
        """Positions of the query points in every image; see :class:`store.tracks.point_tracks.Tracker`."""
        video, asked = clip_and_queries(images, queries)
        count, height, width = video.shape[:3]
        layout = self._layout(height, width)
        tracks = np.repeat(asked[None, :, 1:], count, axis=0)
        confidence, cycle_error = np.ones((count, len(asked))), np.zeros((count, len(asked)))
        scale = np.array([layout.pixel_width / width, layout.pixel_height / height])
        for anchor in np.unique(asked[:, 0]).astype(int):
            mine = np.flatnonzero(asked[:, 0] == anchor)
            corners = corners_of(asked[mine, 1:] * scale, layout, "exact", torch.device("cpu"))
            first = self._features(video[anchor], layout)
            for image in (other for other in range(count) if other != anchor):
                found = self._matched(first, self._features(video[image], layout), corners)
                tracks[image, mine] = found[0] / scale
                confidence[image, mine], cycle_error[image, mine] = found[1:]
        visibility = cycle_error <= self.max_cycle_error
        details = {"tracker": "raw patches", **asdict(self), "size": [layout.pixel_height, layout.pixel_width]}
        if np.isinf(self.max_cycle_error):
            details["max_cycle_error"] = None
        return PointTracks(asked, tracks, visibility, np.clip(confidence, 0, 1), details)

    def _layout(self, height: int, width: int) -> TokenLayout:
        """Two images on the grid."""
        if self.size is None:
            rows, columns = (max(1, round(length / self.cell)) for length in (height, width))
        else:
            rows, columns = self.size[0] // self.cell, self.size[1] // self.cell
        return TokenLayout(2, rows, columns, rows * self.cell, columns * self.cell, 2)

    def _features(self, image: np.ndarray, layout: TokenLayout) -> torch.Tensor:
        """(cell, channel) features of unit length."""
        pixels = Clip(image[None], fps=8.0).resized(layout.pixel_height, layout.pixel_width).images
        return patch_features(pixels, layout)[0]

    def _matched(
        self, first: torch.Tensor, other: torch.Tensor, corners: Corners
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every point: the pixel in the other image, the cosine, and the cycle error in cells."""
        layout = corners.layout
        (places,) = match_feature_sources(torch.stack([first, other]), corners, budget_bytes=self.budget_bytes)
        cells = (places[:, 1] * layout.width + places[:, 0]).long()
        cosine = (first[corners.sources] * other[cells]).sum(-1)
        distinct, index = torch.unique(cells, return_inverse=True)
        back = replace(corners, sources=distinct)
        (home,) = match_feature_sources(torch.stack([other, first]), back, budget_bytes=self.budget_bytes)
        start = cells_as_xy(corners.sources, layout).float()
        cycle_error = torch.linalg.vector_norm(home[index] - start, dim=-1)
        at_points = [(values[corners.index] * corners.weights).sum(-1).numpy() for values in (cosine, cycle_error)]
        return corners.read(places).numpy(), at_points[0], at_points[1]
