"""Fraction of predicted points that are near the truth."""

from __future__ import annotations

import torch

from analyses.arrays import as_tensor, check_visibility
from store.arguments import Array, checked
from store.errors import InvalidInputError


@checked
def matching_accuracy(predicted: Array, tracks: Array, visibility: Array, threshold: float = 8.0) -> float:
    """Percentage of the visible (image, point) pairs whose prediction is nearer than ``threshold``.

    Parameters
    ----------
    predicted, tracks : (image, point, 2) torch or numpy, (x, y) in pixels
    visibility : (image, point) bool; hidden points do not count, and may be NaN
    threshold : pixels; strictly nearer counts. The published 8 px is half a 16 px cell

    Returns
    -------
    float
        0 to 100, over all pairs given; NaN when none is visible.

    Raises
    ------
    InvalidInputError
        When the shapes differ, or a visible pair is not finite.

    Notes
    -----
    DiffTrack (Nam et al., 2025), "matching accuracy"; docs/definitions.md, section 2.

    Examples
    --------
    >>> tracks = torch.zeros(3, 2, 2)
    >>> matching_accuracy(tracks + torch.tensor([5.0, 0.0]), tracks, torch.ones(3, 2, dtype=torch.bool))
    100.0
    """
    predicted, tracks = as_tensor(predicted), as_tensor(tracks)
    visible = check_visibility(visibility).to(predicted.device)
    check_tracks(predicted, tracks, visible)
    if not threshold > 0:
        raise InvalidInputError(f"threshold must be a positive number of pixels; got {threshold}.")
    error = (predicted.double() - tracks.to(predicted.device).double())[visible]
    if not bool(torch.isfinite(error).all()):
        raise InvalidInputError("a visible point has a track or a prediction that is not finite. Mark it as hidden.")
    return 100 * (torch.linalg.vector_norm(error, dim=-1) < threshold).double().mean().item()


def check_tracks(predicted: torch.Tensor, tracks: torch.Tensor, visible: torch.Tensor) -> None:
    """Raise for tracks, predictions and visibility that do not belong together."""
    if tracks.ndim != 3 or tracks.shape[-1] != 2:
        raise InvalidInputError(f"tracks need the shape (image, point, 2); got {tuple(tracks.shape)}.")
    if predicted.shape != tracks.shape:
        raise InvalidInputError(
            f"predicted and tracks need the same shape (image, point, 2); "
            f"got {tuple(predicted.shape)} and {tuple(tracks.shape)}."
        )
    if visible.shape != tracks.shape[:2]:
        raise InvalidInputError(
            f"visibility needs the shape (image, point) = {tuple(tracks.shape[:2])}; got {tuple(visible.shape)}."
        )
