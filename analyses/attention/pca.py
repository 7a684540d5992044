"""Principal components of queries or keys: the directions in which the tokens of a layer differ most."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr

from analyses.arrays import as_tensor, check_finite
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.errors import InvalidInputError


def _as_features(tensor: Any) -> tuple[np.ndarray, tuple[int, int, int]]:
    """(token, head x channel) float64, and the (frame, y, x) grid."""
    tokens = as_tensor(tensor)
    if tokens.ndim != 5:
        raise InvalidInputError(
            f"tensor needs the shape (head, frame, y, x, channel) of a query or key; got {tuple(tokens.shape)}."
        )
    check_finite(tokens, "tensor")
    grid = (int(tokens.shape[1]), int(tokens.shape[2]), int(tokens.shape[3]))
    features = tokens.permute(1, 2, 3, 0, 4).reshape(int(np.prod(grid)), -1)
    return features.double().cpu().numpy(), grid


def _directions(centred: np.ndarray, count: int) -> np.ndarray:
    """(feature, component), largest variance first; the largest entry of each is positive, so that signs repeat."""
    size = centred.shape[1]
    vectors = scipy.linalg.eigh(centred.T @ centred, subset_by_index=[size - count, size - 1])[1][:, ::-1]
    largest = np.abs(vectors).argmax(0)
    return vectors * np.where(vectors[largest, np.arange(count)] < 0, -1.0, 1.0)


@checked
@outside_autocast()
def principal_components(tensor: Array, *, count: int = 3) -> xr.DataArray:
    """Every token's place along the directions of largest variance, all heads together.

    Parameters
    ----------
    tensor : (head, frame, y, x, channel) torch or numpy; a query or a key
    count : int, number of components

    Returns
    -------
    DataArray (frame, y, x, component) float32, in the units of the tensor, mean zero; coordinate ``explained``
    (component) is the fraction of the total variance. Signs are fixed: the largest loading of each is positive.

    Raises
    ------
    InvalidInputError
        For a wrong rank, values that are not finite, or more components than features.

    Examples
    --------
    >>> tokens = np.zeros((2, 3, 5, 7, 4))
    >>> tokens[0, ..., 1] = np.arange(7.0)
    >>> components = principal_components(tokens)
    >>> components.sizes["component"], components.explained.values.round(3).tolist()
    (3, [1.0, 0.0, 0.0])
    """
    features, grid = _as_features(tensor)
    if not 1 <= count <= features.shape[1]:
        raise InvalidInputError(
            f"count must be between 1 and {features.shape[1]} (heads x channels of this tensor); got {count}."
        )
    if np.abs(features).max() > 1e150:
        raise InvalidInputError("the tensor holds values beyond 1e150, whose squares overflow.")
    centred = features - features.mean(0)
    scores = centred @ _directions(centred, count)
    total = float((centred**2).sum())
    explained = (scores**2).sum(0) / total if total else np.zeros(count)
    return xr.DataArray(
        scores.reshape(*grid, count).astype(np.float32),
        dims=("frame", "y", "x", "component"),
        coords={"explained": ("component", explained)},
        name="components",
        attrs={"long_name": "principal component"},
    )


def component_colours(components: xr.DataArray) -> np.ndarray:
    """The first three components as red, green and blue, each from its 1st to its 99th percentile.

    Parameters
    ----------
    components : DataArray (frame, y, x, component), as of :func:`principal_components`

    Returns
    -------
    (frame, y, x, 3) uint8; missing components are 0

    Examples
    --------
    >>> ramp = xr.DataArray(np.arange(6.0).reshape(1, 2, 3, 1), dims=("frame", "y", "x", "component"))
    >>> int(component_colours(ramp).max())
    255
    """
    values = components.values[..., :3]
    low, high = np.percentile(values.reshape(-1, values.shape[-1]), [1, 99], axis=0)
    scaled = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
    padded = np.zeros((*values.shape[:-1], 3))
    padded[..., : values.shape[-1]] = scaled
    return np.round(255 * padded).astype(np.uint8)
