"""Matching raw patches: planted shifts, cosines by hand, and what is rejected."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from analyses import match_patches
from store.errors import InvalidInputError
from store.layout import TokenLayout

HEIGHT, WIDTH, HIGH, WIDE = 5, 7, 4, 6
# Cells of 4 x 6 pixels: an axis swapped anywhere moves something.
LAYOUT = TokenLayout(3, HEIGHT, WIDTH, HEIGHT * HIGH, WIDTH * WIDE, 3)


def noise(count: int, seed: int = 0) -> np.ndarray:
    """(image, y, x, 3) uint8 in which no two cells are alike."""
    return np.random.default_rng(seed).integers(0, 256, (count, HEIGHT * HIGH, WIDTH * WIDE, 3), np.uint8)


def centres() -> np.ndarray:
    """(point, 2): the centres of all cells, row by row."""
    return np.array([[WIDE * (x + 0.5), HIGH * (y + 0.5)] for y in range(HEIGHT) for x in range(WIDTH)])


def shifted(image: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """The image moved by (x, y) cells; what leaves on one side comes in on the other."""
    return np.roll(image, (HIGH * cells[1], WIDE * cells[0]), axis=(0, 1))


def wrapped(points: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    return (points + np.multiply(cells, (WIDE, HIGH))) % (WIDTH * WIDE, HEIGHT * HIGH)


def patch(image: np.ndarray, y: int, x: int) -> np.ndarray:
    """The pixels of a cell, written out one by one, from -1 to 1."""
    rows, columns = range(HIGH * y, HIGH * (y + 1)), range(WIDE * x, WIDE * (x + 1))
    return np.array(
        [image[row, column, colour] / 127.5 - 1 for row in rows for column in columns for colour in range(3)]
    )


def best_cell(first: np.ndarray, later: np.ndarray, y: int, x: int) -> tuple[int, int]:
    """(x, y) of the cell of a later image whose pixels point most the same way."""
    query, cosines = patch(first, y, x), {}
    for to_y in range(HEIGHT):
        for to_x in range(WIDTH):
            key = patch(later, to_y, to_x)
            cosines[to_x, to_y] = float(query @ key) / np.sqrt(float(query @ query) * float(key @ key))
    return max(cosines, key=lambda cell: cosines[cell])


def test_planted_shifts_are_found() -> None:
    (first,) = noise(1)
    points, shifts = centres(), ((2, -1), (-3, 2))
    found = match_patches(np.stack([first, *(shifted(first, cells) for cells in shifts)]), points, LAYOUT)
    assert (found.shape, found.dtype) == ((3, HEIGHT * WIDTH, 2), np.float64)
    np.testing.assert_array_equal(found[0], points)
    for frame, cells in enumerate(shifts, 1):
        np.testing.assert_allclose(found[frame], wrapped(points, cells))


def test_any_points_agree_with_cosines_by_hand() -> None:
    smooth = np.random.default_rng(3).uniform(0, 255, (3, HEIGHT * HIGH // 2, WIDTH * WIDE // 2, 3))
    images = smooth.repeat(2, axis=1).repeat(2, axis=2).astype(np.uint8)
    generator = np.random.default_rng(4)
    points = generator.uniform(0, 1, (20, 2)) * (WIDTH * WIDE, HEIGHT * HIGH)
    points = np.concatenate([points, [[0.0, 0.0], [WIDTH * WIDE, HEIGHT * HIGH], [0.5, HEIGHT * HIGH - 0.5]]])
    found = match_patches(images, points, LAYOUT)
    # displacements at the centres of the cells, read between them; beyond the outer centres as at them
    place = (points[:, 1] / HIGH - 0.5, points[:, 0] / WIDE - 0.5)
    for frame in (1, 2):
        moved = np.zeros((HEIGHT, WIDTH, 2))
        for y, x in np.ndindex(HEIGHT, WIDTH):
            to_x, to_y = best_cell(images[0], images[frame], y, x)
            moved[y, x] = WIDE * (to_x - x), HIGH * (to_y - y)
        assert len(np.unique(moved.reshape(-1, 2), axis=0)) > 10
        expected = points + np.stack(
            [map_coordinates(moved[..., axis], place, order=1, mode="nearest") for axis in (0, 1)], -1
        )
        np.testing.assert_allclose(found[frame], expected, atol=1e-9)


def test_contrast_does_not_count() -> None:
    """The same pattern at a third of the contrast wins over another one whose inner product is larger."""
    images = noise(3).astype(float)
    pattern = np.random.default_rng(7).choice([-1.0, 1.0], (HIGH, WIDE, 3))
    other = pattern.copy()
    other[:, : WIDE // 6] *= -1
    images[0, :HIGH, :WIDE] = 127.5 + 40.5 * pattern
    for image in (1, 2):
        images[image, HIGH : 2 * HIGH, 2 * WIDE : 3 * WIDE] = 127.5 + 13.5 * pattern
        images[image, 3 * HIGH : 4 * HIGH, 5 * WIDE : 6 * WIDE] = 127.5 + 127.5 * other
    images = images.astype(np.uint8)
    query, faint, strong = patch(images[0], 0, 0), patch(images[1], 1, 2), patch(images[1], 3, 5)
    assert query @ strong > 3 * (query @ faint)
    found = match_patches(images, np.array([[WIDE / 2, HIGH / 2]]), LAYOUT)
    np.testing.assert_allclose(found[1:], [[[2.5 * WIDE, 1.5 * HIGH]]] * 2)


def test_of_equal_patches_one_is_found_and_a_plain_clip_gives_cells() -> None:
    (first,) = noise(1)
    twice = shifted(first, (1, 1))
    twice[:HIGH, :WIDE] = twice[3 * HIGH : 4 * HIGH, 2 * WIDE : 3 * WIDE] = first[HIGH : 2 * HIGH, WIDE : 2 * WIDE]
    found = match_patches(np.stack([first, twice, twice]), np.array([[1.5 * WIDE, 1.5 * HIGH]]), LAYOUT)
    equal = [[0.5, 0.5], [2.5, 3.5], [2.5, 2.5]]  # the two copies, and the shifted one itself
    for frame in (1, 2):
        assert (found[frame, 0] / (WIDE, HIGH)).tolist() in equal
    for value in (0, 127, 255):
        plain = match_patches(np.full_like(noise(3), value), centres(), LAYOUT)
        cells = plain / (WIDE, HIGH) - 0.5
        np.testing.assert_allclose(cells, np.round(cells), atol=1e-9)
        assert ((plain >= 0) & (plain <= (WIDTH * WIDE, HEIGHT * HIGH))).all()


@pytest.mark.parametrize(
    ("images", "spans", "middle"), [(9, None, (0, 2, 6)), (7, ((0, 2), (2, 5), (5, 7)), (0, 3, 5))]
)
def test_a_frame_of_several_images_is_its_middle_one(
    images: int, spans: tuple[tuple[int, int], ...] | None, middle: tuple[int, ...]
) -> None:
    layout = TokenLayout(
        3, HEIGHT, WIDTH, HEIGHT * HIGH, WIDTH * WIDE, images, spans=spans and [range(*span) for span in spans]
    )
    clip, points, shifts = noise(images), centres(), ((0, 0), (1, 2), (3, -1))
    for image, cells in zip(middle, shifts, strict=True):
        clip[image] = shifted(clip[middle[0]], cells)
    found = match_patches(clip, points, layout)
    for frame, cells in enumerate(shifts):
        np.testing.assert_allclose(found[frame], wrapped(points, cells))


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (noise(2), "uint8 (2, 20, 42, 3)"),
        (noise(3).astype(np.float32), "float32 (3, 20, 42, 3)"),
        (noise(3).swapaxes(1, 2), "uint8 (3, 42, 20, 3)"),
        (noise(3)[..., :1], "uint8 (3, 20, 42, 1)"),
        (noise(3)[0], "uint8 (20, 42, 3)"),
    ],
)
def test_other_images_are_refused(images: np.ndarray, got: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        match_patches(images, centres(), LAYOUT)
    assert str(caught.value) == f"images need to be uint8 (3, 20, 42, 3) for this layout; got {got}."


def test_cells_of_broken_pixels_are_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        match_patches(noise(3), centres(), TokenLayout(3, 8, 7, HEIGHT * HIGH, WIDTH * WIDE, 3))
    assert str(caught.value) == (
        "patches need whole pixels; the cells of this layout are 2.5 x 6 px. Resize the clip to a multiple of 8 x 7 px."
    )


@pytest.mark.parametrize("point", [[42.5, 3.0], [3.0, -0.1], [np.nan, 3.0]])
def test_points_outside_the_image_are_refused(point: list[float]) -> None:
    with pytest.raises(InvalidInputError):
        match_patches(noise(3), np.array([point]), LAYOUT)
