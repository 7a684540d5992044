"""A call of the pipeline of a backbone: checked after every step, without a progress bar, and clean afterwards."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from probe.attention.wrapping import wrapped_method
from probe.backbones.codec import to_uint8
from probe.backbones.finite import check_values
from store.clips.clip import Clip

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

OnStep = Callable[[int, int], object]


def call_pipeline(
    backbone: Backbone, arguments: Mapping[str, Any], *, prompt: str | None, on_step: OnStep | None = None
) -> Clip:
    """Call a pipeline with prepared arguments; what ``on_step`` raises ends the run and leaves it clean."""
    backbone.check_run(arguments)
    backbone.arguments.check_negative(arguments)
    steps, first = int(arguments["num_inference_steps"]), backbone.first_step(arguments)

    def after_step(pipeline: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        step += first
        if isinstance(values.get("latents"), Tensor):

            def what() -> str:
                at = float(torch.as_tensor(timestep).max())
                return f"the latents after step {step} of {steps} (timestep {at:g})"

            check_values(values["latents"], what, step=step)
        if on_step is not None:
            on_step(step + 1, steps)
        return values

    with ExitStack() as stack:
        stack.enter_context(backbone.sized(int(arguments["num_frames"])))
        stack.enter_context(backbone.quiet())
        call = stack.enter_context(backbone.prepared_call(arguments))
        if "callback_on_step_end" in inspect.signature(type(backbone.pipeline).__call__).parameters:
            call["callback_on_step_end"] = after_step
        else:
            stack.enter_context(_after_steps(backbone.pipeline, after_step))
        images = backbone.images_of_call(call)
    return Clip(to_uint8(images, backbone.name), backbone.fps, prompt=prompt)


@contextmanager
def quiet_pipeline(pipeline: Any) -> Iterator[None]:
    """Without the pipeline's own progress bar, and with offloaded parts put back after an exception."""
    before = getattr(pipeline, "_progress_bar_config", None)
    pipeline.set_progress_bar_config(disable=True)
    try:
        yield
    except BaseException:
        pipeline.maybe_free_model_hooks()
        raise
    finally:
        if before is None:
            del pipeline._progress_bar_config
        else:
            pipeline._progress_bar_config = before


def _after_steps(pipeline: Any, after: Callable[..., Any]) -> AbstractContextManager[None]:
    """Context in which ``after`` is called as a pipeline's callback would be, after every step of its scheduler."""
    count = itertools.count()

    def stepped(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        latents = result if isinstance(result, Tensor) else result[0]  # a tuple, or an output of diffusers
        after(pipeline, next(count), timestep, {"latents": latents})
        return result

    return wrapped_method(pipeline.scheduler, "step", stepped)
