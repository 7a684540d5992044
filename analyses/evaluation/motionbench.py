"""MotionBench: motions of cameras, of one or several objects and of people, in folders laid out as MTBench's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import xarray as xr

from analyses.evaluation.mtbench import means_by
from analyses.evaluation.mtbench_difficulty import motion_difficulty
from analyses.evaluation.mtbench_entries import SCENE_CELL, Entry, read_mtbench_entries, recoloured
from analyses.evaluation.mtbench_tables import table_by
from analyses.scenes.object_motion import moving_apart
from store.arguments import checked
from store.checks import integer, one_of
from store.errors import ClipError
from store.scenes.prompt import DIRECTIONS, CameraWords, ScenePrompt, parse_prompt
from store.scenes.scene import make_scene

Category = Literal["camera", "single object", "several objects", "people"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
FOLDERS: Mapping[Category, tuple[str, ...]] = {
    "camera": ("camera", "camera motion", "creative camera motion"),
    "single object": ("single object", "single object motion"),
    "several objects": ("several objects", "multiple objects", "multiple object", "multiple object motion"),
    "people": ("people", "human", "human motion", "complex human motion"),
}
"""Names of the folders of a category; upper case, hyphens and underscores do not matter."""
DRAWN: tuple[Category, ...] = CATEGORIES[:3]
"""Categories that drawn scenes can have."""
SOURCE = 'Ma et al., "Follow-Your-Motion" (2025), on all clips of MotionBench, with Wan2.1'
PUBLISHED: Mapping[str, tuple[float, float, float, float]] = {
    "DiTFlow": (0.375, 0.807, 0.941, 712.0),
    "MotionDirector": (0.292, 0.896, 0.939, 3008.0),
    "Follow-Your-Motion": (0.380, 0.971, 0.976, 727.0),
}
"""Text similarity, motion fidelity, temporal consistency and seconds by method."""
_FIRST_SEED = 7000
_PATHS = ("curved", "accelerating")


@checked
def read_motionbench_entries(folder: str | os.PathLike[str], *, min_spread: float = 16.0) -> dict[str, Entry]:
    """Entries of MotionBench, or of folders with the same layout, by name.

    The data is not public, so the layout is ours: a folder for each category (:data:`FOLDERS`; some may be missing),
    and in each what :func:`analyses.evaluation.mtbench_entries.read_mtbench_entries` reads.

    Parameters
    ----------
    folder : folder of categories
    min_spread : float
        As of :func:`analyses.evaluation.mtbench_entries.read_mtbench_entries`.

    Returns
    -------
    dict of Entry
        Named ``<category>/<clip>``, with the category in ``details``.

    Raises
    ------
    ClipError
        For a folder without categories, a subfolder that holds videos but has another name, two folders of one
        category, and as :func:`analyses.evaluation.mtbench_entries.read_mtbench_entries`.
    MissingScikitLearnError

    Examples
    --------
    >>> read_motionbench_entries("nowhere")
    Traceback (most recent call last):
    ...
    store.errors.ClipError: nowhere is not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ClipError(f"{folder} is not a folder.")
    found: dict[Category, Path] = {}
    for part in sorted(each for each in folder.iterdir() if each.is_dir()):
        category = category_of(part.name)
        if category is None:
            if any(part.rglob("videos.txt")):
                raise ClipError(f"{part} holds videos but is not named after a category: {_names()}. Rename it.")
            continue
        if category in found:
            raise ClipError(f"{found[category]} and {part} are both of the category {category!r}. Merge them.")
        found[category] = part
    if not found:
        raise ClipError(f"{folder} has no folder of a category of MotionBench: {_names()}.")
    return {
        f"{category}/{name}": replace(entry, name=f"{category}/{name}", details={"category": category})
        for category in CATEGORIES
        if category in found
        for name, entry in read_mtbench_entries(found[category], min_spread=min_spread).items()
    }


def _names() -> str:
    return ", ".join(CATEGORIES)


def category_of(name: str) -> Category | None:
    """Return the category that a folder is named after, None for another name.

    Examples
    --------
    >>> category_of("Single_Object"), category_of("multiple-objects"), category_of("cats")
    ('single object', 'several objects', None)
    """
    words = " ".join(re.split(r"[-_\s]+", name.lower())).strip()
    return next((category for category, names in FOLDERS.items() if words in names), None)


