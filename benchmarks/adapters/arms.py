"""The methods that are compared, each as it was tuned on the tuning scenes (seeds below those of the references)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.transfer.methods import LATENTS, RATE_OF, rated
from generators.adapters.adapter import MotionAdapter
from generators.adapters.arms import SpaceTimeKernel, TokenMLP
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalKernel
from generators.adapters.training.settings import Training
from generators.transfer.ditflow import DiTFlow
from generators.transfer.method import PlainBackbone, TransferMethod
from generators.transfer.motion_clone import MotionClone
from probe import Backbone

PLAIN, DITFLOW, MOTION_CLONE = "plain backbone", "DiTFlow", "MotionClone"
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
    "mini": {DET: 3e-3, DREAMBOOTH: 3e-3, INVERSION: 3e-2},
    "mini-rope": {DET: 3e-3, DREAMBOOTH: 3e-3, INVERSION: 3e-2},
}


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
            once=((0, 1, 2), (0, 1, 2, 3)),
        ),
        DREAMBOOTH: Trained(LoRA, (("rank", 32),), trained[DREAMBOOTH]),
        INVERSION: Trained(MotionInversion, (), trained[INVERSION]),
        MOTION_CLONE: rated(MotionClone(), RATE_OF[backbone]["MotionClone"]),
    }


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
    found["tracking loss 0.1, tracked points"] = replace(det, exact_tracks=False)
    found["caption names the motion"] = replace(det, names_motion=True)
    found["rate 0.01"] = replace(det, training=replace(det.training, learning_rate=0.01), once=((0, 1, 2),))
    found["Conv3D"] = replace(det, kind=SpaceTimeKernel, settings=(("width", 16), ("kernel", 3)))
    found["MLP"] = replace(det, kind=TokenMLP, settings=(("width", 192),))
    return found
