"""Finished clips of a resumed sweep, and the sweep assembled from them and the new ones."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.layers.sweep_dataset import combine
from analyses.layers.sweep_files import check_output, load_sweep
from analyses.layers.sweep_items import Skipped, SweepItem, describe_items
from store.errors import InvalidInputError

# Attributes that follow from the clips, or that may differ between two halves of one sweep.
_NO_SETTINGS = ("clips", "pseudo_truth", "skipped", "resized", "windows", "versions")


def finished_clips(
    path: str | os.PathLike[str], attrs: Mapping[str, Any], digests: Mapping[str, str]
) -> xr.Dataset | None:
    """Return what a saved sweep of the same settings already holds, or None if nothing was saved.

    Raises
    ------
    InvalidInputError
        When it was made with other settings or clips, or holds clips that are not in this sweep.
    """
    if not Path(path).exists():
        return None
    saved = load_sweep(path)
    before = {name: value for name, value in saved.attrs.items() if name not in _NO_SETTINGS}
    # Through JSON, like the saved settings: a tuple comes back as a list.
    now = {name: value for name, value in json.loads(json.dumps(dict(attrs))).items() if name not in _NO_SETTINGS}
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        difference = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in changed)
        raise InvalidInputError(
            f"{os.fspath(path)} holds a sweep with other settings: {difference}. "
            f"Resume with the same ones, or save to another path."
        )
    for clip in saved.attrs["clips"]:
        name = clip["source"]
        if digests.get(name) != clip["digest"]:
            what = "is now a different clip" if name in digests else "was not asked for"
            raise InvalidInputError(
                f"{os.fspath(path)} holds clip {name!r}, which {what}. Pass the same clips, or save to another path."
            )
    return saved


def saved_sources(
    save: str | os.PathLike[str] | None,
    resume: bool,
    overwrite: bool,
    attrs: Mapping[str, Any],
    items: list[SweepItem],
) -> dict[str, xr.Dataset]:
    """The finished clips of a saved sweep by source: those that have every window."""
    if save is None:
        return {}
    check_output(save, resume=resume, overwrite=overwrite)
    digests = {item.source: item.details["digest"] for item in items}
    saved = finished_clips(save, attrs, digests) if resume else None
    if saved is None:
        return {}
    saved = saved.drop_vars("harmonic_mean")
    sources = saved["source"].values.astype(str)
    return {str(name): saved.isel(clip=np.flatnonzero(sources == name)) for name in dict.fromkeys(sources)}


def assemble_sweep(
    done: Mapping[str, xr.Dataset], items: list[SweepItem], skipped: list[Skipped], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The finished clips in the requested order."""
    finished = [item for item in items if item.source in done]
    order = list(dict.fromkeys(item.source for item in finished))
    return combine([done[source] for source in order], dict(attrs) | describe_items(finished, skipped))
