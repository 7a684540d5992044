"""CogVideoX given a clip: video-to-video, which begins with it, and FunControl, which has it in its input channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from contract import FamilyContract
from diffusers import CogVideoXFunControlPipeline, CogVideoXVideoToVideoPipeline
from from_a_clip import OfAClip
from PIL import Image
from torch import Tensor

from analyses.tracking.options import TrackingOptions
from analyses.tracking.track import track_points
from generators.sampling.sample import sample
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Backbone, Capture, Probe, load_backbone, run_clip, run_prompt
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.selection import Selection

IMAGES = np.random.default_rng(2).integers(0, 255, (9, 80, 112, 3), np.uint8)
VIDEO = [Image.fromarray(image) for image in IMAGES]


def embeds(prompts: tuple[int, ...], negative: bool) -> dict[str, Any]:
    chosen = {"prompt_embeds": torch.cat([tiny.embeds(tiny.TEXT, 32, n) for n in prompts])}
    if negative:
        chosen["negative_prompt_embeds"] = tiny.embeds(tiny.TEXT, 32, 9).expand(len(prompts), -1, -1)
    return chosen


class TestFunControl(FamilyContract):
    layer_names = tuple(f"transformer_blocks.{i}.attn1" for i in range(3))
    channels = 16
    text_counts = (tiny.TEXT,) * 3

    @classmethod
    def make_pipeline(cls) -> Any:
        return tiny.cogvideox(kind=CogVideoXFunControlPipeline, in_channels=8, seed=4)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**embeds(prompts, negative), "control_video": [VIDEO] * len(prompts)}


class TestVideoToVideo(OfAClip, FamilyContract):
    """At full strength, where it makes every step; part of the steps below."""

    layer_names = TestFunControl.layer_names
    channels = 16
    text_counts = TestFunControl.text_counts
    unguided = {"guidance_scale": 1.0, "strength": 1.0}  # noqa: RUF012
    guided = {"guidance_scale": 4.0, "strength": 1.0}  # noqa: RUF012

    @classmethod
    def make_pipeline(cls) -> Any:
        return tiny.cogvideox(kind=CogVideoXVideoToVideoPipeline)

    @classmethod
    def conditioning(cls, prompts: tuple[int, ...] = (0,), *, negative: bool = True) -> dict[str, Any]:
        return {**embeds(prompts, negative), "video": VIDEO}


@pytest.fixture(scope="module")
def v2v() -> Backbone:
    return load_backbone(TestVideoToVideo.make_pipeline())


GIVEN: dict[str, Any] = {**embeds((0,), True), "video": VIDEO, "strength": 0.6}


def test_steps_of_video_to_video_keep_their_numbers(v2v: Backbone) -> None:
    found: list[Capture] = []
    progress: list[tuple[int, int]] = []
    options: dict[str, Any] = {"steps": 5, "guidance_scale": 4.0, **tiny.SIZE}
    report = lambda done, total: progress.append((done, total))  # noqa: E731
    clip = run_prompt(
        v2v, "", Selection("all", [0], ("cond", "uncond")), found.append, on_step=report, conditioning=GIVEN, **options
    )
    assert clip is not None
    assert (clip.images == v2v.generate("", conditioning=GIVEN, **options).images).all()
    timesteps = v2v.timesteps(5)
    assert [(c.step, c.branch, c.timestep) for c in found] == [
        (step, branch, timesteps[step]) for step in (2, 3, 4) for branch in ("uncond", "cond")
    ]
    assert progress == [(3, 5), (4, 5), (5, 5)]
    # A clip is shown at any step, with the same conditioning.
    seen: list[Capture] = []
    run_clip(v2v, Clip(IMAGES, fps=8), Selection([0, 3], [0]), seen.append, steps=5, conditioning=embeds((0,), True))
    assert [capture.step for capture in seen] == [0, 3]
    # A run ends after the last selected step.
    del found[:], progress[:]
    options["on_step"] = report
    assert (
        run_prompt(v2v, "", Selection([2], [0]), found.append, want_clip=False, conditioning=GIVEN, **options) is None
    )
    assert (len(found), progress) == (1, [(3, 3)])


def test_the_state_of_a_step_is_the_noised_clip(v2v: Backbone) -> None:
    seen: list[Tensor] = []
    hook = v2v.pipeline.transformer.register_forward_pre_hook(
        lambda module, args, call: seen.append(call["hidden_states"]), with_kwargs=True
    )
    v2v.generate("", steps=5, guidance_scale=1.0, seed=3, conditioning=GIVEN, **tiny.SIZE)
    hook.remove()
    generator = torch.Generator().manual_seed(3)
    video = v2v.pipeline.video_processor.preprocess_video(VIDEO, height=80, width=112)
    clean = v2v.scale_latents(v2v.pipeline.vae.encode(video).latent_dist.sample(generator))
    noise = torch.randn(clean.shape, generator=generator)
    assert torch.allclose(seen[0], v2v.schedule(5).noised(clean, noise, 2), atol=1e-5)


def test_guided_steps_of_video_to_video_keep_their_numbers(v2v: Backbone) -> None:
    class Watch(Strategy):
        def __init__(self) -> None:
            self.seen: list[tuple[int, float]] = []

        def before(self, step: Step) -> None:
            self.seen.append((step.number, step.timestep))

    watch, timesteps = Watch(), v2v.timesteps(5)
    sample(v2v, "", watch, steps=5, conditioning=GIVEN, **tiny.SIZE)
    assert watch.seen == [(step, timesteps[step]) for step in (2, 3, 4)]


def test_what_video_to_video_does_not_run_is_refused(v2v: Backbone) -> None:
    options: dict[str, Any] = {"steps": 5, **tiny.SIZE}
    with pytest.raises(InvalidInputError, match=r"^step 1 was selected, but this run begins at step 2 of 5: "):
        run_prompt(v2v, "", Selection([1, 3], [0]), print, conditioning=GIVEN, **options)
    with pytest.raises(InvalidInputError, match=r"^strength 0\.1 leaves none of 5 steps\."):
        v2v.generate("", conditioning={**GIVEN, "strength": 0.1}, **options)
    with pytest.raises(InvalidInputError, match=r"^video has 9 images; the run is one of 17\. Pass images=9\."):
        v2v.generate("", conditioning=GIVEN, **{**options, "images": 17})
    with pytest.raises(
        InvalidInputError, match=r"is given a clip, which is missing\. Pass conditioning={'video': \.\.\.}"
    ):
        v2v.generate("", conditioning=embeds((0,), True), **options)


def test_a_control_video_is_that_of_the_clip() -> None:
    backbone = load_backbone(TestFunControl.make_pipeline())
    found: list[Capture] = []
    for level in (0, 200):
        clip = Clip(np.full((9, 80, 112, 3), level, np.uint8), fps=8)
        run_clip(backbone, clip, Selection([0], [1]), found.append, noise="forward", conditioning=embeds((0,), True))
    assert not torch.allclose(found[0].query, found[1].query, atol=1e-3)
    with Probe(backbone, Selection([0], [1]), found.append), pytest.raises(InvalidInputError, match="'control_video'"):
        backbone.generate("", conditioning=embeds((0,), True), **tiny.SIZE)


def test_clips_with_patches_of_two_latent_frames_are_refused() -> None:
    pipeline = tiny.cogvideox(kind=CogVideoXVideoToVideoPipeline, patch_size_t=2, patch_bias=False)
    with pytest.raises(UnsupportedBackboneError, match="takes no odd number of latent frames where tokens join 2"):
        load_backbone(pipeline)


@pytest.mark.parametrize("encode", ["images", "clip"])
def test_points_are_tracked_with_the_images_of_each_chunk(encode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, given = load_backbone(TestFunControl.make_pipeline()), list[list[Any]]()
    own = backbone.conditioning_of
    monkeypatch.setattr(
        backbone, "conditioning_of", lambda clip: given.append([image[0, 0, 0] for image in clip.images]) or own(clip)
    )
    images = np.broadcast_to(np.arange(9, dtype=np.uint8)[:, None, None, None], (9, 80, 112, 3))
    how: dict[str, Any] = {"layer": 1, "step": -1, "steps": 2, "options": TrackingOptions(encode=encode)}
    text = {**embeds((0,), True), "guidance_scale": 1.0}
    found = track_points(Clip(images, fps=8), [[0, 20.0, 20.0]], backbone, size=(80, 112), conditioning=text, **how)
    assert np.isfinite(found.tracks).all()
    runs = {tuple(map(int, each)) for each in given}
    expected = tuple(range(9)) if encode == "clip" else None
    assert expected in runs if expected else all(run[1:5] == run[1:2] * 4 for run in runs)
