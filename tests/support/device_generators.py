"""Guided runs, motion transfer and trained adapters of a backbone, as calls that take nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tiny_families import Family

import ditprobe as dp
from analyses.evaluation.mtbench_difficulty import motion_difficulty
from analyses.evaluation.mtbench_entries import Entry
from generators.adapters.arms import LocalAttention, SpaceTimeKernel, TokenMLP
from generators.adapters.decoupled.groups import head_groups
from generators.adapters.fitted import AttachAdapter
from generators.transfer.dmt import DMT
from store.errors import InvalidInputError

Named = tuple[str, Callable[[], Any]]
TRAINING = dp.Training(steps=1, learning_rate=1e-2, tracking_weight=0.5, points=4)


def transfer_paths(family: Family, backbone: dp.Backbone, clip: dp.Clip, plain: dict[str, Any]) -> Iterator[Named]:
    """Every method of motion transfer that is not trained, and what positions it leaves."""
    last, prompt = len(backbone.layers) - 1, family.prompt
    quick: dict[str, Any] = {"layers": [last], "iterations": 2}
    positions = dp.DiTFlow(optimise="positions", **quick)
    for name, method in {
        "DiTFlow": dp.DiTFlow(**quick),
        "DiTFlow, positions": positions,
        "DiTFlow with injection": dp.DiTFlow(inject=True, **quick),
        "SMM": dp.SMM(**quick),
        "SMM, positions": dp.SMM(optimise="positions", **quick),
        "MOFT": dp.MOFT(**quick),
        "MotionClone": dp.MotionClone(**quick),
        "DMT": DMT(**quick),
        "injection": dp.Injection(last),
    }.items():
        yield name, lambda method=method: dp.transfer_motion(backbone, clip, prompt, method=method, **plain)
    yield (
        "transfer, checkpointing",
        lambda: dp.transfer_motion(
            backbone, clip, prompt, method=dp.DiTFlow(**quick), gradient_checkpointing=True, **plain
        ),
    )

    def embedded() -> None:
        found = dp.MotionTransfer(backbone, clip, prompt, method=positions, **plain).optimise()
        dp.sample(backbone, prompt, dp.InjectMotion(found), **plain)

    yield "motion embedding", embedded
    yield "MTBench", lambda: _mtbench(backbone, clip, prompt, dp.Injection(last), plain)


def of_a_clip(backbone: dp.Backbone, conditioning: dict[str, Any]) -> dict[str, Any]:
    """What a run of a clip is given: the clip itself takes the place of the one that a pipeline begins with."""
    return {name: value for name, value in conditioning.items() if name != backbone.clip_argument}


def tracking_options(backbone: dp.Backbone, size: tuple[int, int]) -> dp.TrackingOptions:
    """Those that a family can track with: some VAEs encode no image alone."""
    return dp.TrackingOptions(encode="images" if encodes_images(backbone, size) else "clip")


def encodes_images(backbone: dp.Backbone, size: tuple[int, int]) -> bool:
    """Tell whether an image alone can be encoded."""
    try:
        backbone.check_size(*size, 1)
    except InvalidInputError:
        return False
    return True


def _mtbench(backbone: dp.Backbone, clip: dp.Clip, prompt: str | None, method: Any, plain: dict[str, Any]) -> None:
    """A transfer of one entry, measured with the tracks that the backbone itself finds."""
    given: dict[str, Any] = {"steps": 3, "conditioning": of_a_clip(backbone, plain["conditioning"])}
    given |= {"size": (plain["height"], plain["width"])} | ({} if prompt is None else {"prompt": prompt})
    tracker = dp.BackboneTracker(
        backbone, len(backbone.layers) - 1, -1, options=tracking_options(backbone, given["size"]), **given
    )
    assert clip.tracks is not None
    difficulty = motion_difficulty(clip.tracks, min_spread=1.0)
    entry = Entry("one", clip, ("a red disc moves left over blue stripes",), difficulty)
    transfer = lambda reference, _: dp.transfer_motion(backbone, reference, prompt, method=method, **plain)  # noqa: E731
    found = dp.evaluate_mtbench({"one": entry}, {"injection": transfer}, dp.Measures(tracker))
    assert np.isfinite(found["motion_fidelity"]).all()


def guided_paths(family: Family, backbone: dp.Backbone, options: Callable[..., dict[str, Any]]) -> Iterator[Named]:
    """Cross-attention guidance."""
    last = len(backbone.layers) - 1
    exact = dp.CrossAttentionGuidance(layers=[last])
    yield "CAG", lambda: dp.sample(backbone, family.prompt, exact, **options())
    yield "CAG, guided", lambda: dp.sample(backbone, family.prompt, exact, **options(True))
    renormalised = dp.CrossAttentionGuidance(layers=[last], preset="renormalised")
    yield "CAG, renormalised", lambda: dp.sample(backbone, family.prompt, renormalised, **options(True))


def adapter_paths(
    family: Family, backbone: dp.Backbone, clip: dp.Clip, plain: dict[str, Any], folder: str
) -> Iterator[Named]:
    """Every trained method, fitted to the clip and attached to a run; files, checkpoints and precisions."""
    size, last = (plain["height"], plain["width"], plain["images"]), len(backbone.layers) - 1
    shown = {"prompt": family.prompt, "conditioning": of_a_clip(backbone, plain["conditioning"])}
    spatial = dataclasses.replace(TRAINING, tracking_weight=0.0)
    own: dict[str, Any] = {"spatial_training": spatial, "rank": 2}

    def fitted(method: Any) -> dp.FittedMotion:
        found: dp.FittedMotion = method.fit(backbone, clip, size=size, **shown)
        dp.transfer_motion(backbone, clip, family.prompt, method=found, **plain)
        return found

    bf16 = dataclasses.replace(TRAINING, mixed_precision="bf16")
    checkpointed = dataclasses.replace(TRAINING, gradient_checkpointing=True)
    for name, method in {
        "DeT": dp.DeT(width=4, training=TRAINING),
        "DeT, checkpointing": dp.DeT(width=4, training=checkpointed),
        "DeT, bf16": dp.DeT(width=4, training=bf16),
        "DreamBooth": dp.DreamBooth(rank=2, training=TRAINING),
        "motion inversion": dp.InvertedMotion(training=TRAINING),
        "Follow-Your-Motion": dp.FollowYourMotion(training=spatial, split="none", **own),
        "Follow-Your-Motion, 2 of 3 frames": dp.FollowYourMotion(training=spatial, split="none", sampled=2, **own),
    }.items():
        yield name, lambda method=method: fitted(method)

    def on_disk() -> None:
        found = dp.DeT(width=4, training=TRAINING).fit(backbone, clip, size=size, **shown)
        path = dp.save_adapter(found.adapter, Path(folder) / "motion.safetensors")
        loaded = AttachAdapter(dp.load_adapter(path, backbone))
        dp.sample(backbone, family.prompt, [loaded, dp.CrossAttentionGuidance(layers=[last])], **plain)

    yield "adapter of a file, with CAG", on_disk
    yield "groups of heads", lambda: head_groups(backbone, clip, split="random", **shown)

    def interrupted() -> None:
        training = dataclasses.replace(TRAINING, steps=2)
        checkpoint = Path(folder) / "motion.training.pt"

        def stop(losses: Any) -> None:
            raise KeyboardInterrupt

        given: dict[str, Any] = {"checkpoint": checkpoint, **shown}
        adapter = dp.DeT(width=4, training=training).new_adapter(backbone)
        try:
            dp.train_adapter(adapter, backbone, clip, training, on_step=stop, **given)
        except KeyboardInterrupt:
            dp.train_adapter(adapter, backbone, clip, training, resume=True, **given)

    yield "training resumed", interrupted
    for kind in (SpaceTimeKernel, LocalAttention, TokenMLP):
        yield (
            f"{kind.__name__}, trained",
            lambda kind=kind: dp.train_adapter(kind(backbone, width=4), backbone, clip, TRAINING, **shown),
        )
