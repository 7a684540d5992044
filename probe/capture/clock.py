"""Current step of a pipeline, found by counting the calls of its scheduler and of its transformer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from probe.attention.wrapping import check_closed, wrapped_method
from store.errors import ProbeStateError


class SamplerClock:
    """A context manager that counts ``scheduler.step`` on one scheduler object, whatever the pipeline is.

    The ``timestep`` argument of a transformer is reversed or missing in several pipelines; the number of scheduler
    steps since the last ``set_timesteps`` is not. Both are wrapped on the instance and restored on exit.

    Parameters
    ----------
    scheduler : diffusers scheduler
    skipped : callable, optional
        Returns how many steps of the schedule the run under way leaves out at its start; none by default.

    Attributes
    ----------
    calls_a_step : int or None
        Calls of the transformer after which a step ends, where the pipeline does not step this scheduler but copies of
        it; None if the calls of its ``step`` are counted.
    call : int
        Calls of the transformer made so far in this step.

    Raises
    ------
    ProbeStateError
        On entering one that is open, and when a second thread runs the scheduler while it is.
    """

    def __init__(self, scheduler: Any, skipped: Callable[[], int] = lambda: 0) -> None:
        self.scheduler = scheduler
        self.calls_a_step: int | None = None
        self.call = 0
        self._count = 0
        self._skipped = skipped
        self._open = False
        self._thread: int | None = None
        self._exit = ExitStack()
        self._timesteps: tuple[Any, list[float]] = (None, [])

    @property
    def step(self) -> int:
        """Denoising step, 0 = most noise of the schedule."""
        return self._skipped() + self._count

    @property
    def at_start(self) -> bool:
        """Tell whether the run under way has not called its transformer yet."""
        return self._count == 0 and self.call == 0

    @property
    def steps(self) -> int:
        """Steps of the schedule."""
        return len(self.scheduler.timesteps)

    @property
    def timestep(self) -> float | None:
        """The scheduler's value at this step; None beyond its last."""
        step, timesteps = self.step, self.scheduler.timesteps
        if self._timesteps[0] is not timesteps:  # fetched once a run, not once a call
            self._timesteps = timesteps, [float(each) for each in _listed(timesteps)]
        return self._timesteps[1][step] if step < self.steps else None

    def __enter__(self) -> SamplerClock:
        check_closed(self._open, "this clock")
        self._reset()
        self._thread = None
        with ExitStack() as stack:
            stack.enter_context(wrapped_method(self.scheduler, "set_timesteps", self._then(self._reset)))
            stack.enter_context(wrapped_method(self.scheduler, "step", self._then(self._advance, self._take_back)))
            self._exit = stack.pop_all()
        self._open = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        self._exit.close()

    def begin_call(self) -> None:
        """Note that a call of the transformer begins, which may be the first one of the next step."""
        if self.calls_a_step is not None and self.call >= self.calls_a_step:
            self._advance()

    def check_thread(self) -> None:
        """Reject any thread but the first one that runs the model since the clock was opened.

        Raises
        ------
        ProbeStateError
        """
        thread = threading.get_ident()
        if self._thread is None:
            self._thread = thread
        if thread != self._thread:
            raise ProbeStateError(
                "a second thread runs this model while a probe or a guided run is open on it, so its steps cannot be "
                "told from those of the first. Let one thread run the model, or load one backbone for each thread."
            )

    def _then(self, after: Callable[[], None], before: Callable[[], None] = lambda: None) -> Callable[..., Any]:
        def counted(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            self.check_thread()
            before()
            result = method(*args, **kwargs)
            after()
            return result

        return counted

    def _reset(self) -> None:
        self._count = self.call = 0
        self._index: int | None = None

    def _take_back(self) -> None:
        """Undo the count of a step that the pipeline took for what it predicts alone, and sets back (Cosmos 1)."""
        index = getattr(self.scheduler, "_step_index", None)
        if self._index is not None and index is not None and index < self._index:
            self._count -= self._index - index

    def _advance(self) -> None:
        self._count, self.call = self._count + 1, 0
        self._index = getattr(self.scheduler, "_step_index", None)


def _listed(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values
