"""DiffTrack's zero-shot tracking on TAP-Vid DAVIS."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import xarray as xr

from analyses.evaluation.tapvid import evaluate_tapvid, tapvid_means
from analyses.selection.defaults import matched_with
from analyses.trackers.backbone import BackboneTracker
from analyses.tracking.options import PUBLISHED
from ditprobe.reproduce.comparison import Comparison, Row
from ditprobe.reproduce.davis_figures import POSITION_ACCURACY, PROTOCOL, differences, is_davis
from ditprobe.reproduce.figures import DIFFTRACK, TRACKERS, TRACKING_SETTINGS
from probe.backbones.backbone import Backbone
from probe.families.published import model_card
from store.clips.clip import Clip
from store.selection import Selection

CLIP_SIZE = (256, 256)
"""Height and width that clips are brought to before the model sees them, as published."""

METRIC = "average_pts_within_thresh"


def published_tracker(
    backbone: Backbone, *, layer: int | None = None, steps: int | None = None, size: tuple[int, int] | None = None
) -> BackboneTracker:
    """Return a backbone as a tracker with DiffTrack's procedure, at the published layer and step where it has one.

    Parameters
    ----------
    backbone : Backbone
    layer, steps : for a backbone without a published layer, and for other runs than the published
    size : height and width that the model sees

    Raises
    ------
    InvalidInputError
        For a backbone without a known layer, where none is given.
    UnknownLayerError
        For a layer that it does not have.

    Examples
    --------
    >>> from probe import load_backbone
    >>> tracker = published_tracker(load_backbone("mini"))
    >>> tracker.layer, tracker.step, tracker.steps
    (5, 49, 50)
    """
    card = model_card(backbone)
    setting = None if card is None else TRACKING_SETTINGS.get(card.name)
    run = steps or (50 if setting is None else setting.steps)
    if setting is not None:
        chosen, step = setting.layer if layer is None else layer, run - 1
    else:
        chosen, step, _ = matched_with(backbone, layer, steps=run)
    resolved = Selection([step % run], [chosen]).resolve(len(backbone.layers), run, 1)
    return BackboneTracker(backbone, resolved.layers[0], step % run, options=PUBLISHED, steps=run, size=size)


def reproduce_davis(
    clips: Iterable[tuple[str, Clip]],
    tracker: BackboneTracker,
    *,
    data: str,
    save: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[..., None] | bool | None = None,
) -> tuple[Comparison, xr.Dataset]:
    """Track TAP-Vid DAVIS as published, and compare the position accuracy.

    Parameters
    ----------
    clips : pairs of name and clip, brought to :data:`CLIP_SIZE`
    tracker : of :func:`published_tracker`
    data : what the clips are called
    save, resume, overwrite : the file of finished clips, as of :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    progress : as there

    Returns
    -------
    The comparison, and the evaluation of :func:`analyses.evaluation.tapvid.evaluate_tapvid`

    Raises
    ------
    InvalidInputError, ClipError, RecordingError
    """
    name = tracker.backbone.name
    kept: dict[str, Any] = {"checkpoint": save, "resume": resume, "overwrite": overwrite}
    found = evaluate_tapvid(
        clips, {name: tracker}, mode="first", first_image_only=True, data=data, progress=progress, **kept
    )
    means = tapvid_means(found)[METRIC].sel(tracker=name)
    label = _label(tracker.backbone)
    measured, low, high = (float(means.sel(bound=bound)) for bound in ("mean", "lower", "upper"))
    ours = Row(label or name, POSITION_ACCURACY.get(label or ""), measured, low, high)
    others = (Row(each, value, None) for each, value in POSITION_ACCURACY.items() if each != label)
    rows = (ours, *others)
    deviations = deviations_of(found, tracker, data)
    return Comparison(
        "difftrack-davis", "position accuracy on TAP-Vid DAVIS, %", rows, DIFFTRACK, PROTOCOL, deviations
    ), found


def has_queries(clip: Clip) -> bool:
    """Return whether image 0 shows a tracked point, which is what is asked for.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> has_queries(make_scene(0))
    True
    """
    return clip.visibility is not None and bool(clip.visibility[0].any())


def deviations_of(found: xr.Dataset, tracker: BackboneTracker, data: str) -> tuple[str, ...]:
    """Return the differences between a run and the published one."""
    notes = []
    card, size = model_card(tracker.backbone), tracker.size or tuple(tracker.backbone.default_size[:2])
    if _label(tracker.backbone) is None:
        notes.append(f"{tracker.backbone.name} in place of {', '.join(TRACKERS.values())}")
    elif card is not None and card.by_configuration:
        notes.append(f"weights of the configuration of {card.name}, which may be others")
    setting = None if card is None else TRACKING_SETTINGS.get(card.name)
    if setting is not None and (tracker.layer, tracker.step, tracker.steps) != (
        setting.layer,
        setting.step,
        setting.steps,
    ):
        notes.append(
            f"layer {tracker.layer} at step {tracker.step} of {tracker.steps}, published {setting.layer} at "
            f"{setting.step} of {setting.steps}"
        )
    if size != (480, 720):
        notes.append(f"the model sees {size[0]} x {size[1]} px, published 480 x 720 px (height x width)")
    if not is_davis(found["clip"].values.tolist(), data):
        notes.append("clips other than those of TAP-Vid DAVIS")
    return (*notes, *differences(found, CLIP_SIZE))


def _label(backbone: Backbone) -> str | None:
    card = model_card(backbone)
    return None if card is None else TRACKERS.get(card.name)
