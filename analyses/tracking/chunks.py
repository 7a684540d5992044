"""Chunks of images that a backbone sees together if a clip is longer than it takes."""

from __future__ import annotations

from dataclasses import dataclass

from store.errors import InvalidInputError


@dataclass(frozen=True)
class Chunk:
    """Images in the order in which the model sees them; the points are known in the first."""

    images: tuple[int, ...]


def chunk_groups(
    images: int, anchor: int, length: int, *, interleaved: bool = True, anchored: bool = True
) -> tuple[tuple[Chunk, ...], ...]:
    """The chunks that lead from the image of a query to every other image, forward and then backward in time.

    Interleaved chunks hold images that are T // (length - 1) apart, T the images in that direction with the anchor, so
    that each spans the clip; the next starts one image later, until all are covered. Those that are not interleaved
    follow one another. All chunks that hold an image are in one group, so that only one group's costs need be kept.

    Parameters
    ----------
    images : of the clip
    anchor : image of the query, the first of every chunk
    length : images of a chunk, the anchor included
    interleaved : images apart, otherwise consecutive ones
    anchored : the anchor in every chunk; otherwise each chunk begins with the last image of the one before

    Returns
    -------
    tuple of groups of Chunk
        Within a group in the order of their images. The last ones may be shorter than ``length``.

    Raises
    ------
    InvalidInputError

    Notes
    -----
    DiffTrack (Nam et al., 2025), section 5 and its released evaluation, there for an anchor in image 0.

    Examples
    --------
    >>> [chunk.images for group in chunk_groups(8, 0, 4) for chunk in group]
    [(0, 1, 3, 5), (0, 3, 5, 7), (0, 2, 4, 6)]
    >>> [chunk.images for group in chunk_groups(6, 2, 3, interleaved=False) for chunk in group]
    [(2, 3, 4), (2, 5), (2, 1, 0)]
    """
    if not 0 <= anchor < images:
        raise InvalidInputError(f"image {anchor} is outside 0 to {images - 1}.")
    if length < 2:
        raise InvalidInputError(f"a chunk needs at least 2 images; got {length}.")
    if interleaved and not anchored:
        raise InvalidInputError("interleaved chunks need the anchor in each: they have no image in common otherwise.")
    found: list[tuple[Chunk, ...]] = []
    for others in (range(anchor + 1, images), range(anchor - 1, -1, -1)):
        if not anchored:
            found += _chained(anchor, others, length)
        elif others:
            found += _anchored(anchor, others, length, interleaved)
    return tuple(found)


def _anchored(anchor: int, others: range, length: int, interleaved: bool) -> list[tuple[Chunk, ...]]:
    interval = max(1, (len(others) + 1) // (length - 1)) if interleaved else 1
    step = 1 if interleaved else length - 1
    groups: dict[int, list[Chunk]] = {}
    covered: set[int] = set()
    start = 0
    while len(covered) < len(others):
        places = range(start, min(start + (length - 2) * interval, len(others) - 1) + 1, interval)
        covered.update(places)
        groups.setdefault(start % interval, []).append(Chunk((anchor, *(others[place] for place in places))))
        start += step
    return [tuple(group) for group in groups.values()]


def _chained(anchor: int, others: range, length: int) -> list[tuple[Chunk, ...]]:
    chunks: list[tuple[Chunk, ...]] = []
    first = anchor
    for start in range(0, len(others), length - 1):
        chunk = Chunk((first, *others[start : start + length - 1]))
        chunks.append((chunk,))
        first = chunk.images[-1]
    return chunks
