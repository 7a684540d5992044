"""Members that Cosmos 1, 2 and 2.5 share: the transformer, its positions, and frames that a condition holds.

A condition (an image, or a clip to continue) takes the place of the first latent frames in every call, and a mask
says which; they stay as the pipeline shows them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Literal

import torch
from diffusers.utils import is_torchvision_available
from torch import Tensor, nn

from probe.attention.position_sources import Replaced, RotaryModule
from probe.attention.positions import Positions
from probe.backbones.backbone import Backbone
from probe.backbones.rotary import RotaryAxes
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout

_ROTARY = RotaryModule("rope", lambda denoiser, call: (call["hidden_states"], call.get("fps")), halves=True)


class Cosmos(Backbone):
    """A Cosmos pipeline; classifier-free guidance is two calls, the conditional one first.

    Latents are (batch, channel, frame, y, x) with a standard deviation of about 1, as the transformer is shown them.
    """

    transformers: ClassVar[tuple[str, ...]] = ()  # a transformer alone does not say at which noise levels it is run
    attention_paths = ("transformer_blocks.*.attn1",)
    guidance = "calls"
    text_position: ClassVar[Literal["first", "last"] | None] = None

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        frames, rows, columns = denoiser.config.patch_size
        return frames, rows, columns

    @property
    def pixel_steps(self) -> tuple[int, int]:
        """Whole cells, and the multiples of 16 that the pipeline takes."""
        rows, columns = super().pixel_steps
        return math.lcm(rows, 16), math.lcm(columns, 16)

    # Conditions ---------------------------------------------------------------------------------------------------

    def prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        given = conditioning if "video" not in conditioning else {"image": None, **conditioning}
        return super().prompt_arguments(prompt, negative_prompt, given)

    @contextmanager
    def prepared_call(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Check that torchvision is there, and leave the image of a clip out where a video to continue is given."""
        if self.pipeline.transformer.config.concat_padding_mask and not is_torchvision_available():
            raise UnsupportedBackboneError(
                f"{self.name} needs torchvision, with which diffusers makes the padding mask of Cosmos. Install it: "
                "pip install torchvision."
            )
        with super().prepared_call(arguments) as call:
            if call.get("video") is not None:
                call.pop("image", None)
            yield call

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a call with other latents; frames of a condition stay."""
        changed, held = super().call_with_latents(call, latents), _held(call)
        if held is not None:
            changed["hidden_states"] = torch.where(held, call["hidden_states"], changed["hidden_states"])
        return changed

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return the timestep of a call, per frame where the call has it per frame; conditions keep theirs."""
        given: Tensor = call["timestep"]
        filled, held = torch.full_like(given, timestep), _held(call)
        return filled if held is None or given.ndim == 1 else torch.where(held[..., :1, :1], given, filled)

    def kept_in_sampler(self, call: Mapping[str, Any]) -> Tensor | None:
        """Return the frames of a condition, whose latents the scheduler holds but the transformer does not see."""
        return _held(call)

    # Positions ----------------------------------------------------------------------------------------------------

    @property
    def rotary(self) -> RotaryAxes:
        """A third of the channels rotates by row, a third by column, and the rest by frame, in two halves."""
        config = self.pipeline.transformer.config
        third = config.attention_head_dim // 6 * 2
        counts = (config.attention_head_dim - 2 * third, third, third)
        scaled = zip(config.rope_scale, counts, strict=True)
        frame, y, x = (10_000.0 * scale ** (count / (count - 2)) for scale, count in scaled)
        return RotaryAxes(*counts, theta=(frame, y, x), halves=True)

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call."""
        return _ROTARY.read(denoiser, call, layout)

    def replaced_positions(
        self, denoiser: nn.Module, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other rotary positions; the learned ones of Cosmos 1 stay."""
        return _ROTARY.replace(denoiser, call, positions)

    # VAE ----------------------------------------------------------------------------------------------------------

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the VAE's latents, for each frame where they are given so."""
        config = self.pipeline.vae.config
        if config.latents_mean is None:
            return torch.zeros((), device=like.device), torch.ones((), device=like.device)
        mean, deviation = (torch.tensor(values).to(like) for values in (config.latents_mean, config.latents_std))
        shape = (1, like.shape[1], -1, 1, 1)
        return mean.view(shape)[:, :, : like.shape[2]], deviation.view(shape)[:, :, : like.shape[2]]

    def scale_latents(self, latents: Tensor) -> Tensor:
        mean, deviation = self._statistics(latents)
        return (latents - mean) / deviation

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        mean, deviation = self._statistics(latents)
        return latents * deviation + mean


def current_sigma(scheduler: Any) -> float:
    """Return the current noise level of a scheduler."""
    return float(scheduler.sigmas[getattr(scheduler, "step_index", None) or 0])


def _held(call: Mapping[str, Any]) -> Tensor | None:
    """Mask (batch, 1, frame, y, x) of what a condition holds, None without one."""
    mask = call.get("condition_mask")
    return None if mask is None or not bool(mask.any()) else mask.bool()
