"""A layer sweep of recordings, with the numbers of a live sweep."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import xarray as xr

from analyses.arrays import BUDGET_BYTES
from analyses.layers.measures import Measuring, measuring
from analyses.layers.sweep_dataset import Grid, combine
from analyses.layers.sweep_items import (
    Progress,
    Skipped,
    SweepItem,
    check_any_left,
    describe_items,
    item_details,
    named,
    new_entry,
    truth_from_clip,
)
from store.arguments import check_kind, checked
from store.clips.clip import Clip, Part
from store.clips.digest import digest_of_images
from store.errors import InvalidInputError
from store.layout import GeometryPreset
from store.progress import progress_bar
from store.recordings.reader import Recording, open_recording

_Path = str | os.PathLike[str]


@checked
def sweep_recording(
    recordings: Any,
    clips: Any = None,
    *,
    threshold_cells: float | Sequence[float] = 0.5,
    preset: GeometryPreset = "exact",
    per_head: bool = False,
    branch: str = "cond",
    min_points: int = 4,
    budget_bytes: int = BUDGET_BYTES,
    progress: Progress | bool | None = None,
) -> xr.Dataset:
    """The same numbers as :func:`sweep`, from recordings.

    They are equal to the bit if the recorded values were exact in float16 (a model in float16, or in bfloat16 within
    its range); otherwise they are those of the queries and keys rounded to float16. A recording that stores bfloat16
    holds those of a bfloat16 model exactly.

    Parameters
    ----------
    recordings : mapping of names to Recording or path, or a sequence, or one of them
        All of the same steps, layers and heads.
    clips : Clip or None for each recording, by the same names or in the same order
        The whole clip, from which the recorded window is cut, or that window. Without a clip there is no accuracy. A
        recording has a hash of the images that the model saw, and any other clip is rejected.
    threshold_cells, preset, per_head, min_points, budget_bytes : as in :func:`sweep`
    branch : "cond" or "uncond"
    progress : called with (records done, total, name of the recording), or as in :func:`sweep`

    Returns
    -------
    Dataset as of :func:`sweep`

    Raises
    ------
    InvalidInputError
        When the recordings differ in what they hold, or the clips do not belong to them.
    NotRecordedError, CorruptRecordingError
        For a record that is missing or damaged.

    Examples
    --------
    >>> import tempfile
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from probe.recording.record import record
    >>> from store.scenes.scene import make_scene
    >>> from store.selection import Selection
    >>> mini, scene = load_backbone(new_pipeline(MiniConfig(layers=2))), make_scene(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = record(mini, scene, Selection(steps=[-1], layers="all"), f"{folder}/run.zarr", noise="forward")
    ...     found = sweep_recording({"scene": run}, {"scene": scene})
    >>> dict(found["accuracy"].sizes)
    {'clip': 1, 'step': 1, 'layer': 2}
    """
    how = measuring(preset, threshold_cells, per_head, min_points, budget_bytes)
    check_kind(recordings, _Path | Recording | Mapping[Any, Any] | Sequence[Any], "recordings")
    opened = {
        name: item if isinstance(item, Recording) else open_recording(item)
        for name, item in named(recordings, "recording").items()
    }
    _check_alike(opened)
    items, skipped = _recorded_items(opened, _clips_of(opened, clips), how)
    check_any_left(items, skipped)
    first = next(iter(opened.values()))
    grid = Grid(first.steps, first.layers, first.plan.layer_names, first.heads, how.thresholds)
    records = len(grid.steps) * len(grid.layers)
    entries = []
    with progress_bar(progress, "sweeping") as bar:
        for number, item in enumerate(items):

            def tell(done: int, name: str = item.name, before: int = number * records) -> None:
                if bar is not None:
                    bar(before + done, len(items) * records, name)

            entries.append(_measure_recording(opened[item.source], item, grid, how, branch, tell))
    return combine(entries, _attrs_of_recordings(first, branch) | how.attrs() | describe_items(items, skipped))


def _measure_recording(
    recording: Recording, item: SweepItem, grid: Grid, how: Measuring, branch: str, tell: Callable[[int], None]
) -> xr.Dataset:
    target = how.target(item.truth, recording.layout)
    entry = new_entry(item, grid, target)
    entry.timesteps.update(zip(grid.steps, recording.timesteps.tolist(), strict=True))
    for count, (step, layer) in enumerate(product(grid.steps, grid.layers), start=1):
        query, key = recording.read(step=step, layer=layer, branch=branch)
        text = features = None
        if recording.layout.text_tokens:
            text = recording.read_text(step=step, layer=layer, branch=branch)[1]
        if recording.plan.features:
            features = recording.read_features(step=step, layer=layer, branch=branch)
        entry.add(step, layer, how.values(query, key, target, text, features))
        tell(count)
    return entry.to_dataset()


def _attrs_of_recordings(recording: Recording, branch: str) -> dict[str, Any]:
    made = recording.provenance
    return {
        "backbone": recording.plan.backbone,
        "revision": made.revision or "",
        "config_hash": made.config_hash or "",
        "scheduler": made.scheduler or "",
        "dtype": made.source_dtype or "",
        "noise": made.noise or "",
        "seed": made.seed,
        "steps": recording.plan.run_steps,
        "branch": branch,
        "selected_heads": list(recording.heads),
        "from": f"recordings ({recording.plan.stored_dtype})",
    }


def _check_alike(recordings: Mapping[str, Recording]) -> None:
    first_name, first = next(iter(recordings.items()))
    for name, recording in recordings.items():
        for what in ("steps", "layers", "heads"):
            if getattr(recording, what) != getattr(first, what):
                raise InvalidInputError(
                    f"recording {name!r} holds {what} {getattr(recording, what)}, {first_name!r} holds "
                    f"{getattr(first, what)}. Sweep recordings of the same selection together."
                )
        if recording.plan.run_steps != first.plan.run_steps:
            raise InvalidInputError(
                f"recording {name!r} is of a run of {recording.plan.run_steps} steps, {first_name!r} of "
                f"{first.plan.run_steps}. Sweep recordings of equal runs together."
            )
        if len(recording.frames) != recording.layout.frames:
            raise InvalidInputError(
                f"recording {name!r} holds {len(recording.frames)} of {recording.layout.frames} frames; a sweep needs "
                f"every frame. Record again without frames."
            )


def _clips_of(recordings: Mapping[str, Recording], clips: Any) -> dict[str, Clip | None]:
    if clips is None:
        return dict.fromkeys(recordings)
    if isinstance(clips, Mapping):
        check_kind(clips, Mapping[str, Clip | None], "clips")
        unknown = [name for name in clips if name not in recordings]
        if unknown:
            raise InvalidInputError(
                f"clips names {', '.join(map(repr, unknown))}; the recordings are {', '.join(map(repr, recordings))}."
            )
        return {name: clips.get(name) for name in recordings}
    check_kind(clips, Clip | Iterable[Clip | None], "clips")
    listed = [clips] if isinstance(clips, Clip) else list(clips)
    if len(listed) != len(recordings):
        raise InvalidInputError(f"{len(listed)} clips were given for {len(recordings)} recordings. Pass one for each.")
    return dict(zip(recordings, listed, strict=True))


def _recorded_items(
    recordings: Mapping[str, Recording], clips: Mapping[str, Clip | None], how: Measuring
) -> tuple[list[SweepItem], list[Skipped]]:
    items: list[SweepItem] = []
    skipped: list[Skipped] = []
    for name, recording in recordings.items():
        window = recording.provenance.window or 0
        clip, first = _recorded_window(clips[name], recording, name)
        truth = truth_from_clip(clip, recording.layout, how.preset, how.min_points, first)
        if isinstance(truth, str):
            skipped.append(Skipped(name, window, first, truth))
            continue
        images = recording.provenance.extra.get("images", f"{recording.layout.images} images")
        by = None if clip is None else clip.tracks_source
        of_item = item_details(truth, recording.provenance.prompt, "", by)
        details = {"images": images, "path": recording.path, **of_item}
        items.append(SweepItem(name, name, window, first, truth, details))
    return items, skipped


def _recorded_window(clip: Clip | None, recording: Recording, name: str) -> tuple[Clip | None, int]:
    """The part of the clip that was recorded, at the recorded size, and its first image."""
    layout, made = recording.layout, recording.provenance
    stride = int(made.extra.get("stride", 1))
    first = int(made.extra.get("first_image", (made.window or 0) * layout.images * stride))
    if clip is None:
        return None, first
    if len(clip) != layout.images:
        of = clip.part or Part(0, 1, len(clip))
        (start, between), (every, uneven) = divmod(first - of.first, of.stride), divmod(stride, of.stride)
        stop = start + every * (layout.images - 1) + 1
        if start < 0 or between or uneven or stop > len(clip):
            raise InvalidInputError(
                f"recording {name!r} holds images {first} to {first + stride * (layout.images - 1)}, its clip has "
                f"{len(clip)} images. Pass the clip that was recorded, whole or that window of it."
            )
        clip = clip[start:stop:every]
    clip = clip.resized(layout.pixel_height, layout.pixel_width)
    _check_seen(clip, recording, name)
    return clip, first


def _check_seen(clip: Clip, recording: Recording, name: str) -> None:
    """Raise for a clip whose images are not those that were recorded; recordings without a hash take any."""
    expected = recording.provenance.extra.get("clip_hash")
    if expected is not None and digest_of_images(clip.images) != expected:
        raise InvalidInputError(
            f"recording {name!r} is of another clip: the images given for it are not those that the model saw. Pass "
            f"the clip that was recorded, one for each recording in the same order."
        )
