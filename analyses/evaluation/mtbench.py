"""MTBench: methods of motion transfer over entries and prompts, with DeT's metrics; every result is saved at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from analyses.arrays import need_dims
from analyses.evaluation.mtbench_checkpoint import FinishedTransfers
from analyses.evaluation.mtbench_difficulty import LEVELS
from analyses.evaluation.mtbench_entries import Entry
from analyses.metrics.appearance import edit_fidelity, temporal_consistency
from analyses.metrics.encoders import ClipEncoder, ImageEncoder
from analyses.metrics.hybrid_fidelity import hybrid_motion_fidelity
from analyses.scenes.prompt_agreement import prompt_agreement
from analyses.statistics import bootstrap_mean
from store.arguments import checked
from store.clips.clip import Clip
from store.clips.digest import digest_of_clip
from store.errors import InvalidInputError
from store.files.digest import digest_of_json
from store.scenes.prompt import PromptError, parse_prompt
from store.tracks.point_tracks import Tracker

Transfer = Callable[[Clip, str], Clip]
"""Function of a reference and a prompt that returns a clip of the prompt which moves as the reference does."""
MOTION, EDIT, CONSISTENCY, AGREEMENT = "motion_fidelity", "edit_fidelity", "temporal_consistency", "prompt_agreement"
METRICS = (MOTION, EDIT, CONSISTENCY, AGREEMENT)


@dataclass(frozen=True)
class Measures:
    """Measurements of a transferred clip.

    Parameters
    ----------
    tracker : Tracker
        Follows the points at which the entry's tracks begin in the transferred clip.
    text : ClipEncoder, optional
        Model for edit fidelity, which is left out without it.
    images : ImageEncoder, optional
        Model for temporal consistency, which is left out without it.
    """

    tracker: Tracker
    text: ClipEncoder | None = None
    images: ImageEncoder | None = None

    def of(self, entry: Entry, prompt: str, clip: Clip) -> dict[str, float]:
        """Values of :data:`METRICS`; NaN for those that are left out.

        Hybrid motion fidelity is between the entry's tracks and those of the tracker, at the images of the transferred
        clip and in fractions of its size. Prompt agreement is measured only for prompts of drawn scenes: the fraction
        of objects and backgrounds that have the named colours, 0 to 1.
        """
        found = dict.fromkeys(METRICS, math.nan)
        theirs, queries = entry_tracks(entry, clip)
        ours = self.tracker(clip.images, queries).tracks
        found[MOTION] = hybrid_motion_fidelity(ours, theirs, size=(clip.height, clip.width))
        if self.text is not None:
            found[EDIT] = edit_fidelity(clip, prompt, model=self.text)
        if self.images is not None:
            found[CONSISTENCY] = temporal_consistency(clip, model=self.images)
        if _is_scene(prompt):
            seen = prompt_agreement(clip.images, prompt)
            right = [each.colour_right for each in seen.objects] + [seen.background_right]
            found[AGREEMENT] = float(np.mean(right))
        return found


def entry_tracks(entry: Entry, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Return an entry's tracks at the images and the size of another clip, and their start as queries.

    Returns
    -------
    tracks : (image, point, 2), (x, y) in pixels of ``clip``
    queries : (point, 3), (image, x, y): where points are in image 0; those hidden or outside the image there are left
        out of both

    Raises
    ------
    InvalidInputError
        Where no point is seen in image 0.
    """
    images = np.rint(np.linspace(0, len(entry.clip) - 1, len(clip))).astype(int)
    scale = np.array([clip.width / entry.clip.width, clip.height / entry.clip.height])
    tracks = np.asarray(entry.clip.tracks, np.float64)[images] * scale
    start = tracks[0]
    inside = ((start >= 0) & (start <= [clip.width, clip.height])).all(-1)
    seen = inside & np.asarray(entry.clip.visibility, bool)[0]
    if not seen.any():
        raise InvalidInputError(f"no point of entry {entry.name!r} is seen in its image 0, so none can be compared.")
    queries = np.concatenate([np.zeros((int(seen.sum()), 1)), start[seen]], axis=1)
    return tracks[:, seen], queries


