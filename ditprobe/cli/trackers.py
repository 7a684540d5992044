"""Trackers by name, and the options of verbs that track."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ditprobe.cli import options, parsing
from ditprobe.cli.groups import OptionGroup
from ditprobe.cli.layer_option import layer_option
from store.errors import InvalidInputError
from store.selection import Noise

if TYPE_CHECKING:
    from analyses.trackers.backbone import BackboneTracker
    from analyses.tracking.options import TrackingOptions
    from probe.backbones.backbone import Backbone
    from probe.backbones.geometry import Size
    from store.tracks.point_tracks import Tracker

TRACKERS = ("backbone", "nothing-moves", "patches", "flow", "backbone+lk")


def tracking_options(
    preset: Literal["exact", "difftrack-tracking"],
    encode: Literal["images", "clip"],
    noise: Noise,
    levels: tuple[int, ...] = (1,),
    max_crops: int | None = None,
    crops: Literal["auto", "compensate", "follow"] = "auto",
    visibility: Literal["limits", "calibrated", "flow"] = "limits",
) -> TrackingOptions:
    """Return the tracking procedure from the options of the same names.

    Raises
    ------
    InvalidInputError
        For whole encoded clips, a closer look or another visibility in the published procedure, for levels that do not
        begin with 1, and for crop options without a closer look.

    Examples
    --------
    >>> tracking_options("difftrack-tracking", "images", "forward").noise
    'forward'
    """
    check_procedure(preset, encode, levels, max_crops, crops, visibility)
    from analyses.tracking.options import PUBLISHED, TrackingOptions

    if preset == "exact":
        limit: dict[str, Any] = {} if max_crops is None else {"max_crops": max_crops}
        return TrackingOptions(encode=encode, noise=noise, levels=levels, crops=crops, visibility=visibility, **limit)
    return replace(PUBLISHED, noise=noise)


def check_procedure(
    preset: str,
    encode: str,
    levels: tuple[int, ...] = (1,),
    max_crops: int | None = None,
    crops: str = "auto",
    visibility: str = "limits",
) -> None:
    """Raise for whole encoded clips, closer looks or another visibility in the published procedure, and for crop
    options without a closer look.

    Raises
    ------
    InvalidInputError
    """
    if preset != "exact" and encode == "clip":
        raise InvalidInputError("--preset difftrack-tracking encodes images alone. Leave --encode clip out.")
    if preset != "exact" and levels != (1,):
        raise InvalidInputError("--preset difftrack-tracking sees whole images alone. Leave --levels out.")
    if preset != "exact" and visibility != "limits":
        raise InvalidInputError("--preset difftrack-tracking calls every point visible. Leave --visibility out.")
    if max_crops is not None and len(levels) < 2:
        raise InvalidInputError("--max-crops counts the crops of a closer look. Add --levels 1,2.")
    if crops != "auto" and len(levels) < 2:
        raise InvalidInputError("--crops says how a closer look is taken. Add --levels 1,1,2.")


@dataclass(frozen=True)
class MatchingOptions(OptionGroup):
    """Options for tracking with a backbone: the layer that is matched, and how the images are encoded."""

    layer: options.MatchedLayer = None
    step: options.MatchedStep = None
    heads: options.Heads = None
    preset: options.TrackingPreset = "exact"
    encode: options.Encode = "images"
    levels: options.Levels = None
    max_crops: options.MaxCrops = None
    crops: options.Crops = "auto"
    visibility: options.Visibility = "limits"
    noise: options.ClipNoise = "clean"
    prompt: options.Prompt = ""
    seed: options.Seed = 0
    steps: options.Steps = 50
    size: options.SizeText = None

    def check(self, backbone: str) -> None:
        """Validate the options that need no model.

        Parameters
        ----------
        backbone : name, for the sizes of bundled backbones

        Raises
        ------
        InvalidInputError
        """
        check_procedure(self.preset, self.encode, self.level_numbers, self.max_crops, self.crops, self.visibility)
        parsing.numbers(self.heads, "heads")
        options.check_size(parsing.pixel_size(self.size), backbone)
        layer_option(self.layer)

    @property
    def level_numbers(self) -> tuple[int, ...]:
        """The levels of tracking; only the whole image by default."""
        found = parsing.numbers(self.levels, "levels")
        if found == "all":
            raise InvalidInputError("--levels takes numbers. Write for example '1,2'.")
        if found is not None and (found[:1] != (1,) or list(found) != sorted(found)):
            raise InvalidInputError(
                f"--levels {self.levels!r} must begin with 1, the whole image, and not fall. Write '1,1,2'."
            )
        return found or (1,)

    def settings(self, model: Backbone) -> dict[str, Any]:
        """Return the keyword arguments of :class:`analyses.trackers.backbone.BackboneTracker`.

        Raises
        ------
        InvalidInputError
            When no layer is given and none is known of the model.
        """
        heads = parsing.numbers(self.heads, "heads")
        layer, step, kept = matched(model, self.layer, self.step, None if heads == "all" else heads, self.steps)
        run = {"prompt": self.prompt, "seed": self.seed, "steps": self.steps, "size": parsing.pixel_size(self.size)}
        levels = self.level_numbers
        procedure = tracking_options(
            self.preset, self.encode, self.noise, levels, self.max_crops, self.crops, self.visibility
        )
        return {"layer": layer, "step": step, "heads": kept, "options": procedure, **run}


MATCHING = MatchingOptions()


def matched(
    model: Backbone, layer: str | int | None, step: int | None, heads: tuple[int, ...] | None, steps: int
) -> tuple[int, int, tuple[int, ...] | None]:
    """Return layer, step and heads: as given, from a selection, or those known for the backbone.

    Parameters
    ----------
    model : Backbone
    layer : the text of ``--layer``, or a number
    step, heads : None if they were not given
    steps : of the run

    Raises
    ------
    InvalidInputError
        When no layer was given and none is known.

    Examples
    --------
    >>> from probe import load_backbone
    >>> matched(load_backbone("mini"), 3, None, (1,), 50)
    (3, -1, (1,))
    """
    from analyses.selection.defaults import matched_with

    chosen = layer_option(layer) if isinstance(layer, str) else layer
    try:
        return matched_with(model, chosen, step, heads, steps=steps)
    except InvalidInputError as error:
        if chosen is not None:
            raise
        raise InvalidInputError(
            f"no layer is known to track well on {model.name}. Give --layer; ditprobe sweep and ditprobe select find "
            "one."
        ) from error


def check_names(names: Sequence[str]) -> None:
    """Raise for unknown names of trackers.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_names(["flow", "flown"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: --tracker 'flown' is unknown. Known: backbone, nothing-moves, ...
    """
    if all(name in TRACKERS for name in names):
        return  # without the imports that the registry needs
    from analyses.trackers.registry import TRACKERS as REGISTERED

    unknown = [name for name in names if name not in REGISTERED]
    if unknown:
        raise InvalidInputError(f"--tracker {unknown[0]!r} is unknown. Known: {', '.join(REGISTERED)}.")


def trackers_named(
    names: Sequence[str],
    backbone: BackboneTracker | None,
    *,
    cotracker: Path | None = None,
    cotracker_code: Path | None = None,
    device: str = "auto",
) -> dict[str, Tracker]:
    """Make the trackers of the given names, in that order; CoTracker last.

    Parameters
    ----------
    names : names of :data:`analyses.trackers.registry.TRACKERS`; repeated names count once
    backbone : the tracker "backbone". Raw patches are compared on its grid, or on cells of 16 px without one
    cotracker, cotracker_code : weights of CoTracker3 offline, and a copy of its repository if it is not installed
    device : of CoTracker

    Raises
    ------
    MissingOpenCVError
        For "flow" where OpenCV is not installed.
    BackboneNotFoundError, InvalidInputError
        For weights of CoTracker that are missing or of another kind.

    Examples
    --------
    >>> list(trackers_named(["patches", "nothing-moves"], None))
    ['patches', 'nothing-moves']
    """
    from analyses.trackers.cotracker import CoTracker
    from analyses.trackers.registry import make_tracker
    from probe.loading.load_backbone import resolve_device

    found = {name: make_tracker(name, backbone) for name in dict.fromkeys(names)}
    if cotracker is not None:
        where = resolve_device(device)
        found["cotracker"] = CoTracker.from_checkpoint(cotracker, repository=cotracker_code, device=where)
    return found


def tracking_cost(
    model: Backbone,
    procedure: TrackingOptions,
    clip: tuple[int, int, int],
    queries: np.ndarray,
    size: tuple[int, int] | None,
    layer: int,
) -> tuple[Size, float]:
    """Size of the clips that tracking passes to a model, and its calls; a call ends after the layer that is matched.

    The count of a closer look assumes that no point moves away from its neighbours; otherwise it needs more crops.

    Parameters
    ----------
    model : Backbone
    procedure : options of tracking
    clip : (images, height, width) of the clip
    queries : (point, 3), (image, x, y) in pixels of the clip
    size : (height, width) that the model sees, by default its own
    layer : the layer that is matched

    Examples
    --------
    >>> from probe import load_backbone
    >>> mini, queries = load_backbone("mini"), np.array([[0, 12.0, 20.0], [0, 30.0, 6.0]])
    >>> tracking_cost(mini, tracking_options("exact", "images", "clean"), (11, 40, 40), queries, None, 2)
    (Size(height=40, width=40, images=6), 1.0)
    """
    from analyses.tracking.levels import expected_chunks
    from analyses.tracking.tokens import chunk_length

    default, (images, *extent) = model.default_size, clip
    height, width = size or default[:2]
    length = chunk_length(model, procedure, (height, width))
    stride = 1 if procedure.encode == "clip" else model.strides[0]
    shown = (length - 1) * stride + 1
    while model.nearest_size(height, width, shown).images != shown:
        shown += stride
    model.check_size(height, width, shown)
    layout = model.layout(height, width, shown)
    count = sum(expected_chunks(queries, (extent[0], extent[1]), images, layout, length, procedure))
    return type(default)(height, width, shown), count * (range(len(model.layers))[layer] + 1) / len(model.layers)
