"""A tracker's tracks as pseudo-truth: how far they are from the truth, and that every result says what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analyses.layers.sweep import sweep
from analyses.layers.sweep_files import load_sweep
from analyses.selection.select import select_layers
from analyses.trackers.pseudo_tracks import against_pseudo_truth, with_pseudo_tracks, with_tracks_of
from analyses.trackers.static import StaticTracker
from ditprobe.cli.text.sweep import accuracy_table
from ditprobe.report.report import write_report
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline
from store import Clip, Selection, make_scene
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks

CELL = 4.0
AGAINST = "accuracy against optical flow, not truth"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone(new_pipeline(MiniConfig(layers=2)), device="cpu")


def plain(seed: int, images: int = 6) -> Clip:
    """A scene as a video shows it: no tracks."""
    scene = make_scene(seed, images=images)
    return Clip(scene.images, scene.fps)


def test_the_error_of_flow_on_scenes_is_known_and_what_it_calls_visible_is_mostly_right() -> None:
    wrong, hidden, shown = [], [], []
    for seed in range(1000, 1006):
        scene = make_scene(seed)  # its points are the centres of 10 x 10 cells, as those of the grid
        found = with_pseudo_tracks(scene, grid=10)
        order = [np.abs(found.tracks[0] - point).sum(-1).argmin() for point in scene.tracks[0]]
        tracks, visible = found.tracks[1:, order], found.visibility[1:, order]
        np.testing.assert_array_equal(found.tracks[0, order], scene.tracks[0])
        true = scene.visibility[1:]
        wrong.append(np.linalg.norm(tracks - scene.tracks[1:], axis=-1)[visible & true] >= CELL)
        hidden.append(visible[~true])
        shown.append(visible[true])
    assert np.concatenate(wrong).mean() < 0.1
    assert np.concatenate(shown).mean() > 0.8
    assert np.concatenate(hidden).mean() < 0.8


def test_points_are_chosen_anew_in_every_window() -> None:
    clip = with_pseudo_tracks(plain(3, images=10), StaticTracker(), grid=2, window=4)
    assert clip.tracks.shape == (10, 3 * 4, 2)
    starts = np.repeat([0, 4, 8], 4)
    images = np.arange(10)[:, None]
    np.testing.assert_array_equal(clip.visibility, (images >= starts) & (images < starts + 4))
    assert clip.tracks[0, :4].tolist() == [[10.0, 10.0], [30.0, 10.0], [10.0, 30.0], [30.0, 30.0]]
    with pytest.raises(InvalidInputError, match=r"^grid must be at least 1; got 0\.$"):
        with_pseudo_tracks(clip, grid=0)


def test_tracks_of_a_file_fit_the_clip_or_the_video_it_is_a_part_of() -> None:
    video = plain(3, images=10)
    moving = PointTracks.still(np.array([[0, 3.0, 4.0]]), 10)
    moving.tracks[:, 0, 0] += np.arange(10)
    moving = PointTracks(moving.queries, moving.tracks, moving.visibility, moving.confidence, {"backbone": "mini"})
    part = with_tracks_of(video[2:9:3], moving)
    assert part.tracks[:, 0, 0].tolist() == [5.0, 8.0, 11.0]
    assert part.tracks_source == "the attention of mini"
    with pytest.raises(InvalidInputError) as caught:
        with_tracks_of(plain(3), moving)
    assert str(caught.value) == "the tracks cover 10 images, the clip has 6. Pass those of this clip."


def test_a_sweep_against_pseudo_truth_says_so_everywhere(backbone: Backbone, tmp_path: Path) -> None:
    clips = {f"video {seed}": with_pseudo_tracks(plain(seed, images=12), window=6) for seed in (3, 4)}
    chosen = Selection([-1], "all")
    found = sweep(backbone, clips, chosen, threshold_cells=1, features=False, save=tmp_path / "sweep.nc")
    assert np.isfinite(found["accuracy"]).all()
    for given in (found, load_sweep(tmp_path / "sweep.nc")):
        assert given.attrs["pseudo_truth"] == AGAINST
        assert given.attrs["clips"][0]["truth"] == "none: tracks by optical flow"
        assert accuracy_table(given).startswith(f"PSEUDO-TRUTH: {AGAINST}\n")
        selection = select_layers(given, 1)
        assert AGAINST in repr(selection)
    page = write_report(tmp_path / "page.html", found, selection).read_text()
    assert page.count(AGAINST.removeprefix("accuracy ")) > 1
    resumed = sweep(backbone, clips, chosen, threshold_cells=1, features=False, save=tmp_path / "sweep.nc", resume=True)
    assert resumed.attrs["pseudo_truth"] == AGAINST
    mixed = sweep(backbone, {**clips, "scene": make_scene(5)}, chosen, features=False)
    assert mixed.attrs["pseudo_truth"] == "accuracy of 2 of 3 clips against optical flow, not truth"
    assert "pseudo_truth" not in sweep(backbone, make_scene(5), chosen, features=False).attrs


def test_the_label_names_every_source_once() -> None:
    assert against_pseudo_truth([None, None]) == ""
    assert against_pseudo_truth(["CoTracker", "optical flow", "CoTracker"]) == (
        "accuracy against CoTracker, optical flow, not truth"
    )
