"""Motion transfer in a report: what is measured against what is known, and what the page says of it."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
import sys

import numpy as np
import pytest
import torch

from analyses.evaluation.transfer import check_pair, measure_transfer
from analyses.flow.reference_flow import reference_flow
from ditprobe.report.transfer import (
    ShownTransfers,
    TransferredClip,
    transfer_in_words,
    transfer_part,
    transferred_clip,
)
from probe import load_backbone
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline
from store import Clip, make_scene
from store.errors import InvalidInputError, UnknownLayerError

SMALL = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)
LEFT = "a red ring moves left over blue stripes"
UNTOLD = "a green disc over white stripes"


@pytest.fixture(scope="module")
def small() -> Backbone:
    torch.manual_seed(0)
    return load_backbone(new_pipeline(SMALL), device="cpu")


@pytest.fixture(scope="module")
def shown(small: Backbone) -> TransferredClip:
    scenes = [make_scene(seed, 3, 16, 24) for seed in (4, 5, 6)]
    return transferred_clip(small, "a <b>scene</b>", *scenes[:2], layer=-1, steps=9, method="DiTFlow", plain=scenes[2])


def part_of(*transfers: TransferredClip) -> ShownTransfers | None:
    return transfer_part(transfers, (f"figure-{number}" for number in itertools.count(1)))


def drawn(prompt: str, *, told: str | None) -> Clip:
    """Scenes of this seed share places and speeds, whatever else their prompts say."""
    return Clip(make_scene(3, prompt=prompt).images, 8, prompt=told)


def test_the_same_path_has_a_small_error_and_another_a_large_one() -> None:
    reference = drawn(LEFT, told=LEFT)
    same, other = (drawn(f"a green disc moves {way} over white stripes", told=UNTOLD) for way in ("left", "up"))
    near, far = measure_transfer(same, reference), measure_transfer(other, reference)
    assert list(near) == ["motion fidelity", "motion error"]
    assert near["motion error"] < 0.1 < 0.9 < far["motion error"]
    assert near["motion fidelity"] > far["motion fidelity"]


def test_the_object_is_the_one_of_the_prompts_colour() -> None:
    """A second object that is larger, or better drawn, is not mistaken for it."""
    reference = drawn("a red ring moves left and a green disc moves up over blue stripes", told=LEFT)
    made = drawn("a green disc moves left over blue stripes", told="a green disc over blue stripes")
    assert measure_transfer(made, reference)["motion error"] < 0.5
    swapped = Clip(reference.images, 8, prompt="a green disc moves up and a red ring moves left over blue stripes")
    assert measure_transfer(made, swapped)["motion error"] > 0.9


def test_clips_that_are_no_scenes_have_no_error() -> None:
    real = drawn(LEFT, told="a dog runs")
    assert measure_transfer(real, real) == {"motion fidelity": 1.0}
    assert measure_transfer(real, drawn(LEFT, told=None)) == {"motion fidelity": 1.0}


def test_without_opencv_nothing_is_measured_and_the_page_says_so(
    monkeypatch: pytest.MonkeyPatch, small: Backbone
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    clip = make_scene(4, 3, 16, 24)
    assert measure_transfer(clip, clip) == {}
    one = transferred_clip(small, "a scene", clip, clip, layer=0)
    part = part_of(one)
    assert part.table.rows == (("a scene", "result", "–", "–"),)
    assert part.notes[0] == "Missing measurements need OpenCV: pip install 'ditprobe[vision]'."
    assert transfer_in_words(one) == "its motion is not measured, which needs OpenCV (pip install 'ditprobe[vision]')"


def test_both_flows_are_read_by_the_layer_that_is_asked_for(small: Backbone, shown: TransferredClip) -> None:
    for clip, flow in ((shown.reference, shown.reference_flow), (shown.clip, shown.flow)):
        np.testing.assert_array_equal(flow, reference_flow(small, clip, layer=1, steps=9))
    assert shown.prompt == make_scene(5, 3, 16, 24).prompt
    assert list(shown.measured) == ["result", "plain backbone"]
    assert shown.measured["plain backbone"] == measure_transfer(make_scene(6, 3, 16, 24), shown.reference)


def test_the_page_holds_every_clip_beside_its_plain_counterpart(shown: TransferredClip) -> None:
    measured = {
        "result": {"motion fidelity": 0.714, "motion error": 0.4},
        "plain backbone": {"motion fidelity": 0.5, "motion error": math.nan},
    }
    first = TransferredClip("one", shown.reference, shown.clip, shown.reference_flow, shown.flow, measured=measured)
    second = TransferredClip(
        "two", *(first.reference, first.clip, first.flow, first.flow), measured={"result": {"motion fidelity": 1.0}}
    )
    part = part_of(first, second)
    assert part.intro == (
        "One clip is an example, not a measurement: judging how well a method transfers motion takes many "
        "references, prompts and seeds."
    )
    assert part.table.header == ("motion of", "clip", "motion fidelity", "motion error")
    assert part.table.rows == (
        ("one", "result", "0.71", "0.40"),
        ("one", "plain backbone", "0.50", "–"),
        ("two", "result", "1.00", "–"),
    )
    for one in part.clips:
        assert one.words.startswith("3 images of 16 x 24 px (height x width). Motion as layer 1 of ")
    assert not part.notes[0].startswith("Missing measurements")
    assert transfer_in_words(first) == (
        "motion fidelity 0.71 (plain backbone: 0.50), motion error 0.40 (plain backbone: –); one clip is an example, "
        "not a measurement"
    )
    assert transfer_in_words(second) == "motion fidelity 1.00; one clip is an example, not a measurement"


def test_a_clip_is_shown_with_its_prompt_method_and_both_flows(shown: TransferredClip) -> None:
    (one,) = part_of(shown).clips
    assert (one.name, one.prompt) == ("a <b>scene</b>", shown.prompt)
    assert one.words.startswith("3 images of 16 x 24 px (height x width); DiTFlow. Motion as layer 1 of ")
    (view,) = one.views
    assert (view.kind, view.key) == ("transfer", "figure-1-data")
    data = json.loads(view.data)
    assert (data["height"], data["width"], data["layers"]) == (16, 24, ["1"])
    for side, flow in zip(data["sides"], (shown.reference_flow, shown.flow), strict=True):
        (packed,) = side["flows"]
        whole = np.frombuffer(base64.b64decode(packed["bytes"]), "<i2").reshape(packed["shape"])
        np.testing.assert_allclose(whole * packed["scale"], -flow.values[:, 0], atol=packed["scale"])
    shown.flow.attrs.pop("details")
    assert part_of(shown).clips[0].words.endswith("Motion as given by the flow.")


def test_nothing_to_show_is_no_part() -> None:
    assert part_of() is None


def test_what_does_not_fit_is_refused(small: Backbone) -> None:
    clip = make_scene(4, 3, 16, 24)
    message = (
        "the reference has 3 images of 16 x 24 px and the result 2 of 16 x 24 px (height x width), so they cannot be "
        "compared image by image. Cut or resize one of them."
    )
    for call in (
        lambda: check_pair(clip, clip.window(0, 2)),
        lambda: transferred_clip(small, "a scene", clip, clip.window(0, 2), layer=0),
    ):
        with pytest.raises(InvalidInputError, match=f"^{re.escape(message)}$"):
            call()
    with pytest.raises(UnknownLayerError, match=r"^layer 2 does not exist\. The backbone has layers 0 to 1\.$"):
        transferred_clip(small, "a scene", clip, clip, layer=2)
