"""Zero-shot point tracking: the queries and keys of one layer, matched from image to image, as a tracker."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from analyses.candidates import Candidates, candidates_of, smoothest
from analyses.chunks import Chunk, chunk_groups
from analyses.corners import Corners, cells_as_xy
from analyses.defaults import tracking_defaults
from analyses.frame_costs import frame_costs, return_cells
from analyses.matching import corners_of
from analyses.point_tracks import PointTracks, check_queries
from analyses.tensors import BUDGET_BYTES
from probe.backbone import Backbone
from probe.capture import Capture
from probe.forward import ForwardPass
from probe.probe import Probe
from probe.run import Noise, check_noise, run_states
from store.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.selection import Selection

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class TrackingOptions:
    """How points are tracked. The defaults are what helped on held-out scenes; :data:`PUBLISHED` is DiffTrack's.

    Parameters
    ----------
    geometry : "exact", or "difftrack-tracking" for the released indexing and its scale of the logits
    encode : "images" encodes every image alone, "clip" the images of a chunk together (temporal compression)
    chunk_images : images of a chunk with the query's; by default as many latent frames as the backbone generates
    interleaved, anchored : see :func:`analyses.chunks.chunk_groups`
    average : costs of an image that lies in several chunks are averaged; otherwise the first chunk's count
    noise : what the model is shown, see :func:`probe.run.run_states`
    refine : the cost-weighted mean around the best cell, otherwise the best cell
    window : cells on each side of a peak that refine and confidence look at
    candidates : peaks kept for each cell and image, among which ``stiffness`` chooses
    stiffness : 0 takes the best match of every image; above, short moves between images are preferred
        (:func:`analyses.candidates.smoothest`)
    return_cells : a point is hidden where its match leads back further than this from where it came, in cells
    least_confidence : and where less than this share of the cost lies around the match
    """

    geometry: Literal["exact", "difftrack-tracking"] = "exact"
    encode: Literal["images", "clip"] = "images"
    chunk_images: int | None = None
    interleaved: bool = True
    anchored: bool = True
    average: bool = True
    noise: Noise = "clean"
    refine: bool = True
    window: int = 1
    candidates: int = 5
    stiffness: float = 0.0
    return_cells: float = 1.5
    least_confidence: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("geometry", ("exact", "difftrack-tracking")), ("encode", ("images", "clip"))):
            if getattr(self, name) not in known:
                raise InvalidInputError(
                    f"{name} {getattr(self, name)!r} is unknown. Known: {', '.join(map(repr, known))}."
                )
        check_noise(self.noise)
        if math.isinf(self.stiffness):
            raise InvalidInputError("stiffness must be finite; got inf.")
        for name, low in (("window", 1), ("candidates", 1), ("stiffness", 0), ("return_cells", 0)):
            if not getattr(self, name) >= low:
                raise InvalidInputError(f"{name} must be at least {low}; got {getattr(self, name)}.")
        if not 0 <= self.least_confidence <= 1:
            raise InvalidInputError(f"least_confidence must lie between 0 and 1; got {self.least_confidence}.")
        if self.chunk_images is not None and self.chunk_images < 2:
            raise InvalidInputError(f"chunk_images must be at least 2; got {self.chunk_images}.")
        if self.interleaved and not self.anchored:
            raise InvalidInputError("interleaved=True needs anchored=True: chunks have no image in common otherwise.")
        if self.encode == "clip" and self.stiffness:
            raise InvalidInputError("stiffness chooses a match in every image, which encode='clip' does not have.")


PUBLISHED = TrackingOptions("difftrack-tracking", refine=False, candidates=1, return_cells=np.inf)
"""The released evaluation of DiffTrack (Nam et al., 2025): every point counts as visible."""


class AspectWarning(UserWarning):
    """The model sees a clip much wider or narrower than it is."""


_MOST_STRETCH = 1.25


@dataclass(frozen=True, eq=False)
class _Run:
    """How the model is run."""

    prompt: str
    steps: int
    step: int
    layer: int
    heads: tuple[int, ...] | None
    seed: int


class _Model:
    """The backbone as tracking needs it: the tokens of one layer for chosen images of a clip."""

    def __init__(
        self, backbone: Backbone, images: np.ndarray, size: tuple[int, int], options: TrackingOptions, run: _Run
    ) -> None:
        self.backbone, self.images, self.size, self.options, self.run = backbone, images, size, options, run
        self.seconds, self.chunks = 0.0, 0
        self._forwards: dict[int, ForwardPass] = {}
        self._anchor: tuple[int, torch.Tensor] | None = None

    def layout(self, frames: int) -> TokenLayout:
        """Where the tokens of at least so many latent frames lie."""
        stride = self.backbone.strides[0]
        return self.backbone.layout(*self.size, self._fitting((frames - 1) * stride + 1, stride))

    def _fitting(self, images: int, stride: int) -> int:
        """The next number of images that the backbone takes."""
        while self.backbone.nearest_size(*self.size, images).images != images:
            images += stride
        return images

    def _encoded(self, numbers: tuple[int, ...]) -> torch.Tensor:
        return self.backbone.encode(Clip(self.images[list(numbers)], fps=8.0).resized(*self.size))

    def _latents(self, chunk: Chunk) -> tuple[torch.Tensor, int]:
        """Latents of a chunk, and images of a clip with as many; what is missing repeats the last image."""
        first, *others = chunk.images
        if self.options.encode == "clip":
            images = self._fitting(len(chunk.images), 1)
            return self._encoded((*chunk.images, *chunk.images[-1:] * (images - len(chunk.images)))), images
        if self._anchor is None or self._anchor[0] != first:
            self._anchor = (first, self._encoded((first,)))
        layout = self.layout(len(chunk.images))
        parts = [self._anchor[1], *(self._encoded((number,)) for number in others)]
        parts += parts[-1:] * (layout.frames - len(parts))
        return torch.cat(parts, self.backbone.frame_axis), layout.images

    @torch.no_grad()
    def tokens(self, chunk: Chunk) -> tuple[torch.Tensor, torch.Tensor, TokenLayout]:
        """Query and key (head, frame, cell, channel) of a chunk, and where they lie."""
        began = time.perf_counter()
        latents, images = self._latents(chunk)
        run = self.run
        captures: list[Capture] = []
        if images not in self._forwards:
            height, width = self.size
            self._forwards[images] = ForwardPass(
                self.backbone, run.prompt, steps=run.steps, height=height, width=width, images=images
            )

        def keep(capture: Capture) -> None:
            captures.append(capture)
            raise _Captured  # the layers after it are not needed

        selection = Selection([run.step], [run.layer], heads=run.heads)
        with Probe(self.backbone, selection, keep, steps=run.steps), suppress(_Captured):
            states = run_states(self._forwards[images], latents, [run.step], noise=self.options.noise, seed=run.seed)
            for _ in states:
                pass
        (capture,) = captures
        query, key = capture.query.flatten(2, 3).clone(), capture.key.flatten(2, 3).clone()
        if query.device.type == "cuda":
            torch.cuda.synchronize(query.device)
        self.seconds += time.perf_counter() - began
        self.chunks += 1
        return query, key, capture.layout


class _Captured(Exception):
    """Ends a transformer call once the layer was seen."""


def track_points(
    images: Any,
    queries: Any,
    backbone: Backbone,
    *,
    layer: int | None = None,
    step: int | None = None,
    heads: Iterable[int] | None = None,
    options: TrackingOptions | None = None,
    prompt: str = "",
    steps: int = 50,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    budget_bytes: int = BUDGET_BYTES,
    progress: Progress | None = None,
) -> PointTracks:
    """Follow points through a clip of any length and size, forward and backward from the image they are given in.

    Parameters
    ----------
    images : Clip, or uint8 (image, y, x, 3)
    queries : (point, 3) as (image, x, y), x and y in pixels of the clip, pixel centres at +0.5
    backbone : Backbone
    layer, step, heads
        Whose queries and keys are matched; by default what :func:`analyses.defaults.tracking_defaults` knows of the
        backbone. Negative layers and steps count from the end.
    options : TrackingOptions, optional
    prompt : what the model reads
    steps, seed : denoising steps of the run whose timestep is used, and the seed of the noise
    size : (height, width) in pixels of what the model sees, by default what it generates; the aspect is not kept
    budget_bytes : working memory of the matching; the costs of no more than one group of chunks are kept
    progress : called with (chunks done, in all)

    Returns
    -------
    PointTracks
        In the order of the queries. ``details`` say how, and how long the model and the matching took.

    Raises
    ------
    InvalidInputError
        Before the model runs: a query outside the clip, options or a size that the backbone does not take.
    UnknownLayerError

    Warns
    -----
    AspectWarning
        When the model sees the clip more than a quarter wider or narrower than it is.

    Notes
    -----
    DiffTrack (Nam et al., 2025), section 5; MATH.md, section 5. Its released evaluation is ``options=PUBLISHED``.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scene import make_scene
    >>> mini, scene = load_backbone(new_pipeline(MiniConfig(layers=2))), make_scene(0, images=9)
    >>> found = track_points(scene, [[0, 12.0, 20.0], [8, 30.0, 6.0]], mini, layer=1, step=-1)
    >>> found.tracks.shape, found.tracks[8, 1].tolist()
    ((9, 2, 2), [30.0, 6.0])
    """
    video = images.images if isinstance(images, Clip) else np.asarray(images)
    video = Clip(video, fps=8.0).images  # refuses what is no video
    count, height, width = video.shape[:3]
    asked = check_queries(queries, count, height, width)
    options = options or TrackingOptions()
    run = _run_of(backbone, layer, step, heads, prompt, steps, seed)
    size = size or backbone.default_size[:2]
    _check_size(backbone, size, (height, width))
    model = _Model(backbone, video, size, options, run)
    length = _chunk_length(model, options)
    scale = np.array([size[1] / width, size[0] / height])
    tracks = np.repeat(asked[None, :, 1:], count, axis=0)
    confidence, wander = np.ones((count, len(asked))), np.zeros((count, len(asked)))
    began = time.perf_counter()
    anchors = np.unique(asked[:, 0]).astype(int) if count > 1 else np.zeros(0, int)
    plans = {
        int(anchor): chunk_groups(
            count, int(anchor), length, interleaved=options.interleaved, anchored=options.anchored
        )
        for anchor in anchors
    }
    total = sum(len(group) for groups in plans.values() for group in groups)

    def tell() -> None:
        if progress is not None:
            progress(model.chunks, total)

    for anchor, groups in plans.items():
        mine = np.flatnonzero(asked[:, 0] == anchor)
        points = asked[mine, 1:] * scale
        for image, place in _followed(model, groups, points, budget_bytes, tell).items():
            tracks[image, mine] = place.points / scale
            confidence[image, mine], wander[image, mine] = place.mass, place.wander
    seconds = time.perf_counter() - began
    visibility = (wander <= options.return_cells) & (confidence >= options.least_confidence)
    visibility[asked[:, 0].astype(int), np.arange(len(asked))] = True
    details = {
        "tracker": "ditprobe",
        "backbone": backbone.name,
        "revision": backbone.revision or "",
        **asdict(run),
        **{name: value for name, value in asdict(options).items() if value != math.inf},
        "size": list(size),
        "chunks": model.chunks,
        "seconds": round(seconds, 3),
        "seconds_in_model": round(model.seconds, 3),
    }
    return PointTracks(asked, tracks, visibility, np.clip(confidence, 0, 1), details)


# Checks ------------------------------------------------------------------------------------------------------------


def _run_of(
    backbone: Backbone,
    layer: int | None,
    step: int | None,
    heads: Iterable[int] | None,
    prompt: str,
    steps: int,
    seed: int,
) -> _Run:
    if layer is None:
        known = tracking_defaults(backbone)
        layer, step = known.layer, known.step_of(steps) if step is None else step
        heads = known.heads if heads is None else heads
    selection = Selection([-1 if step is None else step], [layer], heads=None if heads is None else list(heads))
    resolved = selection.resolve(len(backbone.layers), steps, min(each.heads for each in backbone.layers))
    return _Run(prompt, steps, resolved.steps[0], resolved.layers[0], resolved.heads, seed)


def _check_size(backbone: Backbone, size: tuple[int, int], clip: tuple[int, int]) -> None:
    backbone.check_size(*size, backbone.default_size.images)
    stretch = (size[1] / clip[1]) / (size[0] / clip[0])
    if max(stretch, 1 / stretch) > _MOST_STRETCH:
        warnings.warn(
            f"the clip of {clip[1]} x {clip[0]} px is shown as {size[1]} x {size[0]} px (width x height), "
            f"{'wider' if stretch > 1 else 'narrower'} by a factor of {max(stretch, 1 / stretch):.2f}. Give a size of "
            "about its own aspect.",
            AspectWarning,
            stacklevel=3,
        )


def _chunk_length(model: _Model, options: TrackingOptions) -> int:
    backbone = model.backbone
    if options.encode == "clip":
        return options.chunk_images or backbone.default_size.images
    if backbone.patch[0] > 1:
        raise InvalidInputError(
            f"{backbone.name} joins {backbone.patch[0]} latent frames in each token, so that an image alone has none "
            "of its own. Use TrackingOptions(encode='clip')."
        )
    return options.chunk_images or backbone.layout(*backbone.default_size).frames


# Following points from one image -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Place:
    """The points in one image: pixels that the model sees, confidence, and cells that the way back ends away."""

    points: np.ndarray
    mass: np.ndarray
    wander: np.ndarray


@dataclass(frozen=True, eq=False)
class _Seen:
    """One image as matched from the source cells."""

    found: Candidates
    wander: torch.Tensor


def _followed(
    model: _Model,
    groups: tuple[tuple[Chunk, ...], ...],
    points: np.ndarray,
    budget_bytes: int,
    tell: Callable[[], None],
) -> dict[int, _Place]:
    """The points in every image but their own."""
    if model.options.anchored:
        return _from_anchor(model, groups, points, budget_bytes, tell)
    places: dict[int, _Place] = {}
    anchor = groups[0][0].images[0]
    for (chunk,) in groups:
        first = chunk.images[0]
        start = points if first == anchor else places[first].points
        places |= _from_anchor(model, ((chunk,),), start, budget_bytes, tell)
    return places


def _from_anchor(
    model: _Model,
    groups: tuple[tuple[Chunk, ...], ...],
    points: np.ndarray,
    budget_bytes: int,
    tell: Callable[[], None],
) -> dict[int, _Place]:
    """The points, known in the first image of every chunk, in all the others."""
    options, layout = model.options, model.layout(2)
    inside = np.clip(points, 0, [layout.pixel_width, layout.pixel_height])
    corners = corners_of(inside, layout, options.geometry, torch.device("cpu"))
    seen: dict[int, _Seen] = {}
    for group in groups:
        match = _matched_in_clips if options.encode == "clip" else _matched
        for image, one in match(model, group, corners, budget_bytes, tell):
            seen[image] = one
    anchor = groups[0][0].images[0]
    start = cells_as_xy(corners.sources, layout).float()
    places: dict[int, _Place] = {}
    for order in (sorted(i for i in seen if i > anchor), sorted((i for i in seen if i < anchor), reverse=True)):
        if order:
            places |= _read(seen, order, corners, start, options)
    return places


def _read(
    seen: dict[int, _Seen], order: list[int], corners: Corners, start: torch.Tensor, options: TrackingOptions
) -> dict[int, _Place]:
    """Source cells to points, for images in the order of time away from the anchor."""
    names = ("places", "costs", "mass")
    found = Candidates(*(torch.stack([getattr(seen[image].found, name) for image in order]) for name in names))
    if options.stiffness:
        chosen = smoothest(found, start, options.stiffness)
    else:
        chosen = torch.zeros(found.costs.shape[:2], dtype=torch.int64)
    cells = found.places.gather(2, chosen[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    mass = found.mass.gather(2, chosen[..., None])[:, :, 0]
    wander = torch.stack([seen[image].wander for image in order])
    weights = corners.weights / corners.weights.sum(-1, keepdim=True).clamp_min(1e-12)

    def at_points(values: torch.Tensor) -> np.ndarray:
        result: np.ndarray = (values[:, corners.index] * weights).sum(-1).double().numpy()
        return result

    tracks = corners.read(cells).double().numpy()
    shares, ways = at_points(mass.to(weights.dtype)), at_points(wander.to(weights.dtype))
    return {image: _Place(tracks[n], shares[n], ways[n]) for n, image in enumerate(order)}


def _matched(
    model: _Model, group: tuple[Chunk, ...], corners: Corners, budget_bytes: int, tell: Callable[[], None]
) -> Iterator[tuple[int, _Seen]]:
    """Every image of a group of chunks as soon as its costs are complete."""
    options = model.options
    pending: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}
    for number, chunk in enumerate(group):
        query, key, layout = model.tokens(chunk)
        later = {image for other in group[number + 1 :] for image in other.images[1:]}
        for frame, cost, wander in _costs(query, key, corners, options, budget_bytes):
            if frame >= len(chunk.images):
                break
            image = chunk.images[frame]
            if image not in pending:
                pending[image] = (cost, wander, 1)
            elif options.average:
                before, way, count = pending[image]
                pending[image] = (before.add_(cost), way + wander, count + 1)
            if image not in later:
                total, way, count = pending.pop(image)
                yield image, _Seen(_candidates(total / count, layout, options), (way / count).cpu())
        tell()


def _costs(
    query: torch.Tensor, key: torch.Tensor, corners: Corners, options: TrackingOptions, budget_bytes: int
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Frame, (source, cell) cost and (source,) cells between each source and where its best match leads back to."""
    published = options.geometry == "difftrack-tracking"
    how: dict[str, Any] = {
        "divisor": math.sqrt(query.shape[0] if published else query.shape[-1]),
        "budget_bytes": budget_bytes,
    }
    sources = corners.sources.to(query.device)
    for frame, cost in frame_costs(query, key, sources, **how):
        if math.isinf(options.return_cells):
            yield frame, cost, cost.new_zeros(len(cost))
            continue
        back = return_cells(query, key, frame, cost.argmax(-1), **how)
        away = cells_as_xy(back, corners.layout) - cells_as_xy(sources, corners.layout)
        yield frame, cost, away.to(cost.dtype).norm(dim=-1)


