"""Which layers carry temporal correspondence, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from analyses.clips import by_source, draw_clips, interval_levels
from store.errors import InvalidInputError

By = Literal["last", "mean"]


def harmonic_mean(accuracy: Any, confidence: Any, attention_score: Any) -> Any:
    """The harmonic mean of the three measures, each scaled to 0-1 over its whole matrix.

    Parameters
    ----------
    accuracy, confidence, attention_score : (layer, step) DataArray or ndarray, in any order of the two axes; cross
        confidence and cross attention score. Leading axes of arrays (bootstrap samples) are kept apart

    Returns
    -------
    DataArray or ndarray like ``accuracy``
        0 where any measure is at its minimum, and everywhere where one is constant; NaN where one is NaN.

    Raises
    ------
    InvalidInputError
        When the shapes or dims differ.

    Notes
    -----
    DiffTrack (Nam et al., 2025), section 3.3; MATH.md, section 4. Means over clips come before this.

    Examples
    --------
    >>> harmonic_mean(np.array([[0.0, 100.0]]), np.array([[0.1, 0.2]]), np.array([[0.3, 0.5]]))
    array([[0., 1.]])
    """
    if isinstance(accuracy, xr.DataArray):
        return _labelled(accuracy, confidence, attention_score)
    arrays = [np.asarray(array, dtype=np.float64) for array in (accuracy, confidence, attention_score)]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) != 1 or arrays[0].ndim < 2:
        raise InvalidInputError(
            f"accuracy, confidence and attention_score need one (layer, step) shape; got {', '.join(map(str, shapes))}."
        )
    scaled = np.stack([_scaled(array) for array in arrays])
    positive = np.where(scaled > 0, scaled, 1.0)
    mean = 3.0 / (1.0 / positive).sum(0)
    mean = np.where((scaled == 0).any(0), 0.0, mean)
    return np.where(np.isnan(scaled).any(0), np.nan, mean)


def _labelled(accuracy: xr.DataArray, confidence: xr.DataArray, attention_score: xr.DataArray) -> xr.DataArray:
    others = []
    for name, other in (("confidence", confidence), ("attention_score", attention_score)):
        if set(other.dims) != set(accuracy.dims):
            raise InvalidInputError(f"{name} needs the dims {accuracy.dims}, as accuracy has; got {other.dims}.")
        others.append(other.transpose(*accuracy.dims).values)
    attrs = {"long_name": "harmonic mean of accuracy, cross confidence and cross attention score", "units": "1"}
    return accuracy.copy(data=harmonic_mean(accuracy.values, *others)).rename("harmonic_mean").assign_attrs(attrs)


def _scaled(matrix: np.ndarray) -> np.ndarray:
    """Min-max over the last two axes; a constant matrix is 0 and NaN stays NaN."""
    finite = np.isfinite(matrix)
    low = np.where(finite, matrix, np.inf).min((-2, -1), keepdims=True)
    high = np.where(finite, matrix, -np.inf).max((-2, -1), keepdims=True)
    width = np.where(finite.any((-2, -1), keepdims=True), high - low, 0.0)
    return np.where(finite, (np.where(finite, matrix, 0) - np.where(np.isfinite(low), low, 0)), np.nan) / np.where(
        width > 0, width, 1.0
    )


@dataclass(frozen=True, eq=False)
class LayerSelection:
    """The chosen layers, best first, and what is known of every layer.

    Attributes
    ----------
    layers : the chosen layers, best first
    scores : Dataset over ``layer``: ``mean`` (harmonic mean), ``low`` and ``high`` (95 % interval over clips; NaN with
        a single clip), ``probability`` of being in the top ``count``
    count, by, samples, seed : what was asked
    step : the step that was ranked by, or None for the mean over steps
    sources : how many whole clips the bootstrap resampled
    """

    layers: tuple[int, ...]
    scores: xr.Dataset
    count: int
    by: By
    step: int | None
    samples: int
    seed: int
    sources: int

    def table(self) -> list[dict[str, Any]]:
        """One row for each layer, best first: rank, layer, mean, low, high, probability, selected."""
        rows = []
        for rank, layer in enumerate(_ranking(self.scores["mean"].values), start=1):
            at = self.scores.isel(layer=layer)
            values = {name: float(at[name]) for name in ("mean", "low", "high", "probability")}
            rows.append({"rank": rank, "layer": int(at["layer"]), **values, "selected": rank <= self.count})
        return rows

    def __repr__(self) -> str:
        where = "the mean over steps" if self.step is None else f"step {self.step}"
        clips = f"{self.sources} clip{'s' if self.sources != 1 else ''}"
        lines = [f"LayerSelection: layers {', '.join(map(str, self.layers))} by the harmonic mean at {where}, {clips}"]
        for row in self.table()[: self.count]:
            interval = "no interval from one clip"
            if np.isfinite(row["low"]):
                sure = f"in the top {self.count} with probability {row['probability']:.2f}"
                interval = f"{interval_in_words(row['low'], row['high'])}, {sure}"
            lines.append(f"  layer {row['layer']}: {row['mean']:.3f}, {interval}")
        if self.scores.attrs.get("pseudo_truth"):
            lines.append(f"  {self.scores.attrs['pseudo_truth']}")
        return "\n".join(lines)


def interval_in_words(low: float, high: float) -> str:
    """An interval of a harmonic mean; at an end of its scale it has no width, which is no certainty.

    Examples
    --------
    >>> interval_in_words(0.62, 0.71)
    '95 % interval 0.620 to 0.710'
    >>> interval_in_words(1.0, 1.0)
    'at the end of the scale in every resample'
    """
    if f"{low:.3f}" == f"{high:.3f}" and (low < 5e-4 or high > 1 - 5e-4):
        return "at the end of the scale in every resample"
    return f"95 % interval {low:.3f} to {high:.3f}"


def select_layers(
    sweep: xr.Dataset, count: int = 3, *, by: By = "last", samples: int = 2000, seed: int = 0
) -> LayerSelection:
    """The layers with the largest harmonic mean, with the uncertainty that comes from the choice of clips.

    Parameters
    ----------
    sweep : Dataset of :func:`analyses.sweep.sweep`: ``accuracy`` (clip, step, layer), ``confidence`` and
        ``attention_score`` (clip, step, layer, target)
    count : how many layers
    by : "last" ranks at the last step of the sweep, "mean" by the mean over its steps
    samples : bootstrap samples; each draws whole clips with replacement (the windows of a clip, which share the
        coordinate ``source``, are averaged first) and recomputes the harmonic mean. Clips without an accuracy do not
        count. See :func:`analyses.clips.interval_levels`
    seed : of the bootstrap

    Returns
    -------
    LayerSelection

    Raises
    ------
    InvalidInputError
        When no clip has an accuracy, or ``count`` is not between 1 and the number of layers.

    Notes
    -----
    Ties share the probability of the places they compete for. MATH.md, section 4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> score = np.linspace(0.1, 0.9, 4) + 0.01 * rng.random((5, 2, 4))
    >>> cross = (("clip", "step", "layer", "target"), score[..., None])
    >>> sweep = xr.Dataset(
    ...     {"accuracy": (("clip", "step", "layer"), 100 * score), "confidence": cross, "attention_score": cross},
    ...     {"layer": [2, 3, 5, 8], "step": [0, 49], "target": ["cross"]},
    ... )
    >>> select_layers(sweep, 2).layers
    (8, 5)
    """
    if by not in ("last", "mean"):
        raise InvalidInputError(f"unknown by={by!r}. Known: 'last', 'mean'.")
    measures = _measures(sweep)
    layers = sweep["layer"].values
    if not 1 <= count <= len(layers):
        raise InvalidInputError(f"count must lie between 1 and the {len(layers)} layers of the sweep; got {count}.")
    if samples < 1:
        raise InvalidInputError(f"samples must be at least 1; got {samples}.")
    whole = np.ones((1, measures.shape[1]))
    mean = _ranked_by(measures, whole, by)[0]
    sources = measures.shape[1]
    weights = draw_clips(sources, samples, seed)
    scores = _uncertainty(_ranked_by(measures, weights, by), count, sources)
    data = {"mean": ("layer", mean, {"long_name": "harmonic mean", "units": "1"})}
    against = {name: value for name, value in sweep.attrs.items() if name == "pseudo_truth"}
    dataset = xr.Dataset(data | scores, {"layer": layers}, against)
    chosen = tuple(int(layers[index]) for index in _ranking(mean)[:count])
    step = int(sweep["step"].values[-1]) if by == "last" else None
    return LayerSelection(chosen, dataset, count, by, step, samples, seed, sources)


def scored_clips(sweep: xr.Dataset) -> xr.Dataset:
    """The clips (or windows) that have an accuracy; all of them where none has."""
    accuracy = sweep["accuracy"].transpose("clip", ...).values
    scored = np.isfinite(accuracy.reshape(len(accuracy), -1)).any(1)
    return sweep.isel(clip=np.flatnonzero(scored)) if scored.any() else sweep


def _measures(sweep: xr.Dataset) -> np.ndarray:
    """(measure, clip, step, layer) accuracy, cross confidence and cross attention score of whole clips."""
    missing = [name for name in ("accuracy", "confidence", "attention_score") if name not in sweep]
    if missing:
        raise InvalidInputError(
            f"the sweep has no {', '.join(missing)}; it has {', '.join(map(str, sweep.data_vars))}."
        )
    if not np.isfinite(sweep["accuracy"]).any():
        raise InvalidInputError(
            "the sweep has no accuracy: none of its clips has tracks, so its layers cannot be ranked. "
            "Sweep clips with tracks, or give them a tracker's: with_pseudo_tracks(clip)."
        )
    scored = scored_clips(sweep)
    cross = [scored[name].sel(target="cross", drop=True) for name in ("confidence", "attention_score")]
    arrays = (scored["accuracy"], *cross)
    return np.stack([by_source(values).transpose("clip", "step", "layer").values for values in arrays])


def _ranked_by(measures: np.ndarray, weights: np.ndarray, by: By) -> np.ndarray:
    """(sample, layer) harmonic means of the weighted means over clips; ``weights`` is (sample, clip)."""
    finite = np.isfinite(measures)
    total = np.einsum("bc,mcsl->mbsl", weights, np.where(finite, measures, 0.0))
    count = np.einsum("bc,mcsl->mbsl", weights, finite.astype(np.float64))
    means = np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)
    values = harmonic_mean(*means)
    return values[:, -1] if by == "last" else values.mean(1)


def _uncertainty(values: np.ndarray, count: int, sources: int) -> dict[str, Any]:
    """Interval and probability of the top ``count`` from (sample, layer) values."""
    names = {"low": "lower end of the 95 % interval", "high": "upper end of the 95 % interval"}
    texts = names | {"probability": f"probability of being in the top {count}"}
    values = values[np.isfinite(values).all(-1)]
    if sources < 2 or not len(values):
        found = dict.fromkeys(texts, np.full(values.shape[-1], np.nan))
    else:
        low, high = np.quantile(values, interval_levels(sources), axis=0)
        found = {"low": low, "high": high, "probability": _in_top(values, count).mean(0)}
    return {name: ("layer", found[name], {"long_name": text, "units": "1"}) for name, text in texts.items()}


def _in_top(values: np.ndarray, count: int) -> np.ndarray:
    """(sample, layer) share of a place in the top ``count``; ties share what is left."""
    better = (values[:, None, :] > values[:, :, None]).sum(-1)
    level = (values[:, None, :] == values[:, :, None]).sum(-1)
    return np.clip((count - better) / level, 0, 1)


def _ranking(values: np.ndarray) -> list[int]:
    """Positions from the largest value down; equal ones in layer order, NaN last."""
    return [int(index) for index in np.argsort(-values, kind="stable")]
