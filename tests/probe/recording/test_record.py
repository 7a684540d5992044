"""Recording clips and prompts of the (untrained) mini backbone, and cutting clips to what a backbone takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pipelines as tiny
import torch

from analyses.layers.sweep_recording import sweep_recording
from probe import Capture, load_backbone, run_clip, run_prompt
from probe.backbones.backbone import Backbone
from probe.mini import MiniConfig, new_pipeline
from probe.recording.record import estimate_seconds, plan_recording, record
from probe.run.windows import cut_windows
from store import Clip, Selection, make_scene, open_recording, read_clip
from store.errors import (
    ClipError,
    InvalidInputError,
    NotRecordedError,
    OutputExistsError,
    PlanTooLargeError,
    RecordingError,
    UnknownLayerError,
)

SELECTION = Selection(steps=[0, 3, -1], layers=[0, 2])
PROMPT = "a red disc moves left over blue stripes"


@pytest.fixture(scope="module")
def mini() -> Backbone:
    torch.manual_seed(0)
    return load_backbone(new_pipeline(MiniConfig(layers=3, heads=2, channels=16)), device="cpu")


@pytest.fixture
def scene() -> Clip:
    return make_scene(2)


def captures_of_clip(backbone: Backbone, clip: Clip, noise: str = "clean") -> dict[tuple[int, int], Capture]:
    found: list[Capture] = []
    run_clip(backbone, clip, SELECTION, found.append, noise=noise, steps=5, seed=4)
    return {(capture.step, capture.layer): capture for capture in found}


@pytest.mark.parametrize("noise", ["clean", "forward", "inversion"])
def test_a_recorded_clip_reads_back_what_the_probe_saw(mini: Backbone, scene: Clip, tmp_path: Path, noise: str) -> None:
    recording = record(mini, scene, SELECTION, tmp_path / "run.zarr", noise=noise, steps=5, seed=4)
    expected = captures_of_clip(mini, scene, noise)
    assert set(expected) == {(step, layer) for step in (0, 3, 4) for layer in (0, 2)}
    for (step, layer), capture in expected.items():
        query, key = recording.read(step=step, layer=layer)
        np.testing.assert_array_equal(query, capture.query.half().numpy())
        np.testing.assert_array_equal(key, capture.key.half().numpy())
        text_query, _ = recording.read_text(step=step, layer=layer)
        np.testing.assert_array_equal(text_query, capture.text_query.half().numpy())
    assert recording.state == "complete"
    np.testing.assert_allclose(recording.timesteps, np.array(mini.timesteps(5))[[0, 3, 4]])


def test_a_recorded_prompt_is_what_sampling_shows_and_leaves_the_clip_alone(mini: Backbone, tmp_path: Path) -> None:
    selection = Selection(steps=[1], layers=[1], branches=("cond", "uncond"))
    video = tmp_path / "clip.mp4"
    recording = record(mini, PROMPT, selection, tmp_path / "run.zarr", steps=3, seed=9, save_clip=video)
    found: list[Capture] = []
    run_prompt(mini, PROMPT, selection, found.append, steps=3, seed=9)
    for capture in found:
        query, _ = recording.read(step=1, layer=1, branch=capture.branch)
        np.testing.assert_array_equal(query, capture.query.half().numpy())
    assert {capture.branch for capture in found} == {"cond", "uncond"}
    assert recording.provenance.prompt == PROMPT
    plain = mini.generate(PROMPT, steps=3, seed=9)
    assert np.abs(read_clip(video).images.astype(int) - plain.images).mean() < 4


def test_what_was_run_is_kept(mini: Backbone, scene: Clip, tmp_path: Path) -> None:
    recording = record(mini, scene, SELECTION, tmp_path / "run.zarr", noise="forward", steps=5, seed=4)
    provenance = recording.provenance
    assert provenance.model == mini.name
    assert (provenance.seed, provenance.noise, provenance.window) == (4, "forward", 0)
    assert provenance.scheduler == "CogVideoXDDIMScheduler"
    assert provenance.prompt == scene.prompt
    assert provenance.extra["images"] == "images 0 to 5 of 6, 40 x 40 px"


def test_an_interrupted_recording_is_completed_and_equals_an_uninterrupted_one(
    mini: Backbone, scene: Clip, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=5, on_step=stop)
    half = open_recording(tmp_path / "run.zarr")
    assert half.state == "open"
    assert half.is_done(step=0, layer=2)
    with pytest.raises(OutputExistsError):
        record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=5)
    with pytest.raises(RecordingError):
        record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=5, seed=1, resume=True)
    other = dataclasses.replace(scene, images=scene.images[::-1].copy())
    with pytest.raises(RecordingError, match="clip_hash"):
        record(mini, other, SELECTION, tmp_path / "run.zarr", steps=5, resume=True)
    passes: list[int] = []
    recording = record(
        mini,
        scene,
        SELECTION,
        tmp_path / "run.zarr",
        steps=5,
        resume=True,
        on_step=lambda done, total: passes.append(total),
    )
    assert passes == [1], "only the unfinished step is run again"
    whole = record(mini, scene, SELECTION, tmp_path / "whole.zarr", steps=5)
    for step, layer in [(0, 0), (3, 2), (4, 0), (4, 2)]:
        np.testing.assert_array_equal(recording.read(step=step, layer=layer)[1], whole.read(step=step, layer=layer)[1])


def test_the_job_is_known_before_anything_runs(mini: Backbone, scene: Clip) -> None:
    job = plan_recording(mini, scene, SELECTION, steps=5)
    assert job.passes == 3
    assert str(job).endswith(
        "  source    images 0 to 5 of 6, 40 x 40 px\n"
        "  model     3 forward passes at 40 x 40 px and 6 images (height x width)"
    )
    assert plan_recording(mini, scene, SELECTION, steps=5, noise="inversion").passes == 6
    assert plan_recording(mini, PROMPT, SELECTION, steps=5).passes == 5
    assert 0 < estimate_seconds(mini, job, scene.prompt) < 60
    with pytest.raises(PlanTooLargeError):
        plan_recording(mini, scene, SELECTION, steps=5, limit_bytes=1000)


def test_bad_requests_are_refused_before_anything_is_written(mini: Backbone, scene: Clip, tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    with pytest.raises(UnknownLayerError, match=r"^layer 7 does not exist\. The backbone has layers 0 to 2\.$"):
        record(mini, scene, Selection([-1], [7]), path)
    with pytest.raises(InvalidInputError, match=r"^window 1 does not exist: the clip has windows 0 to 0\.$"):
        record(mini, scene, SELECTION, path, window=1)
    with pytest.raises(InvalidInputError, match=r"^unknown noise 'pink'\."):
        record(mini, scene, SELECTION, path, noise="pink")
    with pytest.raises(InvalidInputError, match=r"^window and stride choose a part of a clip; a prompt has none\.$"):
        record(mini, PROMPT, SELECTION, path, window=1)
    assert not path.exists()


def test_a_clip_that_cannot_be_saved_is_refused_before_anything_is_written(
    mini: Backbone, scene: Clip, tmp_path: Path
) -> None:
    path, video = tmp_path / "run.zarr", tmp_path / "made.mp4"
    video.write_text("precious")
    with pytest.raises(OutputExistsError) as caught:
        record(mini, scene, SELECTION, path, steps=5, save_clip=video)
    assert str(caught.value) == (
        f"{video} exists already. Choose another path for the clip, or pass overwrite=True to replace it."
    )
    with pytest.raises(OutputExistsError) as invalid:
        record(mini, scene, SELECTION, path, steps=5, save_clip=video / "inside.mp4")
    assert str(invalid.value) == (
        f"{video / 'inside.mp4'} cannot be written: {video} is a file, not a folder. Choose another path."
    )
    assert video.read_text() == "precious"
    assert not path.exists()


@pytest.mark.parametrize("prompt", [True, False])
def test_a_complete_recording_still_gives_its_clip(mini: Backbone, scene: Clip, tmp_path: Path, prompt: bool) -> None:
    source = PROMPT if prompt else scene
    path, first, again = (tmp_path / name for name in ("run.zarr", "first.mp4", "again.mp4"))
    options = {"steps": 5, "seed": 3}
    record(mini, source, SELECTION, path, **options, save_clip=first)
    before = open_recording(path).read(step=3, layer=2)[0]
    done: list[tuple[int, int]] = []
    recording = record(
        mini, source, SELECTION, path, **options, resume=True, save_clip=again, on_step=lambda *at: done.append(at)
    )
    assert recording.state == "complete"
    np.testing.assert_array_equal(recording.read(step=3, layer=2)[0], before)
    np.testing.assert_array_equal(read_clip(again).images, read_clip(first).images)
    assert read_clip(again).prompt == read_clip(first).prompt
    assert done == ([(n, 5) for n in range(1, 6)] if prompt else [])


def test_a_clip_that_fails_to_be_written_leaves_the_recording_complete(
    mini: Backbone, scene: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: object, clip: Clip, overwrite: bool = False) -> None:
        if len(clip) > 1:  # the one image that tries the suffix passes
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("probe.recording.record.write_clip", full)
    with pytest.raises(OSError, match="No space left"):
        record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=5, save_clip=tmp_path / "made.mp4")
    assert open_recording(tmp_path / "run.zarr").state == "complete"


def test_one_source_and_a_number_of_steps_that_exists(mini: Backbone, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as several:
        record(mini, ["a disc", "a ring"], SELECTION, tmp_path / "run.zarr", steps=5)
    assert str(several.value) == (
        "record takes one prompt or one Clip; got a list of 2. Call it once for each, with its own path."
    )
    with pytest.raises(InvalidInputError) as many:
        plan_recording(mini, PROMPT, SELECTION, steps=1001)
    assert str(many.value) == (
        "a run of 1001 steps was asked for; CogVideoXDDIMScheduler has 1000 timesteps, so at most steps=1000."
    )
    assert not (tmp_path / "run.zarr").exists()


def test_reading_what_was_not_recorded_says_what_was(mini: Backbone, scene: Clip, tmp_path: Path) -> None:
    recording = record(mini, scene, SELECTION, tmp_path / "run.zarr", steps=5)
    with pytest.raises(NotRecordedError) as caught:
        recording.read(step=3, layer=1)
    assert str(caught.value) == "layer 1 was not recorded. Recorded layers: 0, 2. Record again with layers=[0, 1, 2]."


def test_long_clips_are_cut_and_resized_with_their_tracks(mini: Backbone) -> None:
    clip = make_scene(1, images=13, height=48, width=64)
    windows = cut_windows(mini, clip)
    assert [window.first_image for window in windows] == [0, 6]
    second = windows[1].clip
    np.testing.assert_allclose(second.tracks, clip.tracks[6:12] * [40 / 64, 40 / 48])
    np.testing.assert_array_equal(second.visibility, clip.visibility[6:12])
    assert str(windows[1]) == "images 6 to 11 of 13, 40 x 40 px, resized from 48 x 64"


def test_a_stride_takes_every_so_many_images(mini: Backbone) -> None:
    clip = make_scene(1, images=14)
    (window,) = cut_windows(mini, clip, stride=3)
    np.testing.assert_array_equal(window.clip.images, clip.images[0:13:3])
    np.testing.assert_array_equal(window.clip.tracks, clip.tracks[0:13:3])
    assert window.clip.fps == clip.fps / 3
    assert str(window) == "images 0 to 12, every 3 of 14, 40 x 40 px"


def test_short_clips_get_a_window_of_their_own_length_or_a_clear_refusal(mini: Backbone) -> None:
    clip = make_scene(1, images=3)
    assert [window.size for window in cut_windows(mini, clip)] == [(40, 40, 3)]
    with pytest.raises(ClipError, match=r"^a window of 5 images at stride 1 needs 5 images; the clip has 3\.$"):
        cut_windows(mini, clip, images=5)
    with pytest.raises(InvalidInputError, match=r"^stride must be at least 1; got 0\.$"):
        cut_windows(mini, clip, stride=0)


def test_a_single_mask_stays_with_the_window_that_starts_at_image_0(mini: Backbone) -> None:
    clip = dataclasses.replace(make_scene(1, images=12), masks=np.ones((1, 40, 40), bool))
    assert [window.clip.masks is not None for window in cut_windows(mini, clip)] == [True, False]


FAMILIES = {
    "cogvideox": (tiny.cogvideox, {"prompt_embeds": tiny.embeds(tiny.TEXT, 32, 7)}),
    "wan": (tiny.wan, {"prompt_embeds": tiny.embeds(5, 32, 7)}),
    "hunyuan_video": (
        tiny.hunyuan_video,
        {
            "prompt_embeds": tiny.embeds(6, 16, 7),
            "pooled_prompt_embeds": tiny.embeds(1, 8, 8)[:, 0],
            "prompt_attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]]),
        },
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_recorded_as_the_probe_sees_it(family: str, tmp_path: Path) -> None:
    make, conditioning = FAMILIES[family]
    backbone = load_backbone(make(), device="cpu")
    clip = make_scene(5, images=9, height=80, width=112, cell=16)
    selection = Selection(steps=[-1], layers=[0, 1])
    options = {"steps": 3, "seed": 2, "noise": "forward", "conditioning": conditioning}
    recording = record(backbone, clip, selection, tmp_path / "run.zarr", size=(80, 112), images=9, **options)
    found: list[Capture] = []
    run_clip(backbone, clip, selection, found.append, **options)
    assert recording.layout.spans == (range(1), range(1, 5), range(5, 9))
    for capture in found:
        query, key = recording.read(step=-1, layer=capture.layer)
        np.testing.assert_array_equal(query, capture.query.half().numpy())
        np.testing.assert_array_equal(key, capture.key.half().numpy())
        if capture.text_key is not None:
            _, text_key = recording.read_text(step=-1, layer=capture.layer)
            np.testing.assert_array_equal(text_key, capture.text_key.half().numpy())
    assert {capture.layer for capture in found} == {0, 1}


def test_values_are_recorded_where_they_are_asked_for(tmp_path: Path) -> None:
    """Weights times values are the attention output, in a family whose self-attention has no text."""
    make, conditioning = FAMILIES["wan"]
    clip = make_scene(5, images=9, height=80, width=112, cell=16)
    backbone, selection = load_backbone(make(), device="cpu"), Selection(steps=[-1], layers=[1])
    options = {"steps": 3, "noise": "forward", "conditioning": conditioning, "size": (80, 112), "images": 9}
    run = record(backbone, clip, selection, tmp_path / "run.zarr", values=True, features=True, **options)
    query, key = (torch.from_numpy(part).float().flatten(1, 3) for part in run.read(step=-1, layer=1))
    value = run.read_values(step=-1, layer=1)
    np.testing.assert_array_equal(run.read_values(step=-1, layer=1, heads=[1]), value[1:2])
    carried = torch.nn.functional.scaled_dot_product_attention(
        query[None], key[None], torch.from_numpy(value).float().flatten(1, 3)[None]
    )
    features = run.read_features(step=-1, layer=1).reshape(carried.shape[2], -1)
    np.testing.assert_allclose(carried[0].transpose(0, 1).flatten(1), features, atol=5e-3 * np.abs(features).max())
    plain = record(backbone, clip, selection, tmp_path / "plain.zarr", **options)
    with pytest.raises(NotRecordedError, match=r"values were not recorded\. Record again with values=True"):
        plain.read_values(step=-1, layer=1)


def test_a_prompt_that_is_given_as_embeddings_is_recorded_as_it_is_run(tmp_path: Path) -> None:
    backbone = load_backbone(tiny.wan())
    conditioning = {"prompt_embeds": tiny.embeds(13, 32, 0), "guidance_scale": 1.0}
    options: dict[str, Any] = {"steps": 2, "conditioning": conditioning}
    found = record(backbone, None, Selection([-1], [1]), tmp_path / "run.zarr", size=(80, 112), images=9, **options)
    assert (found.provenance.prompt, found.provenance.source) == (None, "prompt")
    captures: list[Capture] = []
    run_prompt(backbone, None, Selection([-1], [1]), captures.append, **options, **tiny.SIZE)
    stored = found.read(step=-1, layer=1)[0]
    np.testing.assert_allclose(stored, captures[0].query.numpy(), atol=1e-2)


def test_a_recording_of_a_part_of_a_clip_says_which_images_of_the_whole_it_has(mini: Backbone, tmp_path: Path) -> None:
    clip = make_scene(2, images=30)
    part = clip[6::2]
    run = record(mini, part, Selection([-1], [1]), tmp_path / "run.zarr", steps=5, window=1)
    assert run.provenance.extra["images"] == "images 18 to 28, every 2 of 30, 40 x 40 px"
    assert (run.provenance.extra["first_image"], run.provenance.extra["stride"]) == (18, 2)
    measured = [sweep_recording(run, given)["accuracy"].values for given in (clip, part)]
    np.testing.assert_array_equal(*measured)
