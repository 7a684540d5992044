"""Zero-shot point tracking: the queries and keys of one layer, matched from image to image, as a tracker."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from analyses.arrays import BUDGET_BYTES
from analyses.optical_flow import chain_flow, opencv
from analyses.selection.defaults import matched_with
from analyses.selection.layer_selection import LayerSelection
from analyses.tracking.levels import LeveledTracking
from analyses.tracking.options import PUBLISHED, TrackingOptions
from analyses.tracking.tokens import LayerTokens, TrackingRun, chunk_length
from analyses.tracking.visibility import visibility_probability, within_limits
from probe.backbones.backbone import Backbone
from store.arguments import checked
from store.errors import DitprobeWarning
from store.files.digest import digests_of_values
from store.progress import progress_bar
from store.selection import Selection
from store.text import pixels
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import clip_and_queries
from store.wording import Wording

__all__ = ["PUBLISHED", "AspectWarning", "TrackingOptions", "track_points"]

Progress = Callable[[int, int], object]


class AspectWarning(DitprobeWarning):
    """The model sees a clip much wider or narrower than it is."""


_MOST_STRETCH = 1.25


@checked
def track_points(
    images: Any,
    queries: Any,
    backbone: Backbone,
    *,
    layer: int | LayerSelection | None = None,
    step: int | None = None,
    heads: Iterable[int] | None = None,
    options: TrackingOptions | None = None,
    prompt: str = "",
    steps: int = 50,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    conditioning: Mapping[str, Any] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    progress: Progress | bool | None = None,
) -> PointTracks:
    """Follow points through a clip of any length and size, forward and backward from the image they are given in.

    Parameters
    ----------
    images : Clip, or uint8 (image, y, x, 3)
    queries : (point, 3) as (image, x, y), x and y in pixels of the clip, pixel centres at +0.5
    backbone : Backbone
    layer, step, heads
        Layer, step and heads whose queries and keys are matched; by default those of
        :func:`analyses.selection.defaults.tracking_defaults`. A :class:`LayerSelection` stands for its best layer, with
        its step and heads if none are given. Negative layers and steps count from the end.
    options : TrackingOptions, optional
    prompt : text for the model
    steps, seed : number of denoising steps of the run whose timestep is used, and the seed of the noise
    size : (height, width) in pixels of the model's input, by default that of its clips; the aspect is not kept
    conditioning : mapping, optional
        Further keyword arguments of the pipeline, such as ``prompt_embeds`` if it has no text encoder; as in
        :meth:`probe.backbones.backbone.Backbone.generate`. ``details`` keep a hash of each
    budget_bytes : working memory of the matching; the costs of no more than one group of chunks are kept
    progress : called with (chunks done, total)
        By default a bar in notebooks and interactive sessions; False for none.

    Returns
    -------
    PointTracks
        In the order of the queries. ``details`` hold the settings, and the time of the model and of the matching.

    Raises
    ------
    InvalidInputError
        Before the model runs: a query outside the clip, options or a size that the backbone does not take.
    UnknownLayerError
    MissingOpenCVError
        For visibility="flow" without OpenCV.

    Warns
    -----
    AspectWarning
        When the model sees the clip more than a quarter wider or narrower than it is.

    Notes
    -----
    DiffTrack (Nam et al., 2025), section 5; docs/definitions.md, section 5. Its released evaluation is
    ``options=PUBLISHED``.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini, scene = load_backbone(new_pipeline(MiniConfig(layers=2))), make_scene(0, images=9)
    >>> found = track_points(scene, [[0, 12.0, 20.0], [8, 30.0, 6.0]], mini, layer=1, step=-1)
    >>> found.tracks.shape, found.tracks[8, 1].tolist()
    ((9, 2, 2), [30.0, 6.0])
    """
    video, asked = clip_and_queries(images, queries)
    count, height, width = video.shape[:3]
    options = options or TrackingOptions()
    run = _run_of(backbone, layer, step, heads, prompt, steps, seed)
    size = size or backbone.default_size[:2]
    if options.visibility == "flow":
        opencv()  # its absence is told before the model runs
    _check_size(backbone, size, (height, width))
    model = LayerTokens(backbone, video, size, options, run, conditioning)
    length = chunk_length(backbone, options, size)
    began = time.perf_counter()
    with progress_bar(progress, "tracking") as tell:
        tracking = LeveledTracking(model, options, (height, width), count, length, budget_bytes, tell)
        found = tracking.track(asked)
    seconds = time.perf_counter() - began
    tracks, confidence = found[-1].tracks, found[-1].mass
    visibility = within_limits(found, options, (height, width))
    if options.visibility != "limits":
        flow = chain_flow(video, asked) if options.visibility == "flow" else None
        confidence = visibility_probability(found, (height, width), asked[:, 0].astype(int), flow)
        visibility = confidence >= 0.5
    own = asked[:, 0].astype(int), np.arange(len(asked))
    visibility[own], confidence[own] = True, 1.0
    details = {
        "tracker": "ditprobe",
        "backbone": backbone.name,
        "revision": backbone.revision or "",
        **asdict(run),
        **{name: value for name, value in asdict(options).items() if value != math.inf},
        "levels": list(options.levels),
        "size": list(size),
        **({"conditioning": digests_of_values(conditioning)} if conditioning else {}),
        **({"calibrated": True} if options.visibility != "limits" else {}),
        "chunks": model.chunks,
        **({"crops": {str(level): number for level, number in tracking.crops.items()}} if tracking.crops else {}),
        "seconds": round(seconds, 3),
        "seconds_in_model": round(model.seconds, 3),
    }
    return PointTracks(asked, tracks, visibility, np.clip(confidence, 0, 1), details)


def _run_of(
    backbone: Backbone,
    layer: int | LayerSelection | None,
    step: int | None,
    heads: Iterable[int] | None,
    prompt: str,
    steps: int,
    seed: int,
) -> TrackingRun:
    number, at, chosen = matched_with(backbone, layer, step, heads, steps=steps)
    selection = Selection([at], [number], heads=chosen)
    resolved = selection.resolve(len(backbone.layers), steps, min(each.heads for each in backbone.layers))
    return TrackingRun(prompt, steps, resolved.steps[0], resolved.layers[0], resolved.heads, seed)


def _check_size(backbone: Backbone, size: tuple[int, int], clip: tuple[int, int]) -> None:
    backbone.check_size(*size, backbone.default_size.images)
    stretch = (size[1] / clip[1]) / (size[0] / clip[0])
    if max(stretch, 1 / stretch) > _MOST_STRETCH:
        warnings.warn(
            AspectWarning(
                f"the clip of {clip[0]} x {clip[1]} px is shown as {pixels(*size)}, "
                f"{'wider' if stretch > 1 else 'narrower'} by a factor of {max(stretch, 1 / stretch):.2f}.",
                remedy=Wording("Of about its own aspect is {size}.", size=_fitting(backbone, size, clip)),
            ),
            stacklevel=4,  # past the check of the arguments
        )


def _fitting(backbone: Backbone, size: tuple[int, int], clip: tuple[int, int]) -> tuple[int, int]:
    """Return a size with about the clip's aspect and the short side of ``size``."""
    shrink = min(size) / min(clip)
    found = backbone.nearest_size(round(clip[0] * shrink), round(clip[1] * shrink), backbone.default_size.images)
    return found.height, found.width
