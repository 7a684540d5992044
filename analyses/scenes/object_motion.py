"""The path of the object of a clip, by plain computer vision, and its distance from that of a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analyses.metrics.end_point import EndPointError, end_point_error
from analyses.scenes.vision import see_scene
from store.arguments import Array, checked
from store.arrays import as_array
from store.checks import one_of
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.scenes.texture import COLOURS


@dataclass(frozen=True, eq=False)
class ObjectMotion:
    """Path of an object of a clip.

    Attributes
    ----------
    path : (image, 2) float, (x, y) in pixels, y pointing down: the object's centre relative to image 0; NaN where no
        object is seen
    shown : (image,) bool, whether a part of it is seen
    colour, shape : words of the scene grammar; None if no object is seen
    size : (height, width) of the clip in pixels
    """

    path: np.ndarray
    shown: np.ndarray
    colour: str | None
    shape: str | None
    size: tuple[int, int]

    @property
    def found(self) -> bool:
        """Return whether an object is seen."""
        return self.colour is not None

    def __repr__(self) -> str:
        if not self.found:
            return f"ObjectMotion(no object seen in {len(self.path)} images)"
        x, y = self.path[-1]
        return f"ObjectMotion({self.colour} {self.shape}, {x:+.1f} px in x and {y:+.1f} px in y)"


@checked
def object_motion(clip: Array | Clip, *, colour: str | None = None) -> ObjectMotion:
    """The path of the object of a clip of a synthetic scene, drawn or generated.

    The object is found by :func:`analyses.scenes.vision.see_scene`, and its path is the mean position of the pixels of
    its region. The path is interpolated linearly between images that show the object and constant before the first and
    after the last of them. Parts that are hidden or outside the image bias the mean.

    Parameters
    ----------
    clip : Clip, or (image, y, x, 3) uint8 images
    colour : one of :data:`store.scenes.texture.COLOURS`, optional
        Take the object of this colour if there is one. By default, and if there is none, the one that is largest
        and looks most like a shape.

    Raises
    ------
    InvalidInputError
        For images of another shape or kind, fewer than two of them, or an unknown colour.
    MissingOpenCVError
        Where OpenCV (``pip install "ditprobe[vision]"``) is not installed.

    Notes
    -----
    Optical flow is as good on drawn scenes but not used: the texture and outline of an object that ``mini`` generates
    change from image to image, and the flow then misses much of its motion.

    Examples
    --------
    >>> from store.scenes.scene import make_scene
    >>> object_motion(make_scene(3, prompt="a red ring moves left over blue stripes"))
    ObjectMotion(red ring, -14.4 px in x and -3.9 px in y)
    """
    images = clip.images if isinstance(clip, Clip) else as_array(clip)
    if colour is not None:
        one_of(colour, COLOURS, "colour")
    if images.ndim == 4 and len(images) == 1:
        raise InvalidInputError("the clip has 1 image; motion needs at least 2.")
    seen = see_scene(images, objects=1 if colour is None else len(COLOURS)).objects
    size = (int(images.shape[1]), int(images.shape[2]))
    if not seen:
        return ObjectMotion(np.full((len(images), 2), math.nan), np.zeros(len(images), bool), None, None, size)
    chosen = next((each for each in seen if each.colour == colour), seen[0])
    return ObjectMotion(_path(chosen.mask), np.any(chosen.mask, axis=(1, 2)), chosen.colour, chosen.shape, size)


@checked
def moving_apart(tracks: Array) -> np.ndarray:
    """Select tracks that do not move as most of them, and so not as the background, over the whole clip.

    Valid for scenes whose camera pans or is static.

    Parameters
    ----------
    tracks : (image, point, 2), (x, y) in pixels

    Returns
    -------
    (point,) bool

    Examples
    --------
    >>> still, moved = np.zeros((2, 3, 2)), np.array([[[5.0, 5.0]], [[9.0, 5.0]]])
    >>> moving_apart(np.concatenate([still, moved], axis=1))
    array([False, False, False,  True])
    """
    paths = as_array(tracks)
    moved = paths[-1] - paths[0]
    return np.asarray(np.linalg.norm(moved - np.median(moved, axis=0), axis=-1) > 0.01)


def _path(region: np.ndarray) -> np.ndarray:
    """(image, 2): the mean (x, y) of a region (image, y, x) relative to image 0, interpolated where it is hidden."""
    shown = np.flatnonzero(region.any((1, 2)))
    centres = np.array([np.argwhere(region[image]).mean(0)[::-1] for image in shown])
    path = np.stack([np.interp(np.arange(len(region)), shown, axis) for axis in centres.T], -1)
    return path - path[0]


@checked
def motion_error(generated: Array | Clip | ObjectMotion, reference: Array | Clip | ObjectMotion) -> EndPointError:
    """Measure how far the object of a generated clip deviates from the path of the reference's object.

    Both paths start at zero, so the positions of the objects do not matter.

    Parameters
    ----------
    generated, reference : Clip, (image, y, x, 3) uint8 images, or what :func:`object_motion` returned
        Clips of the same size and the same number of images.

    Returns
    -------
    EndPointError
        ``pixels``, the mean distance between the paths after image 0; ``relative``, the same over the reference's mean
        displacement. An object that does not move has a relative error of 1; one that moves in the opposite direction
        has 2. NaN where an object is not seen in either clip.

    Raises
    ------
    InvalidInputError
        For different sizes or numbers of images, and what :func:`object_motion` rejects.
    MissingOpenCVError
        Where OpenCV is not installed.

    Notes
    -----
    The error of the measurement itself, and how well it tells motions apart: ``benchmarks/flow/motion_metrics.py``. A
    part of the background can be taken for the object (1 of 60 references there); where the prompt is known, measure
    with ``object_motion(clip, colour=...)`` first.

    Examples
    --------
    Scenes of one seed share their places and speeds, whatever the prompt leaves to colours and shapes:

    >>> from store.scenes.scene import make_scene
    >>> reference = make_scene(3, prompt="a red ring moves left over blue stripes")
    >>> same = make_scene(3, prompt="a green disc moves left over white stripes")
    >>> other = make_scene(3, prompt="a green disc moves up over white stripes")
    >>> motion_error(same, reference).relative < 0.1 < motion_error(other, reference).relative
    True
    """
    ours, theirs = (each if isinstance(each, ObjectMotion) else object_motion(each) for each in (generated, reference))
    if len(ours.path) != len(theirs.path):
        raise InvalidInputError(
            f"the generated clip has {len(ours.path)} images and its reference {len(theirs.path)}. Paths are compared "
            "image by image: cut the longer clip."
        )
    if ours.size != theirs.size:
        raise InvalidInputError(
            f"the generated clip is {ours.size[0]} x {ours.size[1]} px and its reference {theirs.size[0]} x "
            f"{theirs.size[1]} px (height x width). Resize one of them: Clip.resized."
        )
    if not (ours.found and theirs.found):
        return EndPointError(math.nan, math.nan)
    return end_point_error(ours.path[:, None], theirs.path[:, None])
