"""A video diffusion transformer as ditprobe sees it: its layers, where its tokens lie, and how to run it.

A family (CogVideoX, Wan, HunyuanVideo) subclasses :class:`Backbone` in a small module of its own and states what
differs: where the attention modules are, how latents are laid out and scaled, and how guidance is arranged.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from probe.attention.retarget import check_multiplies
from probe.attention.tap import check_no_cache
from probe.backbones.arguments import PipelineArguments
from probe.backbones.rotary import RotaryAxes
from probe.backbones.schedule import Schedule
from probe.backbones.wrapping import without_wrappers
from probe.run.finite import check_latents, check_values
from store.arguments import checked, checked_but
from store.clips.clip import Clip
from store.errors import NotFiniteError, UnsupportedBackboneError
from store.text import counted

OnStep = Callable[[int, int], object]


@dataclass(frozen=True)
class LayerInfo:
    """A self-attention layer: its number in execution order, module path, heads and channels per head."""

    index: int
    name: str
    heads: int
    channels: int


@dataclass(frozen=True)
class Moment:
    """What a transformer call is, told by the one who makes it; step None is a call that nobody captures."""

    step: int | None
    timestep: float
    branch: str
    steps: int | None = None


class Backbone(PipelineArguments):
    """A diffusers video pipeline that can be probed. Made by :func:`probe.loading.load_backbone.load_backbone`.

    Parameters
    ----------
    pipeline : diffusers pipeline of this family
    name : str, optional
        What to call it in recordings and reports; by default where it was loaded from.
    revision : str, optional
        Commit of the weights.

    Raises
    ------
    UnsupportedBackboneError
        When it has no self-attention layers, or they cannot be tapped.
    """

    family: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    """Classes that are called as this family's :meth:`arguments` say; the first one generates from text alone."""
    transformers: ClassVar[tuple[str, ...]]
    attention_paths: ClassVar[tuple[str, ...]]
    guidance: ClassVar[Literal["batch", "calls"]]
    """"batch": one call with [uncond, cond]; "calls": one call a branch, cond first."""
    text_position: ClassVar[Literal["first", "last"] | None]
    fps: float = 16.0

    def __init__(self, pipeline: Any, *, name: str | None = None, revision: str | None = None) -> None:
        self.pipeline = pipeline
        self.name = name or getattr(pipeline, "name_or_path", "") or type(pipeline).__name__
        self.revision = revision
        self.modules = tuple(self._find_layers(denoiser) for denoiser in self.denoisers)
        self.layers = tuple(_layer_info(i, name, module) for i, (name, module) in enumerate(self.modules[0]))
        self.announced: Moment | None = None
        self.running_images: int | None = None

    def __repr__(self) -> str:
        first, size = self.layers[0], self.default_size
        layers = f"{counted(len(self.layers), 'layer')} of {counted(first.heads, 'head')}"
        return (
            f"{type(self).__name__}({self.name!r}: {layers} x {first.channels} channels, {size}, "
            f"{str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    # What the model is -------------------------------------------------------------------------------------------

    @property
    def denoisers(self) -> tuple[nn.Module, ...]:
        """The transformers that denoise, the one for most noise first (all families but Wan 2.2 have one)."""
        return (self.pipeline.transformer,)

    def denoiser_at(self, timestep: float) -> nn.Module:
        """The transformer that denoises at a timestep."""
        return self.denoisers[0]

    def _find_layers(self, denoiser: nn.Module) -> tuple[tuple[str, nn.Module], ...]:
        found = [item for path in self.attention_paths for item in _expand(denoiser, path)]
        if not found:
            raise UnsupportedBackboneError(
                f"{type(denoiser).__name__} has no self-attention layers at {', '.join(self.attention_paths)}, where "
                f"the {self.family} family has them. It cannot be probed."
            )
        for name, module in found:
            check_multiplies(module, f"{type(denoiser).__name__} layer {name}")
        return tuple(found)

    @property
    def rotary(self) -> RotaryAxes | None:
        """Which channels of a head rotary positions turn, and how fast; None where positions are added."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the model computes (also while its weights are offloaded)."""
        return torch.device(self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the transformer."""
        return self.denoisers[0].dtype  # type: ignore[return-value]

    @property
    def config_hash(self) -> str:
        """Twelve hexadecimal digits that change when the configuration of any part does."""
        # names that begin with an underscore say where and with which version it was loaded
        parts = {
            name: {key: value for key, value in dict(part.config).items() if not key.startswith("_")}
            for name, part in self._configured()
            if hasattr(part, "config")
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]

    def _configured(self) -> list[tuple[str, Any]]:
        parts = [(f"transformer {i}", denoiser) for i, denoiser in enumerate(self.denoisers)]
        return [*parts, ("vae", self.pipeline.vae), ("scheduler", self.pipeline.scheduler)]

    def check_ready(self) -> None:
        """Refuse a backbone on which a cache that skips attention was enabled.

        Raises
        ------
        UnsupportedBackboneError
        """
        for denoiser in self.denoisers:
            check_no_cache(denoiser)

    # What a call of the transformer is ----------------------------------------------------------------------------

    def is_guided(self) -> bool:
        """Whether the pipeline's current run uses classifier-free guidance."""
        return float(getattr(self.pipeline, "_guidance_scale", None) or 0.0) > 1.0

    def branches_of_call(self, batch: int, *, call: int, guided: bool) -> list[tuple[str, int]]:
        """Branch and sample of each batch element of the pipeline's ``call``-th transformer call in a step."""
        if self.guidance == "calls":
            return [("uncond" if call else "cond", sample) for sample in range(batch)]
        if not guided:
            return [("cond", sample) for sample in range(batch)]
        half = batch // 2
        return [("uncond" if i < half else "cond", i % half) for i in range(batch)]

    @contextmanager
    def announce(
        self, step: int | None, timestep: float, branch: str = "cond", steps: int | None = None
    ) -> Iterator[None]:
        """Tell probes what the transformer calls made in this context are, when no pipeline makes them.

        Parameters
        ----------
        step : int or None
            None: the calls are not to be captured.
        timestep : float
        branch : "cond" or "uncond"
            Of the whole batch.
        steps : int, optional
            Steps of the run, which negative steps of a selection count from.
        """
        before, self.announced = self.announced, Moment(step, timestep, branch, steps)
        try:
            yield
        finally:
            self.announced = before

    @contextmanager
    def sized(self, images: int) -> Iterator[None]:
        """Tell probes how many images the clip has (latents alone leave it open where the family pads)."""
        before, self.running_images = self.running_images, images
        try:
            yield
        finally:
            self.running_images = before

    # Running it ---------------------------------------------------------------------------------------------------

    @checked
    def schedule(self, steps: int = 50) -> Schedule:
        """Timesteps and noise levels of a run, on a copy of the scheduler.

        Raises
        ------
        InvalidInputError
            For less than one step, or more than the scheduler has.
        """
        self.check_steps(steps)
        scheduler = without_wrappers(copy.deepcopy(self.pipeline.scheduler))
        self._set_timesteps(scheduler, steps)
        return Schedule.of(scheduler)

    def _set_timesteps(self, scheduler: Any, steps: int) -> None:
        scheduler.set_timesteps(steps)

    def timesteps(self, steps: int = 50) -> tuple[float, ...]:
        """The scheduler's value at each step, step 0 = most noise."""
        return self.schedule(steps).timesteps

    def sigmas(self, steps: int = 50) -> tuple[float, ...]:
        """Standard deviation of the noise in the state of each step, where clean latents have about 1."""
        return self.schedule(steps).noise[:-1]

    @checked_but("prompt", "negative_prompt")
    def generate(
        self,
        prompt: str | None = None,
        *,
        seed: int = 0,
        steps: int = 50,
        size: tuple[int, int] | None = None,
        height: int | None = None,
        width: int | None = None,
        images: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        conditioning: Mapping[str, Any] | None = None,
        on_step: OnStep | None = None,
    ) -> Clip:
        """A clip generated from a prompt.

        Parameters
        ----------
        prompt : str
            Kept in the clip; optional where ``conditioning`` has ``prompt_embeds``.
        seed : int
            Of a generator on the CPU, so that the noise does not depend on the device.
        steps : int
            Denoising steps.
        size : (height, width) in pixels, optional
        height, width, images : int, optional
            Size of the clip, :attr:`default_size` where not given; ``size`` stands for both of the first two.
        guidance_scale : float, optional
            The pipeline's default where not given.
        negative_prompt : str, optional
        conditioning : mapping, optional
            Further keyword arguments of the pipeline, such as ``prompt_embeds`` or ``image``; they win.
        on_step : callable, optional
            Called with (steps done, steps) after each step.

        Returns
        -------
        Clip
            Images uint8 (image, y, x, 3).

        Raises
        ------
        InvalidInputError
            Before the model runs, for a size or a number of steps it does not take, a prompt it cannot read, or
            several prompts.
        NotFiniteError
            When the latents after a step, or the images, are not finite (or the latents beyond 1e6); names the step.
        """
        arguments = self.arguments(
            prompt,
            seed=seed,
            steps=steps,
            size=size,
            height=height,
            width=width,
            images=images,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            conditioning=conditioning,
        )
        return self.call_pipeline(arguments, prompt=prompt, on_step=on_step)

    def call_pipeline(self, arguments: Mapping[str, Any], *, prompt: str | None, on_step: OnStep | None = None) -> Clip:
        """Call the pipeline with prepared arguments; what ``on_step`` raises ends the run and leaves it clean."""
        self._check_run(arguments)
        self.check_negative(arguments)
        steps = int(arguments["num_inference_steps"])

        def after_step(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            if isinstance(values.get("latents"), Tensor):
                what = f"the latents after step {step} of {steps} (timestep {float(timestep):g})"
                check_values(values["latents"], what, step=step)
            if on_step is not None:
                on_step(step + 1, steps)
            return values

        with self.sized(int(arguments["num_frames"])), self.quiet():
            result = self.pipeline(**arguments, output_type="np", callback_on_step_end=after_step)
        return Clip(_to_uint8(result.frames[0], self.name), self.fps, prompt=prompt)

    def _check_run(self, arguments: Mapping[str, Any]) -> None:
        """Refuse arguments that the pipeline would silently ignore."""

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without the pipeline's own progress bar, and with offloaded parts put back after an exception."""
        before = getattr(self.pipeline, "_progress_bar_config", None)
        self.pipeline.set_progress_bar_config(disable=True)
        try:
            yield
        except BaseException:
            self.pipeline.maybe_free_model_hooks()
            raise
        finally:
            if before is None:
                del self.pipeline._progress_bar_config
            else:
                self.pipeline._progress_bar_config = before

    def caption_of(self, clip: Clip) -> str | None:
        """The text that the model reads while it is shown a clip and no other text is given: the clip's prompt."""
        return clip.prompt

    def conditioning_of(self, clip: Clip) -> dict[str, Any]:
        """Pipeline arguments that the model needs of a clip besides its latents (image-to-video: an image)."""
        return {}

    @checked
    @torch.no_grad()
    def encode(self, clip: Clip) -> Tensor:
        """Latents of a clip, scaled and laid out as the pipeline has them: the mode of the VAE's posterior.

        Returns
        -------
        (1, ...) float32 tensor on :attr:`device`.

        Raises
        ------
        InvalidInputError
            For a size that the model does not take.
        NotFiniteError
            When the VAE makes numbers that are not finite.
        """
        images = clip.images
        self.check_size(images.shape[1], images.shape[2], images.shape[0])
        vae = self.pipeline.vae
        video = torch.from_numpy(np.ascontiguousarray(images)).permute(3, 0, 1, 2)[None]
        video = (video.float() / 127.5 - 1.0).to(self.device, vae.dtype)
        latents = self._scale(vae.encode(video).latent_dist.mode().float())
        check_values(latents, f"the latents that the VAE of {self.name} made of a clip", remedy=_VAE_REMEDY)
        return latents

    @checked
    @torch.no_grad()
    def decode(self, latents: Tensor, *, images: int | None = None) -> Clip:
        """The clip that latents stand for; the inverse of :meth:`encode` up to the VAE's loss.

        Parameters
        ----------
        latents : (1, ...) tensor, as :meth:`encode` returns
        images : int, optional
            Images of the clip, where latent frames alone leave it open (CogVideoX 1.5).

        Raises
        ------
        InvalidInputError
            For what is no such tensor.
        NotFiniteError
            When the latents are not finite (or beyond 1e6), or the images are not.
        """
        check_latents(latents)
        check_values(latents, "the latents to decode")
        vae = self.pipeline.vae
        images = images or self._images_of(latents.shape[self.frame_axis])
        values = self._unscale(latents.to(self.device).float(), images).to(vae.dtype)
        video = vae.decode(values, return_dict=False)[0][0].float().permute(1, 2, 3, 0)
        return Clip(_to_uint8((video / 2 + 0.5).cpu().numpy(), self.name), self.fps)

    @abstractmethod
    def _scale(self, latents: Tensor) -> Tensor:
        """From what the VAE encodes, (batch, channel, frame, y, x), to the pipeline's latents."""

    @abstractmethod
    def _unscale(self, latents: Tensor, images: int) -> Tensor:
        """From the pipeline's latents to what the VAE decodes, (batch, channel, frame, y, x)."""


def _expand(root: nn.Module, path: str) -> Sequence[tuple[str, nn.Module]]:
    """Named modules at a path such as ``blocks.*.attn1``."""
    container, _, leaf = path.partition(".*.")
    blocks = getattr(root, container, ())
    found = [(f"{container}.{i}.{leaf}", getattr(block, leaf, None)) for i, block in enumerate(blocks)]
    return [(name, module) for name, module in found if isinstance(module, nn.Module)]


def _layer_info(index: int, name: str, module: Any) -> LayerInfo:
    return LayerInfo(index, name, int(module.heads), int(module.inner_dim // module.heads))


_VAE_REMEDY = "Check that the weights of the VAE are finite, or load the model with dtype='float32' or 'bfloat16'."


def _to_uint8(images: np.ndarray, name: str) -> np.ndarray:
    """(image, y, x, 3) in 0 to 1 as uint8."""
    bad = images.size - int(np.count_nonzero(np.isfinite(images)))
    if bad:
        raise NotFiniteError(
            f"the images that the VAE of {name} decoded are not finite in {bad} of {images.size} places. {_VAE_REMEDY}"
        )
    return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
