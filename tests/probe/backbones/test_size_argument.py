"""``size=`` stands for ``height=`` and ``width=`` wherever something is generated."""

from __future__ import annotations

import pytest

from generators.sampling.sample import sample
from generators.transfer.method import PlainBackbone
from generators.transfer.motion_transfer import transfer_motion
from probe import load_backbone, run_prompt
from probe.backbones.backbone import Backbone
from store import Selection, make_scene
from store.errors import InvalidInputError

PROMPT = "a red disc moves left over blue stripes"
SHORT = {"steps": 1, "images": 3}


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return load_backbone("mini", device="cpu")


def test_size_and_its_sides_give_the_same_clip(mini: Backbone) -> None:
    expected = mini.generate(PROMPT, height=24, width=32, **SHORT).images
    assert expected.shape[1:3] == (24, 32)
    reference = make_scene(0, images=3, height=24, width=32)
    method = PlainBackbone()
    for clip in (
        mini.generate(PROMPT, size=(24, 32), **SHORT),
        sample(mini, PROMPT, size=(24, 32), **SHORT),
        run_prompt(mini, PROMPT, Selection([0], [0]), lambda capture: None, size=(24, 32), **SHORT),
        transfer_motion(mini, reference, PROMPT, method=method, size=(24, 32), **SHORT),
    ):
        assert (clip.images == expected).all()


def test_size_is_not_given_twice_and_is_two_numbers(mini: Backbone) -> None:
    with pytest.raises(InvalidInputError, match=r"size=\(height, width\) was given, and height= or width= too"):
        sample(mini, PROMPT, size=(24, 32), height=24)
    for size in ((24,), "24x32", (24.5, 32), (True, 32), (0, 32)):
        with pytest.raises(InvalidInputError, match=r"size must be|must be an int|must be at least 1"):
            mini.generate(PROMPT, size=size)
