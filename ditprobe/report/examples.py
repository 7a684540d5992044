"""Example clips for a report: tracks predicted by one layer, and the attention of some points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analyses.attention.rows import attention_of_points
from analyses.correspondence.matching import match_points
from analyses.correspondence.resampling import to_image_rate
from ditprobe.report.sweep import Example
from probe import Backbone, Capture, Noise
from probe.backbones.settings import RunSettings, requested_size
from probe.run.run import sample_prompt, show_clip
from probe.run.windows import cut_windows
from store.arguments import check_fields, checked
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.files.digest import digests_of_values
from store.layout import TokenLayout
from store.selection import Selection


@dataclass(frozen=True)
class SweepSettings:
    """Settings of the sweep that the examples belong to."""

    noise: Noise = "forward"
    seed: int = 0
    steps: int = 50
    size: tuple[int, int] | None = None
    images: int | None = None
    stride: int = 1
    branch: str = "cond"
    prompt: str | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    conditioning: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def of_run(self) -> RunSettings:
        """Return the settings of a single run."""
        size = requested_size(self.size, images=self.images)
        return RunSettings(self.seed, self.steps, size, self.guidance_scale, self.negative_prompt, self.conditioning)

    @classmethod
    def of_sweep(cls, attrs: Mapping[str, Any], *, conditioning: Mapping[str, Any] | None = None) -> SweepSettings:
        """Read from a sweep's attributes, which hold only hashes of its ``conditioning``.

        Raises
        ------
        InvalidInputError
            When the arguments given here are not those of the sweep.
        """
        _check_conditioning(attrs, conditioning or {})
        size = attrs.get("size")
        return cls(
            noise=attrs.get("noise", "forward"),
            seed=int(attrs.get("seed", 0)),
            steps=int(attrs.get("steps", 50)),
            size=None if size is None else (int(size[0]), int(size[1])),
            images=attrs.get("images"),
            stride=int(attrs.get("stride", 1)),
            branch=attrs.get("branch", "cond"),
            prompt=attrs.get("prompt_for_all"),
            guidance_scale=attrs.get("guidance_scale"),
            negative_prompt=attrs.get("negative_prompt") or None,
            conditioning=conditioning,
        )


def _check_conditioning(attrs: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    swept = dict(attrs.get("conditioning", {}))
    now = digests_of_values(given)
    other = sorted(name for name in {*swept, *now} if swept.get(name) != now.get(name))
    if other:
        what = "was" if len(other) == 1 else "were"
        raise InvalidInputError(
            f"{', '.join(other)} {what} not given as for the sweep. Make the examples in Python with the sweep's own "
            f"conditioning, or leave them out."
        )


@checked
def make_examples(
    backbone: Backbone,
    sources: Mapping[str, Clip | str],
    *,
    layer: int,
    step: int,
    settings: SweepSettings | None = None,
    count: int = 3,
    points: int = 12,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Example]:
    """Make examples from the first windows of ``count`` clips (or prompts), with the tracks that one layer predicts.

    Parameters
    ----------
    backbone : Backbone
    sources : names to clips or prompts
    layer, step : of the queries and keys
    settings : SweepSettings
        Settings with which clips are passed to the model.
    count : int
        Number of sources.
    points : int
        Number of points whose attention is shown.
    progress : callable, optional
        Called with (examples done, total, name).

    Returns
    -------
    list of Example
        Points are the tracked ones that are visible in image 0, or a grid if there are no tracks.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> mini = load_backbone(new_pipeline(MiniConfig(layers=2)))
    >>> (example,) = make_examples(mini, {"scene": make_scene(0)}, layer=1, step=-1, points=2)
    >>> example.predicted.shape, example.attention.sizes["point"]
    ((6, 100, 2), 2)
    """
    settings = settings or SweepSettings()
    chosen = dict(list(sources.items())[:count])
    found = []
    for number, (name, source) in enumerate(chosen.items()):
        found.append(_example(backbone, name, source, layer, step, settings, points))
        if progress is not None:
            progress(number + 1, len(chosen), name)
    return found


def _example(
    backbone: Backbone, name: str, source: Clip | str, layer: int, step: int, settings: SweepSettings, points: int
) -> Example:
    captures: list[Capture] = []
    clip = _show(backbone, source, Selection([step], [layer], settings.branch), captures.append, settings)
    capture = captures[0]
    clip, queries = _queried(clip, capture.layout)
    tracks = match_points(capture.query.float(), capture.key.float(), queries, capture.layout)
    predicted = to_image_rate(np.asarray(tracks.cpu(), dtype=np.float64), capture.layout, len(clip))
    picked = np.linspace(0, len(queries) - 1, min(points, len(queries)) + 2)[1:-1].round().astype(int)
    attention = attention_of_points(
        capture.query, capture.key, queries[picked], capture.layout, text_key=capture.text_key
    )
    return Example(name, clip, predicted, capture.layer, capture.step, attention)


def _show(
    backbone: Backbone,
    source: Clip | str,
    selection: Selection,
    sink: Callable[[Capture], None],
    settings: SweepSettings,
) -> Clip:
    run = settings.of_run()
    if isinstance(source, Clip):
        clip = cut_windows(backbone, source, size=settings.size, images=settings.images, stride=settings.stride)[0].clip
        show_clip(backbone, clip, selection, sink, run, noise=settings.noise, prompt=settings.prompt)
        return clip
    made = sample_prompt(backbone, source, selection, sink, run, want_clip=True)
    return made if made is not None else Clip(np.zeros((1, 1, 1, 3), np.uint8), 1.0)


def _queried(clip: Clip, layout: TokenLayout) -> tuple[Clip, np.ndarray]:
    """The clip with only the points that can be queried, and those points (point, 2) in image 0."""
    if clip.tracks is None or clip.visibility is None:
        cells = np.stack(np.meshgrid(np.arange(layout.width), np.arange(layout.height)), -1).reshape(-1, 2)
        return clip, np.asarray(layout.to_pixels(cells.astype(np.float64)))
    start = clip.tracks[0]
    inside = ((start >= 0) & (start <= [layout.pixel_width, layout.pixel_height])).all(-1)
    keep = clip.visibility[0] & inside
    kept = replace(clip, tracks=clip.tracks[:, keep], visibility=clip.visibility[:, keep])
    return kept, np.asarray(start[keep], dtype=np.float64)
