"""What a sweep goes through: the pieces of its clips and prompts, those done already, and the whole of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import xarray as xr

from analyses.layers.measures import Measuring
from analyses.layers.sweep_dataset import combine
from analyses.layers.sweep_files import check_output, digest_of, finished_clips
from analyses.layers.sweep_items import Piece, Skipped, check_distinct, described, details_of, truth_of, truth_of_tracks
from store.checks import integer
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.selection import Selection


class Showing(Protocol):
    """How a model is shown clips and prompts."""

    def check_text(self, source: str | Clip) -> None:
        """Refuse a prompt, or a text shown with a clip, that the model cannot run."""

    def text_of(self, source: str | Clip) -> str | None:
        """What the model reads of a prompt or with a clip."""

    def windows(self, clip: Clip) -> Sequence[Any]:
        """The windows of a clip, see :func:`probe.run.windows.cut_windows`."""

    def prompt_size(self) -> tuple[int, int, int]:
        """Height and width in pixels, and images, of what a prompt generates."""

    def layout(self, size: tuple[int, int, int]) -> TokenLayout:
        """Where the tokens of such a clip lie."""


def check_run(seed: Any, steps: Any, draws: Any) -> None:
    """Refuse a seed, a number of steps or of noise draws that no run has."""
    if isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
        raise InvalidInputError(
            "a sweep has one seed; got several. For several draws of the noise pass draws=, whose seeds follow from it."
        )
    integer(seed, "seed", least=0)
    integer(steps, "steps", least=1)
    integer(draws, "draws", least=1)


def check_draws(draws: int, noise: str, sources: Mapping[str, Any], truths: Mapping[str, Any]) -> None:
    """Refuse draws that would all be the same, and those of a prompt whose truth holds for one of them alone."""
    if draws == 1:
        return
    if noise != "forward" and any(isinstance(source, Clip) for source in sources.values()):
        raise InvalidInputError(f"draws={draws} draws noise, and noise={noise!r} has none. Pass noise='forward'.")
    if truths:
        raise InvalidInputError(
            f"draws={draws} generates another clip in each draw, and truth follows the points of one. Leave out one of "
            f"them."
        )


def draw_seeds(seed: int, draws: int) -> tuple[int, ...]:
    """The seed of each draw: ``seed`` itself, then others that follow from it.

    Examples
    --------
    >>> draw_seeds(7, 1)
    (7,)
    >>> draw_seeds(7, 3) == (7, *draw_seeds(7, 3)[1:]), draw_seeds(7, 2) == draw_seeds(7, 3)[:2]
    (True, True)
    """
    later = (np.random.SeedSequence([seed, draw]).generate_state(1)[0] for draw in range(1, draws))
    return (seed, *(int(one) for one in later))


def drawn(pieces: Sequence[Piece], draws: int) -> list[Piece]:
    """Each source's pieces once for each draw; one draw leaves them as they are."""
    if draws == 1:
        return list(pieces)
    found = []
    for _, group in groupby(pieces, key=lambda piece: piece.source):
        own = list(group)
        found += [replace(piece, name=f"{piece.name}, draw {n}", draw=n) for n in range(draws) for piece in own]
    return found


def check_selection(selection: Selection) -> None:
    """Refuse several branches, and frames that are left out."""
    if len(tuple(selection.branches)) != 1:
        raise InvalidInputError(
            f"a sweep looks at one branch; got {', '.join(selection.branches)}. Select branches=('cond',), and sweep "
            f"again for the other."
        )
    if selection.frames is not None:
        raise InvalidInputError(
            "a sweep needs every frame: its points are followed through all of them. Leave out frames."
        )


