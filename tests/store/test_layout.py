import numpy as np
import pytest
import torch

from store import TokenLayout
from store.errors import InvalidInputError

LAYOUT = TokenLayout(3, 5, 7, 80, 84, 9)  # cells of 16 x 12 px, so that an axis swap changes every number


def test_cell_size_is_height_then_width():
    assert LAYOUT.cell_size == (16.0, 12.0)
    assert LAYOUT.video_tokens == 3 * 5 * 7


def test_points_and_cells_are_inverse_and_keep_integers_at_cell_centres():
    points = np.array([[6.0, 24.0], [83.0, 0.5], [-30.0, 100.0]])
    cells = LAYOUT.to_cells(points)
    np.testing.assert_allclose(cells, [[0, 1], [83 / 12 - 0.5, 0.5 / 16 - 0.5], [-3.0, 5.75]])
    np.testing.assert_allclose(LAYOUT.to_pixels(cells), points)


def test_preset_difftrack_divides_only():
    np.testing.assert_allclose(LAYOUT.to_cells(np.array([[6.0, 24.0]]), preset="difftrack"), [[0.5, 1.5]])
    np.testing.assert_allclose(LAYOUT.to_pixels(np.array([[0.5, 1.5]]), preset="difftrack"), [[6.0, 24.0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_in_torch_out(dtype):
    cells = LAYOUT.to_cells(torch.tensor([[6.0, 24.0]], dtype=dtype))
    assert cells.dtype == dtype
    assert cells.tolist() == [[0.0, 1.0]]


def test_integer_points_become_floats():
    assert LAYOUT.to_cells(np.array([[6, 24]])).tolist() == [[0.0, 1.0]]
    assert LAYOUT.to_cells(torch.tensor([[6, 24]])).tolist() == [[0.0, 1.0]]


def test_cell_at_is_y_then_x_and_holds_the_border():
    assert LAYOUT.cell_at([[13.0, 33.0], [84.0, 80.0], [0.0, 0.0]]).tolist() == [[2, 1], [4, 6], [0, 0]]


def test_causal_spans():
    assert [LAYOUT.images_of(frame) for frame in range(3)] == [range(1), range(1, 5), range(5, 9)]
    assert [LAYOUT.frame_of(image) for image in range(9)] == [0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert LAYOUT.frame_centres.tolist() == [0.0, 2.5, 6.5]


def test_spans_may_be_stated():
    layout = TokenLayout(2, 5, 7, 80, 84, 6, spans=[range(2), range(2, 6)])
    assert layout.images_of(1) == range(2, 6)
    assert layout == TokenLayout(2, 5, 7, 80, 84, 6, spans=(range(2), range(2, 6)))


BAD = [
    (lambda: TokenLayout(0, 5, 7, 80, 84, 9), "frames must be at least 1; got 0."),
    (lambda: TokenLayout(3, 5, 7, 80, 84, 9, text_tokens=-1), "text_tokens must not be negative; got -1."),
    (
        lambda: TokenLayout(3, 5, 7, 80, 84, 8),
        "8 images do not divide into image 0 and 2 equal spans. Pass spans: one range of images per frame.",
    ),
    (
        lambda: TokenLayout(1, 5, 7, 80, 84, 8),
        "1 frame cannot cover 8 images without spans. Pass spans=[range(0, 8)].",
    ),
    (
        lambda: TokenLayout(3, 5, 7, 80, 84, 9, spans=[range(9)]),
        "spans needs one range per frame: 3 frames, 1 spans.",
    ),
    (
        lambda: TokenLayout(1, 5, 7, 80, 84, 9, spans=[range(10)]),
        "span range(0, 10) does not lie within images 0 to 8.",
    ),
    (lambda: LAYOUT.images_of(3), "frame 3 is outside 0 to 2."),
    (lambda: LAYOUT.frame_of(9), "image 9 is covered by no frame of this layout (images 0 to 8)."),
    (
        lambda: LAYOUT.to_cells(np.zeros((2, 3))),
        "points need (x, y) on the last axis; got shape (2, 3).",
    ),
    (
        lambda: LAYOUT.to_pixels(np.zeros((2, 2)), preset="wrong"),
        "unknown preset 'wrong'. Known: 'exact', 'difftrack'.",
    ),
    (
        lambda: LAYOUT.check_inside([[1.0, 2.0], [84.5, 3.0]]),
        "point 1 at (x, y) = (84.5, 3) is outside the image of 80 x 84 px (height x width).",
    ),
    (
        lambda: LAYOUT.cell_at([[1.0, np.nan]]),
        "point 0 is not finite: (x, y) = (1.0, nan).",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_bad_input(call, message):
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert str(caught.value) == message
