"""Chunks of images that a backbone sees together when a clip is too long for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from store.errors import InvalidInputError


@dataclass(frozen=True)
class Chunk:
    """Images that the model sees together.

    Attributes
    ----------
    images : in the order in which the model sees them
    anchors : the images among them in which points are known
    """

    images: tuple[int, ...]
    anchors: tuple[int, ...]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the (anchor, image) pairs whose costs the chunk gives.

        Examples
        --------
        >>> Chunk((0, 2, 4), (0, 2)).pairs()
        [(0, 2), (0, 4), (2, 0), (2, 4)]
        """
        return [(anchor, image) for anchor in self.anchors for image in self.images if image != anchor]


def chunk_groups(
    images: int,
    anchor: int,
    length: int,
    *,
    interleaved: bool = True,
    anchored: bool = True,
    overlapping: bool = True,
) -> tuple[tuple[Chunk, ...], ...]:
    """The chunks that lead from the image of a query to every other image, forward and then backward in time.

    Interleaved chunks hold images that are T // (length - 1) apart, where T is the number of images in that direction
    including the anchor, so that each spans the clip; the next starts one image later, until all are covered. Other
    chunks follow one another. Chunks that do not overlap hold images that are as far apart as there are chunks, the
    fewest possible, so that no image but the anchor is in two of them. All chunks that hold an image are in one group,
    so that only one group's costs need be kept.

    Parameters
    ----------
    images : of the clip
    anchor : image of the query, the first of every chunk
    length : images of a chunk, the anchor included
    interleaved : whether the images of a chunk are spread over the clip instead of consecutive
    overlapping : whether interleaved chunks may have other images than the anchor in common, as published
    anchored : whether every chunk has the anchor; otherwise each begins with the last image of the one before

    Returns
    -------
    tuple of groups of Chunk
        Within a group, chunks are in the order of their images. The last ones may be shorter than ``length``.

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
    >>> [chunk.images for group in chunk_groups(8, 0, 4, overlapping=False) for chunk in group]
    [(0, 1, 4, 7), (0, 2, 5), (0, 3, 6)]
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
        elif others and interleaved and not overlapping:
            hands = _hands(list(others), length - 1)
            found += [(Chunk((anchor, *hand), (anchor,)),) for hand in hands]
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
        chunk = Chunk((anchor, *(others[place] for place in places)), (anchor,))
        groups.setdefault(start % interval, []).append(chunk)
        start += step
    return [tuple(group) for group in groups.values()]


def _chained(anchor: int, others: range, length: int) -> list[tuple[Chunk, ...]]:
    chunks: list[tuple[Chunk, ...]] = []
    first = anchor
    for start in range(0, len(others), length - 1):
        chunk = Chunk((first, *others[start : start + length - 1]), (first,))
        chunks.append((chunk,))
        first = chunk.images[-1]
    return chunks


def shared_chunks(images: int, anchors: Iterable[int], length: int) -> tuple[Chunk, ...]:
    """A small set of chunks in which each of several anchors meets every other image; chunks serve several anchors.

    The anchors are dealt into hands, as are the other images, so that each hand spans the clip; each hand of anchors
    meets each hand of images and each other hand of anchors. The sizes of the hands are chosen to show the model the
    fewest images in total.

    Parameters
    ----------
    images : of the clip
    anchors : images in which points are known
    length : images of a chunk

    Returns
    -------
    tuple of Chunk
        Their images in the order of time.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> [chunk.images for chunk in shared_chunks(6, [0, 3], 4)]
    [(0, 1, 3, 4), (0, 2, 3, 5)]
    >>> len(shared_chunks(12, range(12), 6)), sum(len(group) for n in range(12) for group in chunk_groups(12, n, 6))
    (6, 42)
    """
    known = sorted(set(anchors))
    for anchor in (known[0], known[-1]) if known else ():
        if not 0 <= anchor < images:
            raise InvalidInputError(f"image {anchor} is outside 0 to {images - 1}.")
    if length < 2:
        raise InvalidInputError(f"a chunk needs at least 2 images; got {length}.")
    if not known or images < 2:
        return ()
    plans = [_dealt(images, known, length, each) for each in range(1, min(len(known), length - 1) + 1)]
    return min((plan for plan in plans if plan), key=lambda plan: sum(len(chunk.images) for chunk in plan))


def _dealt(images: int, known: list[int], length: int, each: int) -> tuple[Chunk, ...]:
    """The chunks for hands of up to ``each`` anchors; none where two hands do not fit in a chunk."""
    hands = _hands(known, each)
    if len(hands) > 1 and max(map(len, hands)) * 2 > length:
        return ()
    rest = [image for image in range(images) if image not in set(known)]
    others = _hands(rest, length - max(map(len, hands))) if rest else []
    meetings = [(*hand, *other) for number, hand in enumerate(hands) for other in hands[number + 1 :]]
    meetings += [(*hand, *other) for hand in hands for other in others]
    if not meetings:  # a single hand that holds every image
        meetings = [tuple(hands[0])]
    return tuple(Chunk(tuple(sorted(met)), tuple(image for image in sorted(met) if image in known)) for met in meetings)


def _hands(images: list[int], most: int) -> list[list[int]]:
    """Deal images into the fewest hands of at most ``most`` images."""
    count = -(-len(images) // most)
    return [images[number::count] for number in range(count)]
