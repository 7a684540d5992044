"""TAP-Vid's queries and its metrics: position accuracy, Jaccard and occlusion accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch

from analyses.arrays import as_tensor, check_visibility
from analyses.metrics.accuracy import check_tracks
from store.arguments import Array, checked
from store.datasets.tapvid_raster import THRESHOLDS
from store.errors import InvalidInputError

QueryMode = Literal["first", "strided"]

METRICS = (
    "occlusion_accuracy",
    *(f"{part}_{threshold}" for threshold in THRESHOLDS for part in ("pts_within", "jaccard")),
    "average_jaccard",
    "average_pts_within_thresh",
)
"""Names of the metrics that :func:`tapvid_metrics` returns."""


@checked
def tapvid_metrics(
    queries: Array,
    tracks: Array,
    visibility: Array,
    predicted: Array,
    predicted_visibility: Array,
    *,
    mode: QueryMode = "first",
) -> dict[str, float]:
    """TAP-Vid's metrics of one clip.

    Parameters
    ----------
    queries : (point, 3) float, (t, y, x): image, and position on the 256 x 256 raster
        Only t is used, rounded. The point need not be visible in that image.
    tracks, predicted : (image, point, 2) float, (x, y) on the 256 x 256 raster
        As :func:`store.datasets.tapvid_raster.to_raster` returns them. Track n is the truth of query n: a track
        that is queried several times is repeated (:func:`tapvid_queries` says which). Hidden points of ``tracks``
        may be NaN. A NaN prediction counts as too far.
    visibility, predicted_visibility : (image, point) bool
    mode : "first" or "strided"
        The images that count for each query: those after its own, or all except its own.

    Returns
    -------
    dict of str to float
        Fractions 0 to 1. ``occlusion_accuracy``: the fraction of (image, point) pairs whose visibility is predicted
        correctly. ``pts_within_t`` for t = 1, 2, 4, 8, 16: of the truly visible pairs, those predicted nearer than t
        px, whether or not they are predicted visible. ``jaccard_t``: pairs that are visible, predicted visible and
        nearer than t px (hits), over the truly visible pairs and those predicted visible that are not hits.
        ``average_pts_within_thresh`` and ``average_jaccard``: the means over t. NaN where there is nothing to count.

    Raises
    ------
    InvalidInputError
        For shapes that do not match, another mode, a query outside the clip, or a visible point that is NaN.

    Notes
    -----
    Doersch et al., "TAP-Vid: A Benchmark for Tracking Any Point in a Video" (2022), section 4; equal to the published
    ``compute_tapvid_metrics`` for one clip. The value of a whole set is the mean over its clips:
    :func:`mean_tapvid_metrics`.

    Examples
    --------
    A point that is followed within 3 px while it moves, and taken for visible when it is hidden in the last image:

    >>> tracks = np.array([[[10.0, 20.0]], [[15.0, 20.0]], [[20.0, 20.0]]])
    >>> visible = np.array([[True], [True], [False]])
    >>> found = tapvid_metrics([[0, 20.0, 10.0]], tracks, visible, tracks + [0, 3], np.ones_like(visible))
    >>> found["pts_within_2"], found["pts_within_4"], found["jaccard_4"], found["occlusion_accuracy"]
    (0.0, 1.0, 0.5, 0.5)
    """
    truth, guess = _positions(tracks), _positions(predicted)
    visible, claimed = check_visibility(visibility).cpu(), check_visibility(predicted_visibility).cpu()
    check_tracks(guess, truth, visible)
    if claimed.shape != visible.shape:
        raise InvalidInputError(
            f"predicted_visibility needs the shape (image, point) = {tuple(visible.shape)}; got {tuple(claimed.shape)}."
        )
    _check_truth(truth, visible)
    counted = _counted(_query_images(queries, truth.shape), len(truth), mode)
    return _metrics(truth.numpy(), visible.numpy(), guess.numpy(), claimed.numpy(), counted)


def _metrics(
    tracks: np.ndarray, visible: np.ndarray, predicted: np.ndarray, claimed: np.ndarray, counted: np.ndarray
) -> dict[str, float]:
    squared = np.square(predicted - tracks).sum(-1)
    seen, shown = visible & counted, claimed & counted
    metrics = {"occlusion_accuracy": _share((visible == claimed) & counted, counted.sum())}
    for threshold in THRESHOLDS:
        near = (squared < threshold**2) & seen
        hits = near & shown
        metrics[f"pts_within_{threshold}"] = _share(near, seen.sum())
        metrics[f"jaccard_{threshold}"] = _share(hits, seen.sum() + (shown & ~hits).sum())
    for average, part in (("average_jaccard", "jaccard"), ("average_pts_within_thresh", "pts_within")):
        metrics[average] = float(np.mean([metrics[f"{part}_{threshold}"] for threshold in THRESHOLDS]))
    return metrics


def _share(which: np.ndarray, of: int) -> float:
    return float(which.sum() / of) if of else float("nan")


def _counted(query_images: np.ndarray, images: int, mode: QueryMode) -> np.ndarray:
    """(image, point) bool: the pairs that are measured."""
    image = np.arange(images)[:, None]
    if mode == "first":
        return image > query_images
    if mode == "strided":
        return image != query_images
    raise InvalidInputError(_unknown_mode(mode))


def _unknown_mode(mode: Any) -> str:
    return f"mode must be 'first' or 'strided'; got {mode!r}."


def _query_images(queries: Any, shape: torch.Size) -> np.ndarray:
    queries = as_tensor(queries)
    if queries.shape != (shape[1], 3):
        raise InvalidInputError(
            f"queries need the shape (point, 3) = {(shape[1], 3)}, as (t, y, x), one for each track; "
            f"got {tuple(queries.shape)}."
        )
    times = np.round(queries[:, 0].double().cpu().numpy())
    bad = np.flatnonzero(~((times >= 0) & (times < shape[0])))
    if len(bad):
        raise InvalidInputError(
            f"query {bad[0]} is in image {times[bad[0]]:g}, but the tracks have images 0 to {shape[0] - 1}. "
            f"Queries are (t, y, x)."
        )
    return times.astype(np.int64)


def _positions(tracks: Any) -> torch.Tensor:
    """Return positions on the CPU in their own precision, at least float32."""
    tracks = as_tensor(tracks).cpu()
    return tracks if tracks.dtype in (torch.float32, torch.float64) else tracks.double()


def _check_truth(tracks: torch.Tensor, visible: torch.Tensor) -> None:
    bad = torch.argwhere(visible & ~torch.isfinite(tracks).all(-1))
    if len(bad):
        image, point = bad[0].tolist()
        raise InvalidInputError(
            f"tracks are not finite in {len(bad)} visible places, first at image {image}, point {point}. "
            f"Mark them as hidden."
        )


@checked
def mean_tapvid_metrics(clips: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of a set: the mean over its clips, all with equal weight, as TAP-Vid reports it.

    Parameters
    ----------
    clips : results of :func:`tapvid_metrics`, all with the same keys
        A clip whose value is NaN (no visible point after the queries) takes no part in that mean. TAP-Vid's own sets
        have no such clip.

    Returns
    -------
    dict of str to float
        NaN where no clip has a value.

    Raises
    ------
    InvalidInputError
        For no clips, or clips with different metrics.

    Examples
    --------
    >>> mean_tapvid_metrics([{"jaccard_1": 0.25}, {"jaccard_1": 0.75}, {"jaccard_1": float("nan")}])
    {'jaccard_1': 0.5}
    """
    clips = list(clips)
    if not clips:
        raise InvalidInputError("no metrics were given: a mean over clips needs at least one clip.")
    other = [clip for clip in clips if set(clip) != set(clips[0])]
    if other:
        raise InvalidInputError(
            f"clips have different metrics: {', '.join(sorted(clips[0]))} and {', '.join(sorted(other[0]))}."
        )
    return {key: _mean_of_known([clip[key] for clip in clips]) for key in clips[0]}


