"""DeT and its trained baselines as methods of motion transfer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from generators.adapters.adapter import MotionAdapter
from generators.adapters.fitted import TrainedMethod
from generators.adapters.lora import LoRA
from generators.adapters.motion_inversion import MotionInversion
from generators.adapters.temporal_kernel import TemporalKernel
from generators.adapters.training.losses import LossPreset
from generators.adapters.training.settings import Training
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size

KEPT = 0.35
"""Of the blocks: all but the last 65 %."""


@dataclass(frozen=True, kw_only=True)
class DeT(TrainedMethod):
    """Motion transfer by a temporal kernel trained on the reference (Shi et al., ICCV 2025).

    Parameters
    ----------
    keep, training
        As of :class:`generators.adapters.fitted.TrainedMethod`.
    width, kernel : int, optional
        As of :class:`generators.adapters.temporal_kernel.TemporalKernel`; by default as published for the family.
    preset : "exact", "paper" or "det"
        Of the losses and of what is not given: "paper" has the published settings, "det" those of the released code
        (weight decay 1e-4, betas .9 and .95, no tracking loss, normal initial values), "exact" those that were tuned
        for the backbone where some were, else the published ones.

    Examples
    --------
    >>> from probe import load_backbone
    >>> DeT(preset="paper").describe(load_backbone("mini"), steps=50)
    'DeT trained for 500 steps at rate 1e-05 (paper), kept in the first 35% of the layers'
    """

    width: int | None = None
    kernel: int | None = None
    preset: LossPreset = "exact"

    def new_adapter(self, backbone: Backbone, size: Size | None = None) -> MotionAdapter:
        """A temporal kernel in every layer."""
        shape = published_kernel(backbone) | (_tuned(backbone, "det")[1] if self.preset == "exact" else {})
        return TemporalKernel(
            backbone,
            width=shape["width"] if self.width is None else self.width,
            kernel=shape["kernel"] if self.kernel is None else self.kernel,
            init="det" if self.preset == "det" else "exact",
        )

    def resolve_training(self, backbone: Backbone) -> Training:
        """The given settings, else those of the preset."""
        if self.training is not None:
            return self.training
        if self.preset == "exact":
            tuned = _tuned(backbone, "det")[0]
            return published_training(backbone) if tuned is None else tuned
        return published_training(backbone, self.preset)

    def resolve_keep(self, backbone: Backbone) -> float:
        """The given share, else the tuned one, else the published 35 %."""
        tuned = _tuned(backbone, "det")[1].get("keep", KEPT) if self.preset == "exact" else KEPT
        return float(tuned) if self.keep is None else self.keep


@dataclass(frozen=True, kw_only=True)
class DreamBooth(TrainedMethod):
    """DeT's baseline of a LoRA trained on the reference (Ruiz et al., CVPR 2023, in its LoRA variant).

    Parameters
    ----------
    keep, training
        As of :class:`generators.adapters.fitted.TrainedMethod`; all layers are kept.
    rank : int, optional
        Published is 128.

    Examples
    --------
    >>> from probe import load_backbone
    >>> DreamBooth(rank=8).new_adapter(load_backbone("mini")).kind
    'lora'
    """

    rank: int | None = None

    def new_adapter(self, backbone: Backbone, size: Size | None = None) -> MotionAdapter:
        """A LoRA of queries, keys, values and output in every layer."""
        rank = _tuned(backbone, "dreambooth")[1].get("rank", 128) if self.rank is None else self.rank
        return LoRA(backbone, rank=rank)

    def resolve_training(self, backbone: Backbone) -> Training:
        """The given settings, else the tuned ones, else the published ones."""
        tuned = _tuned(backbone, "dreambooth")[0]
        return self.training or tuned or Training(learning_rate=1e-4, tracking_weight=0.0)


@dataclass(frozen=True, kw_only=True)
class InvertedMotion(TrainedMethod):
    """DeT's baseline of MotionInversion: embeddings of frames and cells trained on the reference.

    Parameters
    ----------
    keep, training
        As of :class:`generators.adapters.fitted.TrainedMethod`; all layers are kept.
    keep_cells : bool
        Whether the embeddings of cells, which hold appearance, are used at inference too. DeT does not say;
        MotionInversion drops them.

    Examples
    --------
    >>> from probe import load_backbone
    >>> InvertedMotion().new_adapter(load_backbone("mini")).kind
    'motion-inversion'
    """

    keep_cells: bool = True

    def new_adapter(self, backbone: Backbone, size: Size | None = None) -> MotionAdapter:
        """Embeddings in every layer."""
        return MotionInversion(backbone, size=size)

    def resolve_training(self, backbone: Backbone) -> Training:
        """The given settings, else the tuned ones, else the published ones."""
        tuned = _tuned(backbone, "motion-inversion")[0]
        return self.training or tuned or Training(learning_rate=1e-3, tracking_weight=0.0)

    def inference_adapter(self, adapter: MotionAdapter) -> MotionAdapter:
        """The embeddings, those of cells only if they are kept."""
        return adapter if self.keep_cells or not isinstance(adapter, MotionInversion) else adapter.without_cells()


def published_kernel(backbone: Backbone) -> dict[str, int]:
    """Return width and kernel as published: k = 5 for HunyuanVideo, k = 3 for CogVideoX, m = 128 for both.

    Other families have those of CogVideoX.
    """
    return {"width": 128, "kernel": 5 if backbone.family == "HunyuanVideo" else 3}


def published_training(backbone: Backbone, preset: LossPreset = "exact") -> Training:
    """Return the published settings of DeT, those of the released code for the preset "det"."""
    warm_up = 100 if backbone.family == "HunyuanVideo" else 0
    found = Training(warm_up=warm_up, preset=preset)
    if preset == "det":
        return replace(found, weight_decay=1e-4, betas=(0.9, 0.95), tracking_weight=0.0)
    return found


_ON_MINIS = Training(steps=200, learning_rate=3e-3, warm_up=20, tracking_weight=0.0)


def _tuned_on_minis(rate: float, keep: float) -> Mapping[str, tuple[Training | None, dict[str, Any]]]:
    return {
        "det": (replace(_ON_MINIS, learning_rate=rate, tracking_weight=0.1), {"width": 64, "keep": keep}),
        "dreambooth": (_ON_MINIS, {"rank": 32}),
        "motion-inversion": (replace(_ON_MINIS, learning_rate=3e-2), {}),
    }


TUNED: Mapping[str, Mapping[str, tuple[Training | None, dict[str, Any]]]] = {
    "mini": _tuned_on_minis(1e-2, KEPT),
    **dict.fromkeys(("mini-rope", "mini@1", "mini-rope@1"), _tuned_on_minis(3e-3, 1.0)),
}
"""By backbone and method: the training and further settings, chosen on three tuning scenes. DeT's kept layers are the
published ones on ``mini``, where all of them bring the reference's colours along, and all elsewhere."""


def _tuned(backbone: Backbone, method: str) -> tuple[Training | None, dict[str, Any]]:
    return TUNED.get(backbone.name, {}).get(method, (None, {}))
