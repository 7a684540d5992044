"""A clip of any size and length as windows that a backbone takes."""

from __future__ import annotations

from dataclasses import dataclass

from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.arguments import checked
from store.checks import integer
from store.clips.clip import Clip, Part
from store.errors import ClipError


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a clip at a size that the backbone takes.

    Parameters
    ----------
    clip : Clip
        What the model sees; tracks and visibility are cut and scaled with the images.
    index : int
        Which window of the clip.
    first_image, stride : int
        The window's images are ``first_image + stride * n`` of the original clip, or of the video where the clip is
        a part of one (``Clip.part``).
    original : Size
        Size of that clip or video before it was cut and resized.
    """

    clip: Clip
    index: int
    first_image: int
    stride: int
    original: Size

    @property
    def size(self) -> Size:
        """Size that the model sees."""
        return Size(self.clip.height, self.clip.width, len(self.clip))

    def __str__(self) -> str:
        last = self.first_image + self.stride * (len(self.clip) - 1)
        every = "" if self.stride == 1 else f", every {self.stride}"
        resized = (
            "" if self.size[:2] == self.original[:2] else f", resized from {self.original[0]} x {self.original[1]}"
        )
        return (
            f"images {self.first_image} to {last}{every} of {self.original.images}, "
            f"{self.clip.height} x {self.clip.width} px{resized}"
        )


@checked
def cut_windows(
    backbone: Backbone, clip: Clip, *, size: tuple[int, int] | None = None, images: int | None = None, stride: int = 1
) -> tuple[Window, ...]:
    """The windows of a clip, one after the other without overlap, resized to what the backbone takes.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
    size : (height, width) in pixels, optional
        Of what the model sees; by default the size that the backbone generates, which is the one it was trained at.
        The aspect is not kept: tracks are scaled with the images.
    images : int, optional
        Images of a window; by default as many as the backbone generates, fewer where the clip is shorter.
    stride : int
        Take every n-th image, which makes slow motion visible to a model that sees few of them.

    Returns
    -------
    tuple of Window
        At least one. Images at the end that fill no window are left out.

    Raises
    ------
    InvalidInputError
        A size that the backbone does not take, or a stride below one.
    ClipError
        A clip shorter than the window asked for.

    Examples
    --------
    >>> from probe.families.cogvideox import CogVideoX
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = CogVideoX(new_pipeline(MiniConfig(layers=1)), name="mini")
    >>> [str(window) for window in cut_windows(mini, make_scene(0, images=12, height=48, width=40))]
    ['images 0 to 5 of 12, 40 x 40 px, resized from 48 x 40', 'images 6 to 11 of 12, 40 x 40 px, resized from 48 x 40']
    """
    integer(stride, "stride", min_value=1)
    default = backbone.default_size
    of = clip.part or Part(0, 1, len(clip))
    original = Size(clip.height, clip.width, of.images)
    available = (len(clip) - 1) // stride + 1
    height, width = size or default[:2]
    length = images or backbone.nearest_size(height, width, min(available, default.images)).images
    backbone.check_size(height, width, length)
    if length > available:
        raise ClipError(
            f"a window of {length} images at stride {stride} needs {stride * (length - 1) + 1} images; "
            f"the clip has {len(clip)}."
        )
    found = []
    for index in range(available // length):
        first = index * length * stride
        part = clip[first : first + stride * (length - 1) + 1 : stride].resized(height, width)
        found.append(Window(part, index, of.first + of.stride * first, of.stride * stride, original))
    return tuple(found)
