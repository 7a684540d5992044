"""Points are tracked on pipelines that cannot read text themselves, with the embeddings that the user has."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny

from analyses.evaluation.tapvid import evaluate_tapvid
from analyses.trackers.backbone import BackboneTracker
from analyses.tracking.track import track_points
from probe import load_backbone
from store import Clip
from store.errors import InvalidInputError

QUERIES = [[0, 20.5, 30.5], [2, 80.0, 60.0]]


TEXT = {
    "cogvideox": {"prompt_embeds": tiny.embeds(tiny.TEXT, 32, 0)},
    "image-to-video": {"prompt_embeds": tiny.embeds(tiny.TEXT, 32, 0)},
    "wan": {"prompt_embeds": tiny.embeds(13, 32, 0)},
    "hunyuan": {
        "prompt_embeds": tiny.embeds(tiny.TEXT, 16, 0),
        "pooled_prompt_embeds": tiny.embeds(1, 8, 1)[0],
        "prompt_attention_mask": tiny.embeds(tiny.TEXT, 1, 0)[..., 0].abs() * 0 + 1,
    },
}
MAKE = {
    "cogvideox": tiny.cogvideox,
    "image-to-video": lambda: tiny.cogvideox(image_to_video=True),
    "wan": tiny.wan,
    "hunyuan": tiny.hunyuan_video,
}
HOW: dict[str, Any] = {"layer": 1, "steps": 3, "size": (80, 112)}


@pytest.fixture(scope="module")
def clip() -> Clip:
    images = np.random.default_rng(0).integers(0, 255, (3, 80, 112, 3), np.uint8)
    return Clip(images, 8, tracks=np.full((3, 2, 2), 20.5))


@pytest.mark.parametrize("kind", MAKE)
def test_points_are_tracked_on_a_pipeline_without_a_text_encoder(kind: str, clip: Clip) -> None:
    backbone = load_backbone(MAKE[kind]())
    with pytest.raises(InvalidInputError, match=r"Pass conditioning=\{'prompt_embeds': "):
        track_points(clip, QUERIES, backbone, **HOW)
    found = track_points(clip, QUERIES, backbone, conditioning=TEXT[kind], **HOW)
    same = BackboneTracker(backbone, conditioning=TEXT[kind], **HOW)(clip, QUERIES)
    np.testing.assert_array_equal(found.tracks, same.tracks)
    assert list(found.details["conditioning"]) == sorted(TEXT[kind])
    json.dumps(dict(found.details))


def test_an_evaluation_tells_conditionings_apart(clip: Clip) -> None:
    backbone = load_backbone(tiny.wan())
    said = []
    for seed in (0, 0, 1):
        tracker = BackboneTracker(backbone, conditioning={"prompt_embeds": tiny.embeds(13, 32, seed)}, **HOW)
        said.append(json.loads(evaluate_tapvid({"a": clip}, {"wan": tracker}).attrs["settings"])["trackers"])
    assert said[0] == said[1] != said[2]


def test_a_size_is_judged_by_the_size_that_is_tracked_not_by_the_default(clip: Clip) -> None:
    backbone = load_backbone(tiny.wan())  # its rotary positions end before the default size
    with pytest.raises(InvalidInputError) as caught:
        track_points(clip, QUERIES, backbone, conditioning=TEXT["wan"], layer=1, steps=3)
    assert str(caught.value) == (
        "WanPipeline does not take 480 x 832 px and 81 images: its rotary positions (rope_max_seq_len) end at 32 "
        "frames and 32 x 32 cells; these are 21 frames of 30 x 52 cells. Pass a size of at most 512 x 512 px."
    )