@checked
def motion_scene_entries(
    *, categories: Sequence[Category] = DRAWN, entries: int = 2, prompts: int = 2
) -> dict[str, Entry]:
    """Drawn scenes in all categories of MotionBench except people: deterministic, with exact tracks.

    Motions are curved in every second entry, and speed up or slow down in the others. Cameras pan over a background
    whose points are the tracks; objects move under a static camera, each on a separate path, and the tracks are those
    of their points. Prompts name other colours and keep the motions.

    Parameters
    ----------
    categories : of :data:`DRAWN`
    entries : int
        Number of entries of each category.
    prompts : int
        Number of prompts of each entry, at most 5.

    Raises
    ------
    InvalidInputError
        For the category of people, which cannot be drawn.

    Examples
    --------
    >>> entry = motion_scene_entries(categories=["camera"], entries=1)["camera/0"]
    >>> len(entry.prompts), entry.details["path"]
    (2, 'curved')
    """
    integer(entries, "entries", min_value=1, max_value=1000)
    integer(prompts, "prompts", min_value=1, max_value=5)
    for category in categories:
        one_of(category, DRAWN, "category")
    return {
        f"{category}/{number}": _scene_entry(category, number, prompts)
        for category in categories
        for number in range(entries)
    }


def _scene_entry(category: Category, number: int, prompts: int) -> Entry:
    path = _PATHS[number % 2]
    seed = _FIRST_SEED + 1000 * DRAWN.index(category) + number
    words = _words(category, seed)
    scene = make_scene(seed, prompt=str(words), path=path)
    tracks, visibility = np.asarray(scene.tracks), np.asarray(scene.visibility)
    own = moving_apart(tracks) != (category == "camera")
    clip = replace(scene, tracks=tracks[:, own], visibility=visibility[:, own])
    difficulty = motion_difficulty(tracks[:, own], min_spread=SCENE_CELL)
    given = tuple(recoloured(str(scene.prompt), seed, each) for each in range(prompts))
    details = {"category": category, "seed": seed, "path": path}
    return Entry(f"{category}/{number}", clip, given, difficulty, details)


def _words(category: Category, seed: int) -> ScenePrompt:
    """Return the prompt of the first seed from this one on that has as many objects as needed, its camera replaced."""
    rng = np.random.default_rng([seed, 3])
    camera = CameraWords(pan=DIRECTIONS[int(rng.integers(len(DIRECTIONS)))] if category == "camera" else None)
    several = category == "several objects"
    for other in range(10 * seed, 10 * seed + 1000):
        words = parse_prompt(str(make_scene(other, 1, 8, 8).prompt))
        if (len(words.objects) > 1) == several:
            return replace(words, camera=camera)
    raise AssertionError("half of all scenes have one object")


@checked
def motionbench_means(evaluation: xr.Dataset) -> xr.Dataset:
    """Means over the clips of each category and of all, with 95 % intervals; prompts of a clip are averaged.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.mtbench.evaluate_mtbench` on entries with categories

    Returns
    -------
    Dataset over ``category`` ("all" and :data:`CATEGORIES`) and ``transfer``
        As :func:`analyses.evaluation.mtbench.mtbench_means`.

    Raises
    ------
    InvalidInputError
        For a dataset without categories.
    """
    return means_by(evaluation, "category", ("all", *CATEGORIES))


@checked
def motionbench_table(evaluation: xr.Dataset, *, published: bool = False) -> str:
    """The means of an evaluation by category as Markdown, times 100, with 95 % intervals over clips.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.mtbench.evaluate_mtbench` on entries with categories
    published : bool
        Add the published figures, which are of other models and clips and not given by category.

    Raises
    ------
    InvalidInputError
        For a dataset without categories.
    """
    lines, names, groups = table_by(motionbench_means(evaluation), "category")
    order = ("edit_fidelity", "motion_fidelity", "temporal_consistency")
    for method, figures in PUBLISHED.items() if published else ():
        cells = [
            f"{100 * figures[order.index(name)]:.1f}" if group == "all" and name in order else ""
            for group in groups
            for name in names
        ]
        lines.append(f"| {method}, published | {' | '.join(cells)} |")
    return "\n".join(lines)
