"""Figures of a training: its loss, and the clips generated during it next to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from store.clips.clip import Clip


def training_figures(
    losses: Sequence[float], reference: Clip, samples: Mapping[int, Clip], prompt: str | None
) -> list[go.Figure]:
    """The loss of each step with a running mean, and strips of the reference and of each sample.

    Parameters
    ----------
    losses : one for each step
    reference : Clip
    samples : clips by the number of steps done
    prompt : of the samples

    Examples
    --------
    >>> from store import make_scene
    >>> len(training_figures([0.2, 0.1], make_scene(1), {2: make_scene(2)}, "a red disc"))
    2
    """
    values, steps = np.asarray(losses), np.arange(1, len(losses) + 1)
    window = max(1, len(values) // 20)
    sums = np.cumsum(np.insert(values, 0, 0.0))
    low = np.maximum(steps - window, 0)
    loss = go.Figure()
    loss.add_scatter(x=steps, y=values, mode="markers", marker={"size": 4, "opacity": 0.4}, name="step")
    loss.add_scatter(x=steps, y=(sums[steps] - sums[low]) / (steps - low), name=f"mean of {window} steps")
    loss.update_layout(title="Loss", template="plotly_white", height=360)
    loss.update_xaxes(title="training step").update_yaxes(title="loss")
    rows = [("reference", reference), *((f"after {done} steps", clip) for done, clip in samples.items())]
    strip = np.concatenate([_row(clip, reference) for _, clip in rows])
    shown = go.Figure(go.Image(z=strip))
    title = "Reference" if prompt is None else f"Reference, and samples of {prompt!r}"
    shown.update_layout(title=title, template="plotly_white", height=120 + 110 * len(rows))
    height = strip.shape[0] / len(rows)
    ticks = [height * (number + 0.5) for number in range(len(rows))]
    shown.update_yaxes(tickvals=ticks, ticktext=[name for name, _ in rows]).update_xaxes(showticklabels=False)
    return [loss, shown]


def _row(clip: Clip, like: Clip) -> np.ndarray:
    """Up to eight images of a clip side by side, enlarged where they are small."""
    chosen = np.unique(np.linspace(0, len(clip) - 1, min(8, len(clip))).round().astype(int))
    images = clip.resized(like.height, like.width).images[chosen]
    times = max(1, 80 // like.height)
    return np.concatenate(list(images.repeat(times, 1).repeat(times, 2)), axis=1)
