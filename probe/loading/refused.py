"""Reasons why a pipeline or a transformer of diffusers cannot be probed, by the name of its class."""

from __future__ import annotations

_LINEAR = "its self-attention is linear, so queries are never multiplied with keys and there is nothing to see."
_IN_PIECES = "it makes a clip in pieces, one after the other, so a step of the run occurs several times."
_HISTORY = (
    "it makes a clip in sections, each preceded by tokens of earlier ones, so a step of the run occurs several times."
)
_KEYFRAMES = "keyframes are additional tokens among those of the video, so its tokens do not form one grid."
_NO_STEPS = "it enlarges or decodes the latents of another pipeline and does not denoise a clip."
_UNDESCRIBED = "no family describes its calls yet, though its attention can be tapped."

REFUSED = {
    "AnyFlowFARTransformer3DModel": _HISTORY,
    "AnyFlowTransformer3DModel": _UNDESCRIBED,
    "ChronoEditTransformer3DModel": "it edits a single image and drops frames of its clip between steps.",
    "Cosmos2TextToImagePipeline": "it makes a single image, not a clip.",
    "Cosmos2_5_TransferPipeline": _IN_PIECES,
    "Cosmos3OmniTransformer": (
        "several query heads share one key head, and text and video have separate projections, neither of which a "
        "capture can hold."
    ),
    "EasyAnimateControlPipeline": "every call of it fails in diffusers 0.42, on one of its own arguments.",
    "HeliosTransformer3DModel": _HISTORY,
    "HunyuanVideoFramepackTransformer3DModel": _HISTORY,
    "Kandinsky6SRTransformer3DModel": "it enlarges the clip of another pipeline.",
    "Kandinsky6Transformer3DModel": _UNDESCRIBED,
    "LTX2DFRPipeline": _KEYFRAMES,
    "LTX2DFRTemporalRefinePipeline": _KEYFRAMES,
    "LTX2LatentUpsamplePipeline": _NO_STEPS,
    "LTX2VideoDiffusionDecodePipeline": _NO_STEPS,
    "LTXI2VLongMultiPromptPipeline": _IN_PIECES,
    "LTXLatentUpsamplePipeline": _NO_STEPS,
    "MotifVideoTransformer3DModel": _UNDESCRIBED,
    "SanaVideoTransformer3DModel": _LINEAR,
    "SanaWMTransformer3DModel": _LINEAR,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _IN_PIECES,
    "WanAnimateTransformer3DModel": _IN_PIECES,
}
"""Reason by class of pipelines or of transformers, as the rest of a sentence."""
