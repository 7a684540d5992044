"""Leaks that are planted are measured as large as they are."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.scenes.colour_leak import colour_leak
from analyses.scenes.vision import see_scene
from store import make_scene
from store.errors import InvalidInputError
from store.scenes.texture import COLOURS

OURS, THEIRS = "a red ring moves left over blue stripes", "a yellow disc moves right over pink dots"


def tinted(images: np.ndarray, mask: np.ndarray, own: str, other: str, share: float) -> np.ndarray:
    """The pixels of a mask moved from one colour towards another."""
    change = share * 255 * (np.array(COLOURS[other]) - np.array(COLOURS[own]))
    found = images.astype(np.float64)
    found[mask] += change
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35])
@pytest.mark.parametrize("seed", [3, 8])
def test_planted_tints_are_measured_where_they_are(seed: int, share: float) -> None:
    images = np.asarray(make_scene(seed, prompt=OURS).images)
    mask = see_scene(images, 1).objects[0].mask
    plain = colour_leak(images, OURS, THEIRS)
    background = colour_leak(tinted(images, ~mask, "blue", "pink", share), OURS, THEIRS)
    assert background.background - plain.background == pytest.approx(share, abs=0.05)
    assert background.object - plain.object == pytest.approx(0, abs=0.05)
    of_object = colour_leak(tinted(images, mask, "red", "yellow", share), OURS, THEIRS)
    assert of_object.object - plain.object == pytest.approx(share, abs=0.05)
    assert of_object.background - plain.background == pytest.approx(0, abs=0.05)


def test_clips_in_the_colours_of_the_prompt_have_none_and_in_those_of_the_reference_all() -> None:
    found = [colour_leak(make_scene(seed, prompt=OURS).images, OURS, THEIRS) for seed in range(8)]
    taken = [
        colour_leak(make_scene(seed, prompt="a yellow ring moves left over pink stripes").images, OURS, THEIRS)
        for seed in range(8)
    ]
    for name in ("object", "background"):
        assert abs(np.mean([getattr(each, name) for each in found])) < 0.1
        assert 0.7 < np.mean([getattr(each, name) for each in taken]) < 1.3


def test_brightness_is_no_leak_but_between_white_and_grey() -> None:
    images = np.asarray(make_scene(3, prompt=OURS).images)
    darker = (images * 0.8).astype(np.uint8)
    before, after = (colour_leak(each, OURS, THEIRS).background for each in (images, darker))
    assert after == pytest.approx(0.8 * before, abs=0.01)
    of_grey = colour_leak(
        make_scene(3, prompt="a red ring moves left over grey dots").images,
        "a red ring over white dots",
        "a blue ring over grey dots",
    )
    assert of_grey.background > 0.7


@pytest.mark.parametrize(
    ("prompt", "reference", "message"),
    [
        (OURS, "a red disc over pink dots", "both name red"),
        (OURS, "a green disc over blue dots", "both name blue"),
        ("a red ring and a green disc over blue dots", THEIRS, "prompts need one object; got 2"),
        ("a cat", THEIRS, "unknown word"),
    ],
)
def test_prompts_that_cannot_be_told_apart_are_refused(prompt: str, reference: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        colour_leak(make_scene(3).images, prompt, reference)