def pieces_of(
    sources: Mapping[str, Any], showing: Showing, truths: Mapping[str, Any], how: Measuring, *, digests: bool
) -> tuple[list[Piece], list[Skipped]]:
    """The pieces of all clips and prompts, and the windows that are left out.

    Parameters
    ----------
    sources : clips and prompts by name
    truths : (tracks, visibility) of prompts by name, in pixels and images of the generated clip
    digests : whether details tell clips apart, for a saved sweep

    Raises
    ------
    InvalidInputError
        For a source of another type, a text that the model cannot run, and truth that goes with no prompt.
    """
    unknown = [name for name in truths if name not in sources]
    if unknown:
        raise InvalidInputError(
            f"truth names {', '.join(map(repr, unknown))}, which is not swept. Swept: {', '.join(map(repr, sources))}."
        )
    found: list[Piece | Skipped] = []
    for name, source in sources.items():
        if isinstance(source, str | Clip):
            showing.check_text(source)
        given = truths.get(name)
        if isinstance(source, Clip):
            if given is not None:
                raise InvalidInputError(f"clip {name!r} has tracks of its own. Give truth for prompts only.")
            found += _clip_pieces(showing, name, source, how, digest_of(source) if digests else "")
        elif isinstance(source, str):
            digest = digest_of(None, source, *(given or ())) if digests else ""
            found.append(_prompt_piece(showing, name, source, given, how, digest))
        else:
            raise InvalidInputError(f"{name!r} is a {type(source).__name__}; a sweep takes clips and prompts.")
    pieces = [item for item in found if isinstance(item, Piece)]
    check_distinct([piece.name for piece in pieces])
    return pieces, [item for item in found if isinstance(item, Skipped)]


def _clip_pieces(showing: Showing, name: str, clip: Clip, how: Measuring, digest: str) -> Iterator[Piece | Skipped]:
    windows = showing.windows(clip)
    for window in windows:
        size, first = window.size, window.first_image
        truth = truth_of(window.clip, showing.layout(size), how.preset, how.min_points, first)
        if isinstance(truth, str):
            yield Skipped(name, window.index, first, truth)
            continue
        label = name if len(windows) == 1 else f"{name} [{window.index}]"
        details = {
            "images": str(window),
            "of_windows": len(windows),
            "resized_from": None if size[:2] == window.original[:2] else list(window.original[:2]),
            **details_of(truth, showing.text_of(window.clip), digest, clip.tracks_source),
        }
        yield Piece(label, name, window.index, first, truth, details)


def _prompt_piece(showing: Showing, name: str, prompt: str, given: Any, how: Measuring, digest: str) -> Piece | Skipped:
    size = showing.prompt_size()
    truth = truth_of_tracks(given, showing.layout(size), how.preset, how.min_points)
    if isinstance(truth, str):
        return Skipped(name, 0, 0, truth)
    made = f"{size[2]} generated images of {size[0]} x {size[1]} px"
    return Piece(name, name, 0, 0, truth, {"images": made, **details_of(truth, prompt, digest)})


def saved_sources(
    save: str | os.PathLike[str] | None, resume: bool, overwrite: bool, attrs: Mapping[str, Any], pieces: list[Piece]
) -> dict[str, xr.Dataset]:
    """The finished clips of a saved sweep by source; those whose every window is there."""
    if save is None:
        return {}
    check_output(save, resume=resume, overwrite=overwrite)
    digests = {piece.source: piece.details["digest"] for piece in pieces}
    saved = finished_clips(save, attrs, digests) if resume else None
    if saved is None:
        return {}
    saved = saved.drop_vars("harmonic_mean")
    sources = saved["source"].values.astype(str)
    return {str(name): saved.isel(clip=np.flatnonzero(sources == name)) for name in dict.fromkeys(sources)}


def whole(
    done: Mapping[str, xr.Dataset], pieces: list[Piece], skipped: list[Skipped], attrs: Mapping[str, Any]
) -> xr.Dataset:
    """The finished clips in the order asked for."""
    finished = [piece for piece in pieces if piece.source in done]
    order = list(dict.fromkeys(piece.source for piece in finished))
    return combine([done[source] for source in order], dict(attrs) | described(finished, skipped))
