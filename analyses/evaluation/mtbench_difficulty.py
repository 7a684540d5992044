"""Difficulty of transferring a motion: the number of groups in which its points move (MTBench, DeT section 3.3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from store.arguments import Array, checked
from store.arrays import as_array
from store.checks import finite, integer
from store.errors import InvalidInputError, MissingScikitLearnError

Level = Literal["easy", "medium", "hard"]
LEVELS: tuple[Level, ...] = ("easy", "medium", "hard")
LEAST_SILHOUETTE = 0.25
"""Below it k-means has found no groups (Kaufman and Rousseeuw, 1990, call it "no substantial structure")."""


@dataclass(frozen=True)
class Difficulty:
    """Groups of tracks, and the difficulty that follows from their number.

    Parameters
    ----------
    clusters : int
    level : "easy" for 1 to 3 clusters, "medium" for 4 to 6, "hard" for more
    silhouettes : mean silhouette of each number of clusters that was tried; empty if none was
    """

    clusters: int
    level: Level
    silhouettes: Mapping[int, float]


def level_of(clusters: int) -> Level:
    """Return the level of a number of clusters.

    Examples
    --------
    >>> [level_of(clusters) for clusters in (1, 3, 4, 6, 7)]
    ['easy', 'easy', 'medium', 'medium', 'hard']
    """
    return "easy" if integer(clusters, "clusters", min_value=1) <= 3 else "medium" if clusters <= 6 else "hard"


@checked
def motion_difficulty(
    tracks: Array,
    *,
    min_spread: float = 16.0,
    max_clusters: int = 12,
    seed: int = 0,
) -> Difficulty:
    """Group tracks by k-means, with the number of groups that has the best silhouette.

    Each track is one vector of its 2 x images coordinates in pixels.

    Parameters
    ----------
    tracks : (image, point, 2), (x, y) in pixels
        Tracks of the foreground.
    min_spread : float
        Pixels. Tracks whose root-mean-square distance from their mean position in each image is smaller are one
        cluster; 16 is the size of a CogVideoX cell.
    max_clusters : int
        Largest number of clusters that is tried; fewer if there are fewer distinct tracks.
    seed : int
        Seed of k-means.

    Returns
    -------
    Difficulty

    Raises
    ------
    InvalidInputError
        For tracks of another shape, without points, or that are not finite.
    MissingScikitLearnError
        Where scikit-learn (``pip install "ditprobe[evaluation]"``) is not installed.

    Notes
    -----
    The silhouette is not defined for one cluster and the paper does not say when there is one. Here it is one where
    the best silhouette is below :data:`LEAST_SILHOUETTE`, or the tracks spread less than ``min_spread``.

    Examples
    --------
    >>> steps = np.arange(6.0)[:, None, None]
    >>> left = np.array([[10.0, 10.0], [12.0, 10.0], [10.0, 12.0]]) + steps * [0.0, 0.0]
    >>> motion_difficulty(np.concatenate([left, left + [100.0, 0.0] + steps * [5.0, 0.0]], 1)).clusters
    2
    """
    paths = as_array(tracks).astype(np.float64)
    if paths.ndim != 3 or paths.shape[-1] != 2 or 0 in paths.shape:
        raise InvalidInputError(f"tracks need the shape (image, point, 2); got {paths.shape}.")
    if not np.isfinite(paths).all():
        raise InvalidInputError("tracks hold values that are not finite.")
    finite(min_spread, "min_spread", min_value=0)
    integer(max_clusters, "max_clusters", min_value=2)
    spread = np.sqrt(((paths - paths.mean(1, keepdims=True)) ** 2).sum(-1).mean())
    vectors = paths.transpose(1, 0, 2).reshape(paths.shape[1], -1)
    most = min(max_clusters, len(np.unique(vectors, axis=0)) - 1)
    if spread < min_spread or most < 2:
        return Difficulty(1, "easy", {})
    silhouettes = {count: _silhouette(vectors, count, seed) for count in range(2, most + 1)}
    best = max(silhouettes, key=lambda count: (silhouettes[count], -count))
    clusters = best if silhouettes[best] >= LEAST_SILHOUETTE else 1
    return Difficulty(clusters, level_of(clusters), silhouettes)


def _silhouette(vectors: np.ndarray, clusters: int, seed: int) -> float:
    try:
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score
    except ImportError as error:
        raise MissingScikitLearnError(
            'the difficulty of a motion needs scikit-learn. Install it: pip install "ditprobe[evaluation]".'
        ) from error
    labels = KMeans(clusters, n_init=4, random_state=seed).fit_predict(vectors)
    return float(silhouette_score(vectors, labels))
