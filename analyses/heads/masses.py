"""Attention mass of each head by target, summed in blocks of rows; no attention matrix is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr

from analyses.arrays import BUDGET_BYTES, as_tensor, compute_dtype, query_and_key, text_tokens
from analyses.kernels.attention_weights import attention_weights
from analyses.token_checks import Pending, TokenChecks, fetch
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.checks import integer
from store.errors import InvalidInputError
from store.layout import TokenLayout

TARGETS = ("own_frame", "same_place", "first_frame", "text", "motion", "still")
"""Targets over which the attention of a head is summed; :func:`head_masses` defines each."""


@dataclass(frozen=True, eq=False)
class MovingPairs:
    """Points that move: the token that holds a point in one frame, and the cell that holds it in another.

    Attributes
    ----------
    source : (pair,) int64, token in the order (frame, y, x)
    frame : (pair,) int64, the other frame
    target : (pair,) int64, cell of the point in that frame, row-major
    """

    source: torch.Tensor
    frame: torch.Tensor
    target: torch.Tensor

    @classmethod
    def of_tracks(cls, tracks: Array, visibility: Array, layout: TokenLayout, radius: int) -> MovingPairs:
        """Pairs of frames in which a point is visible and more than ``2 * radius`` cells apart.

        Parameters
        ----------
        tracks : (image, point, 2) float, (x, y) in pixels of the clip
        visibility : (image, point) bool; a point counts in a frame where it is visible in all of its images
        layout : TokenLayout
        radius : cells; the neighbourhoods of both places do not overlap

        Raises
        ------
        InvalidInputError
            For shapes that do not fit each other and the layout.

        Examples
        --------
        >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
        >>> x = np.linspace(8, 104, 9)
        >>> tracks = np.stack([x, np.full(9, 40.0)], -1)[:, None]
        >>> MovingPairs.of_tracks(tracks, np.ones((9, 1), bool), layout, 0).frame.tolist()
        [1, 2, 0, 2, 0, 1]
        """
        tracks, visible = np.asarray(as_tensor(tracks).cpu(), np.float64), np.asarray(as_tensor(visibility).cpu())
        if tracks.ndim != 3 or tracks.shape[2] != 2 or len(tracks) != layout.images:
            raise InvalidInputError(
                f"tracks need the shape (image, point, 2) with {layout.images} images; got {tracks.shape}."
            )
        if visible.dtype != bool or visible.shape != tracks.shape[:2]:
            raise InvalidInputError(
                f"visibility must be bool (image, point) = {tracks.shape[:2]}; got {visible.dtype} of shape "
                f"{visible.shape}."
            )
        places, seen = _at_frames(tracks, visible, layout)
        cells = np.floor(np.asarray(layout.to_cells(places)) + 0.5).astype(np.int64)  # (frame, point, (x, y))
        seen &= ((cells >= 0) & (cells < [layout.width, layout.height])).all(-1)
        one, other = (index.ravel() for index in np.meshgrid(*[np.arange(layout.frames)] * 2, indexing="ij"))
        found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        for i, j in zip(one[one != other], other[one != other], strict=True):
            apart = np.abs(cells[i] - cells[j]).max(-1) > 2 * radius
            kept = seen[i] & seen[j] & apart
            found.append((i, j, cells[i, kept], cells[j, kept]))
        size = layout.height * layout.width

        def flat(xy: np.ndarray) -> np.ndarray:
            return xy[:, 1] * layout.width + xy[:, 0]

        source = [i * size + flat(start) for i, _, start, _ in found]
        frame = [np.full(len(start), j, np.int64) for _, j, start, _ in found]
        target = [flat(end) for _, _, _, end in found]
        return cls(*(torch.from_numpy(np.concatenate(part).astype(np.int64)) for part in (source, frame, target)))

    def __len__(self) -> int:
        return len(self.source)


def _at_frames(tracks: np.ndarray, visible: np.ndarray, layout: TokenLayout) -> tuple[np.ndarray, np.ndarray]:
    """(frame, point, 2) places at the centre of each frame's images, and whether a point is visible in all of them."""
    centres = np.asarray(layout.frame_centres, np.float64)
    before = np.clip(np.floor(centres).astype(int), 0, layout.images - 1)
    after = np.minimum(before + 1, layout.images - 1)
    part = (centres - before)[:, None, None]
    seen = np.stack([visible[span.start : span.stop].all(0) for span in map(layout.images_of, range(layout.frames))])
    with np.errstate(invalid="ignore"):
        places = np.where(part > 0, (1 - part) * tracks[before] + part * tracks[after], tracks[before])
    return np.where(seen[..., None], places, -1.0), seen


