"""State of a backbone that whatever runs it puts back."""

from __future__ import annotations

from typing import Any

from probe import Backbone


def state_of(backbone: Backbone) -> tuple[list[Any], dict[str, Any], list[Any]]:
    site = backbone.attention_site
    processors = [site.held(module) for modules in backbone.modules for _, module in modules]
    scheduler = {name: vars(backbone.pipeline.scheduler).get(name) for name in ("step", "set_timesteps")}
    hooks = [(len(d._forward_pre_hooks), len(d._forward_hooks)) for d in backbone.denoisers]
    return processors, scheduler, hooks


def same_state(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    processors = all(a is b for a, b in zip(one[0], other[0], strict=True))
    return processors and one[1:] == other[1:] and one[1] == {"step": None, "set_timesteps": None}
