"""Ground truth of a clip's points, and the (image, point) pairs that count."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch

from analyses.arrays import as_points
from analyses.attention.affinity import QueriedRows
from analyses.correspondence.bilinear import Corners
from analyses.correspondence.resampling import Resampling
from store.checks import finite, one_of
from store.errors import InvalidInputError
from store.layout import GeometryPreset, TokenLayout


@dataclass(frozen=True, eq=False)
class Truth:
    """The query points of a clip and, where known, their tracks.

    Attributes
    ----------
    points : (point, 2) float, (x, y) in pixels, in image 0
    tracks : (image, point, 2) float, or None if they are unknown
    visibility : (image, point) bool
    """

    points: np.ndarray
    tracks: np.ndarray | None
    visibility: np.ndarray

    @classmethod
    def of_tracks(cls, tracks: Any, visibility: Any, layout: TokenLayout, preset: GeometryPreset = "exact") -> Truth:
        """The tracked points that can be queried in image 0.

        Points that are visible ("difftrack" takes hidden ones too) and inside the image.

        Parameters
        ----------
        tracks : (image, point, 2) float, (x, y) in pixels of the clip
        visibility : (image, point) bool
        layout : TokenLayout
        preset : "exact" or "difftrack"

        Raises
        ------
        InvalidInputError
            When the shapes do not fit each other and the layout, or a visible pair is not finite.

        Examples
        --------
        >>> tracks = np.full((9, 2, 2), 20.0)
        >>> tracks[:, 1] = -3
        >>> len(Truth.of_tracks(tracks, np.ones((9, 2), bool), TokenLayout(3, 5, 7, 80, 112, 9)).points)
        1
        """
        tracks, visibility = np.asarray(tracks, dtype=np.float64), np.asarray(visibility)
        if tracks.ndim != 3 or tracks.shape[2] != 2 or len(tracks) != layout.images:
            raise InvalidInputError(
                f"tracks need the shape (image, point, 2) with {layout.images} images; got {tracks.shape}."
            )
        if visibility.dtype != bool or visibility.shape != tracks.shape[:2]:
            raise InvalidInputError(
                f"visibility must be bool (image, point) = {tracks.shape[:2]}; "
                f"got {visibility.dtype} of shape {visibility.shape}."
            )
        if not np.isfinite(tracks[visibility]).all():
            raise InvalidInputError("a visible point has a track that is not finite. Mark it as hidden.")
        kept = inside(tracks[0], layout)
        if preset == "exact":
            kept &= visibility[0]
        return cls(tracks[0, kept], tracks[:, kept], visibility[:, kept])

    @classmethod
    def of_grid(cls, layout: TokenLayout, max_points: int = 400) -> Truth:
        """Points at cell centres, at most ``max_points``, whose tracks are unknown.

        Examples
        --------
        >>> Truth.of_grid(TokenLayout(3, 5, 7, 80, 112, 9)).points.shape
        (35, 2)
        """
        stride = max(1, int(np.ceil(np.sqrt(layout.height * layout.width / max_points))))
        rows, columns = (np.arange((size - 1) % stride // 2, size, stride) for size in (layout.height, layout.width))
        cells = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2).astype(np.float64)
        points = layout.to_pixels(cells)
        return cls(points, None, np.ones((layout.images, len(points)), bool))


@dataclass(frozen=True, eq=False)
class Target:
    """A truth prepared for one device and layout: the cells that are read, and the pairs that count.

    Attributes
    ----------
    corners, rows : where matching and affinity read
    tracks : (image, point, 2) float on the device, or None
    moved : (image, point) float, cells between the query point and the track; 0 without tracks
    counted, moving : (image, point) bool, the pairs of accuracy and of moving accuracy
    resampling : of predicted tracks to the images of the truth
    """

    layout: TokenLayout
    preset: GeometryPreset
    threshold_cells: float
    corners: Corners
    rows: QueriedRows
    tracks: torch.Tensor | None
    moved: torch.Tensor
    counted: torch.Tensor
    moving: torch.Tensor
    resampling: Resampling

    @classmethod
    def of(
        cls,
        truth: Truth,
        layout: TokenLayout,
        *,
        preset: GeometryPreset = "exact",
        threshold_cells: float = 0.5,
        device: torch.device | str = "cpu",
    ) -> Target:
        """Prepare the truth; see :func:`measure`."""
        one_of(preset, get_args(GeometryPreset), "preset")
        threshold_cells = check_threshold(threshold_cells)
        device = torch.device(device)
        dtype = torch.float32 if device.type == "mps" else torch.float64
        points = as_points(torch.as_tensor(truth.points, dtype=dtype), layout, device)
        visibility = torch.as_tensor(truth.visibility, device=device)
        rows = QueriedRows.of(points, visibility, layout, preset)
        counted, moved, tracks = torch.zeros_like(visibility), torch.zeros_like(visibility, dtype=dtype), None
        if truth.tracks is not None:
            # Hidden points never count, and must not turn the sums into NaN.
            tracks = torch.as_tensor(truth.tracks, dtype=dtype, device=device).nan_to_num()
            counted = visibility.clone()
            if preset == "exact":
                counted[0] = False
            moved = in_cells(tracks - points, layout)
        corners = Corners.around(points, layout, preset)
        moving = counted & (moved > max(1.0, threshold_cells))
        resampling = Resampling.of(layout, len(visibility), preset, device)
        return cls(layout, preset, threshold_cells, corners, rows, tracks, moved, counted, moving, resampling)

    def within(self, threshold_cells: float) -> Target:
        """The same truth with another threshold."""
        threshold_cells = check_threshold(threshold_cells)
        moving = self.counted & (self.moved > max(1.0, threshold_cells))
        return replace(self, threshold_cells=threshold_cells, moving=moving)

    @property
    def pairs(self) -> int:
        """(image, point) pairs that count."""
        return int(self.counted.sum())

    @property
    def moving_pairs(self) -> int:
        """Pairs that count and lie more than max(1, threshold_cells) cells from the query point."""
        return int(self.moving.sum())

    @property
    def static_accuracy(self) -> float:
        """Accuracy of "nothing moves", percent; NaN without tracks."""
        if self.tracks is None:
            return float("nan")
        still = self.corners.points.expand(1, self.layout.frames, -1, -1)
        return float(self.accuracies(still)[0, 0])

    @property
    def blind_accuracy(self) -> float:
        """The highest moving accuracy that a guess without direction can expect, percent; NaN without moving pairs.

        Let a point move by r cells. Of the guesses that know r but not the direction, the best lies sqrt(r^2 - t^2)
        cells away and comes within t of the truth for the fraction asin(t / r) / pi of all directions. A random cell of
        the frame does so with probability pi t^2 / cells. The larger of the two counts for each pair.
        """
        moved = self.moved[self.moving].cpu().double()
        threshold = torch.as_tensor(self.threshold_cells, dtype=torch.float64)
        around = torch.asin(threshold / moved) / torch.pi
        anywhere = torch.pi * threshold**2 / (self.layout.height * self.layout.width)
        return 100 * float(torch.maximum(around, anywhere.clamp(max=1.0)).mean())

    def accuracies(self, tracks: torch.Tensor) -> np.ndarray:
        """(2, n) percent of all and of the moving pairs, for (n, frame, point, 2) predicted tracks."""
        return self.accuracies_on_device(tracks).cpu().numpy()

    def accuracies_on_device(self, tracks: torch.Tensor) -> torch.Tensor:
        """The same as a float64 tensor on the device, without waiting for it."""
        if self.tracks is None:
            return torch.full((2, len(tracks)), torch.nan, dtype=torch.float64, device=tracks.device)
        correct = in_cells(self.resampling(tracks) - self.tracks, self.layout) < self.threshold_cells
        kinds = torch.stack([self.counted, self.moving]).flatten(1).double()
        hits = kinds @ correct.flatten(1).double().T
        return 100 * hits / kinds.sum(-1, keepdim=True)


def inside(points: np.ndarray, layout: TokenLayout) -> np.ndarray:
    """Return which of (..., 2) points, (x, y) in pixels, lie within the image, its edges included."""
    within = (points >= 0) & (points <= (layout.pixel_width, layout.pixel_height))
    return np.asarray(within.all(-1))


def in_cells(offsets: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    """Length in cells of (..., 2) pixel offsets: hypot(ex / dx, ey / dy)."""
    dy, dx = layout.cell_size
    return torch.hypot(offsets[..., 0] / dx, offsets[..., 1] / dy)


def check_threshold(threshold_cells: float) -> float:
    """Raise for a threshold that is not a positive number of cells."""
    return finite(threshold_cells, "threshold_cells", above=0)
