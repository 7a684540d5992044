"""What a sweep goes through, one piece for each value of ``clip``: windows of clips with their truth, or prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analyses.corners import Geometry
from analyses.results import Entry, Grid
from analyses.truth import Target, Truth
from store.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout

Progress = Callable[[int, int, str], object]
"""Called with how much is done, how much there is in all, and the name of the clip."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One value of the ``clip`` dim, before it is measured.

    Attributes
    ----------
    name : its label; the source's name where there is only one window
    source, window, first_image : where it comes from
    truth : query points and, where known, their tracks
    details : what is said of it in the attributes of the sweep
    """

    name: str
    source: str
    window: int
    first_image: int
    truth: Truth
    details: dict[str, Any] = field(default_factory=dict)


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
        found = {str(name): clip for name, clip in clips.items()}
    else:
        alone = isinstance(clips, (str, Clip)) or not isinstance(clips, Iterable)
        listed = [clips] if alone else list(clips)
        found = {f"{'prompt' if isinstance(clip, str) else what} {i}": clip for i, clip in enumerate(listed)}
    if not found:
        raise InvalidInputError(f"there is nothing to sweep: no {what} was given.")
    return found


def entry_of(piece: Piece, grid: Grid, target: Target) -> Entry:
    """An empty entry of the dataset, with what is known of it before anything is measured."""
    entry = Entry(piece.name, piece.source, piece.window, piece.first_image, grid)
    entry.state(
        static_accuracy=target.static_accuracy,
        points=len(piece.truth.points),
        pairs=target.pairs,
        moving_pairs=target.moving_pairs,
    )
    return entry


def details_of(truth: Truth, prompt: str | None, digest: str = "") -> dict[str, Any]:
    """What is said of every piece: its prompt, what is known of its points, and how many there are."""
    known = "tracks" if truth.tracks is not None else "none: a grid of points"
    return {"prompt": prompt or "", "truth": known, "points": len(truth.points), "digest": digest}


def truth_of(clip: Clip | None, layout: TokenLayout, preset: Geometry, least: int, first_image: int) -> Truth | str:
    """The truth of a clip that fits the layout and starts at ``first_image``, or why there is too little of it."""
    if clip is None or clip.tracks is None:
        return Truth.of_grid(layout)
    truth = Truth.of_tracks(clip.tracks, clip.visibility, layout, preset)
    if len(truth.points) >= least:
        return truth
    state = "visible in" if preset == "exact" else "within"
    count = f"{len(truth.points)} of {clip.tracks.shape[1]} tracked points"
    return f"{count} are {state} image {first_image}, fewer than {least}"


def check_any_left(pieces: Sequence[Piece], skipped: Sequence[Skipped]) -> None:
    """Refuse a sweep of which nothing is left.

    Raises
    ------
    InvalidInputError
        Says why each window was skipped.
    """
    if not pieces:
        reasons = "; ".join(f"{item.source} window {item.window}: {item.reason}" for item in skipped)
        raise InvalidInputError(f"every window was skipped: {reasons}. Pass clips with more tracks, or min_points=1.")


def described(pieces: Sequence[Piece], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """The attributes that say what was swept: each clip, the windows, the resizing, what was skipped."""
    sources = {piece.source for piece in pieces}
    windows = [piece for piece in pieces if piece.details.get("of_windows", 1) > 1]
    resized = {piece.source for piece in pieces if piece.details.get("resized_from")}
    facts: dict[str, Any] = {
        "clips": [{"name": piece.name, "source": piece.source, **piece.details} for piece in pieces]
    }
    facts["windows"] = (
        f"{len(windows)} windows of {len({piece.source for piece in windows})} of {len(sources)} clips"
        if windows
        else "none: every clip is one window"
    )
    facts["resized"] = f"{len(resized)} of {len(sources)} clips, with their tracks" if resized else "no clip"
    facts["skipped"] = [
        f"{item.source}, window {item.window} at image {item.first_image}: {item.reason}" for item in skipped
    ]
    return facts