def _candidates(cost: torch.Tensor, layout: TokenLayout, options: TrackingOptions) -> Candidates:
    count = options.candidates if options.stiffness else 1
    found = candidates_of(cost, layout, count=count, radius=options.window, refine=options.refine)
    return Candidates(*(getattr(found, name).float().cpu() for name in ("places", "costs", "mass")))


def _matched_in_clips(
    model: _Model, group: tuple[Chunk, ...], corners: Corners, budget_bytes: int, tell: Callable[[], None]
) -> Iterator[tuple[int, _Seen]]:
    """As :func:`_matched`, for latent frames of several images: matches at their times, straight lines between."""
    pending: dict[int, list[_Seen]] = {}
    for number, chunk in enumerate(group):
        query, key, layout = model.tokens(chunk)
        start = cells_as_xy(corners.sources, layout).float()[:, None]
        ones = torch.ones(len(start), 1)
        frames = [_Seen(Candidates(start, ones, ones), torch.zeros(len(start)))]
        for _, cost, wander in _costs(query, key, corners, model.options, budget_bytes):
            frames.append(_Seen(_candidates(cost, layout, model.options), wander.float().cpu()))
        later = {image for other in group[number + 1 :] for image in other.images[1:]}
        for place, image in enumerate(chunk.images[1:], start=1):
            if model.options.average or image not in pending:
                pending.setdefault(image, []).append(_between(frames, layout.frame_centres, place))
            if image not in later:
                yield image, _mean(pending.pop(image))
        tell()


def _between(frames: list[_Seen], centres: np.ndarray, time: float) -> _Seen:
    """Linear between the frames around a time, held at the ends."""
    after = int(np.searchsorted(centres, time))
    if after == 0 or after == len(frames):
        return frames[min(after, len(frames) - 1)]
    share = (time - centres[after - 1]) / (centres[after] - centres[after - 1])
    return _mean([frames[after - 1], frames[after]], [1 - share, share])


def _mean(seen: list[_Seen], weights: list[float] | None = None) -> _Seen:
    shares = weights or [1 / len(seen)] * len(seen)

    def mean(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum(0)

    found = (mean([getattr(one.found, name) for one in seen]) for name in ("places", "costs", "mass"))
    return _Seen(Candidates(*found), mean([one.wander for one in seen]))
