"""Constructors and scenes refuse counts that are no integers, numbers that are not finite, masks taken for numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from analyses.tracking.options import TrackingOptions
from generators import SMM, DiTFlow, Injection, MotionClone, MotionEmbedding
from generators.guidance.cross_attention import CrossAttentionGuidance
from generators.transfer.moft import MOFT
from probe.attention.positions import AddedPositions
from probe.backbones.geometry import Size
from store.clips.clip import Clip
from store.errors import ClipError, InvalidInputError
from store.layout import TokenLayout
from store.scenes.scene import make_scene
from store.selection import Selection
from store.tracks.point_tracks import PointTracks

SIZES = {"frames": 3, "height": 5, "width": 7, "pixel_height": 80, "pixel_width": 112, "images": 9}
TABLES = {0: AddedPositions(torch.zeros(2, 4, 4, 8))}


def embedding(**changed: Any) -> MotionEmbedding:
    arguments: dict[str, Any] = {"backbone": "mini", "size": Size(16, 16, 2), "steps": 3, "positions": TABLES}
    return MotionEmbedding(**{**arguments, **changed})


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [math.nan, math.inf, 5.5, 5.0, True, "5", None, np.array([5])])
def test_sizes_of_a_layout_are_integers(name: str, value: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"^{name} must be an int; got "):
        TokenLayout(**{**SIZES, name: value})


@pytest.mark.parametrize(
    "spans",
    [[range(1), range(1, 5), range(4, 9)], [range(5, 9), range(1, 5), range(1)], [range(1), range(1), range(1)]],
)
def test_spans_that_overlap_or_descend_are_refused(spans: Any) -> None:
    with pytest.raises(InvalidInputError, match="overlap or descend"):
        TokenLayout(**SIZES, spans=spans)


def test_spans_may_leave_images_out() -> None:
    assert TokenLayout(**SIZES, spans=[range(1), range(3, 5), range(7, 9)]).images_of(2) == range(7, 9)


@pytest.mark.parametrize("name", ["steps", "layers", "heads", "frames"])
@pytest.mark.parametrize("mask", [[True, False], np.array([True, False]), [np.True_]])
def test_a_mask_is_not_taken_for_numbers(name: str, mask: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} holds True or False, as a mask does"):
        Selection(**{"steps": [0], "layers": [0], name: mask})


@pytest.mark.parametrize("numbers", [[0.5], [math.nan], ["a"], 3, [[0]], range(10**9), [None]])
def test_what_is_no_list_of_integers_is_not_selected(numbers: Any) -> None:
    with pytest.raises(InvalidInputError, match="layers"):
        Selection([0], numbers)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiTFlow(iterations=2.5), "iterations must be an int; got 2.5"),
        (lambda: DiTFlow(iterations=True), "iterations must be an int; got the flag True"),
        (lambda: DiTFlow(layers="ab"), "layers must be a list"),
        (lambda: DiTFlow(layers=[0.5]), r"layers must be integers or a LayerSelection; got"),
        (lambda: DiTFlow(layers=[True]), "layers must be integers"),
        (lambda: DiTFlow(temperature=math.nan), "temperature must be a"),
        (lambda: DiTFlow(fraction="x"), "fraction must be a number; got 'x'"),
        (lambda: DiTFlow(static=1), "static must be True or False; got 1"),
        (lambda: SMM(learning_rate=("x", 1)), "learning_rate must be numbers; got one that is 'x'"),
        (lambda: MOFT(channels=math.nan), "channels must be a number; got nan"),
        (lambda: MotionClone(count=1.5), "count must be an int; got 1.5"),
        (lambda: Injection(layer=0.5), "layer must be an int or a LayerSelection; got 0.5"),
        (lambda: Injection(layer="a"), "layer must be an int or a LayerSelection; got 'a'"),
        (lambda: CrossAttentionGuidance(scale="x"), "scale must be a number; got 'x'"),
        (lambda: CrossAttentionGuidance(scale=math.inf), "scale must be a finite number; got inf"),
        (lambda: CrossAttentionGuidance(layers=[True]), "layers must be integers"),
        (lambda: TrackingOptions(window=1.5), "window must be an int; got 1.5"),
        (lambda: TrackingOptions(support="x"), "support must be a number; got 'x'"),
        (lambda: embedding(size=("a", 2, 3)), "size must be a Size"),
        (lambda: embedding(size=Size("a", 2, 3)), "height must be an int; got 'a'"),
        (lambda: embedding(steps="3"), "steps must be an int; got '3'"),
        (lambda: embedding(steps=0), "steps must be at least 1; got 0"),
        (lambda: embedding(positions={3: TABLES[0]}), "the step of a table must lie between 0 and 2; got 3"),
        (
            lambda: embedding(positions={0: AddedPositions(torch.full((2, 4, 4, 8), math.nan))}),
            "table 'table' of step 0 h",
        ),
        (lambda: embedding(positions={0: AddedPositions(torch.zeros(3))}), "table 'table' of step 0 must be floats"),
        (lambda: PointTracks.still(np.zeros(3), 9), "queries need the shape"),
        (lambda: PointTracks.still(np.zeros((2, 2)), 9), "queries need the shape"),
        (lambda: PointTracks.still(np.zeros((2, 3)), 0), "images must lie between"),
        (lambda: TokenLayout(**SIZES).cell_at(np.zeros(3)), "points need"),
        (lambda: TokenLayout(**SIZES).cell_at(3.0), "points must be an array of numbers"),
    ],
)
def test_nonsense_in_a_constructor_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


@pytest.mark.parametrize(
    "options",
    [
        {"cell": -0.0},
        {"cell": math.nan},
        {"cell": 1e-9},
        {"height": 10**6},
        {"width": 10**400},
        {"images": 10**9},
        {"images": 2.5},
        {"height": True},
        {"fps": math.inf},
        {"seed": 0.5},
        {"images": 10_000, "height": 4000, "width": 4000},
    ],
)
def test_a_scene_that_cannot_be_drawn_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"cell|height|width|images|fps|seed|pixels"):
        make_scene(**{"seed": 3, **options})


def test_masked_arrays_do_not_lose_their_mask() -> None:
    tracks = np.ma.masked_array(np.ones((3, 1, 2)), np.arange(6).reshape(3, 1, 2) == 0)
    with pytest.raises(ClipError, match="tracks is a masked array, and the mask would be lost"):
        Clip(np.zeros((3, 8, 8, 3), np.uint8), 8.0, tracks)
    with pytest.raises(InvalidInputError, match="points is a masked array, and the mask would be lost"):
        TokenLayout(**SIZES).to_cells(tracks[0])
    assert Clip(np.zeros((3, 8, 8, 3), np.uint8), 8.0, np.ma.masked_array(np.ones((3, 1, 2)))).tracks is not None
