"""The methods that are compared, each as it was tuned on the tuning scenes (seeds below those of the references)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.transfer.methods import LATENTS, RATE_OF, rated
from generators.adapters.adapter import MotionAdapter
from generators.adapters.arms import LocalAttention, SpaceTimeKernel, TokenMLP
from generators.adapters.decoupled.follow_your_motion import FollowYourMotion
from generators.adapters.fitted import TrainedMethod
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalKernel
from generators.adapters.training.settings import Training
from generators.transfer.ditflow import DiTFlow
from generators.transfer.dmt import DMT
from generators.transfer.method import PlainBackbone, TransferMethod
from generators.transfer.motion_clone import MotionClone
from probe import Backbone

PLAIN, DITFLOW, MOTION_CLONE, DMT_ARM = "plain backbone", "DiTFlow", "MotionClone", "DMT"
FYM = "Follow-Your-Motion"
DET, DREAMBOOTH, INVERSION = "DeT", "DreamBooth (LoRA)", "MotionInversion"
STEPS = 200
"""Of each training."""
ALL = (0, 1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Trained:
    """An adapter that is trained on each reference, and the sets of layers that are kept when it generates.

    Parameters
    ----------
    kind : class of the adapter
    settings : keyword arguments of it
    training : Training
    kept : sets of layers with which both prompts are generated; the first one is that of the table
    once : sets of layers with which the new prompt alone is generated
    exact_tracks : whether the tracking loss has the scene's own tracks, else those of ``track_points``
    names_motion : whether the caption of the training names the direction of the reference's motion
    """

    kind: Callable[..., MotionAdapter]
    settings: tuple[tuple[str, Any], ...]
    training: Training
    kept: tuple[tuple[int, ...], ...] = (ALL,)
    once: tuple[tuple[int, ...], ...] = ()
    exact_tracks: bool = True
    names_motion: bool = False

    def new(self, backbone: Backbone) -> MotionAdapter:
        """An untrained adapter."""
        return self.kind(backbone, **dict(self.settings))


Arm = Trained | TransferMethod

_TRAINING = Training(steps=STEPS, warm_up=20, tracking_weight=0.0)
RATES = {
    "mini": {DET: 1e-2, DREAMBOOTH: 3e-3, INVERSION: 3e-2, FYM: 3e-3},
    "mini@1": {DET: 3e-3, DREAMBOOTH: 3e-3, INVERSION: 1e-1, FYM: 3e-3},
    "mini-rope": {DET: 3e-3, DREAMBOOTH: 3e-3, INVERSION: 3e-2, FYM: 3e-3},
    "mini-rope@1": {DET: 3e-3, DREAMBOOTH: 3e-3, INVERSION: 3e-2, FYM: 3e-3},
}
"""Chosen by the parts "tune" and, for Follow-Your-Motion on the present weights, "weight": the lowest motion error
among rates within 5 points of the plain prompt agreement. Those of mini-rope@1 were not tuned."""

MOTION_WEIGHT = 0.1
"""Of the motion loss of Follow-Your-Motion, chosen by the part "weight": with the published 1 it does not fit."""

TRIED = {
    DET: (1e-3, 3e-3, 1e-2),
    DREAMBOOTH: (1e-3, 3e-3, 1e-2),
    INVERSION: (1e-2, 3e-2, 1e-1),
    FYM: (1e-3, 3e-3, 1e-2),
}
"""Rates of the part "tune"."""


def arms(backbone: str) -> dict[str, Arm]:
    """The rows of the table."""
    rates = RATES[backbone]
    trained = {name: replace(_TRAINING, learning_rate=rate) for name, rate in rates.items()}
    return {
        PLAIN: PlainBackbone(),
        DITFLOW: rated(DiTFlow(), RATE_OF[backbone][LATENTS]),
        DET: Trained(
            TemporalKernel,
            (("width", 64), ("kernel", 3)),
            replace(trained[DET], tracking_weight=0.1),
            kept=(ALL, (0, 1)),
            once=tuple(tuple(range(count)) for count in (1, 3, 4, 5)),
        ),
        DREAMBOOTH: Trained(LoRA, (("rank", 32),), trained[DREAMBOOTH]),
        INVERSION: Trained(MotionInversion, (), trained[INVERSION]),
        FYM: follow_your_motion(backbone),
        MOTION_CLONE: rated(MotionClone(), RATE_OF[backbone]["MotionClone"]),
        DMT_ARM: rated(DMT(), RATE_OF[backbone]["SMM"]),
    }


def follow_your_motion(backbone: str) -> FollowYourMotion:
    """Follow-Your-Motion at the rank of the other LoRA, with all its steps for the temporal heads."""
    temporal = replace(_TRAINING, learning_rate=RATES[backbone][FYM])
    spatial = replace(temporal, steps=STEPS // 2)
    return FollowYourMotion(
        rank=32, sampled=3, training=temporal, spatial_training=spatial, motion_weight=MOTION_WEIGHT
    )


def splits(backbone: str) -> dict[str, Arm]:
    """Follow-Your-Motion with one thing changed."""
    whole = follow_your_motion(backbone)
    changes: dict[str, dict[str, Any]] = {
        "no split": {"split": "none"},
        "random heads": {"split": "random"},
        "undecided heads in no group": {"undecided": "neither"},
        "spatial heads alone": {"trained": "spatial"},
        "temporal heads alone": {"trained": "temporal"},
        "spatial LoRA left out at inference": {"keep_spatial": False},
        "no sparse sampling": {"sampled": 6},
        "positions 0, 1, 2": {"positions": "plain"},
        "random positions": {"positions": "random"},
        "positions to the last frame": {"ends": True},
        "no motion loss": {"motion_weight": 0.0},
        "motion loss of weight 1, as published": {"motion_weight": 1.0},
        "motion loss on clean latents": {"motion_of": "clean"},
        "motion loss of the paper": {"preset": "paper", "split": "exact"},
        "motion loss of the code": {"preset": "code", "split": "exact"},
    }
    return {name: replace(whole, **change) for name, change in changes.items()}


def candidates(backbone: str) -> dict[str, Arm]:
    """Every trained arm at every rate, to choose from on the tuning scenes; motion losses have the published weight."""
    found: dict[str, Arm] = {PLAIN: PlainBackbone()}
    for name, arm in arms(backbone).items():
        for rate in TRIED.get(name, ()):
            if isinstance(arm, Trained):
                rated_arm = replace(arm, training=replace(arm.training, learning_rate=rate), once=())
            else:
                assert isinstance(arm, FollowYourMotion)
                rated_arm = _at_rate(replace(arm, motion_weight=1.0), rate)
            found[f"{name}, rate {rate:g}"] = rated_arm
    return found


def weights(backbone: str) -> dict[str, Arm]:
    """Follow-Your-Motion at the published weight of its motion loss and its best rate there, and otherwise."""
    published = _at_rate(replace(follow_your_motion(backbone), motion_weight=1.0), 1e-3 if backbone == "mini" else 3e-3)
    assert published.training is not None
    changes: dict[str, dict[str, Any]] = {
        "published weight": {},
        "500 temporal steps": {"training": replace(published.training, steps=500)},
        "no split": {"split": "none"},
        "no sparse sampling": {"sampled": 6},
        "no motion loss": {"motion_weight": 0.0},
        "neither motion loss nor sparse sampling": {"motion_weight": 0.0, "sampled": 6},
    }
    found: dict[str, Arm] = {PLAIN: PlainBackbone()}
    found |= {name: replace(published, **change) for name, change in changes.items()}
    low = replace(published, motion_weight=MOTION_WEIGHT)
    return found | {f"weight {MOTION_WEIGHT:g}, rate {rate:g}": _at_rate(low, rate) for rate in TRIED[FYM]}


def _at_rate(arm: FollowYourMotion, rate: float) -> FollowYourMotion:
    assert arm.training is not None
    assert arm.spatial_training is not None
    both = {"training": arm.training, "spatial_training": arm.spatial_training}
    return replace(arm, **{key: replace(each, learning_rate=rate) for key, each in both.items()})


def is_trained(arm: Arm) -> bool:
    """Tell whether an arm trains on each reference."""
    return isinstance(arm, Trained | TrainedMethod)


def shortened(arm: Arm, steps: int) -> Arm:
    """The arm with its trainings cut to a number of steps."""

    def cut(training: Training) -> Training:
        return replace(training, steps=min(steps, training.steps), warm_up=min(training.warm_up, steps // 4))

    if isinstance(arm, FollowYourMotion):
        assert arm.training is not None
        assert arm.spatial_training is not None
        return replace(arm, training=cut(arm.training), spatial_training=cut(arm.spatial_training))
    return replace(arm, training=cut(arm.training)) if isinstance(arm, Trained) else arm


def ablations(backbone: str) -> dict[str, Arm]:
    """DeT with one thing changed."""
    det = arms(backbone)[DET]
    assert isinstance(det, Trained)
    det = replace(det, kept=(ALL,), once=())
    found: dict[str, Arm] = {
        f"kernel {kernel}, width {width}": replace(det, settings=(("width", width), ("kernel", kernel)))
        for kernel, width in ((5, 64), (3, 16), (3, 128))
    }
    for weight in (0.0, 0.01, 1.0):
        found[f"tracking loss {weight:g}"] = replace(det, training=replace(det.training, tracking_weight=weight))
    for weight in (0.01, 0.1, 1.0):
        training = replace(det.training, tracking_weight=weight)
        found[f"tracking loss {weight:g}, tracked points"] = replace(det, exact_tracks=False, training=training)
    found["caption names the motion"] = replace(det, names_motion=True)
    other = 0.001 if det.training.learning_rate > 0.003 else 0.01
    found[f"rate {other:g}"] = replace(det, training=replace(det.training, learning_rate=other), once=((0, 1, 2),))
    found["Conv3D"] = replace(det, kind=SpaceTimeKernel, settings=(("width", 16), ("kernel", 3)))
    found["local attention"] = replace(det, kind=LocalAttention, settings=(("width", 64), ("window", (3, 5, 5))))
    for place in ("qkv", "kv"):
        found[f"kernel on {place}"] = replace(det, settings=(("width", 64), ("kernel", 3), ("place", place)))
    found["MLP"] = replace(det, kind=TokenMLP, settings=(("width", 192),))
    return found
