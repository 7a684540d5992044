"""Floor 4: queries and keys turned back into generation. Attention motion flow, guidance and transfer come here.

The public functions are here by name, loaded when first used.

Examples
--------
>>> from generators import sample
>>> sample.__module__
'generators.sampling.sample'
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "analyses.flow.attention_flow": ("amf_loss", "attention_motion_flow", "labelled_flow"),
    "probe.attention.edit": ("Attention", "Editor", "inject"),
    "generators.guidance.cross_attention": ("CrossAttentionGuidance", "within_frames"),
    "analyses.selection.guided": ("guided_layers",),
    "generators.transfer.ditflow": ("DiTFlow",),
    "generators.transfer.embedding": ("InjectMotion", "MotionEmbedding"),
    "generators.transfer.embedding_files": ("load_embedding", "save_embedding"),
    "generators.errors": ("GuidanceDivergedError",),
    "analyses.flow.files": ("load_flow", "save_flow"),
    "generators.guidance.diffusers_guider": ("CrossAttentionGuider",),
    "generators.transfer.injection": ("Injection", "inject_video"),
    "generators.transfer.moft": ("MOFT", "moft_loss", "motion_channels"),
    "generators.transfer.motion_clone": ("MotionClone", "motion_clone_loss", "temporal_attention"),
    "generators.sampling.optimise": ("minimise",),
    "generators.transfer.optimised": ("OptimisedMethod",),
    "probe.attention.positions": ("AddedPositions", "Positions", "RotaryPositions"),
    "probe.run.layers_of_clip": ("Reading", "reading_of_clip"),
    "analyses.flow.reference_flow": ("reference_flow",),
    "generators.sampling.sample": ("GuidedSampling", "sample"),
    "generators.transfer.smm": ("SMM", "smm_loss"),
    "generators.sampling.step": ("Step",),
    "generators.sampling.strategy": ("Run", "Strategy"),
    "generators.transfer.motion_transfer": ("MotionTransfer", "Transferred", "transfer_motion"),
    "generators.transfer.method": ("PlainBackbone", "TransferMethod"),
    "generators.transfer.reference_clip": ("Reference", "TransferWarning", "fit_reference"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'generators' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
