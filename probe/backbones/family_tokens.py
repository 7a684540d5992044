"""Layers and tokens of a family of video transformers."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from probe.attention.positions import Positions
from probe.attention.retarget import PROCESSOR
from probe.attention.sites import AttentionSite
from probe.attention.token_order import TokenOrder, order_of_joint_tokens
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout

if TYPE_CHECKING:
    from probe.attention.edit import Editor
    from probe.backbones.geometry import TokenGeometry


class FamilyTokens(ABC):
    """Statements of a family about its attention modules, the sizes it takes, and the tokens of a clip."""

    pipeline: Any
    name: str
    geometry: TokenGeometry

    family: ClassVar[str]
    """Name under which it is registered."""
    pipelines: ClassVar[tuple[str, ...]]
    """Pipeline classes that are called as the hooks below say; the first one generates from text alone."""
    transformers: ClassVar[tuple[str, ...]]
    """Transformer classes, from which a pipeline of another class is recognised."""
    attention_paths: ClassVar[tuple[str, ...]]
    """Paths of the self-attention modules, in execution order, such as ``blocks.*.attn1``."""
    attention_site: ClassVar[AttentionSite] = PROCESSOR
    """Place in an attention module at which queries and keys are multiplied: in a diffusers processor by default."""
    text_position: ClassVar[Literal["first", "last"] | None]
    """Position of the text tokens in the self-attention; None if text is attended separately."""
    frame_axis: ClassVar[int] = 2
    """Axis of the frames in the latents; the channels are on the other one of 1 and 2."""
    factorised: ClassVar[bool] = False
    """Tell whether a layer attends within a frame or along the frames of a cell, never across both at once.

    Captures of such a layer have the usual shape (:meth:`gather_tokens`), so that a comparison of cells in other frames
    multiplies queries and keys that the model itself does not. What edits attention is refused.
    """
    positions_replaced: ClassVar[bool] = True
    """Tell whether positions can be replaced, where :meth:`replaced_positions` is overridden."""

    # Layers -------------------------------------------------------------------------------------------------------

    @property
    def denoisers(self) -> tuple[nn.Module, ...]:
        """The transformers that denoise, the one for most noise first (all families but Wan 2.2 have one)."""
        return (self.pipeline.transformer,)

    def denoiser_at(self, timestep: float) -> nn.Module:
        """Return the transformer that denoises at a timestep."""
        return self.denoisers[0]

    @classmethod
    def heads_of(cls, denoiser: Any, module: Any) -> tuple[int, int]:
        """Return the heads of an attention module and the channels of each.

        Override it where the module lacks ``heads`` and ``inner_dim``.
        """
        return int(module.heads), int(module.inner_dim // module.heads)

    # Tokens -------------------------------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def patch_of(cls, denoiser: Any) -> tuple[int, int, int]:
        """Return the latent frames, rows and columns of one token."""

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of one token."""
        return self.patch_of(self.denoisers[0])

    @property
    def strides(self) -> tuple[int, int]:
        """Images per latent frame after the first, and pixels per latent cell."""
        return int(self.pipeline.vae_scale_factor_temporal), int(self.pipeline.vae_scale_factor_spatial)

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates when none is asked for."""
        defaults = inspect.signature(type(self.pipeline).__call__).parameters
        return Size(*(int(defaults[name].default) for name in ("height", "width", "num_frames")))

    @property
    def pixel_steps(self) -> tuple[int, int]:
        """Heights and widths are multiples of these: whole cells."""
        return self.geometry.cell_pixels

    def nearest_sides(self, height: int, width: int) -> tuple[int, int]:
        """Return the nearest height and width that the model takes."""
        rows, columns = self.pixel_steps
        return max(1, round(height / rows)) * rows, max(1, round(width / columns)) * columns

    @property
    def image_step(self) -> int:
        """A clip has 1 + a multiple of this many images."""
        return self.strides[0]

    def check_size(self, height: int, width: int, images: int) -> None:
        """Raise for a size that the model does not take.

        Raises
        ------
        InvalidInputError
            States what fits and the nearest such size.
        """
        self.geometry.check_size(height, width, images)

    def nearest_images(self, images: int) -> int:
        """Return the largest number of images up to ``images`` that the model takes, at least the smallest one."""
        return max(0, images - 1) // self.image_step * self.image_step + 1

    @property
    def images_rule(self) -> str:
        """Numbers of images that the model takes, in words."""
        return "any number of images" if self.image_step == 1 else f"1 + {self.image_step} n images"

    def images_of_latents(self, latent_frames: int) -> int:
        """Return the images of a clip with this many latent frames, front padding included where the family pads."""
        padding = self.patch[0] - 1
        return (latent_frames - padding - 1) * self.strides[0] + 1

    def frame_spans(self, images: int) -> tuple[range, ...]:
        """Return the images that each frame of tokens covers."""
        stride, patch = self.strides[0], self.patch[0]
        latents = (images - 1) // stride + 1
        padding = -latents % patch
        covered = [range(1), *(range(1 + stride * k, 1 + stride * (k + 1)) for k in range(latents - 1))]
        groups = [covered[max(0, k - padding) : k - padding + patch] for k in range(0, latents + padding, patch)]
        return tuple(range(group[0].start, group[-1].stop) for group in groups)

    def text_tokens(self, prompt: str | None = None) -> int:
        """Return the text tokens in the self-attention for a prompt, or the most there can be (0: attended apart)."""
        return 0

    def token_names(self, prompt: str | None) -> tuple[str, ...] | None:
        """Return the text tokens of a prompt by name, in the order of the attention; None if they are unknown."""
        return None

    def order_of_tokens(self, call: Mapping[str, Any], layout: TokenLayout, tokens: int, layer_name: str) -> TokenOrder:
        """Return the positions of the video and the text tokens among all tokens of an attention.

        Parameters
        ----------
        call : keyword arguments of the transformer call under way
        layout : TokenLayout
            Layout of the batch element.
        tokens : int
            All tokens of the attention.
        layer_name : str

        Raises
        ------
        UnsupportedBackboneError
            When something rearranged the tokens.
        """
        return order_of_joint_tokens(tokens, layout, self.text_position, layer_name)

    def gather_tokens(self, tensor: Tensor, layout: TokenLayout, layer_name: str) -> Tensor:
        """Return what an attention call has (batch, head, token, channel) as (clip, head, token, channel), all tokens.

        Override it where the batch of a call is of frames or of cells (:attr:`factorised`).

        Raises
        ------
        UnsupportedBackboneError
            When the shape does not fit the layout.
        """
        return tensor

    def check_joint_attention(self, what: str) -> None:
        """Raise for a model whose attention is factorised.

        Parameters
        ----------
        what : str
            That which needs attention over all video tokens at once, in the plural.

        Raises
        ------
        UnsupportedBackboneError
        """
        if self.factorised:
            raise UnsupportedBackboneError(
                f"{what} need a self-attention over all video tokens at once. That of the {self.family} family is "
                "factorised: a layer attends within a frame, or along the frames of one cell. It can be captured, "
                "not edited."
            )

    @property
    def rotary(self) -> RotaryAxes | None:
        """Channels of a head that rotary positions turn, and their rates; None if positions are added."""
        return None

    def positions(self, denoiser: nn.Module, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
        """Return the position tables that a transformer uses in a call.

        Raises
        ------
        UnsupportedBackboneError
            When positions of this family cannot be read.
        """
        raise UnsupportedBackboneError(
            f"{type(denoiser).__name__} has neither rotary positions nor a table of added ones that ditprobe knows, so "
            "its positions cannot be replaced."
        )

    def replaced_positions(
        self, denoiser: nn.Module, call: Mapping[str, Any], positions: Positions
    ) -> AbstractContextManager[tuple[dict[str, Any], list[Editor]]]:
        """Return a context with the call to make in place of ``call`` and editors that come first in every layer.

        Raises
        ------
        UnsupportedBackboneError
            When positions of this family cannot be replaced.
        """
        raise UnsupportedBackboneError(f"positions of the {self.family} family cannot be replaced.")
