"""``import ditprobe as dp``: every name is there, from where it says, and importing costs nothing."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import ditprobe as dp

TRACKING = (
    "BackboneTracker CoTracker FlowTracker PatchTracker PointTracks TrackingOptions draw_tracks drawn_images "
    "gather_errors load_tracks mean_tapvid_metrics overlay_strip plot_accuracy_per_threshold plot_clip_scores "
    "plot_error_over_time plot_tracks read_tapvid save_tracks still_tracker tapvid_metrics tapvid_queries track_points "
    "tracking_errors write_tapvid write_video"
)


def test_every_name_loads_from_its_home() -> None:
    for home, names in dp._HOMES.items():
        for name in names:
            assert getattr(dp, name) is getattr(import_module(home), name)
    assert dp.__all__ == sorted({name for names in dp._HOMES.values() for name in names})
    assert set(dp.__all__) <= set(dir(dp))


def test_no_name_has_two_homes() -> None:
    assert sum(len(names) for names in dp._HOMES.values()) == len(dp.__all__)


def test_tracking_is_there_from_the_clip_to_the_picture() -> None:
    assert set(TRACKING.split()) <= set(dp.__all__)


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(AttributeError, match=r"^ditprobe has no 'track_point'\. It has: Affinity, .*, write_video\.$"):
        _ = dp.track_point


def test_importing_loads_no_model_library() -> None:
    code = "import sys, ditprobe; print([name for name in ('torch', 'diffusers', 'plotly') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
