"""A video diffusion transformer as ditprobe sees it: its layers, where its tokens lie, and how to run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.attention.retarget import check_multiplies
from probe.attention.tap import check_no_cache
from probe.backbones.arguments import PipelineArguments
from probe.backbones.family import Family
from probe.backbones.finite import check_latents, check_values
from probe.backbones.geometry import Size, TokenGeometry
from probe.backbones.layers import LayerInfo, modules_at
from probe.backbones.pipeline_call import OnStep, call_pipeline, decode_latents, encode_images, quiet_pipeline
from probe.backbones.schedule import ScheduleReader
from probe.backbones.settings import RunSettings, requested_size
from store.arguments import checked, checked_but
from store.clips.clip import Clip
from store.errors import UnsupportedBackboneError
from store.files.digest import digest_of_json
from store.layout import TokenLayout
from store.text import counted


@dataclass(frozen=True)
class CallLabel:
    """Label of a transformer call that no pipeline makes; step None is a call that is not captured."""

    step: int | None
    timestep: float
    branch: str = "cond"
    steps: int | None = None


class Backbone(Family):
    """A diffusers video pipeline that can be probed. Made by :func:`probe.loading.load_backbone.load_backbone`.

    What differs between families is in the members of :class:`probe.backbones.family.Family`, which a family
    overrides; everything here is the same for all of them.

    Parameters
    ----------
    pipeline : diffusers pipeline of this family
    name : str, optional
        What to call it in recordings and reports; by default where it was loaded from.
    revision : str, optional
        Commit of the weights.

    Attributes
    ----------
    geometry : TokenGeometry
        Sizes and token layouts.
    arguments : PipelineArguments
        Keyword arguments of the pipeline; call it to prepare those of a run.
    schedule : ScheduleReader
        Timesteps and noise levels; call it with a number of steps.
    layers : tuple of LayerInfo
    modules : tuple of tuples (name, attention module), one per denoiser

    Raises
    ------
    UnsupportedBackboneError
        When it has no self-attention layers, or they cannot be tapped.
    """

    def __init__(self, pipeline: Any, *, name: str | None = None, revision: str | None = None) -> None:
        self.pipeline = pipeline
        self.name = name or getattr(pipeline, "name_or_path", "") or type(pipeline).__name__
        self.revision = revision
        self.geometry = TokenGeometry(self)
        self.arguments = PipelineArguments(self)
        self.schedule = ScheduleReader(self)
        self.modules = tuple(tuple(self.find_layers(denoiser)) for denoiser in self.denoisers)
        self.layers = tuple(
            LayerInfo(index, name, *self.heads_of(self.denoisers[0], module))
            for index, (name, module) in enumerate(self.modules[0])
        )
        self.call_label: CallLabel | None = None
        self.running_images: int | None = None

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        first, size = self.layers[0], self.default_size
        layers = f"{counted(len(self.layers), 'layer')} of {counted(first.heads, 'head')}"
        return (
            f"{type(self).__name__}({self.name!r}: {layers} x {first.channels} channels, {size}, "
            f"{str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    # What the model is -------------------------------------------------------------------------------------------

    @classmethod
    def find_layers(cls, denoiser: nn.Module) -> list[tuple[str, nn.Module]]:
        """Return the self-attention modules of a transformer by name, in execution order.

        Raises
        ------
        UnsupportedBackboneError
            When there are none, or one cannot be tapped.
        """
        found = [item for path in cls.attention_paths for item in modules_at(denoiser, path)]
        if not found:
            raise UnsupportedBackboneError(
                f"{type(denoiser).__name__} has no self-attention layers at {', '.join(cls.attention_paths)}, where "
                f"the {cls.family} family has them. It cannot be probed."
            )
        for name, module in found:
            check_multiplies(module, f"{type(denoiser).__name__} layer {name}", cls.attention_site)
        return found

    def modules_of(self, denoiser: nn.Module) -> dict[int, nn.Module]:
        """Return the self-attention modules of one of the denoisers, by layer number."""
        return {layer: module for layer, (_, module) in enumerate(self.modules[self.denoisers.index(denoiser)])}

    def block_of(self, denoiser: nn.Module, layer: int) -> nn.Module:
        """Return the transformer block that holds a layer."""
        name, _ = self.modules[self.denoisers.index(denoiser)][layer]
        return denoiser.get_submodule(name.rpartition(".")[0])

    @property
    def device(self) -> torch.device:
        """Device on which the model computes (also while its weights are offloaded)."""
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
        return digest_of_json(parts)[:12]

    def _configured(self) -> list[tuple[str, Any]]:
        parts = [(f"transformer {i}", denoiser) for i, denoiser in enumerate(self.denoisers)]
        return [*parts, ("vae", self.pipeline.vae), ("scheduler", self.pipeline.scheduler)]

    def check_ready(self) -> None:
        """Raise while a cache that skips attention is active.

        Raises
        ------
        UnsupportedBackboneError
        """
        for denoiser in self.denoisers:
            check_no_cache(denoiser)

    # Sizes --------------------------------------------------------------------------------------------------------

    @checked
    def nearest_size(self, height: int, width: int, images: int) -> Size:
        """Return the size nearest to the one asked for that the model takes; images are rounded down."""
        return self.geometry.nearest_size(height, width, images)

    @checked
    def layout(self, height: int, width: int, images: int, prompt: str | None = None) -> TokenLayout:
        """Return where the tokens of a clip of this size lie.

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
        return self.geometry.layout(height, width, images, self.text_tokens(prompt))

    # What a call of the transformer is ----------------------------------------------------------------------------

    def layouts_of_call(self, call: Mapping[str, Any]) -> list[TokenLayout]:
        """Return the layout of each batch element of a transformer call, from the arguments of the call."""
        return self.geometry.layouts_of_call(call, self.running_images)

    @contextmanager
    def label_calls(
        self, step: int | None, timestep: float, branch: str = "cond", steps: int | None = None
    ) -> Iterator[None]:
        """Label the transformer calls made in this context for probes, when no pipeline makes them.

        Parameters
        ----------
        step : int or None
            None: the calls are not to be captured.
        timestep : float
        branch : "cond" or "uncond"
            Branch of the whole batch.
        steps : int, optional
            Steps of the run, which negative steps of a selection count from.
        """
        before, self.call_label = self.call_label, CallLabel(step, timestep, branch, steps)
        try:
            yield
        finally:
            self.call_label = before

    @contextmanager
    def sized(self, images: int) -> Iterator[None]:
        """Tell probes how many images the clip has (latents alone leave it open where the family pads)."""
        before, self.running_images = self.running_images, images
        try:
            yield
        finally:
            self.running_images = before

    # Running it ---------------------------------------------------------------------------------------------------

    def timesteps(self, steps: int = 50) -> tuple[float, ...]:
        """Return the scheduler's value at each step, step 0 = most noise."""
        return self.schedule(steps).timesteps

    def sigmas(self, steps: int = 50) -> tuple[float, ...]:
        """Return the standard deviation of the noise in the state of each step, where clean latents have about 1."""
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
        """Generate a clip from a prompt.

        Parameters
        ----------
        prompt : str
            Kept in the clip; optional where ``conditioning`` has ``prompt_embeds``.
        seed : int
            Seed of a generator on the CPU, so that the noise does not depend on the device.
        steps : int
            Denoising steps.
        size : (height, width) in pixels, optional
        height, width, images : int, optional
            Size of the clip, :attr:`default_size` where not given; ``size`` stands for both of the first two.
        guidance_scale : float, optional
            The pipeline's default where not given.
        negative_prompt : str, optional
        conditioning : mapping, optional
            Further keyword arguments of the pipeline, such as ``prompt_embeds`` or ``image``; they take precedence.
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
        requested = requested_size(size, height, width, images)
        settings = RunSettings(seed, steps, requested, guidance_scale, negative_prompt, conditioning)
        return self.call_pipeline(self.arguments(prompt, settings), prompt=prompt, on_step=on_step)

    def call_pipeline(self, arguments: Mapping[str, Any], *, prompt: str | None, on_step: OnStep | None = None) -> Clip:
        """Call the pipeline with prepared arguments; what ``on_step`` raises ends the run and leaves it clean."""
        return call_pipeline(self, arguments, prompt=prompt, on_step=on_step)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Without the pipeline's own progress bar, and with offloaded parts put back after an exception."""
        with quiet_pipeline(self.pipeline):
            yield

    @checked
    @torch.no_grad()
    def encode(self, clip: Clip) -> Tensor:
        """Encode a clip as latents, scaled and laid out as the sampler has them: the mode of the VAE's posterior.

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
        return encode_images(self, clip.images, self.device)

    @checked
    @torch.no_grad()
    def encode_images(self, clip: Clip) -> list[Tensor]:
        """Encode every image of a clip alone, as :meth:`encode` does with a clip of one image.

        Returns
        -------
        list of (1, ...) float32 tensors on :attr:`device`, one per image

        Raises
        ------
        InvalidInputError, NotFiniteError
            As :meth:`encode` does.
        """
        device = self.device  # which is costly to find: the pipeline walks through all of its modules
        return [encode_images(self, image[None], device) for image in clip.images]

    @checked
    @torch.no_grad()
    def decode(self, latents: Tensor, *, images: int | None = None) -> Clip:
        """Decode latents into a clip; the inverse of :meth:`encode` up to the VAE's loss.

        Parameters
        ----------
        latents : (1, ...) tensor, as :meth:`encode` returns
        images : int, optional
            Images of the clip, where latent frames alone leave it open (CogVideoX 1.5).

        Raises
        ------
        InvalidInputError
            For what is not such a tensor.
        NotFiniteError
            When the latents are not finite (or beyond 1e6), or the images are not.
        """
        check_latents(latents)
        check_values(latents, "the latents to decode")
        return decode_latents(self, latents, self.device, images)

    def __copy__(self) -> Backbone:
        """Copy the label and size of the calls under way; the model itself is shared."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        copied.geometry, copied.arguments = TokenGeometry(copied), PipelineArguments(copied)
        copied.schedule = ScheduleReader(copied)
        return copied
