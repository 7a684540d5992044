"""Follow-Your-Motion as a method of motion transfer: heads of space and of time, adapted one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from generators.adapters.adapter import MotionAdapter
from generators.adapters.decoupled.groups import SPATIAL, TEMPORAL, Split, Undecided, head_groups
from generators.adapters.decoupled.lora import DecoupledLoRA
from generators.adapters.decoupled.losses import MotionLossPreset
from generators.adapters.decoupled.objectives import (
    ImageObjective,
    MotionOf,
    PositionsOf,
    SparseObjective,
    SparseSettings,
    default_sampled,
    sampled_images,
)
from generators.adapters.fitted import TrainedMethod
from generators.adapters.motion_tracks import MotionTracks
from generators.adapters.training.settings import Losses, Training
from generators.adapters.training.stages import Stage
from generators.adapters.training.train import OnTrainingStep, check_moving, run_stages
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.checks import finite, integer, one_of
from store.clips.clip import Clip
from store.errors import InvalidInputError

Trained = Literal["both", "spatial", "temporal"]


@dataclass(frozen=True, kw_only=True)
class FollowYourMotion(TrainedMethod):
    """Motion transfer by a LoRA of the spatial heads and another of the temporal ones (Ma et al., 2025).

    Heads are classified on the reference. The spatial LoRA learns from single images. Then the temporal one, beside the
    frozen spatial one, learns from a few frames at their places in time. The rule of the classes, the motion loss and
    every setting that is left out follow ``preset``: "paper" and "code" as published, "exact" as
    :func:`analyses.heads.classify.classify_heads` and :func:`generators.adapters.decoupled.losses.motion_loss` have it,
    with the rates that were tuned for the backbone where some were.

    Parameters
    ----------
    keep : float, optional
        As of :class:`generators.adapters.fitted.TrainedMethod`; all layers are kept.
    training, spatial_training : Training, optional
        Of the temporal and of the spatial LoRA; their tracking loss is not used. Both have the precision and the
        gradient checkpointing of ``training``.
    preset : "exact", "paper" or "code"
    split : optional
        As of :func:`generators.adapters.decoupled.groups.head_groups`; by default the rule of ``preset``.
    undecided : "nearest" or "neither"
        As there.
    rank : int, optional
        Published are 128, and 16 in the code.
    sampled : int, optional
        Latent frames that are shown to the temporal LoRA; by default 5 of 21, as published, at least 3. With all
        of them, nothing is sampled.
    positions, ends, motion_of
        As of :class:`generators.adapters.decoupled.objectives.SparseSettings`.
    motion_weight : float, optional
        Weight of the motion loss; published is 1. On the bundled backbones 0.1 was tuned for preset "exact": with 1 a
        clip of the reference's own caption does not fit the reference.
    trained : "both", "spatial" or "temporal"
        Which of them are trained and used.
    keep_spatial : bool
        Whether the spatial LoRA is used at inference too, as in the released code.
    seed : int
        Seed of the classes and of random groups; that of the noise is a training's own.

    Examples
    --------
    >>> from probe import load_backbone
    >>> FollowYourMotion(preset="paper").describe(load_backbone("mini"), steps=50)
    'FollowYourMotion (paper): 3000 steps on images, then 2000 on 3 of 6 frames, at adaptive positions'
    """

    preset: MotionLossPreset = "exact"
    spatial_training: Training | None = None
    split: Split | None = None
    undecided: Undecided = "nearest"
    rank: int | None = None
    sampled: int | None = None
    positions: PositionsOf = "adaptive"
    ends: bool = False
    motion_weight: float | None = None
    motion_of: MotionOf = "prediction"
    trained: Trained = "both"
    keep_spatial: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.motion_weight is not None:
            finite(self.motion_weight, "motion_weight", min_value=0)
        one_of(self.trained, ("both", SPATIAL, TEMPORAL), "trained")
        for name in ("rank", "sampled"):
            if getattr(self, name) is not None:
                integer(getattr(self, name), name, min_value=1 if name == "rank" else 2)
        if self.trained == SPATIAL and not self.keep_spatial:
            raise InvalidInputError("trained='spatial' without keep_spatial leaves nothing to use at inference.")

    def resolve_training(self, backbone: Backbone) -> Training:
        """The settings of the temporal LoRA: given, tuned, or published."""
        return self.training or self._settings(backbone, TEMPORAL)

    def resolve_spatial_training(self, backbone: Backbone) -> Training:
        """The settings of the spatial LoRA: given, tuned, or published."""
        temporal = self.resolve_training(backbone)
        chosen = self.spatial_training or self._settings(backbone, SPATIAL)
        shared = ("mixed_precision", "gradient_checkpointing")
        return replace(chosen, **{name: getattr(temporal, name) for name in shared})

    def _settings(self, backbone: Backbone, group: str) -> Training:
        tuned = TUNED.get(backbone.name, {}).get(group)
        if self.preset == "exact" and tuned is not None:
            return tuned
        return PUBLISHED["paper" if self.preset == "paper" else "code"][group]

    def resolve_rank(self, backbone: Backbone) -> int:
        """The rank: given, tuned, or published."""
        if self.rank is not None:
            return self.rank
        return 128 if self.preset == "paper" else 16

    def resolve_sampled(self, backbone: Backbone, size: Size) -> int:
        """The number of latent frames that the temporal LoRA is shown."""
        frames = backbone.layout(*size).frames
        return default_sampled(backbone, frames) if self.sampled is None else self.sampled

    def resolve_motion_weight(self, backbone: Backbone) -> float:
        """The weight of the motion loss: given, tuned, or published."""
        if self.motion_weight is not None:
            return self.motion_weight
        return TUNED_MOTION_WEIGHT if self.preset == "exact" and backbone.name in TUNED else 1.0

    def new_adapter(self, backbone: Backbone, size: Size | None = None) -> MotionAdapter:
        """An adapter of as many parameters, for plans: half of the heads of each layer are in a group."""
        halves = [layer.heads // 2 for layer in backbone.layers]
        groups = {
            SPATIAL: [list(range(half)) for half in halves],
            TEMPORAL: [list(range(half, layer.heads)) for half, layer in zip(halves, backbone.layers, strict=True)],
        }
        return self._adapter(backbone, groups)

    def adapter_for(
        self,
        backbone: Backbone,
        clip: Clip,
        *,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
    ) -> MotionAdapter:
        """An untrained adapter with the heads as they are classified on a clip."""
        self._check(backbone, clip)
        rule: Split = self.preset if self.split is None else self.split
        groups = head_groups(
            backbone,
            clip,
            split=rule,
            undecided=self.undecided,
            seed=self.seed,
            prompt=prompt,
            conditioning=conditioning,
        )
        return self._adapter(backbone, groups)

    def _adapter(self, backbone: Backbone, groups: dict[str, list[list[int]]]) -> DecoupledLoRA:
        wanted = (SPATIAL, TEMPORAL) if self.trained == "both" else (self.trained,)
        chosen = {name: groups[name] for name in wanted}
        return DecoupledLoRA(backbone, heads=chosen, rank=self.resolve_rank(backbone), seed=self.seed)

    def _check(self, backbone: Backbone, clip: Clip) -> None:
        """Raise for what a clip does not have, before anything runs."""
        check_moving(clip)
        size = Size(clip.height, clip.width, len(clip))
        backbone.check_size(*size)
        sampled_images(backbone, clip, self.resolve_sampled(backbone, size))

    def train(
        self,
        adapter: MotionAdapter,
        backbone: Backbone,
        clip: Clip,
        *,
        tracks: MotionTracks | None = None,
        prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_step: OnTrainingStep | None = None,
    ) -> list[Losses]:
        """Train the groups of an adapter, the spatial heads first."""
        self._check(backbone, clip)
        adapter.check(backbone)
        backbone.check_ready()
        assert isinstance(adapter, DecoupledLoRA)
        if prompt is None and backbone.embeddings not in (conditioning or {}):
            prompt = backbone.caption_of(clip) or ""
        stages = [
            self._stage(name, adapter, backbone, clip, {"prompt": prompt, "conditioning": conditioning})
            for name in adapter.groups
        ]
        return run_stages(adapter, backbone, stages, checkpoint=checkpoint, resume=resume, on_step=on_step)

    def _stage(self, name: str, adapter: DecoupledLoRA, backbone: Backbone, clip: Clip, shown: dict[str, Any]) -> Stage:
        parameters = adapter.parameters_of(name)
        if name == SPATIAL:
            training = self.resolve_spatial_training(backbone)
            images = ImageObjective(backbone, clip, training, preset=self.preset, **shown)
            return Stage(training, parameters, images, name, {"preset": self.preset})
        training = self.resolve_training(backbone)
        settings = SparseSettings(
            sampled=self.resolve_sampled(backbone, Size(clip.height, clip.width, len(clip))),
            positions=self.positions,
            ends=self.ends,
            motion_weight=self.resolve_motion_weight(backbone),
            motion_of=self.motion_of,
            preset=self.preset,
        )
        sparse = SparseObjective(backbone, clip, training, settings, **shown)
        return Stage(training, parameters, sparse, name, asdict(settings))

    def training_details(self, backbone: Backbone) -> dict[str, Any]:
        """The settings of both trainings, and those of the method."""
        own = ("preset", "split", "undecided", "sampled", "positions", "ends", "motion_of", "trained")
        return {
            "training": asdict(self.resolve_training(backbone)),
            "spatial_training": asdict(self.resolve_spatial_training(backbone)),
            "settings": {name: getattr(self, name) for name in own}
            | {"motion_weight": self.resolve_motion_weight(backbone)},
        }

    def total_steps(self, backbone: Backbone) -> int:
        """Steps of the optimiser in all."""
        spatial, temporal = self.steps_of_stages(backbone)
        return spatial + temporal

    def steps_of_stages(self, backbone: Backbone) -> tuple[int, int]:
        """Steps of the optimiser on images and on sampled frames; 0 where a LoRA is not trained."""
        steps = self.resolve_spatial_training(backbone).steps, self.resolve_training(backbone).steps
        return steps[0] * (self.trained != TEMPORAL), steps[1] * (self.trained != SPATIAL)

    def inference_adapter(self, adapter: MotionAdapter) -> MotionAdapter:
        """Both LoRAs, or the temporal one alone."""
        if self.keep_spatial or not isinstance(adapter, DecoupledLoRA):
            return adapter
        return adapter.only(TEMPORAL)

    def describe(self, backbone: Backbone, steps: int) -> str:
        """Text on what is trained and how often."""
        spatial, temporal = self.steps_of_stages(backbone)
        size = backbone.default_size
        sampled, frames = self.resolve_sampled(backbone, size), backbone.layout(*size).frames
        parts = [f"{spatial} steps on images"] * bool(spatial)
        if temporal:
            parts.append(f"{temporal} on {sampled} of {frames} frames, at {self.positions} positions")
        return f"{type(self).__name__} ({self.preset}): {', then '.join(parts)}"

    def passes(self, backbone: Backbone, steps: int) -> float:
        """Three for each training step, in the proportion of its frames to those of the clip."""
        spatial, temporal = self.steps_of_stages(backbone)
        size = backbone.default_size
        frames = backbone.layout(*size).frames
        return 3.0 * (spatial + temporal * self.resolve_sampled(backbone, size)) / frames


PUBLISHED: Mapping[str, Mapping[str, Training]] = {
    "paper": {
        SPATIAL: Training(steps=3000, learning_rate=1e-4, tracking_weight=0.0),
        TEMPORAL: Training(steps=2000, learning_rate=1e-4, tracking_weight=0.0),
    },
    "code": {
        SPATIAL: Training(steps=1500, learning_rate=1e-4, weight_decay=0.1, tracking_weight=0.0),
        TEMPORAL: Training(steps=1500, learning_rate=1e-4, weight_decay=0.5, tracking_weight=0.0),
    },
}
"""Settings of the paper (Wan2.1; its rate is not stated, that of the code is used) and of the released code."""

_TEMPORAL = Training(steps=200, learning_rate=3e-3, warm_up=20, tracking_weight=0.0)
_ON_MINIS = {SPATIAL: replace(_TEMPORAL, steps=100), TEMPORAL: _TEMPORAL}
TUNED: Mapping[str, Mapping[str, Training]] = dict.fromkeys(("mini", "mini-rope", "mini@1", "mini-rope@1"), _ON_MINIS)
"""For the bundled backbones: the rate and steps of the other LoRA, with half as many steps on images."""

TUNED_MOTION_WEIGHT = 0.1
"""For the bundled backbones."""
