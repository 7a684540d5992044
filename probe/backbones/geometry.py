"""Token geometry: sizes that a model takes, and where the tokens of a clip lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from store.checks import integer
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.text import counted

if TYPE_CHECKING:
    from probe.backbones.family import Family

_SIDE, _IMAGES = 2**15, 10**5  # above any model, and small enough to be checked at once


class Size(NamedTuple):
    """Height and width in pixels, and images, of a clip; as text in this order, as everywhere."""

    height: int
    width: int
    images: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width} px and {counted(self.images, 'image')}"


class TokenGeometry:
    """Sizes and token layouts of one backbone, from the strides, the patch and the text tokens of its family.

    Parameters
    ----------
    family : Family
        The backbone itself.
    """

    def __init__(self, family: Family) -> None:
        self._family = family

    @property
    def channel_axis(self) -> int:
        """Axis of the channels in the latents, which are (batch, channel, frame, y, x) or (batch, frame, channel, ...)."""  # noqa: E501
        return 3 - self._family.frame_axis

    @property
    def cell_pixels(self) -> tuple[int, int]:
        """Pixels of a cell, down and across."""
        _, rows, columns = (self._family.strides[1] * n for n in self._family.patch)
        return rows, columns

    def nearest_size(self, height: int, width: int, images: int) -> Size:
        """Return the size nearest to the one asked for that the model takes; images are rounded down.

        Raises
        ------
        InvalidInputError
            For what is not a size at all.
        """
        for name, count, largest in (("height", height, _SIDE), ("width", width, _SIDE), ("images", images, _IMAGES)):
            integer(count, name, max_value=largest)
        return Size(*self._family.nearest_sides(height, width), self._family.nearest_images(images))

    def check_size(self, height: int, width: int, images: int) -> None:
        """Raise for a size that the model does not take.

        Raises
        ------
        InvalidInputError
            States what fits and the nearest such size.
        """
        family = self._family
        asked, nearest = Size(height, width, images), self.nearest_size(height, width, images)
        if asked != nearest:
            rows, columns = family.pixel_steps
            raise InvalidInputError(
                f"{family.name} does not take {asked} (height x width): heights must be multiples of {rows} px, widths "
                f"of {columns} px, with {family.images_rule}. The nearest size that fits is {nearest}; its default is "
                f"{family.default_size}."
            )

    def resolve_size(self, height: int | None = None, width: int | None = None, images: int | None = None) -> Size:
        """Return a size with the model's default for each value that is not given.

        Raises
        ------
        InvalidInputError
            For a size that the model does not take.
        """
        given = (height, width, images)
        size = Size(*(own if value is None else value for value, own in zip(given, self._default(given), strict=True)))
        self._family.check_size(*size)
        return size

    def _default(self, given: tuple[int | None, ...]) -> Size:
        return Size(0, 0, 0) if None not in given else self._family.default_size

    def layout(self, height: int, width: int, images: int, text_tokens: int) -> TokenLayout:
        """Return where the tokens of a clip lie, of a size that is known to fit."""
        spans = self._family.frame_spans(images)
        rows, columns = self.cell_pixels
        return TokenLayout(len(spans), height // rows, width // columns, height, width, images, text_tokens, spans)

    def layouts_of_call(self, call: Mapping[str, Any], images: int | None) -> list[TokenLayout]:
        """Return the layout of each batch element of a transformer call.

        Parameters
        ----------
        call : keyword arguments of the call
        images : int or None
            Images of the clip where they are known; latents alone leave them open where the family pads.
        """
        family = self._family
        frames, rows, columns = family.grid_of_call(family.denoisers[0], call)
        height, width = rows * self.cell_pixels[0], columns * self.cell_pixels[1]
        images = images or self.images_of(frames * family.patch[0])
        counts = family.text_tokens_of_call(call)
        layouts = {count: self.layout(height, width, images, count) for count in set(counts)}
        return [layouts[count] for count in counts]

    def images_of(self, latent_frames: int) -> int:
        """Return the images of a clip with this many latent frames, front padding included where the family pads."""
        return self._family.images_of_latents(latent_frames)
