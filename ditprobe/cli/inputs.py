"""Clips, scenes and prompts that options name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ditprobe.cli.parsing import scene_seeds
from store.clips.clip import Clip
from store.datasets.read_clips import read_clips
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.scenes.scene import make_scene

if TYPE_CHECKING:
    pass


def check_exists(path: Path | None, what: str) -> None:
    """Raise if a path does not exist, before anything heavy is imported.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_exists(Path("nothere.mp4"), "a video")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: nothere.mp4 is missing. Give the path of a video.
    """
    if path is not None and not path.exists():
        raise InvalidInputError(f"{path} is missing. Give the path of {what}.")


def make_scenes(text: str, layout: TokenLayout, stride: int = 1) -> dict[str, Clip]:
    """Make synthetic scenes by seed, named ``scene 3``, with a point in every cell of the layout."""
    images = stride * (layout.images - 1) + 1
    size = (images, layout.pixel_height, layout.pixel_width)
    return {f"scene {seed}": make_scene(seed, *size, cell=layout.cell_size[0]) for seed in scene_seeds(text)}


def read_sources(
    clips: Path | None,
    scenes: str | None,
    layout: TokenLayout,
    stride: int = 1,
    *,
    first: int = 0,
    last: int | None = None,
) -> dict[str, Clip]:
    """Read the clips of ``--clips``, from image ``first`` to ``last``, and make those of ``--scenes``, by name."""
    found = {} if clips is None else dict(read_clips(clips, first=first, last=last))
    return joined(found, {} if scenes is None else make_scenes(scenes, layout, stride))


def read_part(path: Path, first: int, last: int | None, stride: int) -> Clip:
    """Read every n-th image of a video, from ``first`` to ``last`` inclusive."""
    from store.clips.video import read_clip

    clip = read_clip(path, first=first, last=last, stride=stride)
    images = len(clip) if clip.part is None else clip.part.images
    if last is not None and last >= images:
        raise InvalidInputError(f"{path} has images 0 to {images - 1}; --last {last} lies beyond them.")
    return clip


def joined(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sources by name; raise if two have the same name.

    Examples
    --------
    >>> joined({"a dog": 1}, {"scene 0": 2})
    {'a dog': 1, 'scene 0': 2}
    """
    found: dict[str, Any] = {}
    for more in sources:
        for name in more:
            if name in found:
                raise InvalidInputError(
                    f"{name!r} names two of what was given by --clips, --scenes and --prompt. Rename one, or leave it "
                    f"out."
                )
        found.update(more)
    return found


def name_prompts(texts: Sequence[str] | None) -> dict[str, str]:
    """Name prompts by their own text; raise if one is given twice."""
    twice = [text for text, count in Counter(texts or ()).items() if count > 1]
    if twice:
        raise InvalidInputError(f"--prompt {twice[0]!r} is given twice.")
    return {text: text for text in texts or ()}
