"""Runs of the model on the clips and prompts of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from probe.backbones.backbone import Backbone
from probe.backbones.pipeline_call import OnStep
from probe.backbones.settings import RequestedSize, RunSettings
from probe.capture.capture import Capture
from probe.run.run import pass_count, sample_prompt, show_clip
from probe.run.windows import Window, cut_windows
from store.clips.clip import Clip
from store.files.digest import digests_of_values
from store.layout import TokenLayout
from store.selection import Noise, ResolvedSelection, Selection


@dataclass(frozen=True)
class SweepRun:
    """Runs of a sweep: the model, what is captured, and how it is run."""

    backbone: Backbone
    selection: Selection
    settings: RunSettings
    noise: Noise
    seeds: tuple[int, ...]
    features: bool
    stride: int
    prompt: str | None

    def passes(self, source: Any) -> int:
        """Number of model steps for one item."""
        if isinstance(source, str):
            return 1 + max(self.resolved().steps)
        return pass_count(self.selection, noise=self.noise, steps=self.settings.steps)

    def resolved(self) -> ResolvedSelection:
        layers = self.backbone.layers
        return self.selection.resolve(len(layers), self.settings.steps, min(layer.heads for layer in layers))

    def windows(self, clip: Clip) -> tuple[Window, ...]:
        return cut_windows(self.backbone, clip, size=self.pixels, images=self.settings.size.images, stride=self.stride)

    @property
    def pixels(self) -> tuple[int, int] | None:
        """The requested height and width; None for the model's own."""
        height, width, _ = self.settings.size
        return None if height is None or width is None else (height, width)

    def prompt_size(self) -> tuple[int, int, int]:
        default = self.backbone.default_size
        height, width = self.pixels or default[:2]
        return height, width, self.settings.size.images or default.images

    def layout(self, size: tuple[int, int, int]) -> TokenLayout:
        return self.backbone.layout(*size)

    def check_text(self, source: str | Clip) -> None:
        settings = self.settings
        self.backbone.check_prompt(self.text_of(source), settings.negative_prompt, settings.conditioning)

    def text_of(self, source: str | Clip) -> str | None:
        """Return the text that the model reads for a prompt or a clip."""
        if isinstance(source, str):
            return source
        return self.backbone.caption_of(source) if self.prompt is None else self.prompt

    def run(self, source: str | Clip, sink: Callable[[Capture], None], on_step: OnStep, draw: int) -> None:
        settings = self.settings.changed(seed=self.seeds[draw], size=RequestedSize(*self.prompt_size()))
        options: dict[str, Any] = {"features": self.features, "on_step": on_step}
        if isinstance(source, Clip):
            text = self.text_of(source)
            show_clip(self.backbone, source, self.selection, sink, settings, noise=self.noise, prompt=text, **options)
        else:
            sample_prompt(self.backbone, source, self.selection, sink, settings, want_clip=False, **options)

    def attrs(self, resolved: ResolvedSelection) -> dict[str, Any]:
        """Return attributes that describe the model and its run."""
        backbone, settings, size = self.backbone, self.settings, self.pixels
        hashes = digests_of_values(settings.conditioning or {})
        return {
            "backbone": backbone.name,
            "revision": backbone.revision or "",
            "config_hash": backbone.config_hash,
            "scheduler": type(backbone.pipeline.scheduler).__name__,
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "noise": self.noise,
            "seed": self.seeds[0],
            "steps": settings.steps,
            "branch": resolved.branches[0],
            "selected_steps": list(resolved.steps),
            "selected_layers": list(resolved.layers),
            "selected_heads": list(resolved.heads),
            "guidance_scale": settings.guidance_scale,
            "negative_prompt": settings.negative_prompt or "",
            "prompt_for_all": self.prompt,
            "size": None if size is None else list(size),
            "images": settings.size.images,
            "stride": self.stride,
            "features": self.features,
            **({"conditioning": hashes} if hashes else {}),
            **({"draws": len(self.seeds), "draw_seeds": list(self.seeds)} if len(self.seeds) > 1 else {}),
        }
