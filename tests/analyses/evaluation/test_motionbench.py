"""MotionBench: folders by category, drawn motions that curve and accelerate, and the table by category."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from analyses.evaluation.motionbench import (
    DRAWN,
    category_of,
    motion_scene_entries,
    motionbench_means,
    motionbench_table,
    read_motionbench_entries,
)
from analyses.evaluation.mtbench import Measures, evaluate_mtbench
from analyses.evaluation.mtbench_entries import scene_entries
from store import Clip, write_clip
from store.errors import ClipError, InvalidInputError
from store.scenes.prompt import parse_prompt
from store.tracks.point_tracks import PointTracks


def write_entry(folder: Path) -> None:
    """One video with two points that move."""
    (folder / "trajectories").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (5, 32, 48, 3), np.uint8)
    write_clip(folder / "0.mp4", Clip(images, 8.0))
    tracks = np.linspace(0.1, 0.9, 10).reshape(5, 2, 1) * np.ones(3)
    torch.save(torch.from_numpy(np.where([False, False, True], 1.0, tracks)), folder / "trajectories" / "0.pth")
    for name, text in (("videos", "0.mp4"), ("prompts", "a dog"), ("trajectories", "trajectories/0.pth")):
        (folder / f"{name}.txt").write_text(f"{text}\n")
    (folder / "eval_prompts.txt").write_text("a cat\na fox\n")


def test_folders_of_categories_are_read_whatever_their_spelling(tmp_path: Path) -> None:
    for name in ("camera", "Single_Object", "multiple objects", "complex-human-motion"):
        write_entry(tmp_path / name / "one")
    (tmp_path / "notes").mkdir()
    found = read_motionbench_entries(tmp_path)
    assert [entry.details["category"] for entry in found.values()] == [
        "camera",
        "single object",
        "several objects",
        "people",
    ]
    assert all(name == entry.name and entry.prompts == ("a cat", "a fox") for name, entry in found.items())


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="is not a folder"):
        read_motionbench_entries(tmp_path / "nowhere")
    with pytest.raises(ClipError, match="has no folder of a category"):
        read_motionbench_entries(tmp_path)
    write_entry(tmp_path / "camera" / "one")
    write_entry(tmp_path / "cats" / "one")
    with pytest.raises(ClipError, match="not named after a category: camera, single object"):
        read_motionbench_entries(tmp_path)
    (tmp_path / "cats").rename(tmp_path / "camera motion")
    with pytest.raises(ClipError, match="both of the category 'camera'"):
        read_motionbench_entries(tmp_path)
    assert category_of("people") == "people"


def _middle(tracks: np.ndarray) -> np.ndarray:
    """(image, 2): where the mean of the points is, from 0 to 1 of its way, along it and across it."""
    way = tracks.mean(1) - tracks.mean(1)[0]
    end = way[-1]
    across = np.array([-end[1], end[0]])
    return np.stack([way @ end, way @ across], -1) / (end @ end)


@pytest.mark.parametrize("category", DRAWN)
def test_drawn_motions_curve_or_change_their_speed(category: Any) -> None:
    curved, accelerating = motion_scene_entries(categories=[category], entries=2).values()
    assert (curved.details["path"], accelerating.details["path"]) == ("curved", "accelerating")
    if category != "several objects":  # whose mean is of several motions
        assert np.abs(_middle(np.asarray(curved.clip.tracks))[:, 1]).max() > 0.1
        speeds = np.linalg.norm(np.diff(np.asarray(accelerating.clip.tracks).mean(1), axis=0), axis=1)
        assert max(speeds) > 2 * min(speeds)
    for entry in (curved, accelerating):
        words = parse_prompt(str(entry.clip.prompt))
        assert (words.camera.pan is not None) == (category == "camera")
        assert (len(words.objects) > 1) == (category == "several objects")
        assert parse_prompt(entry.prompts[0]).camera == words.camera
    again = motion_scene_entries(categories=[category], entries=2)
    assert np.array_equal(next(iter(again.values())).clip.images, curved.clip.images)


def test_people_are_not_drawn() -> None:
    with pytest.raises(InvalidInputError, match="category"):
        motion_scene_entries(categories=["people"])


def test_table_has_a_column_for_each_category_and_the_published_figures() -> None:
    entries = motion_scene_entries(entries=1, prompts=1)

    def still(images: np.ndarray, queries: np.ndarray) -> PointTracks:
        return PointTracks.still(np.asarray(queries), len(images))

    found = evaluate_mtbench(entries, {"same": lambda clip, prompt: clip}, Measures(still))
    assert found["category"].values.tolist() == list(DRAWN)
    assert motionbench_means(found)["clips"].values.tolist() == [3, 1, 1, 1, 0]
    table = motionbench_table(found, published=True).splitlines()
    assert "MF, camera (1)" in table[0]
    assert "people" not in table[0]
    assert table[2].startswith("| same | ")
    assert any(line.startswith("| Follow-Your-Motion, published | 97.1 |") for line in table)
    with pytest.raises(InvalidInputError, match="lacks category"):
        motionbench_table(
            evaluate_mtbench(
                scene_entries(levels=["easy"], entries=1, prompts=1), {"same": lambda c, p: c}, Measures(still)
            )
        )
