"""Calls of the pipeline of a backbone and of its VAE, with their results checked."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from probe.attention.wrapping import wrapped_method
from probe.backbones.family import Family
from probe.backbones.finite import check_values
from store.clips.clip import Clip
from store.errors import NotFiniteError
from store.wording import Wording

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

OnStep = Callable[[int, int], object]

VAE_REMEDY = Wording(
    "Check that the weights of the VAE are finite, or load the model with {dtype} or {}.",
    repr("bfloat16"),
    dtype="float32",
)


def call_pipeline(
    backbone: Backbone, arguments: Mapping[str, Any], *, prompt: str | None, on_step: OnStep | None = None
) -> Clip:
    """Call a pipeline with prepared arguments; what ``on_step`` raises ends the run and leaves it clean."""
    backbone.check_run(arguments)
    backbone.arguments.check_negative(arguments)
    steps, first = int(arguments["num_inference_steps"]), backbone.first_step(arguments)

    def after_step(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        step += first
        if isinstance(values.get("latents"), Tensor):

            def what() -> str:
                at = float(torch.as_tensor(timestep).max())
                return f"the latents after step {step} of {steps} (timestep {at:g})"

            check_values(values["latents"], what, step=step)
        if on_step is not None:
            on_step(step + 1, steps)
        return values

    with ExitStack() as stack:
        stack.enter_context(backbone.sized(int(arguments["num_frames"])))
        stack.enter_context(backbone.quiet())
        call = stack.enter_context(backbone.prepared_call(arguments))
        if "callback_on_step_end" in inspect.signature(type(backbone.pipeline).__call__).parameters:
            call["callback_on_step_end"] = after_step
        else:
            stack.enter_context(_after_steps(backbone.pipeline, after_step))
        images = backbone.images_of_call(call)
    return Clip(to_uint8(images, backbone.name), backbone.fps, prompt=prompt)


@contextmanager
def quiet_pipeline(pipeline: Any) -> Iterator[None]:
    """Without the pipeline's own progress bar, and with offloaded parts put back after an exception."""
    before = getattr(pipeline, "_progress_bar_config", None)
    pipeline.set_progress_bar_config(disable=True)
    try:
        yield
    except BaseException:
        pipeline.maybe_free_model_hooks()
        raise
    finally:
        if before is None:
            del pipeline._progress_bar_config
        else:
            pipeline._progress_bar_config = before


def _after_steps(pipeline: Any, after: Callable[..., Any]) -> AbstractContextManager[None]:
    """Context in which ``after`` is called as a pipeline's callback would be, after every step of its scheduler."""
    count = itertools.count()

    def stepped(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        latents = result if isinstance(result, Tensor) else result[0]  # a tuple, or an output of diffusers
        after(pipeline, next(count), timestep, {"latents": latents})
        return result

    return wrapped_method(pipeline.scheduler, "step", stepped)


def encode_images(family: Family, images: np.ndarray, device: torch.device) -> Tensor:
    """Latents (1, ...) float32 of images uint8 (image, y, x, 3), as the sampler has them.

    Raises
    ------
    InvalidInputError
        For a size that the model does not take.
    NotFiniteError
        When the VAE makes numbers that are not finite.
    """
    family.check_size(images.shape[1], images.shape[2], images.shape[0])
    video = torch.from_numpy(np.ascontiguousarray(images)).permute(3, 0, 1, 2)[None]
    video = (video.float() / 127.5 - 1.0).to(device, family.vae_dtype)
    latents = family.scale_latents(family.vae_encode(video).float())
    check_values(latents, f"the latents that the VAE of {family.name} made of a clip", remedy=VAE_REMEDY)
    return latents


def decode_latents(family: Family, latents: Tensor, device: torch.device, images: int | None) -> Clip:
    """Clip of latents (1, ...); ``images`` where latent frames alone leave their number open.

    Raises
    ------
    NotFiniteError
        When the images are not finite.
    """
    images = images or family.geometry.images_of(latents.shape[family.frame_axis])
    values = family.unscale_latents(latents.to(device).float(), images).to(family.vae_dtype)
    video = family.vae_decode(values)[0].float().permute(1, 2, 3, 0)
    return Clip(to_uint8((video / 2 + 0.5).cpu().numpy(), family.name), family.fps)


def to_uint8(images: np.ndarray, name: str) -> np.ndarray:
    """(image, y, x, 3) in 0 to 1 as uint8."""
    bad = images.size - int(np.count_nonzero(np.isfinite(images)))
    if bad:
        raise NotFiniteError(
            f"the images that the VAE of {name} decoded are not finite in {bad} of {images.size} places.",
            remedy=VAE_REMEDY,
        )
    return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
