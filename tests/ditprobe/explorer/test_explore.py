"""``dp.explore`` of a prompt, of a clip with another prompt, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ditprobe as dp
from probe import Backbone, load_backbone
from probe.mini import MiniConfig, new_pipeline
from store.errors import InvalidInputError

pytest.importorskip("anywidget", reason="anywidget is not installed: pip install 'ditprobe[notebooks]'")
PROMPT = "a red disc moves right over blue stripes"
LAST = dp.Selection(steps=[-1], layers=[1])


@pytest.fixture(scope="module")
def mini() -> Backbone:
    torch.manual_seed(0)
    return load_backbone(new_pipeline(MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)))


def test_a_prompt_is_sampled_and_explored(mini: Backbone) -> None:
    widget = dp.explore(backbone=mini, prompt=PROMPT, selection=LAST, seed=3)
    (opened,) = widget.explorer.recordings
    assert opened.recording.provenance.prompt == PROMPT
    made = mini.generate(PROMPT, seed=3).images.astype(int)
    assert np.abs(opened.clip.images - made).max() <= 3  # through a video file
    view = widget.explorer.start()
    assert "error" not in widget.explorer.answer({"kind": "attention", **view}).values
    widget.close()


def test_a_clip_is_shown_with_the_given_prompt(mini: Backbone) -> None:
    widget = dp.explore(dp.make_scene(4, 3, 16, 24), mini, prompt=PROMPT, selection=LAST)
    assert widget.explorer.recordings[0].recording.provenance.prompt == PROMPT
    widget.close()


def test_what_does_not_go_together_is_refused(mini: Backbone) -> None:
    with pytest.raises(InvalidInputError, match="there is nothing to explore"):
        dp.explore()
    with pytest.raises(InvalidInputError, match="Pass the backbone"):
        dp.explore(prompt=PROMPT)
    with pytest.raises(InvalidInputError, match="Leave clip out"):
        dp.explore(prompt=PROMPT, backbone=mini, clip=dp.make_scene(0))
    with pytest.raises(InvalidInputError, match="this recording has been made already"):
        dp.explore("run.zarr", prompt=PROMPT)
