"""Reasons why a pipeline or a transformer of diffusers is not probed, by the name of its class."""

from __future__ import annotations

_LINEAR = "its self-attention is linear, so queries are never multiplied with keys and there is nothing to see."
_IN_PIECES = "it makes a clip in pieces, one denoised after the other, so that a step of the run comes several times."
_HISTORY = "it makes a clip in sections, after tokens of those before, so that a step of the run comes several times."
_KEYFRAMES = "keyframes stand as tokens of their own among those of the video, so that these are not one grid."
_NO_STEPS = "it enlarges or decodes latents that another pipeline made, and denoises no clip."
_UNDESCRIBED = "no family describes its calls yet, though its attention can be tapped."

REFUSED = {
    "AnyFlowFARTransformer3DModel": _HISTORY,
    "AnyFlowTransformer3DModel": _UNDESCRIBED,
    "ChronoEditTransformer3DModel": "it edits one image, and drops frames of its clip between steps.",
    "Cosmos2TextToImagePipeline": "it makes one image, no clip.",
    "Cosmos2_5_TransferPipeline": _IN_PIECES,
    "Cosmos3OmniTransformer": (
        "several heads of its queries share one of the keys, and text and video have projections of their own, for "
        "which captures have no place."
    ),
    "EasyAnimateControlPipeline": "every call of it in diffusers 0.42 fails, on an argument of its own.",
    "HeliosTransformer3DModel": _HISTORY,
    "HunyuanVideoFramepackTransformer3DModel": _HISTORY,
    "Kandinsky6SRTransformer3DModel": "it enlarges a clip that another pipeline made.",
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
