"""A backbone's attention as a tracker, which evaluations call like the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analyses.arrays import BUDGET_BYTES
from analyses.selection.defaults import matched_with
from analyses.selection.layer_selection import LayerSelection
from analyses.tracking.track import TrackingOptions, track_points
from probe.backbones.backbone import Backbone
from store.arguments import check_fields
from store.tracks.point_tracks import PointTracks


@dataclass(frozen=True)
class BackboneTracker:
    """:func:`analyses.tracking.track.track_points` with all arguments except the clip and the queries fixed.

    Parameters
    ----------
    backbone, layer, step, heads, options, prompt, steps, seed, size, conditioning, budget_bytes : as in that function
        A :class:`LayerSelection` becomes the layer, step and heads that it stands for.

    Raises
    ------
    InvalidInputError
        For a selection of another model, or one that is empty.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> from store.scenes.scene import make_scene
    >>> tracker = BackboneTracker(load_backbone(new_pipeline(MiniConfig(layers=2))), layer=1)
    >>> tracker(make_scene(0, images=3).images, [[0, 12.0, 20.0]]).tracks.shape
    (3, 1, 2)
    """

    backbone: Backbone
    layer: int | LayerSelection | None = None
    step: int | None = None
    heads: tuple[int, ...] | None = None
    options: TrackingOptions | None = None
    prompt: str = ""
    steps: int = 50
    seed: int = 0
    size: tuple[int, int] | None = None
    conditioning: Mapping[str, Any] | None = None
    budget_bytes: int = BUDGET_BYTES

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.layer, LayerSelection):
            found = matched_with(self.backbone, self.layer, self.step, self.heads, steps=self.steps)
            for name, value in zip(("layer", "step", "heads"), found, strict=True):
                object.__setattr__(self, name, value)

    def __call__(self, images: Any, queries: Any) -> PointTracks:
        """Positions of the query points in every image; see :class:`store.tracks.point_tracks.Tracker`.

        Raises
        ------
        InvalidInputError, UnknownLayerError
            As :func:`analyses.tracking.track.track_points` does.
        """
        return track_points(
            images,
            queries,
            self.backbone,
            layer=self.layer,
            step=self.step,
            heads=self.heads,
            options=self.options,
            prompt=self.prompt,
            steps=self.steps,
            seed=self.seed,
            size=self.size,
            conditioning=self.conditioning,
            budget_bytes=self.budget_bytes,
            progress=False,  # an evaluation shows its own progress
        )
