"""Edit fidelity and temporal consistency: similarity of the images of a clip to a text and to each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from analyses.metrics.encoders import CLIP, DINO, ClipEncoder, ImageEncoder, load_clip_model, load_image_encoder
from store.arguments import Array, checked
from store.arrays import as_array
from store.clips.clip import Clip
from store.errors import InvalidInputError

ConsistencyPreset = Literal["exact", "det"]


@checked
def edit_fidelity(
    clip: Array | Clip,
    prompt: str,
    *,
    model: str | Path | ImageEncoder = CLIP,
    device: str | torch.device = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
    batch: int = 32,
) -> float:
    """Return the agreement of the images of a clip with a text: the mean cosine of their CLIP features, -1 to 1.

    Parameters
    ----------
    clip : Clip, or (image, y, x, 3) uint8 images
    prompt : str
    model : hub id, folder, or what :func:`analyses.metrics.encoders.load_clip_model` returned, to load it once for
        many clips
    device, revision, local_files_only
        As of :func:`analyses.metrics.encoders.load_clip_model`; without effect on a loaded model.
    batch : images at a time

    Returns
    -------
    float

    Raises
    ------
    ClipError
        For what is not a clip.
    InvalidInputError
        For an empty prompt, and what :func:`analyses.metrics.encoders.load_clip_model` rejects.
    BackboneNotFoundError
        When the model is not there.

    Notes
    -----
    All images have equal weight, and negative cosines are not clipped. This is DiTFlow's "image quality" (IQ, of
    which it publishes .319) and a hundredth of DeT's "edit fidelity" (31.6), whose released code multiplies by CLIP's
    logit scale of 100.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> clip = make_scene(3)
    >>> edit_fidelity(clip, clip.prompt, local_files_only=True)  # doctest: +SKIP
    0.27
    """
    images = _images(clip)
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidInputError(f"prompt must be a non-empty string; got {prompt!r}.")
    if isinstance(model, ImageEncoder) and not isinstance(model, ClipEncoder):
        raise InvalidInputError(f"{model!r} reads no text. Pass what load_clip_model returned.")
    if not isinstance(model, ClipEncoder):
        model = load_clip_model(model, device=device, revision=revision, local_files_only=local_files_only)
    return float((model.images(images, batch=batch) @ model.text(prompt)).double().mean())


@checked
def temporal_consistency(
    clip: Array | Clip,
    *,
    model: str | Path | ImageEncoder = DINO,
    preset: ConsistencyPreset = "exact",
    device: str | torch.device = "auto",
    revision: str | None = None,
    local_files_only: bool = False,
    batch: int = 32,
) -> float:
    """Return the similarity of consecutive images of a clip: the mean cosine of their DINO features, -1 to 1.

    Parameters
    ----------
    clip : Clip, or (image, y, x, 3) uint8 images, two at least
    model : hub id, folder, or what :func:`analyses.metrics.encoders.load_image_encoder` returned, to load it only once
    preset : "exact" or "det"
        "exact", as in the paper: each image with the one before it. "det", as in the released code: also each image
        with image 0; both means are averaged, and both include image 0 with itself.
    device, revision, local_files_only
        As of :func:`analyses.metrics.encoders.load_image_encoder`; without effect on a loaded model.
    batch : images at a time

    Returns
    -------
    float

    Raises
    ------
    ClipError
        For what is not a clip.
    InvalidInputError
        For a clip of one image, another preset, and what :func:`analyses.metrics.encoders.load_image_encoder` rejects.
    BackboneNotFoundError
        When the model is not there.

    Notes
    -----
    Shi et al., "Decouple and Track" (DeT, 2025), section 3.3.2, in percent there. A feature is the class token of the
    last layer. The released code uses the output of transformers' pooling layer, which DINO itself does not have;
    neither preset does so.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> temporal_consistency(make_scene(3), model="facebook/dinov2-base", local_files_only=True)  # doctest: +SKIP
    0.9
    """
    images = _images(clip)
    if len(images) < 2:
        raise InvalidInputError("the clip has 1 image; temporal consistency compares consecutive ones.")
    if not isinstance(model, ImageEncoder):
        model = load_image_encoder(model, device=device, revision=revision, local_files_only=local_files_only)
    features = model.images(images, batch=batch).double()
    consecutive = (features[1:] * features[:-1]).sum(-1)
    if preset == "exact":
        return float(consecutive.mean())
    with_first = features @ features[0]
    return float((1 + consecutive.sum() + with_first.sum()) / (2 * len(features)))


def _images(clip: Any) -> np.ndarray:
    """Return uint8 (image, y, x, 3) images; anything but a clip is rejected."""
    return Clip(clip.images if isinstance(clip, Clip) else as_array(clip), fps=8.0).images
