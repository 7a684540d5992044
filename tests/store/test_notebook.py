"""What notebooks show of clips, recordings and plans, and images of other kinds as clips."""

from __future__ import annotations

import base64
import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from store import Clip, Selection, TokenLayout, make_scene
from store.errors import ClipError
from store.notebook import repr_html


def played(clip: Clip) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', clip._repr_html_())[1])))


def test_a_clip_plays_with_its_images_and_its_speed() -> None:
    scene = make_scene(0)
    with played(scene) as found:
        assert (found.n_frames, found.size) == (6, (40, 40))
        found.seek(3)
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), scene[3])
        assert found.info["duration"] == 125
    assert "6 images of 40 x 40 px" in scene._repr_html_()
    assert 'width="240"' in scene._repr_html_()


def test_a_long_and_large_clip_stays_small() -> None:
    images = np.random.default_rng(0).integers(0, 255, (100, 45, 80, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    with played(Clip(images, 10)) as found:
        assert (found.n_frames, found.size) == (64, (320, 180))
        found.seek(1)
        found.load()
        assert found.info["duration"] == 156


def test_a_clip_has_its_images_by_number() -> None:
    scene = make_scene(0)
    np.testing.assert_array_equal(scene[-1], scene.images[5])
    assert [image.shape for image in scene] == [(40, 40, 3)] * 6


def test_what_text_says_is_shown_as_text() -> None:
    layers = [SimpleNamespace(index=i, name="x", heads=2, channels=4) for i in range(6)]
    plan = Selection([-1], [4]).plan(
        SimpleNamespace(name="<b>tiny</b>", layers=layers), TokenLayout(3, 5, 7, 80, 112, 9)
    )
    assert "&lt;b&gt;tiny" in plan._repr_html_()
    assert plan._repr_html_().count("<tr>") == len(repr(plan).splitlines()) - 1
    assert "<b>one line</b></div>" in repr_html("one line")


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_floats_tensors_and_channels_first_become_a_clip(kind) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
    floats = images.astype(np.float32) / 255
    for given in (images, floats, images.transpose(0, 3, 1, 2), floats.transpose(0, 3, 1, 2)):
        np.testing.assert_array_equal(Clip.from_array(kind(given.copy()), 8).images, images)
    grey = Clip.from_array(kind(images[..., :1].copy()), 8).images
    np.testing.assert_array_equal(grey, images[..., :1].repeat(3, 3))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((5, 8, 12)), "must have four axes"),
        (np.full((5, 8, 12, 3), -0.5), "floats must be from 0 to 1"),
        (np.full((5, 8, 12, 3), np.nan), "floats must be from 0 to 1"),
        (np.zeros((5, 3, 12, 3)), "could be first or last"),
        (np.zeros((5, 8, 12, 4)), "1 or 3 channels; got 4"),
        (np.zeros((5, 8, 12, 3), np.int64), "must be uint8"),
    ],
)
def test_images_that_mean_nothing_are_refused(images: np.ndarray, words: str) -> None:
    with pytest.raises(ClipError, match=words):
        Clip.from_array(images, 8)
