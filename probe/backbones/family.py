"""Extension points of a backbone: everything that one family of video transformers states about itself.

A new family subclasses :class:`probe.Backbone`, overrides what differs here, and is made known with
:func:`probe.families.register_family`. All other code asks these members and nothing else about a family.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from probe.attention.positions import Positions
from probe.attention.retarget import PROCESSOR
from probe.attention.sites import AttentionSite
from probe.attention.token_order import TokenOrder, order_of_joint_tokens
from probe.backbones.arguments import describe_prompt
from probe.backbones.geometry import Size
from probe.backbones.rotary import RotaryAxes
from probe.backbones.schedule import Schedule
from store.checks import finite
from store.clips.clip import Clip
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout
from store.text import counted
from store.wording import Wording

if TYPE_CHECKING:
    from probe.attention.edit import Editor
    from probe.backbones.geometry import TokenGeometry


class Family(ABC):
    """Statements of a family. Members without a default are abstract or class variables without a value.

    Names. A *call* is the mapping of keyword arguments of one call of the transformer. *Latents* are those of
    :meth:`probe.Backbone.encode`: five axes, channels on ``geometry.channel_axis``, scaled as the sampler has them.
    """

    pipeline: Any
    name: str
    geometry: TokenGeometry

    family: ClassVar[str]
    """Name under which it is registered."""
    pipelines: ClassVar[tuple[str, ...]]
    """Pipeline classes that are called as the hooks below say; the first one generates from text alone."""
    image_pipelines: ClassVar[tuple[str, ...]] = ()
    """Those of them that animate an image, which is part of their ``conditioning``."""
    clip_arguments: ClassVar[Mapping[str, str]] = {}
    """Those of them that are given a whole clip, which is part of their ``conditioning``, and as which argument."""
    transformers: ClassVar[tuple[str, ...]]
    """Transformer classes, from which a pipeline of another class is recognised."""
    attention_paths: ClassVar[tuple[str, ...]]
    """Paths of the self-attention modules, in execution order, such as ``blocks.*.attn1``."""
    attention_site: ClassVar[AttentionSite] = PROCESSOR
    """Place in an attention module at which queries and keys are multiplied: in a diffusers processor by default."""
    guidance: ClassVar[Literal["batch", "calls"]]
    """"batch": one call with [uncond, cond]; "calls": one call a branch, cond first."""
    text_position: ClassVar[Literal["first", "last"] | None]
    """Position of the text tokens in the self-attention; None if text is attended separately."""
    frame_axis: ClassVar[int] = 2
    """Axis of the frames in the latents; the channels are on the other one of 1 and 2."""
    channels_last: ClassVar[bool] = False
    """Tell whether the transformer and the scheduler have the channels on the last axis; latents here have them before."""  # noqa: E501
    fps: float = 16.0
    """Images per second of what the model was trained on."""
    images_at_once: ClassVar[int | None] = None
    """Images that a VAE of images decodes at a time; None for one of clips."""
    shifts_by_size: ClassVar[bool] = False
    """Tell whether the noise levels of a run depend on the size of the clip."""
    factorised: ClassVar[bool] = False
    """Tell whether a layer attends within a frame or along the frames of a cell, never across both at once.

    Captures of such a layer have the usual shape (:meth:`gather_tokens`), so that a comparison of cells in other frames
    multiplies queries and keys that the model itself does not. What edits attention is refused.
    """
    positions_replaced: ClassVar[bool] = True
    """Tell whether positions can be replaced, where :meth:`replaced_positions` is overridden."""
    embeddings: ClassVar[str] = "prompt_embeds"
    """Argument of the pipeline that stands for a prompt; ``negative_`` before it, for the negative one."""
    further_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments of a run that the pipeline's call does not have and :meth:`prepared_call` takes."""
    guidance_remedy: ClassVar[Wording] = Wording(
        "Pass a {guidance_scale} above 1, or select {branches}.", guidance_scale=None, branches=("cond",)
    )
    """Last sentence of the refusal of an unconditional branch that a run does not have."""

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
        """Return the text tokens of a prompt by name, in the order of the attention; None where they are unknown."""
        return None

    def text_tokens_of_call(self, call: Mapping[str, Any]) -> list[int]:
        """Return the text tokens in the self-attention of each batch element, padding not counted."""
        return [0] * len(call["hidden_states"])

    @classmethod
    def grid_of_call(cls, denoiser: Any, call: Mapping[str, Any]) -> tuple[int, int, int]:
        """Return the frames, rows and columns of the video tokens of a transformer call."""
        shape = cls.shown_in_call(call).shape
        sizes = (shape[cls.frame_axis], shape[-2], shape[-1])
        frames, rows, columns = (size // n for size, n in zip(sizes, cls.patch_of(denoiser), strict=True))
        return frames, rows, columns

    def order_of_tokens(self, call: Mapping[str, Any], layout: TokenLayout, tokens: int, layer_name: str) -> TokenOrder:
        """Return the positions of the video and the text tokens among all tokens of an attention.

        Parameters
        ----------
        call : keyword arguments of the transformer call under way
        layout : TokenLayout
            Of the batch element.
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
        """Channels of a head that rotary positions turn, and their rates; None where positions are added."""
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

    # Calls of the transformer -------------------------------------------------------------------------------------

    def is_guided(self, call: Mapping[str, Any]) -> bool:
        """Return whether the pipeline's current run, whose first transformer call is given, has both branches."""
        return float(getattr(self.pipeline, "_guidance_scale", None) or 0.0) > 1.0

    def branches_of_call(self, batch: int, *, call: int, guided: bool) -> list[tuple[str, int]]:
        """Return branch and sample of each batch element of the pipeline's ``call``-th transformer call in a step."""
        if self.guidance == "calls":
            return [("uncond" if call else "cond", sample) for sample in range(batch)]
        if not guided:
            return [("cond", sample) for sample in range(batch)]
        half = batch // 2
        return [("uncond" if i < half else "cond", i % half) for i in range(batch)]

    @classmethod
    def in_layout(cls, tensor: Tensor) -> Tensor:
        """Return what the transformer takes or predicts in the layout of latents."""
        return tensor.movedim(-1, 3 - cls.frame_axis) if cls.channels_last else tensor

    @classmethod
    def as_called(cls, latents: Tensor) -> Tensor:
        """Return latents as the transformer takes them; undoes :meth:`in_layout`."""
        return latents.movedim(3 - cls.frame_axis, -1) if cls.channels_last else latents

    @classmethod
    def shown_in_call(cls, call: Mapping[str, Any]) -> Tensor:
        """Return all that a transformer call shows, in the layout of latents: latents, then conditions' channels."""
        return cls.in_layout(call["hidden_states"])

    @classmethod
    def channels_of(cls, denoiser: Any) -> int | None:
        """Return the channels of the latents; None if no conditions are concatenated."""
        count: int | None = denoiser.config.out_channels
        return count

    def calls_a_step(self, *, guided: bool) -> int | None:
        """Return the transformer calls of a step where they tell steps apart; None where the scheduler is stepped."""
        return None

    def check_latents_edited(self) -> None:  # noqa: B027
        """Raise where latents that are edited between steps would not reach the sampler.

        Raises
        ------
        UnsupportedBackboneError
        """

    def latents_of_call(self, denoiser: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the latents in a transformer call, without channels of conditions."""
        shown, axis = self.shown_in_call(call), self.geometry.channel_axis
        return shown.narrow(axis, 0, self.channels_of(denoiser) or shown.shape[axis])

    def call_with_latents(self, call: Mapping[str, Any], latents: Tensor) -> dict[str, Any]:
        """Return a transformer call with other latents in every batch element, in its data type and on its device.

        Channels after those of ``latents`` stay as they are; ``latents`` may also bring channels of its own for them.
        """
        shown, axis = self.shown_in_call(call), self.geometry.channel_axis
        latents = latents.to(shown.device, shown.dtype).expand(len(shown), *latents.shape[1:])
        count = latents.shape[axis]
        if shown.shape[axis] > count:
            latents = torch.cat([latents, shown.narrow(axis, count, shown.shape[axis] - count)], dim=axis)
        return {**call, "hidden_states": self.as_called(latents)}

    def in_sampler_layout(self, latents: Tensor, sampled: Tensor) -> Tensor:
        """Return latents in the layout of those that the scheduler steps, ``sampled``.

        Where a first frame is that of an image, the scheduler steps the frames after it.
        """
        axis, count = self.frame_axis, self.in_layout(sampled).shape[self.frame_axis]
        return self.as_called(latents.narrow(axis, latents.shape[axis] - count, count))

    def kept_in_sampler(self, call: Mapping[str, Any]) -> Tensor | None:
        """Return where the scheduler's latents stay as they are, whatever is edited, as a mask that broadcasts to them.

        None is nowhere. Override it where a call shows conditions in place of some of the latents.
        """
        return None

    def prediction_for_sampler(self, prediction: Tensor, shown: Tensor, edited: Tensor) -> Tensor:
        """Return a prediction for edited latents as the pipeline needs it, which may combine it with its own ones.

        Parameters
        ----------
        prediction, shown, edited : in the layout of latents
            What the transformer predicts for ``edited``, and what the pipeline showed.
        """
        return prediction

    def timestep_of_call(self, call: Mapping[str, Any], timestep: float) -> Tensor:
        """Return what the transformer is given for what the schedule tells it at a step, in the shape of ``call``'s."""
        return torch.full_like(call["timestep"], timestep)

    def replayed(self, call: Mapping[str, Any], timestep: float) -> dict[str, Any]:
        """Return the arguments, besides the latents, that a forward pass changes in a call: what tells the timestep."""
        return {"timestep": self.timestep_of_call(call, timestep)}

    def prediction_of(self, output: Any, call: Mapping[str, Any]) -> Tensor:
        """Return the prediction, shaped like the latents, in what a transformer returned."""
        prediction: Tensor = output[0] if isinstance(output, tuple) else output.sample
        return self.in_layout(prediction)

    def output_with(self, output: Any, prediction: Tensor, call: Mapping[str, Any]) -> Any:
        """Return what a transformer returned with another prediction in it; undoes :meth:`prediction_of`."""
        prediction = self.as_called(prediction)
        return (prediction, *output[1:]) if isinstance(output, tuple) else type(output)(sample=prediction)

    # Arguments of the pipeline ------------------------------------------------------------------------------------

    def check_prompt(
        self, prompt: str | None, negative_prompt: str | None = None, conditioning: Mapping[str, Any] | None = None
    ) -> None:
        """Raise for what is not one prompt, or has words that the model cannot read; every run begins with it.

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

    def check_run(self, arguments: Mapping[str, Any]) -> None:  # noqa: B027
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
        """Argument of the pipeline in which it is given a whole clip, None where it is not."""
        names = (self.clip_arguments.get(kind.__name__) for kind in type(self.pipeline).__mro__)
        return next((name for name in names if name is not None), None)

    def check_clip_argument(self, arguments: Mapping[str, Any], images: int) -> None:
        """Raise for a given clip that has not as many images as the run.

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
        """Argument of the pipeline for the share of the steps that is run, None where all of them are.

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

    # Scheduler and VAE --------------------------------------------------------------------------------------------

    def set_timesteps(self, scheduler: Any, steps: int, size: Size) -> None:
        """Set a scheduler up for a run as the pipeline does; some shift the noise levels by the number of tokens."""
        scheduler.set_timesteps(steps)

    def schedule_of(self, scheduler: Any) -> Schedule:
        """Return the noise levels of latents as the transformer is shown them, from a scheduler that is set up.

        Override it where they are not those that the scheduler steps.

        Raises
        ------
        UnsupportedBackboneError
            When the noise levels are unknown.
        """
        return Schedule.of(scheduler)

    @abstractmethod
    def scale_latents(self, latents: Tensor) -> Tensor:
        """Return the sampler's latents for what the VAE encodes, (batch, channel, frame, y, x)."""

    @abstractmethod
    def unscale_latents(self, latents: Tensor, images: int) -> Tensor:
        """Return what the VAE decodes, (batch, channel, frame, y, x), for the sampler's latents."""

    @property
    def vae_dtype(self) -> torch.dtype:
        """Data type of the VAE."""
        return self.pipeline.vae.dtype

    def vae_encode(self, video: Tensor) -> Tensor:
        """Return what the VAE makes of a video (1, 3, image, y, x) in -1 to 1: the mode of its posterior."""
        latents: Tensor = self.pipeline.vae.encode(video).latent_dist.mode()
        return latents

    def vae_decode(self, latents: Tensor) -> Tensor:
        """Return the video (1, 3, image, y, x) in -1 to 1 that the VAE makes of latents."""
        video: Tensor = self.pipeline.vae.decode(latents, return_dict=False)[0]
        return video
