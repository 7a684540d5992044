"""Kandinsky 5, from text and from an image: video tokens attend among themselves, text in a cross-attention.

Transformer and scheduler hold the channels last. Models with sparse attention (NABLA: those for ten seconds, and Pro)
order their tokens by squares of 8 x 8 cells; captures are in the usual order, frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from probe.attention.position_sources import Replaced
from probe.attention.positions import Positions, RotaryPositions
from probe.attention.token_order import TokenOrder
from probe.backbones.backbone import Backbone
from probe.backbones.rotary import RotaryAxes
from probe.families.registry import register_family
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout

_SQUARE = 8  # rows and columns of cells grouped by sparse attention
_NORMALISED = 4  # latent frames from an image whose values the pipeline fits to those after them


@register_family
class Kandinsky5(Backbone):
    """A Kandinsky 5 pipeline; classifier-free guidance is two calls, the conditional one first.

    Latents here are (batch, channel, frame, y, x); the pipeline holds them as (batch, frame, y, x, channel). From an
    image, the first latent frame is that of the image and stays so.
    """

    family = "Kandinsky 5"
    pipelines = ("Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline")
    image_pipelines = ("Kandinsky5I2VPipeline",)
    transformers = ("Kandinsky5Transformer3DModel",)
    attention_paths = ("visual_transformer_blocks.*.self_attention",)
    guidance = "calls"
    text_position: ClassVar[Literal["first", "last"] | None] = None
    channels_last = True
    embeddings = "prompt_embeds_qwen"
    fps = 24.0

    @classmethod
    def heads_of(cls, denoiser: Any, module: Any) -> tuple[int, int]:
        """Return the heads of an attention module and the channels of each."""
        heads = int(module.num_heads)
        return heads, int(module.to_query.out_features) // heads

    @classmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""
        frames, rows, columns = denoiser.config.patch_size
        return frames, rows, columns

    @classmethod
    def channels_of(cls, denoiser: Any) -> int:
        """Return the channels of the latents; an empty image and a mask may follow them."""
        return int(denoiser.config.in_visual_dim)

    @property
    def pixel_steps(self) -> tuple[int, int]:
        """Whole cells, and whole squares of them where the attention is sparse."""
        rows, columns = super().pixel_steps
        each = _SQUARE if self._is_sparse else 1
        return rows * each, columns * each

    @property
    def _is_sparse(self) -> bool:
        return bool(self.pipeline.transformer.config.attention_type == "nabla")

    def check_size(self, height: int, width: int, images: int) -> None:
        """Raise for a size that the model does not take, from an image for less than five latent frames.

        Raises
        ------
        InvalidInputError
        """
        super().check_size(height, width, images)
        least = _NORMALISED * self.strides[0] + 1
        if self.takes_image and images < least:
            raise InvalidInputError(
                f"{self.name} does not take {images} images: from an image, its pipeline fits the first "
                f"{_NORMALISED} latent frames to those after them. Pass at least {least} images."
            )

    def order_of_tokens(self, call: Mapping[str, Any], layout: TokenLayout, tokens: int, layer_name: str) -> TokenOrder:
        """Return the place of the video tokens, which sparse attention groups by squares of cells."""
        order = super().order_of_tokens(call, layout, tokens, layer_name)
        return TokenOrder(_places(layout)) if _by_squares(call) else order

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a call with other latents; the frame of an image stays."""
        changed = super().call_with_latents(call, latents)
        if self.takes_image:
            count, given, hidden = latents.shape[1], call["hidden_states"], changed["hidden_states"]
            first = torch.cat([given[:, :1, ..., :count], hidden[:, :1, ..., count:]], dim=-1)
            changed["hidden_states"] = torch.cat([first, hidden[:, 1:]], dim=1)
        return changed

    # Positions ----------------------------------------------------------------------------------------------------

    @property
    def rotary(self) -> RotaryAxes:
        """As configured; the pipeline lets rows and columns turn more slowly at larger sizes."""
        return RotaryAxes(*self.pipeline.transformer.config.axes_dims)

    def positions(self, denoiser: Any, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the rotary tables of the call."""
        grid = (1, layout.frames, layout.height, layout.width)
        rope = denoiser.visual_rope_embeddings(grid, call["visual_rope_pos"], call.get("scale_factor", (1.0, 1.0, 1.0)))
        turns = rope.squeeze(-4)[0]  # (frame, y, x, pair, 2, 2)
        cos, sin = (each.repeat_interleave(2, dim=-1) for each in (turns[..., 0, 0], turns[..., 1, 0]))
        return RotaryPositions(cos, sin, cos, sin)

    def replaced_positions(
        self, denoiser: nn.Module, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[Replaced]:
        """Return a context in which queries and keys are turned after their norms, and not by the model's own tables.

        Raises
        ------
        UnsupportedBackboneError
            Where the attention is sparse.
        """
        if _by_squares(call):
            raise UnsupportedBackboneError("positions cannot be replaced where the attention is sparse (NABLA).")
        if not isinstance(positions, RotaryPositions):
            raise InvalidInputError(f"positions must be RotaryPositions here; got {type(positions).__name__}.")
        return _turned(denoiser, call, positions)

    # VAE ----------------------------------------------------------------------------------------------------------

    def scale_latents(self, latents: Tensor) -> Tensor:
        return latents * self.pipeline.vae.config.scaling_factor

    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        return latents / self.pipeline.vae.config.scaling_factor


def _by_squares(call: Mapping[str, Any]) -> bool:
    sparse = call.get("sparse_params")
    return sparse is not None and bool(sparse["to_fractal"])


def _places(layout: TokenLayout) -> Tensor:
    """Places of the tokens, frame by frame, row by row, among those grouped by squares."""
    grid = torch.arange(layout.video_tokens).view(layout.frames, layout.height, layout.width)
    squares = grid.unflatten(2, (-1, _SQUARE)).unflatten(1, (-1, _SQUARE))
    return squares.transpose(2, 3).flatten().argsort()


@contextmanager
def _turned(denoiser: Any, call: Mapping[str, Any], positions: RotaryPositions) -> Iterator[Replaced]:
    tables = {name: table.flatten(0, 2)[:, None] for name, table in positions.tensors().items()}

    def turn(kind: str, module: nn.Module, args: Any, normed: Tensor) -> Tensor:
        cos, sin = (tables[f"{kind}_{name}"].to(normed) for name in ("cos", "sin"))
        real, imaginary = normed.unflatten(-1, (-1, 2)).unbind(-1)
        return normed * cos + torch.stack([-imaginary, real], dim=-1).flatten(-2) * sin

    def neutral(module: nn.Module, args: Any, rope: Tensor) -> Tensor:
        return torch.eye(2).to(rope).expand_as(rope)

    with ExitStack() as stack:
        stack.callback(denoiser.visual_rope_embeddings.register_forward_hook(neutral).remove)
        for block in denoiser.visual_transformer_blocks:
            attention = block.self_attention
            for kind, norm in (("query", attention.query_norm), ("key", attention.key_norm)):
                stack.callback(norm.register_forward_hook(lambda *given, kind=kind: turn(kind, *given)).remove)
        yield dict(call), []
