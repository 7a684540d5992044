"""LTX-2, which makes a video and its sound together: the self-attention of the video stream is what is probed.

Each block attends among the video tokens (``attn1``, the layers here), among those of the audio, from either to the
text, and from each of the two streams to the other. Captures have the video tokens alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift
from torch import Tensor, nn

from probe.attention.position_sources import Replaced
from probe.attention.positions import Positions
from probe.backbones.geometry import Size
from probe.families.ltx_video import LTXVideo
from probe.families.registry import register_family
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout

_OFF = {"guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0}


@register_family
class LTX2(LTXVideo):
    """An LTX-2 pipeline; classifier-free guidance is one call with batch [uncond, cond].

    Further calls of a step, with perturbed attention or without the attention between the streams, are of neither
    branch and not captured. While a pipeline samples, the audio takes part as in any run. A clip has no sound that the
    model could be shown: it is replayed with the attention between the streams off (``isolate_modalities``), which is
    one of the pipeline's own calls of guidance. Sound that a run makes is not kept in clips.
    """

    family = "LTX-2"
    pipelines = ("LTX2Pipeline", "LTX2ImageToVideoPipeline")
    image_pipelines = ("LTX2ImageToVideoPipeline",)
    transformers = ("LTX2VideoTransformer3DModel",)
    positions_replaced: ClassVar[bool] = False
    fps = 24.0

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates when none is asked for."""
        return Size(512, 768, 121)

    @classmethod
    def grid_of_call(cls, denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the frames, rows and columns of the video tokens of a transformer call."""
        sizes = (call["num_frames"], call["height"], call["width"])
        frames, rows, columns = (size // n for size, n in zip(sizes, cls.patch_of(denoiser), strict=True))
        return frames, rows, columns

    # Calls of the transformer -------------------------------------------------------------------------------------

    def is_guided(self, call: Mapping[str, Any]) -> bool:
        """Return whether the current run has both branches, for the guidance of the video or of the audio."""
        return bool(self.pipeline.do_classifier_free_guidance)

    def branches_of_call(self, batch: int, *, call: int, guided: bool) -> list[tuple[str, int]]:
        """Return branch and sample of each batch element; calls after the first in a step are of neither branch."""
        if call > 0:
            return [("perturbed", sample) for sample in range(batch)]
        return super().branches_of_call(batch, call=call, guided=guided)

    def replayed(self, call: Mapping[str, Any], timestep: float) -> dict[str, Any]:
        """Return what a forward pass changes: everything that tells the timestep, and audio is left aside."""
        given = call["sigma"]
        sigma = torch.full_like(given, timestep)
        return {**super().replayed(call, timestep), "sigma": sigma, "audio_timestep": sigma, "isolate_modalities": True}

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what a transformer returned with another prediction of the video in it."""
        if isinstance(output, tuple):
            return super().output_with(output, prediction, call)
        return type(output)(sample=self._packed(prediction), audio_sample=output.audio_sample)

    # Arguments of the pipeline ------------------------------------------------------------------------------------

    def guidance_arguments(
        self, scale: float | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the pipeline arguments for a guidance scale; one that switches it off does so for the audio too."""
        chosen = super().guidance_arguments(scale, negative_prompt, conditioning)
        return chosen if scale is None or scale > 1.0 else {**chosen, "audio_guidance_scale": 1.0}

    def unguided_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pipeline arguments that switch every kind of guidance off, of both streams."""
        return {**_OFF, **{f"audio_{name}": scale for name, scale in _OFF.items()}}

    def wants_guidance(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a pipeline call with these arguments runs both branches."""
        default = inspect.signature(type(self.pipeline).__call__).parameters["audio_guidance_scale"].default
        video = self.guidance_of(arguments)
        audio = arguments.get("audio_guidance_scale", default) or video  # the pipeline reads None and 0 as the video's
        return max(video, float(audio)) > 1.0

    # Positions and schedule ---------------------------------------------------------------------------------------

    def positions(self, denoiser: nn.Module, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Raise: positions are shared with the attention between the streams, and split in halves of each head.

        Raises
        ------
        UnsupportedBackboneError
        """
        raise UnsupportedBackboneError(f"positions of the {self.family} family cannot be replaced.")

    def replaced_positions(
        self, denoiser: nn.Module, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Raise, as :meth:`positions` does.

        Raises
        ------
        UnsupportedBackboneError
        """
        raise UnsupportedBackboneError(f"positions of the {self.family} family cannot be replaced.")

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up as the pipeline does: shifted by the number of tokens."""
        config, (temporal, spatial) = scheduler.config, self.strides
        cells = ((size.images - 1) // temporal + 1) * (size.height // spatial) * (size.width // spatial)
        names = ("base_image_seq_len", "max_image_seq_len", "base_shift", "max_shift")
        limits = (config.get(name, value) for name, value in zip(names, (1024, 4096, 0.95, 2.05), strict=True))
        mu = calculate_shift(cells // int(np.prod(self.patch)), *limits)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
