"""Every family that can be guided, as tiny random pipelines with what a call of them takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import tiny_pipelines as tiny
import torch
from diffusers import (
    CogVideoXDPMScheduler,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from probe import Backbone, load_backbone
from probe.mini import MiniConfig, new_pipeline

PROMPT = "a red disc moves left over blue stripes"


@dataclass(frozen=True)
class Family:
    """A pipeline, its text as embeddings, the arguments that switch guidance on and off, and its channels of a head."""

    make: Any
    conditioning: dict[str, Any]
    channels: int
    guided: dict[str, Any] = field(default_factory=lambda: {"guidance_scale": 4.0})
    unguided: dict[str, Any] = field(default_factory=lambda: {"guidance_scale": 1.0})
    size: dict[str, int] = field(default_factory=lambda: dict(tiny.SIZE))
    prompt: str | None = None

    def backbone(self) -> Backbone:
        return load_backbone(self.make())

    def options(self, *, guided: bool = False, steps: int = 3) -> dict[str, Any]:
        """Keyword arguments of ``sample`` and ``generate``, besides the prompt."""
        conditioning = {**self.conditioning, **(self.guided if guided else self.unguided)}
        return {"steps": steps, "seed": 5, "conditioning": conditioning, **self.size}

    def arguments(self, backbone: Backbone, **options: Any) -> dict[str, Any]:
        return backbone.arguments(self.prompt, **self.options(**options))


def _embeds(channels: int, tokens: int) -> dict[str, Any]:
    return {
        "prompt_embeds": tiny.embeds(tokens, channels, 0),
        "negative_prompt_embeds": tiny.embeds(tokens, channels, 9),
    }


def _mask(count: int) -> torch.Tensor:
    return (torch.arange(tiny.TEXT) < count).float()[None]


def _hunyuan() -> dict[str, Any]:
    return {
        **_embeds(16, tiny.TEXT),
        "pooled_prompt_embeds": tiny.embeds(1, 8, 0)[0],
        "negative_pooled_prompt_embeds": tiny.embeds(1, 8, 9)[0],
        "prompt_attention_mask": _mask(8),
        "negative_prompt_attention_mask": _mask(6),
    }


def _cogvideox(**options: Any) -> Any:
    scheduler = options.pop("scheduler", None)
    pipeline: Any = tiny.cogvideox(**options)
    if scheduler is not None:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    return pipeline


def _mini(rotary: bool) -> Any:
    pipeline: Any = new_pipeline(
        MiniConfig(images=3, height=24, width=32, layers=2, heads=2, channels=16, rotary=rotary)
    )
    tiny.randomise(pipeline.transformer, 11)
    return pipeline


_COG: dict[str, Any] = {"conditioning": _embeds(32, tiny.TEXT), "channels": 16}
_WAN: dict[str, Any] = {"conditioning": _embeds(32, 13), "channels": 12}
_MINI: dict[str, Any] = {
    "conditioning": {},
    "channels": 16,
    "size": {"height": 24, "width": 32, "images": 3},
    "prompt": PROMPT,
}
_FLOW: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}

FAMILIES = {
    "cogvideox rotary": Family(_cogvideox, **_COG),
    "cogvideox added": Family(lambda: _cogvideox(use_rotary_positional_embeddings=False), **_COG),
    "wan": Family(tiny.wan, **_WAN),
    "hunyuan": Family(
        tiny.hunyuan_video,
        _hunyuan(),
        10,
        {"guidance_scale": 4.0, "true_cfg_scale": 3.0},
        {"guidance_scale": 4.0, "true_cfg_scale": 1.0},
    ),
    "mini": Family(lambda: _mini(False), **_MINI),
    "mini-rope": Family(lambda: _mini(True), **_MINI),
}

SCHEDULERS = {
    "cogvideox dpm": Family(lambda: _cogvideox(scheduler=CogVideoXDPMScheduler), **_COG),
    "ddim": Family(lambda: _cogvideox(scheduler=DDIMScheduler), **_COG),
    "flow euler": Family(lambda: tiny.wan(scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0)), **_WAN),
    "unipc order 3": Family(lambda: tiny.wan(scheduler=UniPCMultistepScheduler(solver_order=3, **_FLOW)), **_WAN),
}