def attention_rows(
    query: torch.Tensor, key: torch.Tensor, text_key: torch.Tensor | None, budget_bytes: int
) -> Iterator[tuple[slice, range, torch.Tensor]]:
    """The attention of video tokens in blocks of rows within the budget.

    Parameters
    ----------
    query, key : (head, token, channel), checked
    text_key : (head, text token, channel), optional
    budget_bytes : working memory

    Yields
    ------
    heads : slice
    rows : range of video tokens
    weights : (head, row, token), video tokens first, then text; each row adds up to one
    """
    heads, tokens, _ = query.shape
    dtype = compute_dtype(query, key)
    keys = key.to(dtype) if text_key is None else torch.cat([key.to(dtype), text_key.to(dtype)], 1)
    row_bytes = 4 * keys.shape[1] * dtype.itemsize
    if row_bytes > budget_bytes:
        raise InvalidInputError(
            f"budget_bytes={budget_bytes} does not hold one row of attention. Allow at least {row_bytes} bytes."
        )
    together = max(1, budget_bytes // row_bytes)
    step = min(tokens, together)
    several = max(1, together // step)
    for first in range(0, heads, several):
        head = slice(first, min(first + several, heads))
        for start in range(0, tokens, step):
            rows = range(start, min(start + step, tokens))
            yield head, rows, attention_weights(query[head, start : start + step], keys[head], dtype=dtype)


@checked
@torch.no_grad()
def head_masses(
    query: Array,
    key: Array,
    layout: TokenLayout,
    text_key: Array | None = None,
    *,
    tracks: Array | None = None,
    visibility: Array | None = None,
    radius: int = 1,
    budget_bytes: int = BUDGET_BYTES,
) -> xr.Dataset:
    """Attention mass of each head on its own frame, the same place in other frames, the first frame, text, motion.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE
    layout : TokenLayout
    text_key : (head, token, channel), optional
        Keys of the text tokens in the same attention.
    tracks, visibility : (image, point, 2) float in pixels (x, y), and (image, point) bool; optional
        True or predicted motion, for ``motion`` and ``still``.
    radius : cells
        Two cells are at the same place if they are at most this far apart in y and in x.
    budget_bytes : working memory beyond input and result

    Returns
    -------
    Dataset over ``head`` and ``target``
        ``mass`` (head, target), and ``uniform`` (target), the mass of a head that attends uniformly. Targets:

        * ``own_frame``: mean over rows of the weight on their own frame
        * ``same_place``: mean over rows of the weight on other frames, at the same place
        * ``first_frame``: mean over rows of other frames of the weight on frame 0
        * ``text``: mean over rows of the weight on text; NaN without text keys
        * ``motion``: mean over moving pairs (a point visible in two frames, its places more than ``2 * radius`` cells
          apart) of the weight from its token in one frame on its place in the other; NaN without such pairs
        * ``still``: for the same pairs, the weight on the place that the point had before

        ``attrs["moving_pairs"]`` counts the pairs.

    Raises
    ------
    InvalidInputError
        For tensors that do not fit the layout or hold NaN, tracks without visibility, or a budget below one row.

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> cells = 40 * torch.eye(35).reshape(1, 1, 5, 7, 35).expand(1, 3, 5, 7, 35)
    >>> found = head_masses(cells, cells, layout, radius=0)
    >>> found["mass"].sel(target=["own_frame", "same_place"]).values.round(3).tolist()
    [[0.333, 0.667]]
    """
    integer(radius, "radius")
    if (tracks is None) != (visibility is None):
        raise InvalidInputError("tracks and visibility go together: pass both, or neither.")
    pairs = None if tracks is None or visibility is None else MovingPairs.of_tracks(tracks, visibility, layout, radius)
    return fetch_masses([masses_on_device(query, key, layout, text_key, pairs, radius, budget_bytes)])[0]


@dataclass(frozen=True, eq=False)
class PendingMasses(Pending):
    """``totals``, (head + 1, target) float64 sums; the last row is that of a head that attends uniformly."""

    sums: _Sums
    has_text: bool


@torch.no_grad()
@outside_autocast()
def masses_on_device(
    query: Array,
    key: Array,
    layout: TokenLayout,
    text_key: Array | None,
    pairs: MovingPairs | None,
    radius: int,
    budget_bytes: int,
) -> PendingMasses:
    """Sum as :func:`head_masses` does, with its moving pairs, and leave the result on the device.

    Shapes are checked at once.
    """
    checks = TokenChecks()
    asked, keys = query_and_key(query, key, layout, checks)
    text = None if text_key is None else text_tokens(text_key, keys, checks=checks)
    sums = _Sums.zeros(len(asked), layout, asked, radius, pairs)
    for head, rows, weights in attention_rows(asked.flatten(1, 2), keys.flatten(1, 2), text, budget_bytes):
        sums.add(head, rows, weights)
    everything = layout.video_tokens + (0 if text is None else text.shape[1])
    alike = _Sums.zeros(1, layout, asked, radius, pairs)
    for start in range(0, layout.video_tokens, 256):
        rows = range(start, min(start + 256, layout.video_tokens))
        alike.add(slice(0, 1), rows, sums.total.new_full((1, len(rows), everything), 1 / everything))
    return PendingMasses({"totals": torch.cat([sums.total, alike.total])}, checks, sums, text is not None)


def fetch_masses(pending: Sequence[PendingMasses]) -> list[xr.Dataset]:
    """Fetch the masses of several captures in one copy.

    Raises
    ------
    InvalidInputError
        For tokens that hold NaN, or whose products overflow.
    """
    return [_dataset(values["totals"], one) for values, one in zip(fetch(pending), pending, strict=True)]


def _dataset(totals: np.ndarray, found: PendingMasses) -> xr.Dataset:
    sums, pairs = found.sums, found.sums.pairs
    return xr.Dataset(
        {
            "mass": (
                ("head", "target"),
                sums.means(totals[:-1], found.has_text),
                {"long_name": "attention mass", "units": "1"},
            ),
            "uniform": (
                "target",
                sums.means(totals[-1:], found.has_text)[0],
                {"long_name": "attention mass of a head that attends to everything alike", "units": "1"},
            ),
        },
        {"head": np.arange(len(totals) - 1), "target": list(TARGETS)},
        {"radius": sums.radius, "moving_pairs": 0 if pairs is None else len(pairs)},
    )


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of weights by head and target, and the targets for which each row counts."""

    total: torch.Tensor  # (head, target) float64
    layout: TokenLayout
    around: torch.Tensor  # (cell, neighbour) int64, the cell itself in place of those outside the frame
    inside: torch.Tensor  # (cell, neighbour) bool
    pairs: MovingPairs | None  # in CPU memory, where the pairs of a block of rows are looked up
    radius: int

    @classmethod
    def zeros(
        cls, heads: int, layout: TokenLayout, like: torch.Tensor, radius: int, pairs: MovingPairs | None
    ) -> _Sums:
        total = torch.zeros(heads, len(TARGETS), dtype=torch.float64, device=like.device)
        y, x = torch.meshgrid(
            *(torch.arange(length, device=like.device) for length in (layout.height, layout.width)), indexing="ij"
        )
        offsets = torch.arange(-radius, radius + 1, device=like.device)
        down, right = (part.reshape(-1) for part in torch.meshgrid(offsets, offsets, indexing="ij"))
        rows, columns = y.reshape(-1, 1) + down, x.reshape(-1, 1) + right
        inside = (rows >= 0) & (rows < layout.height) & (columns >= 0) & (columns < layout.width)
        cells = torch.arange(layout.height * layout.width, device=like.device)[:, None]
        return cls(total, layout, torch.where(inside, rows * layout.width + columns, cells), inside, pairs, radius)

    def add(self, head: slice, block: range, weights: torch.Tensor) -> None:
        """Add a block of rows, (head, row, token) weights."""
        rows = torch.arange(block.start, block.stop, device=weights.device)
        frames, cells = self.layout.frames, self.layout.height * self.layout.width
        video = weights[..., : frames * cells].unflatten(-1, (frames, cells))
        frame, cell = rows // cells, rows % cells
        by_frame = video.sum(-1)  # (head, row, frame)
        own = by_frame.gather(-1, frame.expand(len(video), -1)[..., None])[..., 0]
        around = self.around[cell][None, :, None].expand(len(video), -1, frames, -1)
        at_place = (video.gather(-1, around) * self.inside[cell][None, :, None]).sum(-1)  # (head, row, frame)
        here = at_place.gather(-1, frame.expand(len(video), -1)[..., None])[..., 0]
        self.total[head, 0] += own.sum(-1).double()
        self.total[head, 1] += (at_place.sum(-1) - here).sum(-1).double()
        self.total[head, 2] += (by_frame[..., 0] * (frame > 0)).sum(-1).double()
        self.total[head, 3] += weights[..., frames * cells :].sum((-1, -2)).double()
        if self.pairs is not None:
            mine = (self.pairs.source >= block.start) & (self.pairs.source < block.stop)
            found = self.pairs.source[mine] - block.start, self.pairs.frame[mine], self.pairs.target[mine]
            row, other, target = torch.stack(found).to(weights.device, non_blocking=True)
            near = video[:, row[:, None], other[:, None], self.around[target]] * self.inside[target]
            self.total[head, 4] += near.sum((-1, -2)).double()
            self.total[head, 5] += at_place[:, row, other].sum(-1).double()

    def means(self, total: np.ndarray, text: bool) -> np.ndarray:
        """(head, target) means over the rows or pairs that count, from fetched sums; NaN if there are none."""
        rows, frames = self.layout.video_tokens, self.layout.frames
        pairs = math.nan if self.pairs is None or not len(self.pairs) else len(self.pairs)
        later = rows * (frames - 1) / frames or math.nan
        counts = np.array([rows, rows, later, rows if text else math.nan, pairs, pairs], np.float64)
        found: np.ndarray = total / counts
        return found
