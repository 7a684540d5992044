"""An open recording with the images it was made of, as the explorer needs it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from store.clips.clip import Clip
from store.clips.digest import digest_of_images
from store.errors import ClipError, InvalidInputError, RecordingError
from store.layout import TokenLayout
from store.recordings.reader import Recording, open_recording
from store.text import pixels

_SMALL = 160
"""Pixels on the longer side up to which images are sent without loss; a JPEG of so few pixels shows its blocks."""


@dataclass(eq=False)
class OpenedRecording:
    """A recording, the clip that it shows, and the true tracks where the clip has them.

    Parameters
    ----------
    recording : Recording
    clip : Clip, optional
        What the model saw or generated: of the size and length of the recording's layout; see :func:`fitted_clip`.
    name : str
        What the recording is called.
    """

    recording: Recording
    clip: Clip | None = None
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or Path(self.recording.path).name
        if self.clip is not None:
            self.clip = fitted_clip(self.recording, self.clip)

    @property
    def layout(self) -> TokenLayout:
        """The layout of the recorded frames."""
        whole, frames = self.recording.layout, self.recording.frames
        if len(frames) == whole.frames:
            return whole
        return replace(whole, frames=len(frames), spans=[whole.images_of(frame) for frame in frames])

    def refresh(self) -> None:
        """Open a recording that was being written again, so that new records are seen."""
        if self.recording.state == "open":
            self.recording = open_recording(self.recording.path)

    def frame_of(self, image: int) -> int:
        """The position among the recorded frames of the one that covers an image.

        Raises
        ------
        InvalidInputError
            No recorded frame covers it; names those images that are covered.
        """
        spans = [self.layout.images_of(frame) for frame in range(self.layout.frames)]
        for frame, span in enumerate(spans):
            if image in span:
                return frame
        covered = ", ".join(f"{span.start} to {span.stop - 1}" if len(span) > 1 else str(span.start) for span in spans)
        raise InvalidInputError(f"image {image} is covered by no recorded frame. Covered are images {covered}.")

    def token_names(self, branch: str) -> list[str] | None:
        """The text tokens by name, where the recording tells."""
        told = self.recording.provenance.extra.get("text_tokens", {})
        names = told.get(branch) if isinstance(told, dict) else None
        return [str(name) for name in names] if isinstance(names, list) else None

    def described(self) -> dict[str, Any]:
        """Everything that a front end shows of a recording before anything is read from it."""
        recording, layout, plan = self.recording, self.layout, self.recording.plan
        status = recording.status.values
        clip = self.clip
        return {
            "name": self.name,
            "path": recording.path,
            "model": plan.backbone,
            "prompt": recording.provenance.prompt or "",
            "seed": recording.provenance.seed,
            "noise": recording.provenance.noise,
            "state": recording.state,
            "done": int((status == 1).sum()),
            "records": int(status.size),
            "status": status.tolist(),
            "steps": list(recording.steps),
            "timesteps": [None if np.isnan(t) else float(t) for t in recording.timesteps],
            "run_steps": plan.run_steps,
            "layers": list(recording.layers),
            "layer_names": list(plan.layer_names),
            "layer_count": plan.layer_count,
            "branches": list(recording.branches),
            "heads": list(recording.heads),
            "frames": list(recording.frames),
            "spans": [[span.start, span.stop] for span in map(layout.images_of, range(layout.frames))],
            "centres": [int(centre) for centre in np.floor(layout.frame_centres)],
            "cells": [layout.height, layout.width],
            "pixels": [layout.pixel_height, layout.pixel_width],
            "images": layout.images,
            "fps": None if clip is None else clip.fps,
            "has_images": clip is not None,
            "text_tokens": layout.text_tokens,
            "token_names": {branch: self.token_names(branch) for branch in recording.branches},
            "values": any(array.name == "value" for array in plan.arrays),
            "truth": self.truth_name,
            "doubt": self.doubt,
        }

    @cached_property
    def truth_name(self) -> str | None:
        """Name of what paths are compared with: "the truth", or the tracker that stands for it; None without tracks."""
        if self.clip is None or self.clip.tracks is None:
            return None
        return self.clip.tracks_source or "the truth"

    @cached_property
    def doubt(self) -> str | None:
        """Say why the clip may be another one than was recorded; None without a reason to think so.

        A video file is lossy, so images that differ from those of the recording are not a reason by themselves;
        together with a different prompt they are.
        """
        known, prompt = self.recording.provenance.extra.get("clip_hash"), self.recording.provenance.prompt
        if self.clip is None or not self.clip.prompt or not prompt or self.clip.prompt == prompt or known is None:
            return None
        if digest_of_images(self.clip.images) == known:
            return None
        return (
            "The clip may be another one than was recorded: its images differ, and its prompt is "
            f"“{self.clip.prompt}”, that of the recording “{prompt}”."
        )

    def track_near(self, image: int, point: np.ndarray) -> int | None:
        """The nearest visible track, no farther than half the diagonal of a cell; None if there is none."""
        if self.clip is None or self.clip.tracks is None or self.clip.visibility is None:
            return None
        cell = np.array(self.layout.cell_size[::-1])
        away = np.linalg.norm((self.clip.tracks[image] - point) / cell, axis=-1)
        away[~self.clip.visibility[image]] = np.inf
        nearest = int(away.argmin()) if len(away) else -1
        return nearest if nearest >= 0 and away[nearest] <= 0.5**0.5 else None

    def picture(self, image: int) -> tuple[str, bytes]:
        """An image of the clip as its media type and its bytes.

        Raises
        ------
        InvalidInputError
            Without a clip, or for an image that it does not have.
        """
        if self.clip is None:
            raise InvalidInputError("the recording was opened without its clip. Pass clip=, or --clip.")
        if not 0 <= image < len(self.clip):
            raise InvalidInputError(f"image {image} does not exist: the clip has images 0 to {len(self.clip) - 1}.")
        picture, written = Image.fromarray(self.clip.images[image]), io.BytesIO()
        if max(picture.size) <= _SMALL:
            picture.save(written, "PNG")
            return "image/png", written.getvalue()
        picture.save(written, "JPEG", quality=90, subsampling=0)
        return "image/jpeg", written.getvalue()


def fitted_clip(recording: Recording, clip: Clip) -> Clip:
    """The images that a recording was made of, from the clip that was recorded or the one that was saved.

    Raises
    ------
    ClipError
        For a clip that cannot be it: the message says what the recording shows and what was given.
    """
    layout, extra = recording.layout, recording.provenance.extra
    wanted = (layout.images, layout.pixel_height, layout.pixel_width)
    if clip.images.shape[:3] == wanted:
        return clip
    first, stride = int(extra.get("first_image", 0)), int(extra.get("stride", 1))
    stop = first + stride * (layout.images - 1) + 1
    if len(clip) == layout.images:
        part = clip
    elif len(clip) >= stop:
        part = clip[first:stop:stride]
    else:
        raise ClipError(
            f"the clip has {len(clip)} images; the recording shows {layout.images}, from image {first} on every "
            f"{stride}. Pass the clip that was recorded, or the one that record(save_clip=) wrote."
        )
    part = part.resized(layout.pixel_height, layout.pixel_width)
    known = extra.get("clip_hash")
    if known is not None and digest_of_images(part.images) != known:
        raise ClipError(
            f"the clip of {pixels(clip.height, clip.width)}, cut and resized as the recording says, is not the one "
            "that was recorded. Pass the clip that was recorded, or the one that record(save_clip=) wrote."
        )
    return part


def opened(recording: Recording | str | Path, clip: Clip | None = None, name: str = "") -> OpenedRecording:
    """A recording, or what is at a path, with its clip; beside ``a.zarr`` a clip ``a.mp4`` is found.

    Raises
    ------
    RecordingError, ClipError
    """
    if not isinstance(recording, Recording):
        recording = open_recording(recording)
    if clip is None:
        clip = _clip_beside(recording)
    return OpenedRecording(recording, clip, name)


def _clip_beside(recording: Recording) -> Clip | None:
    """The clip of the same name, if there is one that fits."""
    from store.clips.video import read_clip

    for suffix in (".mp4", ".mov", ".mkv", ".webm"):
        path = Path(recording.path).with_suffix(suffix)
        if path.is_file():
            try:
                return fitted_clip(recording, read_clip(path))
            except (ClipError, RecordingError):
                return None
    return None
