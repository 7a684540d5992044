"""Clips crossed with draws of the noise: means over both, and resampling of both."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.statistics import by_source, draw_clips


def by_source_and_draw(values: xr.DataArray) -> xr.DataArray:
    """The mean over the windows of each whole clip in each draw of the noise, along ``clip`` and ``draw``.

    Parameters
    ----------
    values : DataArray with dim ``clip``; entries of a clip share the coordinate ``source``, those of a draw ``draw``

    Examples
    --------
    >>> coords = {"source": ("clip", ["a", "a", "b", "b"]), "draw": ("clip", [0, 1, 0, 1])}
    >>> by_source_and_draw(xr.DataArray([1.0, 2.0, 5.0, 7.0], coords, "clip")).values.tolist()
    [[1.0, 2.0], [5.0, 7.0]]
    """
    if "draw" not in values.coords:
        return by_source(values).expand_dims("draw", 1)
    numbers = values["draw"].values
    whole = by_source(values)
    draws = [by_source(values.isel(clip=np.flatnonzero(numbers == number))) for number in np.unique(numbers)]
    joined = xr.concat([draw.reindex(clip=whole["clip"]) for draw in draws], "draw")
    return joined.transpose("clip", "draw", ...)


def draw_weights(clips: int, draws: int, samples: int, seed: int) -> np.ndarray:
    """(sample, clip x draw) weights: how often each clip in each draw counts.

    Clips and draws are resampled independently. The noise draws are the same for every clip, so one resample of them
    applies to all clips (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1, 2007).

    Examples
    --------
    >>> draw_weights(3, 2, 5, 0).sum(1).tolist()
    [6.0, 6.0, 6.0, 6.0, 6.0]
    """
    of_clips = draw_clips(clips, samples, seed)
    of_draws = np.random.default_rng([seed, 1]).multinomial(draws, np.full(draws, 1 / draws), samples)
    return (of_clips[:, :, None] * of_draws[:, None, :]).reshape(samples, clips * draws)


def weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(sample, ...) means of the finite (clip x draw, ...) values under each sample's weights; NaN if there are none.

    Examples
    --------
    >>> weighted_means(np.array([1.0, 3.0, np.nan]), np.array([[1.0, 1.0, 1.0], [0.0, 2.0, 1.0]])).tolist()
    [2.0, 3.0]
    """
    finite = np.isfinite(values)
    total = np.einsum("bc,c...->b...", weights, np.where(finite, values, 0.0))
    count = np.einsum("bc,c...->b...", weights, finite.astype(np.float64))
    return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
