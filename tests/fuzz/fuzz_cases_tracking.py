"""Cases of the fuzz: tracking and its evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz_world import (
    CASES,
    PROMPT,
    cotracker,
    plain,
)

import analyses
import ditprobe as dp

_TRACKED: dict[str, Any] = {
    "layer": 1,
    "step": 1,
    "heads": (0,),
    "options": dp.TrackingOptions(),
    "prompt": PROMPT,
    "steps": 3,
    "seed": 0,
    "size": (16, 16),
    "budget_bytes": 2**24,
}
plain(
    "track_points",
    dp.track_points,
    lambda w: {
        "images": w.clip.images,
        "queries": np.array([[0, 4.0, 6.0]]),
        "backbone": w.mini,
        **_TRACKED,
        "progress": None,
    },
)
plain(
    "BackboneTracker",
    lambda **a: dp.BackboneTracker(**a)(dp.make_scene(3, 2, 16, 16).images, [[0, 4.0, 6.0]]),
    lambda w: {"backbone": w.mini, **_TRACKED},
)
plain(
    "CoTracker",
    lambda **a: dp.CoTracker(**a)(np.zeros((3, 16, 16, 3), np.uint8), [[0, 4.0, 6.0]]),
    lambda w: {"model": cotracker, "threshold": 0.5, "device": "cpu", "name": "CoTracker"},
)
plain(
    "FlowTracker",
    lambda **a: dp.FlowTracker(**a)(np.zeros((3, 16, 16, 3), np.uint8), [[0, 4.0, 6.0]]),
    lambda w: {"side": 32, "tolerance": 1.0},
)
plain(
    "PatchTracker",
    lambda **a: dp.PatchTracker(**a)(dp.make_scene(3, 2, 16, 16).images, [[0, 4.0, 6.0]]),
    lambda w: {"cell": 4, "size": (16, 16), "max_cycle_error": 1.5, "budget_bytes": 2**20},
)
CASES["FlowTracker.__call__"] = lambda w: (dp.FlowTracker(32), {"images": w.clip.images, "queries": _QUERY.copy()})
plain(
    "LucasKanadeRefinement",
    lambda **a: dp.LucasKanadeRefinement(**a)(np.zeros((3, 16, 16, 3), np.uint8), [[0, 4.0, 6.0]]),
    lambda w: {"tracker": dp.StaticTracker(), "reach": 4.0, "window": 5, "side": 32},
)
CASES["StaticTracker.__call__"] = lambda w: (dp.StaticTracker(), {"images": w.clip.images, "queries": _QUERY.copy()})
CASES["PatchTracker.__call__"] = lambda w: (dp.PatchTracker(4), {"images": w.clip.images, "queries": _QUERY.copy()})
CASES["CoTracker.__call__"] = lambda w: (
    dp.CoTracker(cotracker),
    {"images": w.clip.images, "queries": _QUERY.copy()},
)
_QUERY = np.array([[0, 4.0, 6.0]])
plain("make_tracker", dp.make_tracker, lambda w: {"name": "patches", "backbone": dp.BackboneTracker(w.mini, 1)})
_METRIC = dp.TrackingMetric(lambda found, tracks, visibility, size: 0.0, "nothing")
plain(
    "register_tracker",
    dp.register_tracker,
    lambda w: {"name": "fuzz", "factory": lambda backbone: dp.StaticTracker(), "replace": True},
)
plain("register_metric", dp.register_metric, lambda w: {"name": "fuzz", "metric": _METRIC, "replace": True})

plain("difference", dp.difference, lambda w: {"first": w.sweep.accuracy, "second": w.sweep.accuracy})
plain("stability", dp.stability, lambda w: {"sweeps": w.sweep, "count": 2, "criterion": "harmonic", "accuracy": "all"})
plain(
    "against_baselines",
    analyses.against_baselines,
    lambda w: {"sweep": w.sweep, "by": "last", "samples": 50, "seed": 0},
)
plain("by_seed", dp.by_seed, lambda w: {"sweep": w.sweep})
plain(
    "compare",
    dp.compare,
    lambda w: {"first": w.sweep, "second": w.sweep, "measure": "accuracy", "names": ["a", "b"], "pair": "name"},
)
plain(
    "plot_comparison",
    dp.plot_comparison,
    lambda w: {"compared": dp.compare(w.sweep, w.sweep), "title": "a title"},
)
plain("summarise_sweep", dp.summarise_sweep, lambda w: {"sweep": w.sweep})
plain(
    "select_heads",
    dp.select_heads,
    lambda w: {
        "sweep": w.sweep.assign(head_accuracy=w.sweep["accuracy"].expand_dims(head=[0, 1], axis=-1)),
        "count": 2,
        "by": "last",
        "accuracy": "all",
        "samples": 50,
        "seed": 0,
    },
)
plain("plot_images", dp.plot_images, lambda w: {"images": w.images, "count": 3, "title": "a title"})
plain("evaluation_table", dp.evaluation_table, lambda w: {"evaluation": w.evaluation})
plain(
    "latex_table",
    dp.latex_table,
    lambda w: {"table": dp.tidy(w.sweep), "digits": 1, "index": True, "caption": "a caption", "label": "tab:a"},
)
plain("tidy", dp.tidy, lambda w: {"measured": w.sweep, "heads": False})
plain(
    "write_table",
    dp.write_table,
    lambda w: {"measured": w.sweep, "path": w.new(".csv"), "heads": False, "overwrite": False},
)
plain(
    "save_selection",
    dp.save_selection,
    lambda w: {"selection": dp.select_layers(w.sweep, 2, samples=50), "path": w.new(".json"), "overwrite": False},
)
plain("load_selection", dp.load_selection, lambda w: {"path": w.files["selection"]})
plain(
    "with_pseudo_tracks",
    dp.with_pseudo_tracks,
    lambda w: {"clip": w.scene, "tracker": dp.StaticTracker(), "grid": 4, "window": 3},
)
plain("with_tracks_of", dp.with_tracks_of, lambda w: {"clip": w.tracked, "tracks": w.still, "name": "nobody"})
