"""Shared by the tests of sample."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from torch import Tensor

from probe import Backbone

BOTH = ("cond", "uncond")


class _watched_step:
    """What the scheduler's step is given, while open."""

    def __init__(self, backbone: Backbone, found: list[Tensor], name: str = "model_output") -> None:
        self._scheduler, self._found, self._name = backbone.pipeline.scheduler, found, name

    def __enter__(self) -> None:
        original = type(self._scheduler).step
        names = list(inspect.signature(original).parameters)

        @functools.wraps(original)
        def step(*args: Any, **kwargs: Any) -> Any:
            self._found.append({**dict(zip(names, args, strict=False)), **kwargs}[self._name])
            return original(*args, **kwargs)

        self._scheduler.step = step.__get__(self._scheduler)

    def __exit__(self, *exception: object) -> None:
        del self._scheduler.step