def _mean_of_known(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


@checked
def tapvid_queries(tracks: Array, visibility: Array, mode: QueryMode = "first", stride: int = 5) -> tuple[Any, Any]:
    """TAP-Vid's queries of a clip whose truth is known, and the track to which each belongs.

    Parameters
    ----------
    tracks : (image, point, 2) float, (x, y), torch or numpy
        In any coordinates; for :func:`tapvid_metrics` on the 256 x 256 raster.
    visibility : (image, point) bool
    mode : "first" or "strided"
        "first" queries each track once, in the first image in which it is visible; "strided" in every ``stride``-th
        image, counted from image 0, in which it is visible. Tracks that are visible in none of these images are not
        queried.
    stride : int
        Images between queries of mode "strided".

    Returns
    -------
    queries : (query, 3) float, (t, y, x), of the kind of ``tracks``
        In the order of the tracks ("first"), or of the images and then the tracks ("strided").
    owner : (query,) int, of the kind of ``tracks``
        Track of each query: ``tracks[:, owner]`` and ``visibility[:, owner]`` are the truth for
        :func:`tapvid_metrics`.

    Raises
    ------
    InvalidInputError
        For shapes that do not match, another mode, a stride below 1, or a visible point that is not finite.

    Examples
    --------
    >>> tracks = np.arange(24.0).reshape(6, 2, 2)
    >>> visibility = np.array([[True, False]] + 4 * [[True, True]] + [[False, True]])
    >>> queries, owner = tapvid_queries(tracks, visibility)
    >>> queries
    array([[0., 1., 0.],
           [1., 7., 6.]])
    >>> tapvid_queries(tracks, visibility, "strided")[1]
    array([0, 1])
    """
    positions, visible = as_tensor(tracks), check_visibility(visibility)
    check_tracks(positions, positions, visible)
    visible = visible.to(positions.device)
    _check_truth(positions, visible)
    asked = _asked(visible.cpu().numpy(), mode, stride)
    image, owner = (torch.from_numpy(index).to(positions.device) for index in asked)
    if not positions.dtype.is_floating_point:
        positions = positions.double()
    x, y = positions[image, owner].unbind(-1)
    queries = torch.stack([image.to(x.dtype), y, x], -1)
    return (queries, owner) if isinstance(tracks, torch.Tensor) else (queries.numpy(), owner.numpy())


def _asked(visible: np.ndarray, mode: QueryMode, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and track of each query."""
    if mode == "first":
        owner = np.flatnonzero(visible.any(0))
        return visible[:, owner].argmax(0), owner
    if mode != "strided":
        raise InvalidInputError(_unknown_mode(mode))
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise InvalidInputError(f"stride must be a whole number of images, at least 1; got {stride!r}.")
    image, owner = np.nonzero(visible[::stride])
    return image * stride, owner
