"""DiTFlow's comparison of motion transfers by motion fidelity."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.metrics.clip_fidelity import clip_motion_fidelity
from analyses.statistics import bootstrap_mean, mean_over_clips
from ditprobe.reproduce.comparison import Comparison, Row
from ditprobe.reproduce.figures import DITFLOW, MOTION_FIDELITY
from generators.transfer.methods import make_method
from generators.transfer.motion_transfer import MotionTransfer
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.families.published import model_card
from store.clips.clip import Clip
from store.clips.video import write_clip
from store.errors import InvalidInputError
from store.tracks.point_tracks import Tracker

GRID = 55
METHODS = ("none", "injection", "motionclone", "moft", "smm", "ditflow")
KINDS = ("caption", "subject", "scene")
PROTOCOL = (
    "50 reference videos of DAVIS, three prompts each (the caption, another subject, another scene); 50 steps, of "
    "which the first 20 % are optimised 5 times each; motion fidelity by CoTracker on a grid of 55 x 55 points, one "
    "direction, the identity subtracted."
)


@dataclass(frozen=True)
class TransferPrompt:
    """A prompt for a reference, and its kind: "caption", "subject" or "scene"."""

    reference: str
    prompt: str
    kind: str = "caption"


@dataclass(frozen=True)
class TransferRun:
    """Settings of the transfers; the defaults are the published setting.

    Attributes
    ----------
    steps : denoising steps
    size : height and width in pixels, images; the model's own where None
    seed : of every transfer
    grid : points along each axis for the motion fidelity
    tracker : name of what tracks the clips, for the comparison
    """

    steps: int = 50
    size: tuple[int | None, int | None, int | None] = (None, None, None)
    seed: int = 0
    grid: int = GRID
    tracker: str = "CoTracker"


def read_transfer_prompts(path: Path | None, references: Mapping[str, Clip]) -> list[TransferPrompt]:
    """Return the prompts of a CSV file with the columns ``reference``, ``prompt``, ``kind``; by default the captions.

    Raises
    ------
    InvalidInputError
        For a file without these columns, an unknown reference or kind, or a reference without a caption.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> read_transfer_prompts(None, {"a": make_scene(1, prompt="a red disc moves left over blue stripes")})
    [TransferPrompt(reference='a', prompt='a red disc moves left over blue stripes', kind='caption')]
    """
    if path is None:
        without = [name for name, clip in references.items() if not clip.prompt]
        if without:
            raise InvalidInputError(f"{', '.join(without)} has no prompt. Give --prompts, a CSV file.")
        return [TransferPrompt(name, str(clip.prompt)) for name, clip in references.items()]
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for number, row in enumerate(rows, 2):
        name, text, kind = ((row.get(key) or "").strip() for key in ("reference", "prompt", "kind"))
        kind = kind or "caption"
        if name not in references or not text or kind not in KINDS:
            raise InvalidInputError(
                f"line {number} of {path} needs a reference of {', '.join(references)}, a prompt, and a kind of "
                f"{', '.join(KINDS)}; got {name!r}, {text!r}, {kind!r}."
            )
        found.append(TransferPrompt(name, text, kind))
    if not found:
        raise InvalidInputError(f"{path} holds no prompts. Its columns are reference, prompt and kind.")
    return found


def reproduce_ditflow(
    backbone: Backbone,
    references: Mapping[str, Clip],
    prompts: Sequence[TransferPrompt],
    tracker: Tracker,
    folder: Path,
    *,
    methods: Iterable[str] = METHODS,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    run: TransferRun | None = None,
    resume: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Comparison, xr.DataArray]:
    """Transfer every reference's motion to its prompts by every method, and compare the motion fidelity.

    Parameters
    ----------
    backbone : Backbone
    references : clips by name
    prompts : of :func:`read_transfer_prompts`
    tracker : of the motion fidelity
    folder : holds a video for each transfer and ``fidelity.jsonl``
    methods : names of :data:`generators.transfer.methods.METHODS`
    options : settings of single methods, by name
    run : TransferRun
    resume : continue from the lines of ``fidelity.jsonl`` that have the same settings
    progress : called with (transfers done, in all, what is next)

    Returns
    -------
    The comparison, and the motion fidelity over ``method`` and ``clip`` (a prompt of a reference; coordinates
    ``source`` and ``kind``)

    Raises
    ------
    InvalidInputError, UnsupportedBackboneError, GuidanceDivergedError
        As :class:`generators.transfer.motion_transfer.MotionTransfer` raises.
    """
    run, names = run or TransferRun(), tuple(methods)
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: make_method(name, **dict((options or {}).get(name, {}))) for name in names}
    log = folder / "fidelity.jsonl"
    known = _read_log(log) if resume else {}
    if not resume:
        log.unlink(missing_ok=True)
    values = np.full((len(names), len(prompts)), np.nan)
    for number, (place, name, index, asked) in enumerate(
        (place, name, index, asked) for place, name in enumerate(names) for index, asked in enumerate(prompts)
    ):
        if progress is not None:
            progress(number, values.size, f"{asked.reference} ({name})")
        key = json.dumps([name, repr(made[name]), asked.reference, asked.prompt, repr(run), backbone.config_hash])
        if key not in known:
            height, width, images = run.size
            transfer = MotionTransfer(
                backbone,
                references[asked.reference],
                asked.prompt,
                method=made[name],
                seed=run.seed,
                steps=run.steps,
                height=height,
                width=width,
                images=images,
            )
            clip = transfer.run().clip
            write_clip(folder / f"{name}-{number:04d}.mp4", clip, overwrite=True)
            known[key] = clip_motion_fidelity(clip, transfer.reference, tracker, grid=run.grid, preset="ditflow")
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
        values[place, index] = known[key]
    found = xr.DataArray(
        values,
        {
            "method": list(names),
            "clip": [f"{each.reference}: {each.prompt}" for each in prompts],
            "source": ("clip", [each.reference for each in prompts]),
            "kind": ("clip", [each.kind for each in prompts]),
        },
        ("method", "clip"),
        "motion_fidelity",
    )
    return compare_fidelity(backbone, found, run), found


def _read_log(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines if line.endswith("]")]  # the last may be cut
    return {key: float(value) for key, value in pairs}


def _label(method: str) -> str:
    return "backbone alone" if method == "none" else method


def compare_fidelity(backbone: Backbone, found: xr.DataArray, run: TransferRun) -> Comparison:
    """Return the published motion fidelity next to the measured one, by method and kind of prompt."""
    card = model_card(backbone)
    published = MOTION_FIDELITY.get(card.name, {}) if card is not None else {}
    kinds = sorted(set(found["kind"].values.tolist()), key=KINDS.index)
    groups = [("all", found), *((kind, found.isel(clip=found["kind"].values == kind)) for kind in kinds)]
    if len(kinds) == 1:
        groups = groups[1:]
    rows = []
    for kind, part in groups:
        for name in found["method"].values.tolist():
            one = part.sel({"method": name})
            mean, low, high = (each.item() for each in (mean_over_clips(one), *bootstrap_mean(one)))
            rows.append(Row(f"{_label(name)}, {kind}", published.get(kind, {}).get(name), mean, low, high))
    deviations = []
    if not published:
        deviations.append(f"{backbone.name} in place of {', '.join(MOTION_FIDELITY)}")
        rows += [
            Row(f"{model}: {_label(name)}, all", value, None)
            for model, figures in MOTION_FIDELITY.items()
            for name, value in figures["all"].items()
        ]
    elif card is not None and card.by_configuration:
        deviations.append(f"weights of the configuration of {card.name}, which may be others")
    sources = len(set(found["source"].values.tolist()))
    if sources != 50:
        deviations.append(f"{sources} references, published 50")
    if kinds != list(KINDS):
        deviations.append(f"prompts of the kinds {', '.join(kinds)}, published {', '.join(KINDS)}")
    if run.steps != 50:
        deviations.append(f"{run.steps} denoising steps, published 50")
    if any(each is not None for each in run.size):
        deviations.append("clips of another size than the model's own")
    if run.grid != GRID:
        deviations.append(f"a grid of {run.grid} x {run.grid} points, published {GRID} x {GRID}")
    if run.tracker != "CoTracker":
        deviations.append(f"tracks by {run.tracker}, published by CoTracker")
    what = "motion fidelity of motion transfers"
    return Comparison("ditflow", what, tuple(rows), DITFLOW, PROTOCOL, tuple(deviations), decimals=3)


def calls_of_transfers(
    backbone: Backbone, prompts: int, methods: Iterable[str], run: TransferRun
) -> tuple[Size, float]:
    """Return the size of the clips, and the transformer's calls that all transfers make, with those of the methods.

    Raises
    ------
    InvalidInputError
        For a size that the backbone does not take, or a method that needs layers that are not known.
    """
    size = Size(*(given or own for given, own in zip(run.size, backbone.default_size, strict=True)))
    backbone.check_size(*size)
    plain = run.steps * (2 if backbone.wants_guidance({}) else 1)
    return size, prompts * sum(plain + make_method(name).passes(backbone, run.steps) for name in methods)