@checked
def evaluate_mtbench(
    entries: Mapping[str, Entry],
    methods: Mapping[str, Transfer],
    measures: Measures,
    *,
    settings: Mapping[str, object] | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> xr.Dataset:
    """Transfer the motion of every entry to each of its prompts by every method, and measure the results.

    Parameters
    ----------
    entries : mapping from name to Entry
        Of :func:`analyses.evaluation.mtbench_entries.read_mtbench_entries` or
        :func:`analyses.evaluation.mtbench_entries.scene_entries`.
    methods : mapping from name to a callable (reference, prompt) to a Clip
        It is called with the prompts of an entry one after the other, so that one that trains can train once.
    measures : Measures
    settings : mapping, optional
        JSON values that describe the methods, such as backbone and seed; a checkpoint with other settings is not
        resumed.
    checkpoint : path, optional
        JSON lines, one for each finished clip.
    resume, overwrite : bool
        Whether to continue or to replace the checkpoint.
    progress : callable, optional
        Called with (clips done, total).

    Returns
    -------
    Dataset over ``transfer``, ``clip`` (entries) and ``prompt`` (numbers)
        The :data:`METRICS`, NaN where one was not measured, and ``seconds``; ``clusters`` and ``level`` of each entry,
        and its ``category`` where all have one.

    Raises
    ------
    InvalidInputError
        Without entries or methods; for a checkpoint of other settings.
    OutputExistsError, RecordingError
        As of the checkpoint.

    Notes
    -----
    Shi et al., "Decouple and Track" (DeT, ICCV 2025), section 3.3. CoTracker is the paper's tracker.
    """
    if not entries or not methods:
        raise InvalidInputError("there is nothing to evaluate: name at least one entry and one method.")
    kept = FinishedTransfers(checkpoint, dict(settings or {}), resume=resume, overwrite=overwrite)
    work = [
        (name, entry, method, number)
        for name, entry in entries.items()
        for method in methods
        for number in range(len(entry.prompts))
    ]
    for done, (name, entry, method, number) in enumerate(work):
        prompt = entry.prompts[number]
        key = digest_of_json([method, name, digest_of_clip(entry.clip), prompt])
        if kept.find(key) is None:
            began = time.perf_counter()
            clip = methods[method](entry.clip, prompt)
            seconds = time.perf_counter() - began
            values = measures.of(entry, prompt, clip) | {"seconds": seconds}
            kept.add(key, {"method": method, "clip": name, "prompt": number, **values})
        if progress is not None:
            progress(done + 1, len(work))
    return _dataset(entries, list(methods), kept)


def _dataset(entries: Mapping[str, Entry], methods: list[str], kept: FinishedTransfers) -> xr.Dataset:
    most = max(len(entry.prompts) for entry in entries.values())
    names = (*METRICS, "seconds")
    shape = (len(methods), len(entries), most)
    values = {name: np.full(shape, np.nan) for name in names}
    for row in kept.finished.values():
        if row["method"] in methods and row["clip"] in entries and row["prompt"] < most:
            place = (methods.index(row["method"]), list(entries).index(row["clip"]), row["prompt"])
            for name in names:
                values[name][place] = math.nan if row[name] is None else row[name]
    over = ("transfer", "clip", "prompt")
    difficulty = [entry.difficulty for entry in entries.values()]
    found = xr.Dataset(
        {name: (over, value) for name, value in values.items()},
        {
            "transfer": methods,
            "clip": list(entries),
            "prompt": np.arange(most),
            "level": ("clip", [each.level for each in difficulty]),
            "clusters": ("clip", [each.clusters for each in difficulty]),
        },
    )
    categories = [entry.details.get("category") for entry in entries.values()]
    return found if None in categories else found.assign_coords(category=("clip", list(map(str, categories))))


@checked
def mtbench_means(evaluation: xr.Dataset) -> xr.Dataset:
    """Means over the clips of each level and of all, with 95 % intervals over clips; prompts of a clip are averaged.

    Parameters
    ----------
    evaluation : Dataset of :func:`evaluate_mtbench`

    Returns
    -------
    Dataset over ``level`` ("all", "hard", "medium", "easy") and ``transfer``
        The metrics, each with ``<metric>_low`` and ``<metric>_high``, and ``clips``, their number.

    Raises
    ------
    InvalidInputError
        For a dataset that is not an evaluation of motion transfer.
    """
    return means_by(evaluation, "level", ("all", *reversed(LEVELS)))


def means_by(evaluation: xr.Dataset, by: str, groups: Sequence[str]) -> xr.Dataset:
    """Means over the clips of each group, as :func:`mtbench_means`.

    Parameters
    ----------
    evaluation : Dataset of :func:`evaluate_mtbench`
    by : str
        The coordinate of ``clip`` that holds the group.
    groups : sequence of str
        "all" is every clip.

    Raises
    ------
    InvalidInputError
        For a dataset that is not an evaluation of motion transfer.
    """
    names = (*METRICS, "seconds")
    missing = [name for name in (*names, "transfer", "clip", by) if name not in evaluation.variables]
    if missing:
        raise InvalidInputError(f"evaluation lacks {', '.join(missing)}: pass what evaluate_mtbench returns.")
    if evaluation[by].dims != ("clip",):
        raise InvalidInputError(f"evaluation needs a {by} for each clip.")
    for name in names:
        need_dims(name, evaluation[name], ("transfer", "clip", "prompt"))
    found: dict[str, tuple[tuple[str, str], list[list[float]]]] = {}
    methods = evaluation["transfer"].values
    parts = [_of_group(evaluation, by, group) for group in groups]
    for name in names:
        cells = [[_interval(part, name, method) for method in methods] for part in parts]
        for place, suffix in enumerate(("", "_low", "_high")):
            found[name + suffix] = ((by, "transfer"), [[cell[place] for cell in row] for row in cells])
    counts = [int(part.sizes["clip"]) for part in parts]
    return xr.Dataset({**found, "clips": (by, counts)}, {by: list(groups), "transfer": methods})


def _of_group(evaluation: xr.Dataset, by: str, group: str) -> xr.Dataset:
    return evaluation if group == "all" else evaluation.isel(clip=np.flatnonzero(evaluation[by].values == group))


def _interval(part: xr.Dataset, name: str, method: str) -> tuple[float, float, float]:
    values = part[name].sel(transfer=method).mean("prompt")
    values = values.isel(clip=np.flatnonzero(np.isfinite(values.values)))
    if not values.sizes["clip"]:
        return math.nan, math.nan, math.nan
    low, high = bootstrap_mean(values.drop_vars(["level", "clusters", "category"], errors="ignore"))
    return float(values.mean()), float(low), float(high)


def _is_scene(prompt: str) -> bool:
    try:
        parse_prompt(prompt)
    except PromptError:
        return False
    return True
