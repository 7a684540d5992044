"""``import ditprobe as dp``: the names of each task are there (tests/test_public_names.py has what holds for all)."""

from __future__ import annotations

import ditprobe as dp
from store.lazy import stub_groups

TRACKING = (
    "BackboneTracker CoTracker FlowTracker PatchTracker PointTracks TrackingOptions draw_tracks drawn_images "
    "gather_errors load_tracks mean_tapvid_metrics overlay_strip plot_accuracy_per_threshold plot_clip_scores "
    "plot_error_over_time plot_tracks read_tapvid save_tracks still_tracker tapvid_metrics tapvid_queries track_points "
    "tracking_errors write_tapvid write_video"
)


def test_tracking_is_there_from_the_clip_to_the_picture() -> None:
    assert set(TRACKING.split()) <= set(dp.__all__)


def test_the_docstring_lists_every_name_by_task() -> None:
    assert dp.__doc__ is not None
    for task, names in stub_groups(dp.__file__).items():
        assert f"\n{task}\n" in dp.__doc__
        assert all(f"``{name}``" in dp.__doc__ for name in names)
