"""End-point error: the distance of points from their true positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from analyses.arrays import as_tensor, check_visibility
from analyses.metrics.accuracy import check_tracks
from store.arguments import Array, checked
from store.errors import InvalidInputError


@dataclass(frozen=True)
class EndPointError:
    """A mean distance, in pixels and relative to the true motion.

    Attributes
    ----------
    pixels : mean distance of the pairs that count; NaN if there are none
    relative : the mean distance over the mean displacement of the truth from image 0; 0 is perfect, 1 is the value of
        "nothing moves"; NaN if the truth does not move
    """

    pixels: float
    relative: float

    def __str__(self) -> str:
        return f"{self.pixels:.2f} px, {100 * self.relative:.0f} % of the motion"


@checked
def end_point_error(predicted: Array, truth: Array, visibility: Array | None = None) -> EndPointError:
    """The mean distance between predicted and true positions.

    Parameters
    ----------
    predicted, truth : (image, point, 2) torch or numpy, (x, y) in pixels
    visibility : (image, point) bool, optional
        The pairs that count, all by default. Other pairs may be NaN. Image 0 never counts, since tracks start
        there, but the truth must be known there for every point that counts later.

    Returns
    -------
    EndPointError

    Raises
    ------
    InvalidInputError
        For shapes that do not match, fewer than two images, no points, or values that are not finite where they count.

    Examples
    --------
    A point that moves 4 px to the right in each image, predicted to move 3:

    >>> step = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[2.0, 0.0]]])
    >>> print(end_point_error(3 * step, 4 * step))
    1.50 px, 25 % of the motion
    >>> end_point_error(0 * step, 4 * step).relative
    1.0
    """
    guess, known = (as_tensor(tracks).cpu().double() for tracks in (predicted, truth))
    counted = torch.ones(known.shape[:2], dtype=torch.bool) if visibility is None else check_visibility(visibility)
    counted = counted.cpu().clone()
    check_tracks(guess, known, counted)
    if len(known) < 2 or not known.shape[1]:
        raise InvalidInputError(
            f"an end-point error needs at least 2 images and 1 point; got {len(known)} and {known.shape[1]}."
        )
    counted[0] = False
    error = torch.linalg.vector_norm(guess - known, dim=-1)[counted]
    moved = torch.linalg.vector_norm(known - known[0], dim=-1)[counted]
    if not bool(torch.isfinite(error).all() & torch.isfinite(moved).all()):
        raise InvalidInputError(
            "a pair that counts is not finite, or its point is not known in image 0. Mark it as hidden in every image."
        )
    if not len(error):
        return EndPointError(math.nan, math.nan)
    pixels, motion = error.mean().item(), moved.mean().item()
    return EndPointError(pixels, pixels / motion if motion else math.nan)
