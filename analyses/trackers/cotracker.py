"""CoTracker, or any model with the same interface, as a tracker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from store.arguments import checked_but
from store.checks import number, shown
from store.errors import BackboneNotFoundError, InvalidInputError
from store.tracks.point_tracks import PointTracks
from store.tracks.queries import clip_and_queries

_HUB = "facebookresearch/co-tracker"
_PIXEL_CENTRE = 0.5


class CoTracker:
    """A model called as ``model(video, queries=..., backward_tracking=True)``.

    Parameters
    ----------
    model : callable or torch module
        Called with ``video``, float32 (1, image, 3, y, x) from 0 to 255, and ``queries``, float32 (1, point, 3) as
        (image, x, y). Returns tracks (1, image, point, 2) as (x, y), and visibility (1, image, point), bool or float
        from 0 to 1, with or without a last axis of size one; further results are ignored. Its pixel centres are at
        integers.
    threshold : visibility above which a point counts as visible, if the model returns numbers
    device : of video and queries; by default that of the model's first parameter, or the CPU
    name : origin that the tracks state

    Raises
    ------
    InvalidInputError
        For what cannot be called, or a threshold outside 0 to 1.

    Notes
    -----
    Karaev et al., "CoTracker3: Simpler and Better Point Tracking by Pseudo-Labelling Real Videos" (2024). The
    released predictor enlarges videos with their corner pixels kept at the corners, so a position is a pixel index,
    half a pixel less than here: half a pixel is subtracted from the queries and added to the tracks. It returns bool
    visibility, cut at 0.9, so that confidence is 0 or 1. A clip of one image and an empty list of queries never reach
    the model.

    Examples
    --------
    >>> def still(video, queries, backward_tracking):
    ...     tracks = queries[:, None, :, 1:].expand(-1, video.shape[1], -1, -1)
    ...     return tracks, torch.ones(tracks.shape[:3], dtype=torch.bool)
    >>> CoTracker(still)(np.zeros((9, 80, 112, 3), np.uint8), [[8, 100.5, 20.5]]).tracks[0]
    array([[100.5,  20.5]])
    """

    @checked_but("model")
    def __init__(
        self,
        model: Callable[..., Any],
        *,
        threshold: float = 0.5,
        device: str | torch.device | None = None,
        name: str = "CoTracker",
    ) -> None:
        if not callable(model):
            raise InvalidInputError(f"model must be a callable or a torch module; got {type(model).__name__}.")
        number(threshold, "threshold", min_value=0, max_value=1)
        self.model, self.threshold, self.name = model, threshold, name
        try:
            self._device = None if device is None else torch.device(device)
        except RuntimeError as error:
            raise InvalidInputError(f"device {device!r} is unknown: {str(error).partition(chr(10))[0]}") from error

    @classmethod
    def from_hub(
        cls,
        model: str = "cotracker3_offline",
        *,
        repository: str = _HUB,
        device: str | torch.device = "cpu",
    ) -> CoTracker:
        """Load the released model through ``torch.hub``, which downloads and runs the code of its repository.

        torch asks before it runs a repository for the first time.

        Parameters
        ----------
        model : "cotracker3_offline", "cotracker2v1" or "cotracker2"; those that end in "_online" have another interface
            and are rejected
        repository : on GitHub, given as "owner/name" or "owner/name:revision"
        device : to run on

        Raises
        ------
        InvalidInputError
            For a model that takes a video in parts.
        BackboneNotFoundError
            When it cannot be downloaded.

        Examples
        --------
        >>> tracker = CoTracker.from_hub("cotracker3_offline", device="cuda")  # doctest: +SKIP
        """
        if model.endswith("_online"):
            raise InvalidInputError(f"{model} takes a video in parts. Use cotracker3_offline, which sees it whole.")
        try:
            found = torch.hub.load(repository, model)
        except OSError as error:
            raise BackboneNotFoundError(
                f"{model} could not be loaded from {repository} through torch.hub ({error}). Without a network, "
                "download its weights elsewhere and use CoTracker.from_checkpoint."
            ) from error
        return cls(found.to(device).eval(), name=f"{repository}/{model}")

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        repository: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
    ) -> CoTracker:
        """Load CoTracker3 offline with weights from a file, such as ``scaled_offline.pth``; nothing is downloaded.

        Parameters
        ----------
        path : the weights. Only tensors are read from it, no code
        repository : a local copy of the repository facebookresearch/co-tracker, whose code is run; by default the
            installed package ``cotracker``
        device : to run on

        Raises
        ------
        BackboneNotFoundError
            When the file or the code is missing.
        InvalidInputError
            When the file does not hold weights of this model.

        Examples
        --------
        >>> CoTracker.from_checkpoint("scaled_offline.pth")
        Traceback (most recent call last):
        ...
        store.errors.BackboneNotFoundError: scaled_offline.pth does not exist. Name a file of CoTracker3 weights.
        """
        path = Path(path)
        if not path.is_file():
            raise BackboneNotFoundError(f"{path} does not exist. Name a file of CoTracker3 weights.")
        predictor = _untrained(repository)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            predictor.model.load_state_dict(state.get("model", state))
        except Exception as error:  # torch raises other exceptions for damaged files
            raise InvalidInputError(f"{path} does not hold weights of CoTracker3 offline: {error}") from error
        return cls(predictor.to(device).eval(), name=f"CoTracker {path.name}")

    def __call__(self, images: Any, queries: Any) -> PointTracks:
        """Positions of the query points in every image; see :class:`store.tracks.point_tracks.Tracker`.

        Raises
        ------
        InvalidInputError
            When the model returns other shapes, or values that are not finite.
        """
        video, asked = clip_and_queries(images, queries)
        details = {"tracker": self.name, "threshold": self.threshold}
        if len(video) == 1 or not len(asked):
            still = PointTracks.still(asked, len(video))
            return PointTracks(asked, still.tracks, still.visibility, still.confidence, details)
        tracks, confidence = self._run(video, asked)
        own, points = asked[:, 0].astype(int), np.arange(len(asked))
        visibility = confidence > self.threshold
        tracks[own, points], visibility[own, points], confidence[own, points] = asked[:, 1:], True, 1
        return PointTracks(asked, tracks, visibility, confidence, details)

    @torch.no_grad()
    def _run(self, video: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        device = self._device or _device_of(self.model)
        pixels = torch.from_numpy(np.ascontiguousarray(video.transpose(0, 3, 1, 2)))[None].to(device).float()
        places = asked - [0, _PIXEL_CENTRE, _PIXEL_CENTRE]
        answer = self.model(pixels, queries=torch.from_numpy(places[None]).float().to(device), backward_tracking=True)
        if not isinstance(answer, tuple | list) or len(answer) < 2:
            raise InvalidInputError(f"{self.name} must return tracks and visibility; got {shown(answer)}.")
        tracks, visibility = (torch.as_tensor(part).detach().cpu().double() for part in answer[:2])
        wanted = (1, len(video), len(asked))
        if tuple(visibility.shape) == (*wanted, 1):
            visibility = visibility[..., 0]
        if tuple(tracks.shape) != (*wanted, 2) or tuple(visibility.shape) != wanted:
            raise InvalidInputError(
                f"{self.name} must return tracks {(*wanted, 2)} and visibility {wanted}; "
                f"got {tuple(tracks.shape)} and {tuple(visibility.shape)}."
            )
        return tracks[0].numpy() + _PIXEL_CENTRE, np.clip(visibility[0].numpy(), 0, 1)


def _device_of(model: Any) -> torch.device:
    if isinstance(model, torch.nn.Module):
        for parameter in model.parameters():
            return parameter.device
    return torch.device("cpu")


def _untrained(repository: str | os.PathLike[str] | None) -> Any:
    """CoTracker3's offline predictor without its weights."""
    if repository is not None:
        if not (Path(repository) / "hubconf.py").is_file():
            raise BackboneNotFoundError(f"{repository} holds no hubconf.py: it is not a copy of {_HUB}.")
        return torch.hub.load(os.fspath(repository), "cotracker3_offline", source="local", pretrained=False)
    try:
        from cotracker.predictor import CoTrackerPredictor
    except ImportError as error:
        raise BackboneNotFoundError(
            f"the package cotracker is not installed. Install it from github.com/{_HUB}, or pass repository=, a local "
            "copy of it."
        ) from error
    return CoTrackerPredictor(checkpoint=None)
