"""The registry of trackers: by name, for evaluations and the command line."""

from __future__ import annotations

from collections.abc import Callable

from analyses.optical_flow import opencv
from analyses.trackers.backbone import BackboneTracker
from analyses.trackers.optical_flow import FlowTracker
from analyses.trackers.patches import PatchTracker
from analyses.trackers.refined import LucasKanadeRefinement
from analyses.trackers.static import StaticTracker
from store.arguments import checked
from store.errors import InvalidInputError
from store.registry import Registry
from store.tracks.point_tracks import Tracker

TrackerFactory = Callable[[BackboneTracker | None], Tracker]
"""Factory of a tracker, called with the attention tracker of the same evaluation, or None if there is none."""


def _check(name: str, item: object) -> None:
    if not callable(item):
        raise InvalidInputError(
            f"tracker {name!r} must be a callable that takes a BackboneTracker or None and returns a tracker; got "
            f"{type(item).__name__}."
        )


TRACKERS: Registry[TrackerFactory] = Registry(
    "tracker", "ditprobe.trackers", check=_check, remedy="register_tracker adds one."
)
"""Factories of trackers by name. Other distributions add theirs through the entry-point group ``ditprobe.trackers``."""


@checked
def register_tracker(name: str, factory: TrackerFactory, *, replace: bool = False) -> TrackerFactory:
    """Add a tracker, so that ``ditprobe eval-tapvid --tracker NAME`` and :func:`make_tracker` know it.

    Parameters
    ----------
    name : str
    factory : callable
        Called with the :class:`~analyses.trackers.backbone.BackboneTracker` of the evaluation, or None; returns a
        :class:`~store.tracks.point_tracks.Tracker`.
    replace : bool
        Whether it may replace another tracker of this name.

    Raises
    ------
    InvalidInputError
        For an empty name or one that is taken.

    Examples
    --------
    >>> _ = register_tracker("example", lambda backbone: StaticTracker())
    >>> make_tracker("example")
    StaticTracker()
    >>> TRACKERS.unregister("example")
    """
    return TRACKERS.register(name, factory, replace=replace)


@checked
def make_tracker(name: str, backbone: BackboneTracker | None = None) -> Tracker:
    """Make a registered tracker.

    Parameters
    ----------
    name : str
        "backbone", "nothing-moves", "patches", "flow", "backbone+lk" or a name that was registered.
    backbone : BackboneTracker, optional
        The attention tracker of the same evaluation. "patches" compares raw pixels on its grid, or on cells of 16 px
        without a backbone.

    Raises
    ------
    InvalidInputError
        For an unknown name, and for a tracker that needs a backbone without one.
    MissingOpenCVError
        For "flow" if OpenCV is not installed.

    Examples
    --------
    >>> make_tracker("flow")
    FlowTracker(side=160, tolerance=1.0)
    """
    return TRACKERS[name](backbone)


def need_backbone(name: str, backbone: BackboneTracker | None) -> BackboneTracker:
    """Return the backbone that a tracker needs.

    Raises
    ------
    InvalidInputError
        If there is none.
    """
    if backbone is None:
        raise InvalidInputError(f"tracker {name!r} needs a backbone. Pass backbone=BackboneTracker(...).")
    return backbone


def _patches(backbone: BackboneTracker | None) -> Tracker:
    if backbone is None:
        return PatchTracker()
    model = backbone.backbone
    height, width, images = model.default_size
    return PatchTracker.on_grid(model.layout(*(backbone.size or (height, width)), images))


def _flow(backbone: BackboneTracker | None) -> Tracker:
    opencv()  # raises before anything is tracked
    return FlowTracker()


register_tracker("backbone", lambda backbone: need_backbone("backbone", backbone))
register_tracker("nothing-moves", lambda backbone: StaticTracker())
register_tracker("patches", _patches)
register_tracker("flow", _flow)
register_tracker("backbone+lk", lambda backbone: LucasKanadeRefinement(need_backbone("backbone+lk", backbone)))
