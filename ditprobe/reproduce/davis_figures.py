"""Published figures of zero-shot trackers on TAP-Vid DAVIS, and how a run differs from their protocol."""

from __future__ import annotations

import json
from collections.abc import Iterable
from textwrap import fill

import xarray as xr

from analyses.evaluation.checkpoint import described
from analyses.tracking.options import PUBLISHED

POSITION_ACCURACY = {  # in percent
    "DIFT": 39.7,
    "DINOv2": 42.1,
    "HunyuanVideo": 44.1,
    "CogVideoX-2B": 46.3,
    "CogVideoX-5B": 46.9,
}
_DAVIS_CLIPS = """
bike-packing blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog dogs-jump drift-chicane
drift-straight goat gold-fish horsejump-high india judo kite-surf lab-coat libby loading mbike-trick motocross-jump
paragliding-launch parkour pigs scooter-black shooting soapbox
"""
_DAVIS = frozenset(_DAVIS_CLIPS.split())
SOURCE = 'Nam et al., "Emergent Temporal Correspondences from Video Diffusion Transformers" (DiffTrack, 2025).'
PROTOCOL = (
    "Their protocol: TAP-Vid DAVIS in mode first, of which only the points that image 0 shows are asked for; every "
    "point counts as visible in every image. The share of truly visible points strictly within 1, 2, 4, 8 and 16 px on "
    "a raster of 256 x 256, averaged over these, then over clips. Images are resized to 256 x 256 and from there to "
    "480 x 720 px (bilinear; ditprobe's filter is bicubic). DiTs: images encoded alone, clean, empty prompt, chunks of "
    "13 that hold image 0 and are interleaved, overlapping costs averaged, all heads; layer 17 at step 49 of 50 "
    "(CogVideoX), layer 16 at step 29 of 30 (HunyuanVideo)."
)


def is_davis(clips: Iterable[str], data: str) -> bool:
    """True if clips of these names are TAP-Vid DAVIS: all 30, or some of them from a data set called DAVIS.

    Examples
    --------
    >>> is_davis(["goat", "india"], "tapvid_davis.pkl"), is_davis(["goat", "india"], "animals.pkl")
    (True, False)
    """
    names = set(clips)
    return names == _DAVIS or (bool(names) and names <= _DAVIS and "davis" in data.lower())


def published_figures(evaluation: xr.Dataset, *, clip_size: tuple[int, int] | None = None, width: int = 79) -> str:
    """Published figures, their protocol, and how this run differs from it.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    clip_size : (height, width) that the clips were resized to before they were tracked
    width : characters of a line
    """
    rows = [f"{name:14s}{value:5.1f}" for name, value in POSITION_ACCURACY.items()]
    found = differences(evaluation, clip_size)
    this_run = f"This run differs: {'; '.join(found)}." if found else "This run follows it."
    texts = (
        f"Source: {SOURCE}",
        PROTOCOL,
        f"Comparable only with the same data, mode and protocol. {this_run}",
    )
    paragraphs = [fill(text, width, break_on_hyphens=False) for text in texts]
    return "\n".join(["PUBLISHED on TAP-Vid DAVIS, position accuracy, %", *rows, "", *paragraphs])


def differences(evaluation: xr.Dataset, clip_size: tuple[int, int] | None) -> list[str]:
    """Return the differences between a run and the published evaluation, in words.

    Parameters
    ----------
    evaluation : Dataset of :func:`analyses.evaluation.tapvid.evaluate_tapvid`
    clip_size : height and width that the clips were brought to first
    """
    settings = json.loads(evaluation.attrs["settings"])
    clips = evaluation.sizes["clip"] + len(json.loads(evaluation.attrs["skipped"]))
    found = [] if clips == len(_DAVIS) else [f"{clips} of the {len(_DAVIS)} clips"]
    if settings["mode"] != "first":
        found.append(f"mode {settings['mode']}")
    elif not settings["first_image_only"]:
        found.append("points that appear in later images too (without --first-image-only)")
    if clip_size != (256, 256):
        found.append("clips not brought to 256 x 256 px first (--clip-size 256x256)")
    for name, tracker in settings["trackers"].items():
        if isinstance(tracker, dict) and tracker["kind"] == "BackboneTracker":
            if tracker["options"] != described(PUBLISHED):
                found.append(f"{name} with another procedure (not --preset difftrack-tracking)")
            if tracker["prompt"]:
                found.append(f"{name} with a prompt")
    return found
