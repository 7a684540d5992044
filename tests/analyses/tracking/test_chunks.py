"""Chunks against the released loop, written out, and what every caller relies on."""

import numpy as np
import pytest

from analyses.tracking.chunks import chunk_groups, shared_chunks
from store.errors import InvalidInputError

SIZES = [(images, length) for images in (*range(2, 42), 83, 100) for length in (2, 3, 5, 6, 13)]


def published(images, length):
    """The released loop for a query in image 0: the images after it, chunk by chunk."""
    interval = max(1, images // (length - 1))
    missing, chunks = set(range(1, images)), []
    start, end = 1, min((length - 2) * interval + 1, images - 1)
    while missing:
        chunk, image = [], start
        while image <= end:
            chunk.append(image)
            image += interval
        chunks.append((0, *chunk))
        missing -= set(chunk)
        start += 1
        end = min(start + (length - 2) * interval, images - 1)
    return chunks


def flat(groups):
    return [chunk.images for group in groups for chunk in group]


def test_the_published_chunks():
    for images, length in SIZES:
        found, expected = flat(chunk_groups(images, 0, length)), published(images, length)
        assert sorted(found) == sorted(expected), (images, length)


def test_the_order_within_a_group_is_that_of_the_published_loop():
    for images, length in SIZES:
        expected = published(images, length)
        for group in chunk_groups(images, 0, length):
            places = [expected.index(chunk.images) for chunk in group]
            assert places == sorted(places)


@pytest.mark.parametrize(("interleaved", "anchored"), [(True, True), (False, True), (False, False)])
def test_from_any_image_all_others_are_reached_by_chunks_that_fit(interleaved, anchored):
    for images, length in SIZES:
        for anchor in {0, 1, images // 2, images - 1}:
            groups = chunk_groups(images, anchor, length, interleaved=interleaved, anchored=anchored)
            chunks = flat(groups)
            assert {image for chunk in chunks for image in chunk[1:]} == set(range(images)) - {anchor}
            for chunk in chunks:
                assert 2 <= len(chunk) <= length
                assert all(image > chunk[0] for image in chunk[1:]) or all(image < chunk[0] for image in chunk[1:])
                assert list(chunk[1:]) == sorted(chunk[1:], reverse=chunk[1] < chunk[0])
                assert chunk[0] == anchor or not anchored


@pytest.mark.parametrize(("interleaved", "anchored"), [(True, True), (False, True), (False, False)])
def test_no_image_is_in_two_groups(interleaved, anchored):
    for images, length in SIZES:
        groups = chunk_groups(images, images // 3, length, interleaved=interleaved, anchored=anchored)
        held = [{image for chunk in group for image in chunk.images[1:]} for group in groups]
        assert sum(map(len, held)) == len(set().union(*held)) == images - 1


@pytest.mark.parametrize(("interleaved", "anchored"), [(True, True), (False, True), (False, False)])
def test_backward_mirrors_forward(interleaved, anchored):
    how = {"interleaved": interleaved, "anchored": anchored}
    for images, length in SIZES:
        forward = flat(chunk_groups(images, 0, length, **how))
        backward = flat(chunk_groups(images, images - 1, length, **how))
        assert [tuple(images - 1 - image for image in chunk) for chunk in backward] == forward
        both = flat(chunk_groups(2 * images - 1, images - 1, length, **how))
        later = [tuple(images - 1 + image for image in chunk) for chunk in forward]
        assert both == later + backward


def test_consecutive_chunks():
    assert flat(chunk_groups(8, 0, 4, interleaved=False)) == [(0, 1, 2, 3), (0, 4, 5, 6), (0, 7)]
    assert flat(chunk_groups(8, 0, 4, interleaved=False, anchored=False)) == [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7)]
    found = flat(chunk_groups(6, 3, 3, interleaved=False, anchored=False))
    assert found == [(3, 4, 5), (3, 2, 1), (1, 0)]


def test_one_image_needs_no_chunk():
    assert chunk_groups(1, 0, 6) == ()
    assert chunk_groups(1, 0, 6, interleaved=False, anchored=False) == ()


def test_what_cannot_be_chunked_is_refused():
    for anchor in (-1, 8):
        with pytest.raises(InvalidInputError, match=rf"^image {anchor} is outside 0 to 7\.$"):
            chunk_groups(8, anchor, 4)
    with pytest.raises(InvalidInputError, match=r"^a chunk needs at least 2 images; got 1\.$"):
        chunk_groups(8, 0, 1)
    with pytest.raises(InvalidInputError, match="interleaved chunks need the anchor in each"):
        chunk_groups(8, 0, 4, anchored=False)


def test_shared_chunks_let_every_anchor_meet_every_image():
    random = np.random.default_rng(0)
    for images, length in SIZES:
        for count in {1, 2, 3, images // 2, images} - {0}:
            anchors = sorted(random.choice(images, min(count, images), replace=False).tolist())
            chunks = shared_chunks(images, anchors, length)
            assert {pair for chunk in chunks for pair in chunk.pairs()} == {
                (anchor, image) for anchor in anchors for image in range(images) if image != anchor
            }
            for chunk in chunks:
                assert 2 <= len(chunk.images) <= length
                assert list(chunk.images) == sorted(set(chunk.images))
                assert chunk.anchors == tuple(image for image in chunk.images if image in anchors)


def test_shared_chunks_are_few():
    for images, length in ((49, 6), (100, 6), (49, 13)):
        for anchors in (range(images), range(0, images, 5), (0, images // 2)):
            shared = shared_chunks(images, anchors, length)
            apart = [chunk for anchor in anchors for chunk in flat(chunk_groups(images, anchor, length))]
            assert len(shared) < 0.7 * len(apart)


def test_shared_chunks_of_what_is_not_there():
    assert shared_chunks(5, [], 6) == shared_chunks(1, [0], 6) == ()
    with pytest.raises(InvalidInputError, match=r"^image 8 is outside 0 to 7\.$"):
        shared_chunks(8, [0, 8], 4)
    with pytest.raises(InvalidInputError, match=r"^a chunk needs at least 2 images; got 1\.$"):
        shared_chunks(8, [0], 1)


def test_chunks_that_do_not_overlap_are_the_fewest():
    for images, length in SIZES:
        for anchor in {0, images // 3, images - 1}:
            chunks = flat(chunk_groups(images, anchor, length, overlapping=False))
            held = [image for chunk in chunks for image in chunk[1:]]
            assert sorted(held) == [image for image in range(images) if image != anchor]
            assert all(chunk[0] == anchor and len(chunk) <= length for chunk in chunks)
            sides = (anchor, images - 1 - anchor)
            assert len(chunks) == sum(-(-side // (length - 1)) for side in sides)
