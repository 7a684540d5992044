"""Every public path on a device that is not the CPU, and how often it waits for that device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_paths import REFUSED, moving_clip, on_device, run_paths
from pretend_cuda import PretendCUDA
from tiny_families import FAMILIES, Family

import ditprobe as dp
from analyses.heads.sweep import sweep_heads
from store.errors import InvalidInputError

pytestmark = pytest.mark.filterwarnings("ignore")

CHOSEN = {
    "mini-rope": None,
    "mini": ("capture", "sweep, forward", "DeT"),
    "cogvideox rotary": ("probe a prompt", "record a clip", "capture", "match", "track", "DiTFlow"),
    "cogvideox added": ("sweep, forward", "Follow-Your-Motion, 2 of 3 frames"),
    "hunyuan": ("sweep, clean", "capture", "affinity", "CAG"),
    "wan": ("sweep, each head", "record a clip", "capture", "points to text", "DiTFlow, positions", "CAG"),
}
"""Paths that are always run: all of one family, and some of each of the others."""
EVERY = pytest.mark.skipif(
    "DITPROBE_DEVICES" not in os.environ, reason="every path of every family takes minutes: make test-devices"
)


@pytest.fixture
def device() -> Iterator[PretendCUDA]:
    with PretendCUDA() as pretend:
        yield pretend


@pytest.mark.parametrize("name", FAMILIES)
def test_paths_run_on_another_device(name: str, device: PretendCUDA, tmp_path: Path) -> None:
    backbone = dp.load_backbone(FAMILIES[name].make(), device="cuda")
    assert backbone.device == torch.device("cuda", 0)
    run_paths(name, backbone, str(tmp_path), CHOSEN[name])


@EVERY
@pytest.mark.parametrize("name", [name for name, chosen in CHOSEN.items() if chosen is not None])
def test_every_path_runs_on_another_device(name: str, device: PretendCUDA, tmp_path: Path) -> None:
    backbone = dp.load_backbone(FAMILIES[name].make(), device="cuda")
    ran = run_paths(name, backbone, str(tmp_path))
    chosen = set(CHOSEN[name] or ())
    assert chosen <= {*ran, *(path for family, path in REFUSED if family == name)}
    print(f"{name}: {len(ran)} paths ran")


def test_the_pretend_device_refuses_what_a_real_one_refuses(device: PretendCUDA) -> None:
    values = torch.ones(3).to("cuda")
    assert values.device == torch.device("cuda", 0)
    with pytest.raises(RuntimeError, match="same device"):
        values + torch.ones(3)
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([values, torch.ones(3)])
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(values)
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device="cuda", generator=torch.Generator())
    with pytest.raises(RuntimeError, match="indices"):
        torch.ones(3)[values.long()]
    assert (values + 1).device == values.device
    assert not device.waits
    assert float(values.sum()) == 3
    assert bool((values > 0).all())
    values[values > 0]
    values.cpu()
    assert sum(device.waits.values()) == 4
    assert sum(device.copies.values()) == 2


def _swept(family: Family, device: PretendCUDA, layers: Any, steps: list[int]) -> int:
    backbone = dp.load_backbone(family.make(), device="cuda")
    given = family.options()["conditioning"]
    options = {"steps": 4, "conditioning": on_device(given, "cuda", torch.float32), "features": True, "min_points": 1}
    device.reset()
    dp.sweep(backbone, moving_clip(family.size), dp.Selection(steps, layers), per_head=True, **options)
    return sum(device.waits.values())


def test_a_sweep_waits_for_the_device_twice_a_step_however_many_layers(device: PretendCUDA) -> None:
    """Once for the model's own check of latents and predictions, once for the measures of all its layers."""
    mini = FAMILIES["mini"]
    one, both, three_steps = (
        _swept(mini, device, layers, steps) for layers, steps in (([0], [0]), ("all", [0]), ("all", [0, 1, 3]))
    )
    assert one == both
    assert three_steps - both == 2 * 2


def test_a_capture_waits_for_nothing_and_copies_nothing(device: PretendCUDA) -> None:
    mini = FAMILIES["mini"]
    backbone = dp.load_backbone(mini.make(), device="cuda")
    plain = mini.options()

    def counts(selection: dp.Selection | None) -> tuple[int, int]:
        device.reset()
        if selection is None:
            backbone.generate(mini.prompt, **plain)
        else:
            dp.run_prompt(backbone, mini.prompt, selection, lambda capture: None, features=True, **plain)
        return sum(device.waits.values()), sum(device.copies.values())

    counts(dp.Selection("all", "all", heads=[1]))  # the first time, indices are copied to the device
    without, every = counts(None), counts(dp.Selection("all", "all", heads=[1], frames=[0, 2]))
    assert every[0] - without[0] == 1, "the scheduler's timesteps are fetched once a run"
    counts(dp.Selection("all", "all", frames=[0, 2]))
    assert counts(dp.Selection("all", "all", frames=[0, 2]))[1] == without[1]


