"""The reference of a motion transfer: resized and resampled to the generated clip, and read by the model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.run.forward import ForwardPass
from probe.run.layers_of_clip import Reading, layers_of_clip
from store.arguments import check_fields, checked
from store.clips.clip import Clip
from store.errors import ClipError, DitprobeWarning

WARNED_ASPECT, MOST_ASPECT = 1.1, 2.0
"""Factors by which the aspect of a reference may change before there is a warning, and before an error."""


class TransferWarning(DitprobeWarning):
    """Warning that a reference was changed to fit the clip to be generated."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference clip as a backbone sees it.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        A clip of the size of the generated one; :func:`fit_reference` fits other clips.
    steps : int
        Number of steps of the run that it guides.
    prompt : str or None
        Text for the model; empty as published, or None if ``conditioning`` has ``prompt_embeds``.
    conditioning : mapping
        Further arguments of the pipeline for the reference. Image-to-video models are shown image 0 of ``clip`` unless
        ``conditioning`` has an ``image``.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store.scenes.scene import make_scene
    >>> reference = Reference(load_backbone("mini"), make_scene(3), steps=50)
    >>> reference.read([5], step=46).captures[5].query.shape, reference.latents.shape
    (torch.Size([4, 6, 10, 10, 32]), torch.Size([1, 6, 12, 20, 20]))
    """

    backbone: Backbone
    clip: Clip
    steps: int
    prompt: str | None = ""
    conditioning: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    @cached_property
    def latents(self) -> Tensor:
        """Clean latents, as :meth:`probe.Backbone.encode` gives them."""
        return self.backbone.encode(self.clip)

    @cached_property
    def condition(self) -> Tensor | None:
        """Channels (1, ...) that follow the latents in the transformer's input (image-to-video), otherwise None.

        Computed by calling the pipeline up to its transformer, so not available while the pipeline runs.
        """
        own = self.backbone.conditioning_of(self.clip)
        if not own:
            return None
        forward = ForwardPass(
            self.backbone,
            self.prompt,
            steps=self.steps,
            height=self.clip.height,
            width=self.clip.width,
            images=len(self.clip),
            conditioning={**own, **self.conditioning},
        )
        return forward.condition("cond")

    def read(self, layers: list[int], *, step: int | None, blocks: bool = False) -> Reading:
        """Return features of its clean latents in the given layers, at the timestep of a step; None means timestep 0.

        Raises
        ------
        UnknownLayerError
        """
        return layers_of_clip(
            self.backbone,
            self.clip,
            layers,
            step=step,
            steps=self.steps,
            prompt=self.prompt,
            conditioning=self.conditioning,
            latents=self.latents,
            blocks=blocks,
        )


def text_arguments(conditioning: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline arguments that define the text, without those of images, sizes or guidance.

    Examples
    --------
    >>> sorted(text_arguments({"prompt_embeds": 1, "prompt_attention_mask": 2, "image": 3, "guidance_scale": 6.0}))
    ['prompt_attention_mask', 'prompt_embeds']
    """
    return {name: value for name, value in conditioning.items() if "prompt" in name or name == "max_sequence_length"}


@checked
def fit_reference(clip: Clip, size: Size) -> Clip:
    """Fit a reference to the size of the clip to be generated, with a warning for other lengths and aspects.

    Images nearest to evenly spaced times from the first to the last are taken, so that the whole motion is transferred
    at any length. They are resized to the height and width, which may change their aspect.

    Parameters
    ----------
    clip : Clip
    size : (height, width, images)

    Returns
    -------
    Clip
        Its tracks and masks, if there are any, are those of the chosen images.

    Raises
    ------
    ClipError
        For a clip of one image, which has no motion, and for an aspect that would change more than twofold.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> fit_reference(make_scene(3), Size(40, 40, 6))
    Clip(6 images of 40 x 40 px (height x width) at 8 fps, ...)
    """
    if len(clip) == 1:
        raise ClipError("the reference has 1 image, so there is no motion to transfer. Give it at least 2.")
    stretch = (size.width / size.height) / (clip.width / clip.height)
    stretch = max(stretch, 1 / stretch)
    if stretch > MOST_ASPECT:
        raise ClipError(
            f"the reference is {clip.height} x {clip.width} px and the clip to be made {size.height} x {size.width} px "
            f"(height x width): its aspect would change {stretch:.2g}-fold. Crop it, or generate another size."
        )
    if stretch > WARNED_ASPECT:
        _warn(
            f"the reference of {clip.height} x {clip.width} px is resized to {size.height} x {size.width} px (height x "
            f"width), which changes its aspect {stretch:.2g}-fold, and so the directions of its motion."
        )
    chosen = np.rint(np.linspace(0, len(clip) - 1, size.images)).astype(int)
    if len(clip) != size.images:
        _warn(
            f"the reference has {len(clip)} images and the clip to be made {size.images}: it is resampled to its "
            f"images {', '.join(map(str, chosen))}."
        )
    return clip.take(chosen).resized(size.height, size.width)


def _warn(message: str) -> None:
    warnings.warn(message, TransferWarning, stacklevel=4)  # past the check of the arguments
