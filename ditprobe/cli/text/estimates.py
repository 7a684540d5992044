"""Time estimates of planned runs, measured at a small size only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ditprobe.cli.console import complain, say
from store.text import counted, duration

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone
    from probe.backbones.geometry import Size


def tell_time(
    model: Backbone,
    calls: Sequence[tuple[Size, float]],
    *,
    steps: int,
    estimate: bool = True,
    extra: str = "",
) -> None:
    """Print how long the model takes for its calls, as the last line of a plan.

    Parameters
    ----------
    model : as it was loaded, or planned
    calls : sizes of clips, and how many calls of the transformer each takes; parts of a call count as such
    steps : denoising steps of the run
    estimate : whether to measure; without, only the calls are counted
    extra : work that the estimate leaves out, added to the line
    """
    total = round(sum(count for _, count in calls))
    if model.device.type == "meta":
        say("  weights   not loaded: planned from the configuration")
    if not estimate or not total:
        say(f"  time      not estimated; {counted(total, 'call')} of the model")
        return
    from probe.run.timing import all_tokens, time_call

    complain("measuring one step, small ...")
    largest = max((size for size, _ in calls), key=lambda size: all_tokens(model.layout(*size)))
    measured = time_call(model, largest, "", steps=steps)
    seconds = sum(count * measured.seconds(all_tokens(model.layout(*size))) for size, count in calls)
    say(f"  time      about {duration(seconds)} for {counted(total, 'call')} of the model{extra}")
    say(f"            {measured.how}")


def run_cost(model: Backbone, arguments: Mapping[str, Any], clips: float = 1) -> tuple[Size, float]:
    """Size of a run's clips, and its number of calls of the transformer for a number of clips."""
    from probe.backbones.geometry import Size

    size = Size(arguments["height"], arguments["width"], arguments["num_frames"])
    branches = 2 if model.wants_guidance(arguments) else 1
    return size, clips * branches * arguments["num_inference_steps"]
