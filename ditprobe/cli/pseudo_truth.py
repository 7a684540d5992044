"""Tracks of ``--truth`` for the clips of a sweep that have none, by a tracker or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditprobe.cli.console import progress, say
from store.clips.clip import Clip
from store.errors import InvalidInputError

if TYPE_CHECKING:
    from store.tracks.point_tracks import Tracker

TRACKERS = ("flow", "cotracker")


def check_truth(truth: str | None, cotracker: Path | None) -> None:
    """Validate ``--truth`` before a model is loaded.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_truth("cotracker", None)
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: --truth cotracker needs the weights of CoTracker3 offline. Give --cotracker scaled_offline.pth.
    """  # noqa: E501
    if truth == "cotracker" and cotracker is None:
        raise InvalidInputError(
            "--truth cotracker needs the weights of CoTracker3 offline. Give --cotracker scaled_offline.pth."
        )
    if truth != "cotracker" and cotracker is not None:
        raise InvalidInputError("--cotracker applies to --truth cotracker. Give both, or neither.")
    if truth is not None and truth not in TRACKERS and not Path(truth).exists():
        raise InvalidInputError(
            f"--truth {truth!r} is neither 'flow', 'cotracker' nor a file of tracks that exists (.npz, .nc or .zarr)."
        )


def with_truth(
    sources: Mapping[str, Any],
    truth: str | None,
    *,
    window: int,
    cotracker: Path | None = None,
    cotracker_code: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Add the tracks of ``--truth`` to the clips that have none; other clips keep theirs.

    Parameters
    ----------
    sources : clips and prompts by name
    truth : "flow", "cotracker", a file of tracks, or None
    window : images of a clip that a window of the sweep spans
    cotracker, cotracker_code : weights of CoTracker3 offline, and a copy of its repository if it is not installed
    device : of CoTracker

    Raises
    ------
    InvalidInputError
        For a file of tracks unless exactly one clip has none, or with another number of images.
    MissingOpenCVError, BackboneNotFoundError
        For a missing tracker.
    """
    bare = {name: clip for name, clip in sources.items() if isinstance(clip, Clip) and clip.tracks is None}
    if truth is None or not bare:
        if truth is not None:
            say(f"--truth {truth} has no effect: every clip already has tracks")
        return dict(sources)
    from analyses.trackers.pseudo_tracks import with_pseudo_tracks, with_tracks_of

    if truth not in TRACKERS:
        from store.tracks.files import load_tracks

        if len(bare) > 1:
            raise InvalidInputError(
                f"--truth {truth} holds the tracks of one clip, but {len(bare)} have none: {', '.join(bare)}. Sweep "
                "one at a time."
            )
        give = partial(with_tracks_of, tracks=load_tracks(truth), name=Path(truth).name)
    else:
        give = partial(with_pseudo_tracks, tracker=_tracker(truth, cotracker, cotracker_code, device), window=window)
    found = dict(sources)
    with progress("tracking") as bar:
        for done, (name, clip) in enumerate(bare.items(), 1):
            found[name] = give(clip)
            bar(done, len(bare))
    return found


def _tracker(truth: str, cotracker: Path | None, cotracker_code: Path | None, device: str) -> Tracker:
    from ditprobe.cli.trackers import trackers_named

    names = [truth] if truth == "flow" else []
    return trackers_named(names, None, cotracker=cotracker, cotracker_code=cotracker_code, device=device)[truth]
