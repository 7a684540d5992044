"""Calls of the pipeline of a family: arguments, guidance, and the steps of a run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from probe.backbones.arguments import describe_prompt
from probe.backbones.family_tokens import FamilyTokens
from probe.backbones.geometry import Size
from store.checks import finite
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.text import counted
from store.wording import Wording


class FamilyPipeline(FamilyTokens):
    """Statements of a family about a call of its pipeline: prompts, images, guidance, and the steps that are run."""

    image_pipelines: ClassVar[tuple[str, ...]] = ()
    """Those of them that animate an image, which is part of their ``conditioning``."""
    clip_arguments: ClassVar[Mapping[str, str]] = {}
    """Those of them that are given a whole clip, which is part of their ``conditioning``, and as which argument."""
    embeddings: ClassVar[str] = "prompt_embeds"
    """Argument of the pipeline that stands for a prompt; ``negative_`` before it, for the negative one."""
    further_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments of a run that the pipeline's call does not have and :meth:`prepared_call` takes."""
    guidance_remedy: ClassVar[Wording] = Wording(
        "Pass a {guidance_scale} above 1, or select {branches}.", guidance_scale=None, branches=("cond",)
    )
    """Last sentence of the refusal of an unconditional branch that a run does not have."""

    def check_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, conditioning: Mapping[str, Any] | None = None
    ) -> None:
        """Raise for anything but one prompt, or for words that the model cannot read; every run begins so.

        Raises
        ------
        InvalidInputError
        """
        for text in (prompt, negative_prompt):
            if text is not None and not isinstance(text, str):
                raise InvalidInputError(
                    f"generate makes one clip from one prompt; got {describe_prompt(text)}. Call it once for each "
                    "prompt."
                )

    @property
    def reads_text(self) -> bool:
        """Tell whether the pipeline makes embeddings of a prompt itself."""
        return getattr(self.pipeline, "text_encoder", None) is not None

    def size_arguments(self, size: Size) -> dict[str, Any]:
        """Return the pipeline arguments for a size."""
        return {"height": size.height, "width": size.width, "num_frames": size.images}

    def guidance_arguments(
        self, scale: float | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the pipeline arguments for a guidance scale."""
        return {} if scale is None else {"guidance_scale": finite(scale, "guidance_scale")}

    def prompt_arguments(
        self, prompt: str | None, negative_prompt: str | None, conditioning: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the pipeline arguments for a prompt and a negative one.

        Raises
        ------
        InvalidInputError
            When the pipeline has no text encoder and ``conditioning`` no embeddings, or an image is missing.
        """
        if self.takes_image and "image" not in conditioning:
            raise InvalidInputError(
                f"{self.name} animates an image, which is missing.",
                remedy=Wording("Pass {conditioning} (a PIL image).", conditioning={"image": ...}),
            )
        name = self.clip_argument
        if name is not None and name not in conditioning and "latents" not in conditioning:
            raise InvalidInputError(
                f"{self.name} is given a clip, which is missing.",
                remedy=Wording("Pass {conditioning} (a list of PIL images).", conditioning={name: ...}),
            )
        chosen: dict[str, Any] = {}
        if self.embeddings not in conditioning:
            if not self.reads_text:
                raise InvalidInputError(
                    f"{self.name} has no text encoder, so the prompt {prompt!r} cannot be read.",
                    remedy=Wording(
                        "Pass {conditioning}, arguments of its pipeline.",
                        conditioning={self.embeddings: ..., f"negative_{self.embeddings}": ...},
                    ),
                )
            chosen["prompt"] = prompt or ""
            if negative_prompt is not None:
                chosen["negative_prompt"] = negative_prompt
        return chosen

    def unguided_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pipeline arguments that switch classifier-free guidance off."""
        return {"guidance_scale": 1.0}

    def replay_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of an unguided pipeline call whose first step gives a forward pass its conditioning.

        A pipeline that begins with a noised clip is called from the first step on, without one.
        """
        chosen = {**arguments, **self.unguided_arguments(arguments)}
        name = self.strength_argument
        if name is not None:
            chosen[name] = 1.0
        if self.clip_argument is not None and name is not None:
            chosen.pop(self.clip_argument, None)
            chosen["latents"] = self._blank_latents(chosen)
        return chosen

    def _blank_latents(self, arguments: Mapping[str, Any]) -> Tensor:
        height, width, images = (int(arguments[name]) for name in ("height", "width", "num_frames"))
        denoiser: Any = self.denoisers[0]
        layout, patch = self.geometry.layout(height, width, images, 0), self.patch
        sizes = [n * p for n, p in zip((layout.frames, layout.height, layout.width), patch, strict=True)]
        sizes.insert(self.geometry.channel_axis - 1, denoiser.config.in_channels)
        return torch.zeros(1, *sizes, dtype=denoiser.dtype)

    def rescales_guidance(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a pipeline call with these arguments rescales the guided prediction."""
        default = inspect.signature(type(self.pipeline).__call__).parameters.get("guidance_rescale")
        return bool(arguments.get("guidance_rescale", 0.0 if default is None else default.default))

    def wants_guidance(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a pipeline call with these arguments runs both branches."""
        return self.guidance_of(arguments) > 1.0

    def guidance_of(self, arguments: Mapping[str, Any]) -> float:
        """Return the guidance scale of a pipeline call with these arguments."""
        default = inspect.signature(type(self.pipeline).__call__).parameters["guidance_scale"].default
        return float(arguments.get("guidance_scale", default))

    def check_run(self, arguments: Mapping[str, Any]) -> None:
        """Raise for arguments that the pipeline would silently ignore.

        Raises
        ------
        InvalidInputError
        """

    @contextmanager
    def prepared_call(self, arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Prepare one pipeline call with the arguments of a run; yields the arguments that the pipeline itself takes.

        Override it where a size or a guidance scale is not an argument but set on a component.
        """
        taken = inspect.signature(type(self.pipeline).__call__).parameters
        # a pipeline that is given a clip makes as many images
        yield {name: value for name, value in arguments.items() if name in taken or name != "num_frames"}

    def run_pipeline(self, **call: Any) -> Any:
        """Call the pipeline; override it where the call keeps gradients from what runs in it."""
        return self.pipeline(**call)

    def images_of_call(self, call: Mapping[str, Any]) -> np.ndarray:
        """Call the pipeline and return the images (image, y, x, 3) that it makes, in 0 to 1."""
        images: np.ndarray = self.run_pipeline(**call, output_type="np").frames[0]
        return images

    def caption_of(self, clip: Clip) -> str | None:
        """Return the text that the model reads with a clip where no other is given: the clip's prompt."""
        return clip.prompt

    def conditioning_of(self, clip: Clip) -> dict[str, Any]:
        """Return pipeline arguments that the model needs in addition to a clip's latents: image 0, or all images."""
        chosen: dict[str, Any] = {"image": Image.fromarray(clip.images[0])} if self.takes_image else {}
        if self.clip_argument is not None:
            chosen[self.clip_argument] = [Image.fromarray(image) for image in clip.images]
        return chosen

    @property
    def takes_image(self) -> bool:
        """Tell whether the pipeline animates an image."""
        return any(kind.__name__ in self.image_pipelines for kind in type(self.pipeline).__mro__)

    @property
    def clip_argument(self) -> str | None:
        """Argument of the pipeline in which it is given a whole clip, None if it is not."""
        names = (self.clip_arguments.get(kind.__name__) for kind in type(self.pipeline).__mro__)
        return next((name for name in names if name is not None), None)

    def check_clip_argument(self, arguments: Mapping[str, Any], images: int) -> None:
        """Raise for a given clip whose number of images is not that of the run.

        Raises
        ------
        InvalidInputError
        """
        given = arguments.get(self.clip_argument or "")
        if not isinstance(given, list) or not given:
            return
        count = len(given[0]) if isinstance(given[0], list) else len(given)
        if count != images:
            raise InvalidInputError(
                f"{self.clip_argument} has {counted(count, 'image')}; the run is one of {images}.",
                remedy=Wording("Pass {images}.", images=count),
            )

    @property
    def strength_argument(self) -> str | None:
        """Argument of the pipeline for the share of the steps that is run, None if all of them are.

        A pipeline with both names gives the strength of its conditions in the other.
        """
        names = inspect.signature(type(self.pipeline).__call__).parameters
        return next((name for name in ("denoise_strength", "strength") if name in names), None)

    def first_step(self, arguments: Mapping[str, Any]) -> int:
        """Return the step at which a run with these arguments begins: 0, or a later one for part of the noise.

        Raises
        ------
        InvalidInputError
            When no step is left.
        """
        name = self.strength_argument
        if name is None:
            return 0
        default = inspect.signature(type(self.pipeline).__call__).parameters[name].default
        strength, steps = arguments.get(name, default), int(arguments["num_inference_steps"])
        done = min(int(steps * strength), steps)
        if done < 1:
            raise InvalidInputError(
                f"{name} {strength:g} leaves none of {counted(steps, 'step')}. Pass a larger one, up to 1."
            )
        return steps - done

    @property
    def skipped_steps(self) -> int:
        """Steps of the schedule that the run under way leaves out at its start."""
        if self.strength_argument is None:
            return 0
        return len(self.pipeline.scheduler.timesteps) - int(self.pipeline.num_timesteps)
