"""Entries of MTBench: a clip, its evaluation prompts and its difficulty; and such entries made from drawn scenes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from analyses.evaluation.mtbench_difficulty import LEVELS, Difficulty, Level, motion_difficulty
from analyses.scenes.object_motion import moving_apart
from store.arguments import check_fields, checked
from store.checks import integer
from store.clips.clip import Clip
from store.datasets.mtbench import read_mtbench
from store.errors import ClipError
from store.files.damaged import damage_as
from store.scenes.prompt import parse_prompt
from store.scenes.scene import make_scene
from store.scenes.texture import COLOURS

PROMPTS = "eval_prompts.txt"
SCENE_SEEDS: Mapping[Level, tuple[int, ...]] = {
    "easy": (3000, 3002, 3006, 3008, 3009, 3014),
    "medium": (3001, 3003, 3005, 3007, 3010, 3011),
    "hard": (3004, 3071, 3081, 3136, 3149, 3194),
}
"""Seeds of the scenes of each level: the first from 3000 upwards whose scene has that level by the rule."""
SCENE_CELL = 4.0
"""Size in pixels of a cell of the bundled backbones; tracks of a scene that spread less are one group."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A clip of the benchmark.

    Parameters
    ----------
    name : str
    clip : Clip
        With tracks of its foreground.
    prompts : tuple of str
        Prompts of the clips to which the motion is transferred.
    difficulty : Difficulty
    details : mapping
        Further details, such as the ``category`` of MotionBench.

    Raises
    ------
    ClipError
        Without prompts or tracks.
    """

    name: str
    clip: Clip
    prompts: tuple[str, ...]
    difficulty: Difficulty
    details: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.prompts:
            raise ClipError(f"entry {self.name!r} has no evaluation prompts. Write its {PROMPTS}, one per line.")
        if self.clip.tracks is None:
            raise ClipError(f"entry {self.name!r} has no tracks, so its motion cannot be compared.")


@checked
def read_mtbench_entries(folder: str | os.PathLike[str], *, min_spread: float = 16.0) -> dict[str, Entry]:
    """Entries of MTBench, or of folders of its layout, by name.

    Parameters
    ----------
    folder : an entry, or a folder of entries
        In addition to what :func:`store.read_mtbench` reads, each holds ``eval_prompts.txt``: the same number of
        prompts for each video of the entry, in the order of ``videos.txt``; blank lines and whitespace around a prompt
        are ignored.
    min_spread : float
        Pixels, as of :func:`analyses.evaluation.mtbench_difficulty.motion_difficulty`.

    Raises
    ------
    ClipError
        As :func:`store.read_mtbench`; for an entry without prompts or trajectories, and prompts that do not divide
        among its videos.
    MissingScikitLearnError

    Examples
    --------
    >>> read_mtbench_entries("nowhere")
    Traceback (most recent call last):
    ...
    store.errors.ClipError: nowhere is not a folder.
    """
    folder = Path(folder)
    clips = read_mtbench(folder)
    parts = [folder] if (folder / "videos.txt").is_file() else sorted(folder.iterdir())
    prompts = [given for part in parts if (part / "videos.txt").is_file() for given in _prompts(part)]
    if len(prompts) != len(clips):
        raise ClipError(f"{folder} has {len(clips)} clips, but prompts for {len(prompts)}.")
    found = {}
    for (name, clip), given in zip(clips.items(), prompts, strict=True):
        if clip.tracks is None:
            raise ClipError(f"entry {name!r} of {folder} has no trajectories, so its motion cannot be compared.")
        found[name] = Entry(name, clip, given, motion_difficulty(clip.tracks, min_spread=min_spread))
    return found


def _prompts(folder: Path) -> list[tuple[str, ...]]:
    """The prompts of each video of an entry."""
    path = folder / PROMPTS
    if not path.is_file():
        raise ClipError(f"{folder} has no {PROMPTS}, the evaluation prompts of MTBench, one per line.")
    with damage_as(ClipError, f"{path} cannot be read as UTF-8 text", "Save it as UTF-8."):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        videos = [line for line in (folder / "videos.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
    each, rest = divmod(len(lines), len(videos))
    if rest or not each:
        raise ClipError(
            f"{path} has {len(lines)} prompts for {len(videos)} videos. Give each video the same number, in the "
            "order of videos.txt."
        )
    return [tuple(lines[each * number : each * (number + 1)]) for number in range(len(videos))]


@checked
def scene_entries(*, levels: Sequence[Level] = LEVELS, entries: int = 2, prompts: int = 2) -> dict[str, Entry]:
    """Drawn scenes as entries of the benchmark: deterministic, with exact tracks, for the bundled backbones.

    The foreground is the points that do not move as most points do. Prompts name other colours for every object and the
    background, and keep their motions, as MTBench keeps the verb.

    Parameters
    ----------
    levels : of "easy", "medium" and "hard", by the same rule as the clips of MTBench
    entries : int
        Number of entries of each level, at most as many as :data:`SCENE_SEEDS` has.
    prompts : int
        Number of prompts of each entry, at most 5.

    Examples
    --------
    >>> entry = scene_entries(levels=["easy"], entries=1)["easy-0"]
    >>> len(entry.prompts), entry.difficulty.level
    (2, 'easy')
    """
    integer(entries, "entries", min_value=1, max_value=len(SCENE_SEEDS["easy"]))
    integer(prompts, "prompts", min_value=1, max_value=5)
    return {
        f"{level}-{number}": scene_entry(f"{level}-{number}", seed, prompts)
        for level in levels
        for number, seed in enumerate(SCENE_SEEDS[level][:entries])
    }


def scene_entry(name: str, seed: int, prompts: int) -> Entry:
    """Return the scene of a seed as an entry.

    Raises
    ------
    ClipError
        For a scene in which nothing moves by itself.
    """
    scene = make_scene(seed)
    tracks, visibility = np.asarray(scene.tracks), np.asarray(scene.visibility)
    own = moving_apart(tracks)
    if not own.any():
        raise ClipError(f"nothing moves by itself in the scene of seed {seed}.")
    clip = replace(scene, tracks=tracks[:, own], visibility=visibility[:, own])
    difficulty = motion_difficulty(tracks[:, own], min_spread=SCENE_CELL)
    new = tuple(recoloured(str(scene.prompt), seed, number) for number in range(prompts))
    return Entry(name, clip, new, difficulty, {"seed": seed})


def recoloured(prompt: str, seed: int, number: int) -> str:
    """Return the prompt of a scene with every object and the background in another colour."""
    words, rng = parse_prompt(prompt), np.random.default_rng([seed, number])
    before = [*(each.colour for each in words.objects), words.background_colour]
    order = rng.permutation([colour for colour in COLOURS if colour not in before]).tolist()
    colours = (order * len(before))[: len(before)]
    objects = tuple(replace(each, colour=colour) for each, colour in zip(words.objects, colours, strict=False))
    return str(replace(words, objects=objects, background_colour=colours[-1]))
