"""Wan VACE: control from videos, masks and reference images. Layers are the main blocks, not those of the control."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from probe.attention.position_sources import Replaced
from probe.attention.positions import Positions
from probe.attention.token_order import TokenOrder
from probe.backbones.fetched import fetched
from probe.families.registry import register_family
from probe.families.wan.wan import Wan
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout


@register_family
class WanVACE(Wan):
    """A Wan VACE pipeline, called with ``conditioning={"video": ..., "mask": ..., "reference_images": ...}``.

    Reference images are further latent frames before those of the video; their tokens attend with all others and are
    left out of captures. The blocks that read the control run first and are not layers here.
    """

    family = "Wan VACE"
    pipelines = ("WanVACEPipeline",)
    image_pipelines = ()
    clip_arguments: ClassVar[Mapping[str, str]] = {}
    transformers = ("WanVACETransformer3DModel",)
    positions_replaced = False

    @classmethod
    def grid_of_call(cls, denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the frames, rows and columns of the video tokens of a call."""
        frames, rows, columns = super().grid_of_call(denoiser, call)
        return frames - _references(call), rows, columns

    def order_of_tokens(self, call: Mapping[str, Any], layout: TokenLayout, tokens: int, layer_name: str) -> TokenOrder:
        """Return the place of the video tokens: after those of reference images."""
        before = _references(call) * layout.height * layout.width
        joint = super().order_of_tokens(call, layout, tokens - before, layer_name)
        return TokenOrder(slice(before, before + joint.video.stop))

    def latents_of_call(self, denoiser: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the latents of the video in a call."""
        return super().latents_of_call(denoiser, call)[:, :, _references(call) :]

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a call with other latents of the video."""
        hidden = call["hidden_states"]
        latents = latents.to(hidden.device, hidden.dtype).expand(len(hidden), *latents.shape[1:])
        return {**call, "hidden_states": torch.cat([hidden[:, :, : _references(call)], latents], dim=2)}

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the prediction of the latents of the video."""
        return super().prediction_of(output, call)[:, :, _references(call) :]

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what a transformer returned with another prediction of the video in it."""
        before = super().prediction_of(output, call)[:, :, : _references(call)]
        return super().output_with(output, torch.cat([before, prediction], dim=2), call)

    def in_sampler_layout(self, latents: Tensor, sampled: Tensor) -> Tensor:
        """Return latents as the scheduler has them, which steps reference images too.

        Raises
        ------
        UnsupportedBackboneError
            With reference images.
        """
        if sampled.shape[2] != latents.shape[2]:
            raise UnsupportedBackboneError("latents cannot be edited in a run with reference images. Leave them out.")
        return latents

    def replaced_positions(
        self, denoiser: nn.Module, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Raise: the blocks that read the control would lose their positions.

        Raises
        ------
        UnsupportedBackboneError
        """
        raise UnsupportedBackboneError(f"positions of the {self.family} family cannot be replaced.")


def _references(call: Mapping[str, Any]) -> int:
    """Frames of reference images before those of the video: where the part of the control to change is exactly 0."""
    channels, still = call["hidden_states"].shape[1], fetched(call["control_hidden_states"], _blank_frames)
    blank = [all(column) for column in zip(*still[channels : 2 * channels], strict=True)]
    return blank.index(False) if False in blank else 0


def _blank_frames(control: Tensor) -> Any:
    """(channel, frame) lists: whether a control channel is exactly 0 throughout a frame."""
    return (control[0] == 0).flatten(2).all(-1).tolist()
