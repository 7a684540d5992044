"""Where the tokens of a pipeline's clips lie: sizes that fit, and the grid and time spans of the tokens."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from store.arguments import checked
from store.checks import integer
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.text import counted

_SIDE, _IMAGES = 2**15, 10**5  # above any model, below what takes for ever to be refused


class Size(NamedTuple):
    """Height and width in pixels, and images, of a clip; as text in this order, as everywhere."""

    height: int
    width: int
    images: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width} px and {counted(self.images, 'image')}"


class TokenGeometry(ABC):
    """What a backbone knows about sizes; everything follows from the pipeline's strides and the patch."""

    pipeline: Any
    name: str
    running_images: int | None
    frame_axis: ClassVar[int] = 2
    """Axis of the frames in the latents; the channels are on the other one of 1 and 2."""

    @property
    @abstractmethod
    def patch(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns of one token."""

    @property
    def strides(self) -> tuple[int, int]:
        """Images per latent frame after the first, and pixels per latent cell."""
        return int(self.pipeline.vae_scale_factor_temporal), int(self.pipeline.vae_scale_factor_spatial)

    @property
    def image_step(self) -> int:
        """A clip has 1 + a multiple of this many images."""
        return self.strides[0]

    @property
    def default_size(self) -> Size:
        """The size that the pipeline generates when none is asked for."""
        defaults = inspect.signature(type(self.pipeline).__call__).parameters
        return Size(*(int(defaults[name].default) for name in ("height", "width", "num_frames")))

    @property
    def pixel_steps(self) -> tuple[int, int]:
        """Heights and widths are multiples of these: whole cells."""
        _, rows, columns = (self.strides[1] * n for n in self.patch)
        return rows, columns

    @checked
    def nearest_size(self, height: int, width: int, images: int) -> Size:
        """The size nearest to the one asked for that the model takes; images are rounded down."""
        for name, count, most in (("height", height, _SIDE), ("width", width, _SIDE), ("images", images, _IMAGES)):
            integer(count, name, most=most)
        rows, columns = self.pixel_steps
        return Size(
            max(1, round(height / rows)) * rows,
            max(1, round(width / columns)) * columns,
            max(0, images - 1) // self.image_step * self.image_step + 1,
        )

    def check_size(self, height: int, width: int, images: int) -> None:
        """Refuse a size that the model does not take.

        Raises
        ------
        InvalidInputError
            States what fits and the nearest such size.
        """
        asked, nearest = Size(height, width, images), self.nearest_size(height, width, images)
        if asked != nearest:
            rows, columns = self.pixel_steps
            count = "any number of images" if self.image_step == 1 else f"1 + {self.image_step} n images"
            raise InvalidInputError(
                f"{self.name} does not take {asked} (height x width): heights must be multiples of {rows} px, widths "
                f"of {columns} px, with {count}. The nearest size that fits is {nearest}; its default is "
                f"{self.default_size}."
            )

    def text_tokens(self, prompt: str | None = None) -> int:
        """Text tokens in the self-attention for a prompt, or the most there can be (0: text is attended apart)."""
        return 0

    def token_names(self, prompt: str | None) -> tuple[str, ...] | None:
        """The text tokens of a prompt by name, in the order of the attention; None where the family does not tell."""
        return None

    @checked
    def layout(self, height: int, width: int, images: int, prompt: str | None = None) -> TokenLayout:
        """Where the tokens of a clip of this size lie.

        Parameters
        ----------
        height, width : int
            Pixels of the clip.
        images : int
            Images of the clip.
        prompt : str, optional
            Counts its text tokens where the number depends on the prompt; without it, the most there can be.

        Raises
        ------
        InvalidInputError
            For a size that the model does not take.
        """
        self.check_size(height, width, images)
        return self._layout(height, width, images, self.text_tokens(prompt))

    def _layout(self, height: int, width: int, images: int, text_tokens: int) -> TokenLayout:
        spans = self._spans(images)
        _, rows, columns = (self.strides[1] * n for n in self.patch)
        return TokenLayout(len(spans), height // rows, width // columns, height, width, images, text_tokens, spans)

    def _spans(self, images: int) -> tuple[range, ...]:
        stride, patch = self.strides[0], self.patch[0]
        latents = (images - 1) // stride + 1
        padding = -latents % patch
        covered = [range(1), *(range(1 + stride * k, 1 + stride * (k + 1)) for k in range(latents - 1))]
        groups = [covered[max(0, k - padding) : k - padding + patch] for k in range(0, latents + padding, patch)]
        return tuple(range(group[0].start, group[-1].stop) for group in groups)

    def layouts_of_call(self, call: Mapping[str, Any]) -> list[TokenLayout]:
        """The layout of each batch element of a transformer call, from the call's own arguments."""
        latents = call["hidden_states"]
        frames, (height, width) = latents.shape[self.frame_axis], latents.shape[-2:]
        spatial = self.strides[1]
        images = self.running_images or self._images_of(frames)
        counts = self.text_tokens_of_call(call)
        layouts = {count: self._layout(height * spatial, width * spatial, images, count) for count in set(counts)}
        return [layouts[count] for count in counts]

    def _images_of(self, latent_frames: int) -> int:
        """Images of a clip with so many latent frames, front padding included where the family pads."""
        padding = self.patch[0] - 1
        return (latent_frames - padding - 1) * self.strides[0] + 1

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Text tokens in the self-attention of each batch element, padding not counted."""
        return [0] * len(call["hidden_states"])
