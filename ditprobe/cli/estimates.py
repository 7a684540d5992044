"""How long a planned run takes, told after the plan and measured at a small size alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ditprobe.cli.console import complain, say, seconds_for_people
from store.text import counted

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone
    from probe.backbones.geometry import Size


def tell_time(
    model: Backbone,
    calls: Sequence[tuple[Size, float]],
    *,
    steps: int,
    estimate: bool = True,
    besides: str = "",
) -> None:
    """Say how long the model takes for its calls, the last line of a plan.

    Parameters
    ----------
    model : as it was loaded, or planned
    calls : sizes of clips, and how many calls of the transformer each takes; parts of a call count as such
    steps : denoising steps of the run
    estimate : whether to measure; without, only the calls are counted
    besides : what comes on top, for the line
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
    say(f"  time      about {seconds_for_people(seconds)} for {counted(total, 'call')} of the model{besides}")
    say(f"            {measured.how}")
