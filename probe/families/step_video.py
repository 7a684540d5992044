"""Step-Video-T2V, which is not in diffusers: its own attention, and a pipeline whose text and VAE run on servers.

The transformer holds its attention function as an attribute (``core_attention``) and projects queries, keys and values
at once; the published forward and pipeline run in inference mode, which would stop gradients.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from probe.attention.functions import AttentionFunction
from probe.attention.sites import AttentionSite, AttributeSite
from probe.attention.wrapping import wrapped_method
from probe.backbones.backbone import Backbone
from probe.backbones.schedule import Schedule
from probe.execution.compiled import unwrapped
from probe.families.registry import register_family
from store.errors import InvalidInputError, UnsupportedBackboneError

_CHUNK, _LATENTS = 17, 3  # images that the VAE sees at once, and the latent frames that it makes of them
_TEXT = ("prompt_embeds", "prompt_embeds_2", "prompt_attention_mask")


@register_family
class StepVideo(Backbone):
    """A ``StepVideoPipeline``; classifier-free guidance is one call with batch [cond, uncond].

    Latents are (batch, frame, channel, y, x). The VAE encodes 17 images at a time as 3 latent frames, which cover the
    first image and 8 each of the others. Set ``pipeline.vae`` to the module, in place of the address of a server, to
    encode and decode clips. Text is what the pipeline's own server makes of a prompt, or embeddings as
    ``conditioning``: those of the language model, of CLIP, and the mask of both, CLIP first (``prompt_embeds``,
    ``prompt_embeds_2``, ``prompt_attention_mask``, each also with ``negative_`` before it).

    The transformer's forward is called without its inference mode, so that gradients can be taken; predictions are the
    same.
    """

    family = "Step-Video"
    pipelines = ("StepVideoPipeline",)
    transformers = ("StepVideoModel",)
    attention_paths = ("transformer_blocks.*.attn1",)
    attention_site: ClassVar[AttentionSite] = AttributeSite(
        AttentionFunction("core_attention", heads_first=False, operands=("q", "k", "v"), scale=None)
    )
    guidance = "batch"
    text_position: ClassVar[Literal["first", "last"] | None] = None
    frame_axis = 1
    fps = 25.0
    further_arguments: ClassVar[tuple[str, ...]] = (*_TEXT, *(f"negative_{name}" for name in _TEXT), "negative_prompt")

    def __init__(self, pipeline: Any, *, name: str | None = None, revision: str | None = None) -> None:
        super().__init__(pipeline, name=name, revision=revision)
        transformer: Any = unwrapped(self.denoisers[0])
        for module in (transformer, *transformer.transformer_blocks):
            forward = type(module).forward
            if hasattr(forward, "__wrapped__") and "forward" not in vars(module):
                module.forward = types.MethodType(inspect.unwrap(forward), module)

    # Layers and tokens --------------------------------------------------------------------------------------------

    @classmethod
    def heads_of(cls, denoiser: Any, module: Any) -> tuple[int, int]:
        """Return the heads of an attention module and the channels of each."""
        return int(module.n_heads), int(module.head_dim)

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        return 1, denoiser.config.patch_size, denoiser.config.patch_size

    def nearest_images(self, images: int) -> int:
        """Return the largest multiple of the VAE's chunk up to ``images``, at least one chunk."""
        return max(images // _CHUNK, 1) * _CHUNK

    @property
    def images_rule(self) -> str:
        """Numbers of images that the model takes, in words."""
        return f"{_CHUNK} n images"

    @property
    def image_step(self) -> int:
        """Images of a chunk."""
        return _CHUNK

    def images_of_latents(self, latent_frames: int) -> int:
        """Return the images of a clip with this many latent frames."""
        return latent_frames // _LATENTS * _CHUNK

    def frame_spans(self, images: int) -> tuple[range, ...]:
        """Return the images that each latent frame covers: in each chunk the first one, and eight twice."""
        ends = [0, *range(1, _CHUNK + 1, self.strides[0])]
        chunks = range(0, images, _CHUNK)
        return tuple(range(start + first, start + end) for start in chunks for first, end in pairwise(ends))

    # Calls of the transformer -------------------------------------------------------------------------------------

    def is_guided(self, call: Mapping[str, Any]) -> bool:
        """Return whether a call holds the same latents twice, which a guided run's do; the pipeline keeps no scale."""
        halves = call["hidden_states"].chunk(2)
        return len(halves) == 2 and torch.equal(*halves)

    def branches_of_call(self, batch: int, *, call: int, guided: bool) -> list[tuple[str, int]]:
        """Return branch and sample of each batch element; the conditional ones come first."""
        half = batch // 2 if guided else batch
        return [("cond" if i < half else "uncond", i % half) for i in range(batch)]

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the prediction in what the transformer returned: it alone, or as ``x``."""
        prediction: Tensor = output["x"] if isinstance(output, dict) else output
        return prediction

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what the transformer returned with another prediction in it."""
        return {**output, "x": prediction} if isinstance(output, dict) else prediction

    # Arguments of the pipeline ------------------------------------------------------------------------------------

    def check_run(self, arguments: Mapping[str, Any]) -> None:
        """Raise for a guided run with embeddings of a prompt and none of a negative one.

        Raises
        ------
        InvalidInputError
        """
        missing = [f"negative_{name}" for name in _TEXT if f"negative_{name}" not in arguments]
        if "prompt_embeds" in arguments and self.wants_guidance(arguments) and missing:
            raise InvalidInputError(
                f"a guided run also needs {', '.join(missing)} in the conditioning. Add them, or pass guidance_scale=1."
            )

    def prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the pipeline arguments for a prompt and a negative one, which the pipeline's server reads.

        Raises
        ------
        InvalidInputError
            For some of the embeddings without the others, or another ``time_shift`` than the pipeline's own, of which
            schedules know nothing.
        """
        shift = inspect.signature(type(self.pipeline).__call__).parameters["time_shift"].default
        if conditioning.get("time_shift", shift) != shift:
            raise InvalidInputError(
                f"time_shift={conditioning['time_shift']} would change the timesteps behind ditprobe's schedules, "
                f"which are those of {shift:g}. Leave it out."
            )
        missing = [name for name in _TEXT if name not in conditioning]
        if missing and len(missing) < len(_TEXT):
            raise InvalidInputError(
                f"{', '.join(name for name in _TEXT if name in conditioning)} came without {', '.join(missing)}. Pass "
                "all three, or none and a prompt."
            )
        negative = {} if negative_prompt is None else {"negative_prompt": negative_prompt}
        return {"prompt": prompt or "", **negative} if missing else {}

    @property
    def reads_text(self) -> bool:
        """True: its server does."""
        return True

    @contextmanager
    def prepared_call(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Prepare one call, in which text given as embeddings is what the pipeline reads of the prompt."""
        call = {name: value for name, value in arguments.items() if name not in self.further_arguments}
        given = {name: arguments[name] for name in self.further_arguments if name in arguments}
        guided = self.wants_guidance(arguments)
        if "negative_prompt" in given:
            call["neg_magic"] = given["negative_prompt"]
        if "prompt_embeds" in given:
            count = len(given["prompt_embeds"])
            call["prompt"] = "" if count == 1 else [""] * count

        def embeddings(encode: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
            if "prompt_embeds" not in given:
                both = encode(*args, **kwargs)
                return tuple(each if guided else each[: len(each) // 2] for each in both)
            rows = [given[name] for name in _TEXT]
            if guided:
                rows = [torch.cat([row, given[f"negative_{name}"]]) for name, row in zip(_TEXT, rows, strict=True)]
            text, clip, mask = (row.to(self.device) for row in rows)
            return text, clip, mask

        with wrapped_method(self.pipeline, "encode_prompt", embeddings):
            yield call

    def run_pipeline(self, **call: Any) -> Any:
        """Call the pipeline without its inference mode, in which gradients could not be taken."""
        with torch.no_grad():
            return inspect.unwrap(type(self.pipeline).__call__)(self.pipeline, **call)

    def images_of_call(self, call: Mapping[str, Any]) -> np.ndarray:
        """Call the pipeline and decode its latents here; by itself it writes a file."""
        latents = self.run_pipeline(**call, output_type="latent").video
        video = self.vae_decode(self.unscale_latents(latents, 0).to(self.vae_dtype))[0].float()
        images: np.ndarray = (video / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).cpu().numpy()
        return images

    # Scheduler and VAE --------------------------------------------------------------------------------------------

    def schedule_of(self, scheduler: Any) -> Schedule:
        """Return the noise levels of its scheduler; times count from noise (0) to clean (1) or, reversed, back."""
        times = tuple(float(sigma) for sigma in scheduler.sigmas)
        rest = tuple(1.0 - time for time in times)
        if scheduler.config.reverse:
            return Schedule(times[:-1], rest, times, "flow")
        return Schedule(times[:-1], times, rest, "reversed_flow", 1.0)

    def scale_latents(self, latents: Tensor) -> Tensor:
        """Return the sampler's latents for what the VAE encodes."""
        return latents.transpose(1, 2)

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        """Return what the VAE decodes for the sampler's latents."""
        return latents.transpose(1, 2)

    @property
    def vae_dtype(self) -> torch.dtype:
        """Data type of the VAE."""
        return next(self._vae.parameters()).dtype

    @property
    def _vae(self) -> Any:
        vae = self.pipeline.vae
        if not isinstance(vae, nn.Module):
            raise UnsupportedBackboneError(
                f"the VAE of {self.name} runs on a server, which encodes no clips. Set pipeline.vae to the module, "
                "AutoencoderKL of stepvideo.vae.vae."
            )
        return vae

    @property
    def _vae_device(self) -> torch.device:
        """Device of the VAE, which is not a part of the pipeline, so that it may be another one."""
        return next(self._vae.parameters()).device

    def vae_encode(self, video: Tensor) -> Tensor:
        """Return the mean of what the VAE makes of each chunk of images, (1, channel, frame, y, x)."""
        chunks = video.to(self._vae_device).transpose(1, 2).split(_CHUNK, dim=1)
        moments = torch.cat([self._vae.naive_encode(chunk, True).clone() for chunk in chunks], dim=1)
        return moments.chunk(2, dim=2)[0].transpose(1, 2).to(video.device)

    def vae_decode(self, latents: Tensor) -> Tensor:
        """Return the video (1, 3, image, y, x) in -1 to 1 that the VAE makes of latents."""
        video: Tensor = self._vae.decode(latents.to(self._vae_device).transpose(1, 2)).clone().transpose(1, 2)
        return video
