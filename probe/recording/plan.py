"""Plans of recordings before the model runs: their content and their time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from probe.backbones.arguments import describe_prompt
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.run.run import pass_count
from probe.run.timing import all_tokens, time_call
from probe.run.windows import Window, cut_windows
from store.arguments import checked_but
from store.bfloat16 import StoredDtype
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.plan import DEFAULT_LIMIT_BYTES, Plan
from store.selection import Noise, Selection, check_noise
from store.text import counted


@dataclass(frozen=True, repr=False)
class RecordingPlan:
    """Plan of a recording: printed and checked before the model runs.

    Parameters
    ----------
    plan : Plan
    window : Window or None
        The part of the clip that is recorded; None for a prompt.
    size : Size
        What the model sees or generates.
    passes : int
        Calls of the transformer for all branches.
    """

    plan: Plan
    window: Window | None
    size: Size
    passes: int

    def __repr__(self) -> str:
        source = "a prompt, while it is sampled" if self.window is None else str(self.window)
        passes = counted(self.passes, "forward pass", "forward passes")
        return f"{self.plan!r}\n  source    {source}\n  model     {passes} at {self.size} (height x width)"


@checked_but("source")
def plan_recording(
    backbone: Backbone,
    source: str | Clip | None,
    selection: Selection,
    *,
    noise: Noise = "clean",
    steps: int = 50,
    window: int = 0,
    size: tuple[int, int] | None = None,
    images: int | None = None,
    stride: int = 1,
    conditioning: Mapping[str, Any] | None = None,
    features: bool = False,
    values: bool = False,
    stored_dtype: StoredDtype = "float16",
    limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
) -> RecordingPlan:
    """Plan :func:`probe.recording.record.record` with the same arguments, without running the model.

    Raises
    ------
    InvalidInputError, UnknownLayerError, PlanTooLargeError
    """
    check_noise(noise)
    if not isinstance(source, str | Clip | None):
        raise InvalidInputError(
            f"record takes one prompt or one Clip; got {describe_prompt(source)}. Call it once for each, with its own "
            "path."
        )
    backbone.arguments.check_steps(steps)
    if isinstance(source, Clip):
        chosen = _window(cut_windows(backbone, source, size=size, images=images, stride=stride), window)
        shape, prompt, count = chosen.size, source.prompt, pass_count(selection, noise=noise, steps=steps)
    else:
        if window or stride != 1:
            raise InvalidInputError("window and stride choose a part of a clip; a prompt has none.")
        default = backbone.default_size
        height, width = size or default[:2]
        chosen, shape, prompt = None, Size(height, width, images or default.images), source
        count = steps
    # where a run's text is not this one prompt, there is room for as much text as the backbone takes
    one_text = tuple(selection.branches) == ("cond",) and backbone.embeddings not in (conditioning or {})
    layout = backbone.layout(*shape, prompt if one_text else None)
    kept: dict[str, Any] = {"features": features, "values": values, "stored_dtype": stored_dtype}
    plan = selection.plan(backbone, layout, steps, limit_bytes=limit_bytes, **kept)
    return RecordingPlan(plan, chosen, shape, count * len(plan.branches))


def _window(windows: tuple[Window, ...], index: int) -> Window:
    if not 0 <= index < len(windows):
        raise InvalidInputError(f"window {index} does not exist: the clip has windows 0 to {len(windows) - 1}.")
    return windows[index]


def estimate_seconds(
    backbone: Backbone, job: RecordingPlan, prompt: str | None = None, *, conditioning: Mapping[str, Any] | None = None
) -> float:
    """Seconds that the model alone will take, from calls at a small size; see :func:`probe.run.timing.time_call`."""
    measured = time_call(backbone, job.size, prompt, steps=job.plan.run_steps, conditioning=conditioning)
    return job.passes * measured.seconds(all_tokens(job.plan.layout))
