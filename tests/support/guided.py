"""Strategies that do what a test says, and the state of a backbone before and after."""

from __future__ import annotations

import functools
from typing import Any

from tiny_families import FAMILIES, SCHEDULERS, Family
from torch import Tensor

from generators.sampling.sample import GuidedSampling
from generators.sampling.step import Step
from generators.sampling.strategy import Strategy
from probe import Backbone


class Doing(Strategy):
    """Does what a test says, and keeps the steps that it was called at."""

    def __init__(self, before: Any = None, delta: Any = None) -> None:
        self._before, self._delta = before, delta
        self.steps: list[int] = []

    def before(self, step: Step) -> None:
        self.steps.append(step.number)
        if self._before is not None:
            self._before(step)

    def delta(self, step: Step, prediction: Tensor) -> Tensor | None:
        return None if self._delta is None else self._delta(step, prediction)


@functools.cache
def backbone_of(name: str) -> Backbone:
    backbone = {**FAMILIES, **SCHEDULERS}[name].backbone()
    backbone.pipeline.set_progress_bar_config(disable=True)
    return backbone


def latents_of(
    family: Family, backbone: Backbone, strategies: Any = None, *, guided: bool = False, steps: int = 3, **options: Any
) -> Tensor:
    """What the pipeline makes of its latents; ``strategies`` None is the plain pipeline."""
    arguments = family.arguments(backbone, guided=guided, steps=steps)
    arguments.update(options.pop("arguments", {}))
    run = lambda: backbone.pipeline(**arguments, output_type="latent").frames  # noqa: E731
    if strategies is None:
        return run()
    with GuidedSampling(backbone, strategies, arguments, **options):
        return run()


@functools.cache
def plain_latents(name: str, steps: int, *, guided: bool = False) -> Tensor:
    """Latents that a family makes by itself, made once for all tests."""
    return latents_of({**FAMILIES, **SCHEDULERS}[name], backbone_of(name), guided=guided, steps=steps)


def state_of(backbone: Backbone) -> list[Any]:
    """Everything that a guided run touches: objects, not equal copies."""
    scheduler = vars(backbone.pipeline.scheduler)
    found: list[Any] = [module.processor for modules in backbone.modules for _, module in modules]
    found += [scheduler.get(name) for name in ("step", "set_timesteps")]
    for denoiser in backbone.denoisers:
        found += [weight.requires_grad for weight in denoiser.parameters()]
        for module in denoiser.modules():
            found += [len(module._forward_hooks), len(module._forward_pre_hooks)]
            found += [vars(module).get(name) for name in ("gradient_checkpointing", "_gradient_checkpointing_func")]
            found += [vars(module).get(f"use_{kind}positional_embeddings") for kind in ("", "learned_")]
    return [*found, backbone.call_label, backbone.running_images]


def check_same_state(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    assert all(a is b for a, b in zip(one, other, strict=True))