def test_recording_copies_and_never_waits(device: PretendCUDA, tmp_path: Path) -> None:
    """The sampler queues copies into memory of the writer, a thread of which waits for the event of each record."""
    mini = FAMILIES["mini"]
    backbone = dp.load_backbone(mini.make(), device="cuda", dtype="bfloat16")
    given: dict[str, Any] = {"size": (24, 32), "images": 3, "steps": 3}
    device.reset()
    dp.run_prompt(backbone, mini.prompt, dp.Selection("all", "all"), lambda capture: None, want_clip=False, **given)
    probed = sum(device.waits.values())
    device.reset()
    run = dp.record(backbone, mini.prompt, dp.Selection("all", "all"), tmp_path / "run.zarr", features=True, **given)
    assert sum(device.waits.values()) == probed
    assert run.state == "complete"
    found: list[dp.Capture] = []
    dp.run_prompt(backbone, mini.prompt, dp.Selection([1], [1]), found.append, want_clip=False, **given)
    query, _ = run.read(step=1, layer=1)
    assert found[0].query.dtype == torch.bfloat16
    np.testing.assert_array_equal(query, found[0].query.cpu().half().numpy())


def test_a_record_that_would_be_lost_is_refused_with_its_own_error(device: PretendCUDA, tmp_path: Path) -> None:
    mini = FAMILIES["mini"]
    backbone = dp.load_backbone(mini.make(), device="cuda")
    with torch.no_grad():
        backbone.modules[0][1][1].norm_q.weight.mul_(1e6)
    with pytest.raises(InvalidInputError, match=r"layer 1, branch 'cond': query holds \d+ values beyond float16"):
        dp.record(
            backbone, moving_clip(mini.size), dp.Selection([0], "all"), tmp_path / "run.zarr",
            size=(24, 32), images=3, steps=3, prompt=mini.prompt,
        )  # fmt: skip


def test_classified_heads_wait_once_however_many_tracks(device: PretendCUDA) -> None:
    """For the check of what is given and the sums together."""
    mini, found = FAMILIES["mini"], list[dp.Capture]()
    clip = moving_clip(mini.size)
    backbone = dp.load_backbone(mini.make(), device="cuda")
    dp.run_clip(backbone, clip, dp.Selection([0], [1]), found.append, steps=3, prompt=mini.prompt)
    seen = found[0]
    given = (seen.query, seen.key, seen.layout, seen.text_key)
    for call in (
        lambda: dp.classify_heads(*given),
        lambda: dp.head_masses(*given, tracks=clip.tracks, visibility=clip.visibility, budget_bytes=2**14),
    ):
        device.reset()
        call()
        assert sum(device.waits.values()) == 1, device.waits


def test_heads_of_all_layers_are_fetched_once_a_step(device: PretendCUDA) -> None:
    """Beside the model's own check of latents and predictions."""
    mini = FAMILIES["mini"]
    backbone = dp.load_backbone(mini.make(), device="cuda")

    def waits(layers: Any, steps: list[int]) -> int:
        device.reset()
        given = {"steps": 4, "prompt": mini.prompt, "progress": False}
        sweep_heads(backbone, {"clip": moving_clip(mini.size)}, dp.Selection(steps, layers), **given)
        return sum(device.waits.values())

    one, both, three_steps = waits([0], [0]), waits("all", [0]), waits("all", [0, 1, 3])
    assert one == both
    assert three_steps - both == 2 * 2


def test_an_iteration_of_a_transfer_waits_once(device: PretendCUDA) -> None:
    """For the check of its loss; frame pairs that move are looked up once a run."""
    mini = FAMILIES["mini"]
    backbone, clip = dp.load_backbone(mini.make(), device="cuda"), moving_clip(mini.size)
    given = mini.options()
    given["conditioning"] = on_device(given["conditioning"], "cuda", torch.float32)

    def waits(iterations: int) -> int:
        method = dp.DiTFlow(layers=[1], iterations=iterations)
        device.reset()
        dp.transfer_motion(backbone, clip, mini.prompt, method=method, **given)
        looked_up = [count for where, count in device.waits.items() if where.startswith("analyses/kernels")]
        assert not looked_up, device.waits
        return sum(device.waits.values())

    waits(1)
    guided_steps = 2
    assert waits(4) - waits(2) == 2 * guided_steps


