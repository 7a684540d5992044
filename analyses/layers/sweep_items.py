"""The items of a sweep, one for each value of ``clip``: windows of clips with their ground truth, or prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.layers.ground_truth import Target, Truth, inside
from analyses.layers.measures import Measuring
from analyses.layers.sweep_dataset import Entry, Grid
from analyses.trackers.pseudo_tracks import against_pseudo_truth
from store.clips.clip import Clip
from store.clips.digest import digest_of_clip
from store.errors import InvalidInputError
from store.files.digest import digest_of_parts
from store.layout import GeometryPreset, TokenLayout

if TYPE_CHECKING:
    from analyses.layers.sweep_run import SweepRun

_TRACKS_SOURCE = "tracks_source"
Progress = Callable[[int, int, str], object]
"""Called with the amount done, the total, and the name of the clip."""


@dataclass(frozen=True, eq=False)
class SweepItem:
    """One value of the ``clip`` dim, before it is measured.

    Attributes
    ----------
    name : its label; the source's name where there is only one window
    source, window, first_image : its origin
    draw : which draw of the noise it is shown with; None if there is one draw
    truth : query points and, where known, their tracks
    details : its entry in the attributes of the sweep
    """

    name: str
    source: str
    window: int
    first_image: int
    truth: Truth
    details: dict[str, Any] = field(default_factory=dict)
    draw: int | None = None


@dataclass(frozen=True)
class Skipped:
    """A window that is left out, and why."""

    source: str
    window: int
    first_image: int
    reason: str


def named(clips: Any, what: str) -> dict[str, Any]:
    """Clips, prompts or recordings by name; one alone or a sequence is numbered.

    Raises
    ------
    InvalidInputError
        When there are none, or one has another type.

    Examples
    --------
    >>> named(["a red ball", "a blue box"], "prompt")
    {'prompt 0': 'a red ball', 'prompt 1': 'a blue box'}
    """
    if isinstance(clips, Mapping):
        check_distinct([str(name) for name in clips])
        found = {str(name): clip for name, clip in clips.items()}
    else:
        alone = isinstance(clips, (str, Clip)) or not isinstance(clips, Iterable)
        listed = [clips] if alone else list(clips)
        found = {f"{'prompt' if isinstance(clip, str) else what} {i}": clip for i, clip in enumerate(listed)}
    if not found:
        raise InvalidInputError(f"there is nothing to sweep: no {what} was given.")
    return found


def check_distinct(names: Sequence[str]) -> None:
    """Raise for equal names, since one entry would replace the other."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInputError(f"{twice[0]!r} names two of what is swept. Rename one of them.")


def new_entry(item: SweepItem, grid: Grid, target: Target) -> Entry:
    """An empty entry of the dataset, with what is known before anything is measured."""
    entry = Entry(item.name, item.source, item.window, item.first_image, grid, item.draw)
    entry.state(
        static_accuracy=target.static_accuracy,
        blind_accuracy=target.blind_accuracy,
        points=len(item.truth.points),
        pairs=target.pairs,
        moving_pairs=target.moving_pairs,
    )
    if grid.thresholds:
        targets = [target.within(threshold) for threshold in grid.thresholds]
        for name in ("static_accuracy", "blind_accuracy", "moving_pairs"):
            entry.state(**{f"{name}_within": [getattr(each, name) for each in targets]})
    return entry


def item_details(
    truth: Truth, prompt: str | None, digest: str = "", tracks_source: str | None = None
) -> dict[str, Any]:
    """Return the details of an item: its prompt, the source of its ground truth, and the number of points."""
    known = "tracks" if truth.tracks is not None else "none: a grid of points"
    if tracks_source and truth.tracks is not None:
        return {
            **item_details(truth, prompt, digest),
            "truth": f"none: {known} by {tracks_source}",
            _TRACKS_SOURCE: tracks_source,
        }
    return {"prompt": prompt or "", "truth": known, "points": len(truth.points), "digest": digest}


def truth_from_clip(
    clip: Clip | None, layout: TokenLayout, preset: GeometryPreset, least: int, first_image: int
) -> Truth | str:
    """The truth of a clip that fits the layout and starts at ``first_image``, or why it has too few points."""
    tracks = None if clip is None else (clip.tracks, clip.visibility)
    return truth_from_tracks(
        None if tracks is None or tracks[0] is None else tracks, layout, preset, least, first_image
    )


def truth_from_tracks(
    given: tuple[Any, Any] | None, layout: TokenLayout, preset: GeometryPreset, least: int, first_image: int = 0
) -> Truth | str:
    """The truth of (tracks, visibility), or of a grid if they are unknown, or why it has too few points."""
    if layout.frames < 2:
        images = "it has one image" if layout.images == 1 else f"its {layout.images} images are one frame of the model"
        return f"{images}, so there is nothing to follow"
    if given is None:
        return Truth.of_grid(layout)
    truth = Truth.of_tracks(given[0], given[1], layout, preset)
    if len(truth.points) < least:
        return _too_few(np.asarray(given[0]), len(truth.points), layout, preset, least, first_image)
    # The query image does not count where the definitions are exact.
    if not truth.visibility[1 if preset == "exact" else 0 :].any():
        return f"none of its {len(truth.points)} points is visible after image {first_image}"
    return truth


def _too_few(
    tracks: np.ndarray, found: int, layout: TokenLayout, preset: GeometryPreset, least: int, first: int
) -> str:
    state = "visible in" if preset == "exact" else "within"
    reason = f"{found} of {tracks.shape[1]} tracked points are {state} image {first}, fewer than {least}"
    outside = int((~inside(tracks[0], layout)).sum())
    # Not mentioned if enough points lie inside but are hidden.
    return f"{reason}; {outside} tracked points lie outside the image" if tracks.shape[1] - outside < least else reason


