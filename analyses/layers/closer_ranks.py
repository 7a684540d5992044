"""The order of layers in whole images, and in following crops."""

from __future__ import annotations

import numpy as np
import xarray as xr

from analyses.statistics import bootstrap_mean, mean_over_clips
from store.arguments import checked
from store.errors import InvalidInputError


@checked
def closer_ranks(found: xr.Dataset) -> xr.Dataset:
    """Rank of the layers in whole images and in following crops, and what a closer look gains, means over clips.

    Parameters
    ----------
    found : Dataset of :func:`sweep_closer`

    Returns
    -------
    Dataset over ``layer``
        ``accuracy``, ``closer_accuracy`` in percent, ``rank``, ``closer_rank`` from 1, and ``gain`` of the closer look
        over the coarse tracks in points with ``gain_lower`` and ``gain_upper``, 95 % bootstrap interval over clips.

    Raises
    ------
    InvalidInputError
        For another Dataset.

    Examples
    --------
    >>> over = ("clip", "layer")
    >>> found = xr.Dataset({"accuracy": (over, [[30.0, 40.0]]), "closer_accuracy": (over, [[60.0, 50.0]])})
    >>> found = found.assign(coarse_accuracy=("clip", [40.0])).assign_coords(clip=["a"], layer=[3, 4])
    >>> ranks = closer_ranks(found)
    >>> ranks["rank"].values.tolist(), ranks["closer_rank"].values.tolist(), ranks["gain"].values.tolist()
    ([2, 1], [1, 2], [20.0, 10.0])
    """
    missing = {"accuracy", "closer_accuracy", "coarse_accuracy"} - set(found)
    if missing:
        raise InvalidInputError(f"found lacks {', '.join(sorted(missing))}: pass what sweep_closer returns.")
    gain = found["closer_accuracy"] - found["coarse_accuracy"]
    low, high = bootstrap_mean(gain)
    means = {name: mean_over_clips(found[name]) for name in ("accuracy", "closer_accuracy")}
    ranks = {
        name: ("layer", 1 + np.argsort(np.argsort(-means[of].values, kind="stable"), kind="stable"))
        for name, of in (("rank", "accuracy"), ("closer_rank", "closer_accuracy"))
    }
    return xr.Dataset({**means, **ranks, "gain": mean_over_clips(gain), "gain_lower": low, "gain_upper": high})