def test_a_step_of_a_training_waits_three_times(device: PretendCUDA) -> None:
    """For the model's own check of its prediction, for the losses, and for the norm of the gradients."""
    mini = FAMILIES["mini"]
    backbone, clip = dp.load_backbone(mini.make(), device="cuda"), moving_clip(mini.size)

    def waits(steps: int) -> int:
        training = dp.Training(steps=steps, tracking_weight=0.5, points=4)
        adapter = dp.DeT(width=4, training=training).new_adapter(backbone)
        device.reset()
        dp.train_adapter(adapter, backbone, clip, training, prompt=mini.prompt)
        # torch's C++ groups gradients by device, and takes those of the pretend one for the CPU
        return sum(count for where, count in device.waits.items() if "clip_grad.py" not in where)

    assert waits(3) - waits(2) == 3, device.waits


def test_parts_on_several_devices(device: PretendCUDA) -> None:
    """A device map leaves parts on devices of their own, as accelerate's hooks do: what is given is moved to each."""
    device.devices = 2
    mini = FAMILIES["mini"]
    pipeline: Any = mini.make()
    pipeline.to("cuda:0")
    blocks = pipeline.transformer.transformer_blocks
    _on(blocks[1], "cuda:1", back="cuda:0")
    backbone = dp.load_backbone(pipeline)
    found: list[dp.Capture] = []
    clip = moving_clip(mini.size)
    dp.run_clip(backbone, clip, dp.Selection([0], "all"), found.append, steps=3, prompt=mini.prompt)
    assert [capture.query.device.index for capture in found] == [0, 1]
    transferred = dp.transfer_motion(
        backbone, clip, mini.prompt, method=dp.DiTFlow(layers=[0, 1], iterations=1), **mini.options()
    )
    assert transferred.images.shape == clip.images.shape
    every = dp.Selection([0, 1], "all")
    measured = dp.sweep(backbone, clip, every, steps=3, prompt=mini.prompt, min_points=1)
    assert np.isfinite(measured["accuracy"]).all()


@pytest.mark.parametrize("preset", ["exact", "renormalised"])
def test_guidance_with_parts_on_several_devices(device: PretendCUDA, preset: Any) -> None:
    """The clips are those of one device."""
    device.devices = 2
    mini, guided = FAMILIES["mini"], dp.CrossAttentionGuidance(layers=[0, 1], preset=preset)
    made = []
    for parts in (False, True):
        torch.manual_seed(0)
        pipeline: Any = mini.make()
        pipeline.to("cuda:0")
        if parts:
            _on(pipeline.transformer.transformer_blocks[1], "cuda:1", back="cuda:0")
        backbone = dp.load_backbone(pipeline)
        for on in (True, False):
            made.append(dp.sample(backbone, mini.prompt, guided, **mini.options(guided=on)).images)
    np.testing.assert_array_equal(made[0], made[2])
    np.testing.assert_array_equal(made[1], made[3])


def test_tracking_heads_and_recordings_with_parts_on_several_devices(device: PretendCUDA, tmp_path: Path) -> None:
    device.devices = 2
    mini, clip = FAMILIES["mini"], moving_clip(FAMILIES["mini"].size)
    pipeline: Any = mini.make()
    pipeline.to("cuda:0")
    _on(pipeline.transformer.transformer_blocks[1], "cuda:1", back="cuda:0")
    backbone, given = dp.load_backbone(pipeline), {"steps": 3, "prompt": mini.prompt}
    every = dp.Selection([0], "all")
    heads = sweep_heads(backbone, {"clip": clip}, every, **given)
    assert np.isfinite(heads["mass"].sel(target="own_frame")).all()
    recording = dp.record(backbone, clip, every, tmp_path / "run.zarr", **given)
    assert recording.state == "complete"
    tracks = dp.track_points(clip, [[0, 12.0, 12.0]], backbone, layer=1, step=-1, **given)
    assert np.isfinite(tracks.tracks).all()


def _on(module: torch.nn.Module, device: str, *, back: str) -> None:
    module.to(device)

    def moved(value: Any, where: str) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(where)
        return type(value)(moved(each, where) for each in value) if isinstance(value, tuple | list) else value

    module.register_forward_pre_hook(
        lambda _, args, kwargs: (moved(args, device), {name: moved(value, device) for name, value in kwargs.items()}),
        with_kwargs=True,
    )
    module.register_forward_hook(lambda _, args, output: moved(output, back))