def check_any_left(items: Sequence[SweepItem], skipped: Sequence[Skipped]) -> None:
    """Raise for a sweep whose windows were all skipped.

    Raises
    ------
    InvalidInputError
        Says why each window was skipped.
    """
    if not items:
        reasons = "; ".join(f"{item.source} window {item.window}: {item.reason}" for item in skipped)
        few = any("fewer than" in item.reason for item in skipped)
        remedy = "Pass clips with more tracks, or min_points=1." if few else "Pass longer clips, or other ones."
        raise InvalidInputError(f"every window was skipped: {reasons}. {remedy}")


def describe_items(items: Sequence[SweepItem], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """The attributes that describe the data of a sweep: each clip, the windows, the resizing, the skipped windows."""
    sources = {item.source for item in items}
    cut = [item for item in items if item.details.get("of_windows", 1) > 1]
    windows = {(item.source, item.window) for item in cut}
    resized = {item.source for item in items if item.details.get("resized_from")}
    facts: dict[str, Any] = {"clips": [{"name": item.name, "source": item.source, **item.details} for item in items]}
    by_source = {item.source: item.details.get(_TRACKS_SOURCE) for item in items if item.truth.tracks is not None}
    if any(by_source.values()):
        facts["pseudo_truth"] = against_pseudo_truth(by_source.values())
    facts["windows"] = (
        f"{len(windows)} windows of {len({source for source, _ in windows})} of {len(sources)} clips"
        if windows
        else "none: every clip is one window"
    )
    facts["resized"] = f"{len(resized)} of {len(sources)} clips, with their tracks" if resized else "no clip"
    facts["skipped"] = [
        f"{item.source}, window {item.window} at image {item.first_image}: {item.reason}" for item in skipped
    ]
    return facts


class SweepProgress:
    """Steps of the model, counted over all items."""

    def __init__(self, progress: Progress | None, items: Sequence[SweepItem], passes: Mapping[str, int]) -> None:
        self._progress = progress
        self._of_source = {
            source: passes[source] * len(list(group)) for source, group in groupby(items, key=lambda item: item.source)
        }
        self._before = 0

    def tell(self, name: str, before: int, done: int, of_piece: int) -> None:
        """Report that ``done`` steps of an item are done, after ``before`` steps of the items of its source."""
        if self._progress is not None:
            self._progress(self._before + before + done, sum(self._of_source.values()), name)

    def finish(self, source: str) -> None:
        """Note that all items of a source are done."""
        self._before += self._of_source[source]


def sweep_items(
    sources: Mapping[str, Any], run: SweepRun, truths: Mapping[str, Any], how: Measuring, *, digests: bool
) -> tuple[list[SweepItem], list[Skipped]]:
    """The items of all clips and prompts, and the windows that are left out.

    Parameters
    ----------
    sources : clips and prompts by name
    truths : (tracks, visibility) of prompts by name, in pixels and images of the generated clip
    digests : whether details hold a digest of each clip, for a saved sweep

    Raises
    ------
    InvalidInputError
        For a source of another type, a text that the model cannot take, and truth that belongs to no prompt.
    """
    unknown = [name for name in truths if name not in sources]
    if unknown:
        raise InvalidInputError(
            f"truth names {', '.join(map(repr, unknown))}, which is not swept. Swept: {', '.join(map(repr, sources))}."
        )
    found: list[SweepItem | Skipped] = []
    for name, source in sources.items():
        if isinstance(source, str | Clip):
            run.check_text(source)
        given = truths.get(name)
        if isinstance(source, Clip):
            if given is not None:
                raise InvalidInputError(f"clip {name!r} has tracks of its own. Give truth for prompts only.")
            found += _items_of_clip(run, name, source, how, digest_of_clip(source) if digests else "")
        elif isinstance(source, str):
            digest = digest_of_parts(source, *(given or ())) if digests else ""
            found.append(_item_of_prompt(run, name, source, given, how, digest))
        else:
            raise InvalidInputError(f"{name!r} is a {type(source).__name__}; a sweep takes clips and prompts.")
    items = [item for item in found if isinstance(item, SweepItem)]
    check_distinct([item.name for item in items])
    return items, [item for item in found if isinstance(item, Skipped)]


def _items_of_clip(run: SweepRun, name: str, clip: Clip, how: Measuring, digest: str) -> Iterator[SweepItem | Skipped]:
    windows = run.windows(clip)
    for window in windows:
        size, first = window.size, window.first_image
        truth = truth_from_clip(window.clip, run.layout(size), how.preset, how.min_points, first)
        if isinstance(truth, str):
            yield Skipped(name, window.index, first, truth)
            continue
        label = name if len(windows) == 1 else f"{name} [{window.index}]"
        details = {
            "images": str(window),
            "of_windows": len(windows),
            "resized_from": None if size[:2] == window.original[:2] else list(window.original[:2]),
            **item_details(truth, run.text_of(window.clip), digest, clip.tracks_source),
        }
        yield SweepItem(label, name, window.index, first, truth, details)


def _item_of_prompt(
    run: SweepRun, name: str, prompt: str, given: Any, how: Measuring, digest: str
) -> SweepItem | Skipped:
    size = run.prompt_size()
    truth = truth_from_tracks(given, run.layout(size), how.preset, how.min_points)
    if isinstance(truth, str):
        return Skipped(name, 0, 0, truth)
    made = f"{size[2]} generated images of {size[0]} x {size[1]} px"
    return SweepItem(name, name, 0, 0, truth, {"images": made, **item_details(truth, prompt, digest)})
