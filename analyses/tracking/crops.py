"""Crops of a clip that follow points, resampled for the model with square pixels and repeated borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True, eq=False)
class CropWindows:
    """A crop of every image, all of one size.

    Parameters
    ----------
    origins : (image, 2) float, (x, y) of the upper left corners in pixels of the clip
    scale : pixels of the clip for each pixel that the model sees, the same in x and y
    """

    origins: np.ndarray
    scale: float

    def at(self, images: tuple[int, ...], spans: list[range] | None = None) -> np.ndarray:
        """Return the origins (place, 2) of chosen images; those of one latent frame share the mean of theirs.

        Parameters
        ----------
        images : numbers of images, in the order in which the model sees them
        spans : places in ``images`` that each latent frame covers; None if each image is a frame

        Examples
        --------
        >>> windows = CropWindows(np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 2.0]]), 0.5)
        >>> windows.at((0, 1, 2), [range(0, 1), range(1, 3)]).tolist()
        [[0.0, 0.0], [3.0, 1.0], [3.0, 1.0]]
        """
        found: np.ndarray = self.origins[list(images)]
        if spans is not None:
            found = found.copy()
            for span in spans:
                places = [place for place in span if place < len(images)]
                if places:
                    found[places] = found[places].mean(0)
        return found

    def places(self, positions: np.ndarray, image: int, points: np.ndarray) -> np.ndarray:
        """Return the places in a crop of positions (point, 2) of the clip, in pixels of the model.

        Parameters
        ----------
        positions : (point, 2) float, (x, y) in pixels of the clip
        image : in which they lie
        points : (point,) int64, their numbers
        """
        found: np.ndarray = (positions - self.origins[image]) / self.scale
        return found

    def positions(self, places: np.ndarray, anchor: int, image: int, points: np.ndarray) -> np.ndarray:
        """Return the positions (point, 2) in an image of the clip, in its pixels, of matches in a crop of it.

        Parameters
        ----------
        places : (point, 2) float, (x, y) in pixels of the model, including the displacement of the crop since the
            anchor
        anchor : image in which the points are known
        image : in which they were found
        points : (point,) int64, their numbers
        """
        found: np.ndarray = self.origins[anchor] + places * self.scale
        return found

    def key(self, image: int, origin: np.ndarray) -> tuple[object, ...]:
        """Return a key that identifies this view of an image."""
        return image, *origin.tolist(), self.scale

    def show(self, video: np.ndarray, image: int, origin: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return an image as the model sees it, (height, width, 3) uint8.

        Parameters
        ----------
        video : (image, y, x, 3) uint8
        image : int
        origin : (x, y) of the crop in this image
        size : (height, width) of the crop
        """
        return cut(video[image], origin, self.scale, size)


def crop_scale(clip: tuple[int, int], size: tuple[int, int], level: int) -> float:
    """Return the pixels of a clip for each pixel of a crop.

    Parameters
    ----------
    clip : (height, width) of the clip
    size : (height, width) that the model sees
    level : int
        The crop is this many times smaller than the largest one of its shape that fits in the clip.

    Examples
    --------
    >>> crop_scale((480, 720), (40, 40), 2)
    6.0
    """
    return min(clip[0] / size[0], clip[1] / size[1]) / level


def follow(centres: np.ndarray, clip: tuple[int, int], size: tuple[int, int], level: int) -> CropWindows:
    """Return crops centred on a path.

    A crop may extend beyond the clip, so that a point always stays at the same place of its crop. Models match points
    best that do not move: crops that are shifted into the image, and so show a point elsewhere, gain nothing
    (docs/benchmarks/crops.md).

    Parameters
    ----------
    centres : (image, 2) float, (x, y) in pixels of the clip
    clip, size, level : as of :func:`crop_scale`

    Examples
    --------
    >>> follow(np.array([[20.0, 20.0], [39.0, 20.0]]), (40, 40), (40, 40), 2).origins.tolist()
    [[10.0, 10.0], [29.0, 10.0]]
    """
    scale = crop_scale(clip, size, level)
    return CropWindows(centres - scale * np.array([size[1], size[0]]) / 2, scale)


def cut(image: np.ndarray, origin: np.ndarray, scale: float, size: tuple[int, int]) -> np.ndarray:
    """Return a crop (height, width, 3) uint8 of an image (y, x, 3), resampled as :meth:`Clip.resized` does.

    Beyond the image, its border is repeated.

    Parameters
    ----------
    image : (y, x, 3) uint8
    origin : (x, y) of the upper left corner in pixels, need not be whole
    scale : pixels of the image for each pixel of the crop
    size : (height, width) of the crop

    Examples
    --------
    >>> image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1).repeat(3, -1)
    >>> cut(image, np.array([1.0, 2.0]), 1.0, (2, 2))[..., 0].tolist()
    [[9, 10], [13, 14]]
    >>> cut(image, np.array([-1.0, 3.0]), 1.0, (2, 2))[..., 0].tolist()
    [[12, 12], [12, 12]]
    """
    height, width = image.shape[:2]
    extent = scale * np.array([size[1], size[0]])
    low = np.floor(origin).astype(int)
    high = np.ceil(origin + extent).astype(int)
    columns = np.clip(np.arange(low[0], high[0]), 0, width - 1)
    rows = np.clip(np.arange(low[1], high[1]), 0, height - 1)
    x, y = (float(value) for value in origin - low)
    picture = Image.fromarray(np.ascontiguousarray(image[np.ix_(rows, columns)]))
    box = (x, y, min(x + extent[0], picture.width), min(y + extent[1], picture.height))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box))
