"""Measures of a clip that adapters made: the metrics of motion transfer, hybrid fidelity and leaked colours."""

from __future__ import annotations

import dataclasses

import numpy as np

from analyses.metrics.hybrid_fidelity import hybrid_motion_fidelity
from analyses.scenes.colour_leak import colour_leak
from analyses.scenes.object_motion import motion_error, object_motion
from analyses.trackers.optical_flow import FlowTracker
from benchmarks.transfer.clips import METRICS, Case
from store import Clip
from store.scenes.prompt import ScenePrompt
from store.tracks.queries import grid_queries

NEW, OTHER, SOURCE = "new", "other", "reference"
MEASURED = (*METRICS, "hybrid", "object_leak", "background_leak")


def sentence(case: Case, which: str) -> str:
    """The prompt "new" or "other" of a case, or the "reference"'s own; all leave the motion open."""
    return case._sentence(which)


def words_of(case: Case, which: str) -> ScenePrompt:
    """Words of such a prompt."""
    return case._words[which]


def measured(case: Case, clip: Clip, which: str) -> dict[str, float]:
    """The :data:`MEASURED` of a clip of one of the two prompts.

    Those of :meth:`benchmarks.transfer.clips.Case.measure`; ``hybrid``: hybrid motion fidelity of points that start in
    the box of the reference's object, followed by optical flow; ``object_leak`` and ``background_leak``: how far on the
    way from the prompt's colour to the reference's the object, and the background, are, in percent; textures alone
    differ from 0, so compare with the plain backbone.
    """
    words, theirs = words_of(case, which), words_of(case, SOURCE)
    leak = colour_leak(clip.images, words, theirs)
    found = _as_prompted(case, which).measure(clip)
    found["hybrid"] = hybrid(case, clip)
    found["object_leak"] = 100.0 * leak.object
    found["background_leak"] = 100.0 * leak.background
    return {name: float(found[name]) for name in MEASURED}


def hybrid(case: Case, clip: Clip) -> float:
    """Hybrid motion fidelity (DeT) of a clip to the reference of a case, points paired by where they start."""
    queries = grid_queries(10, clip.height, clip.width)
    x, y = queries[:, 1:].astype(int).T
    queries = queries[case.box[y, x]]
    ours, theirs = (FlowTracker()(each.images, queries).tracks for each in (clip, case.reference))
    return hybrid_motion_fidelity(ours, theirs, size=(clip.height, clip.width))


def source_error(case: Case, clip: Clip) -> float:
    """Motion error of a clip that was made for the reference's own prompt; NaN where no object is seen."""
    colour = words_of(case, SOURCE).objects[0].colour
    ours, theirs = (object_motion(each, colour=colour) for each in (clip, case.reference))
    return motion_error(ours, theirs).relative


def _as_prompted(case: Case, which: str) -> Case:
    """The case with that prompt as its new one."""
    if which == NEW:
        return case
    found = dataclasses.replace(case)
    object.__setattr__(found, "_words", {**case._words, NEW: case._words[which]})
    return found


def mean_of_known(values: list[float]) -> float:
    """The mean of those that are not NaN; NaN where all are."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
