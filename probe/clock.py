"""Which step a pipeline is at, by counting what it does: the calls of its scheduler and of its transformer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_MISSING = object()


class SamplerClock:
    """A context manager that counts ``scheduler.step`` on one scheduler object, whatever the pipeline is.

    The ``timestep`` argument of a transformer is reversed or missing in several pipelines; the number of scheduler
    steps since the last ``set_timesteps`` is not. Both are wrapped on the instance and restored on exit.

    Attributes
    ----------
    step : int
        Denoising step of the run, 0 = most noise.
    call : int
        Calls of the transformer made so far in this step.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.step = 0
        self.call = 0
        self._saved: list[tuple[str, Any]] = []

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return len(self.scheduler.timesteps)

    @property
    def timestep(self) -> float | None:
        """The scheduler's value at this step; None beyond its last."""
        return float(self.scheduler.timesteps[self.step]) if self.step < self.steps else None

    def __enter__(self) -> SamplerClock:
        self._reset()
        self._wrap("set_timesteps", self._reset)
        self._wrap("step", self._advance)
        return self

    def __exit__(self, *exception: object) -> None:
        for name, before in self._saved:
            if before is _MISSING:
                delattr(self.scheduler, name)
            else:
                setattr(self.scheduler, name, before)
        self._saved.clear()

    def _wrap(self, name: str, then: Callable[[], None]) -> None:
        original = getattr(self.scheduler, name)

        # pipelines read the signature, which follows __wrapped__
        @functools.wraps(original)
        def counted(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            then()
            return result

        self._saved.append((name, vars(self.scheduler).get(name, _MISSING)))
        setattr(self.scheduler, name, counted)

    def _reset(self) -> None:
        self.step = self.call = 0

    def _advance(self) -> None:
        self.step, self.call = self.step + 1, 0
