"""What holds for every layout, whatever its sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from store import Selection, TokenLayout


@st.composite
def layouts(draw: st.DrawFn) -> TokenLayout:
    frames, stride = draw(st.integers(2, 6)), draw(st.integers(1, 8))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    dy, dx = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    return TokenLayout(frames, height, width, height * dy, width * dx, 1 + stride * (frames - 1))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(layouts(), st.floats(0, 1), st.floats(0, 1))
def test_points_come_back_from_cells_and_lie_in_their_cell(layout: TokenLayout, across: float, down: float) -> None:
    point = np.array([across * layout.pixel_width, down * layout.pixel_height])
    for preset in ("exact", "difftrack"):
        np.testing.assert_allclose(layout.to_pixels(layout.to_cells(point, preset), preset), point, atol=1e-9)
    y, x = layout.cell_at(point)
    assert 0 <= y < layout.height
    assert 0 <= x < layout.width
    near_x, near_y = layout.to_cells(point)
    assert abs(near_x - x) <= 0.5 + 1e-9
    assert abs(near_y - y) <= 0.5 + 1e-9


@settings(deadline=None, derandomize=True, max_examples=50)
@given(layouts())
def test_every_image_belongs_to_exactly_one_frame(layout: TokenLayout) -> None:
    owners = [layout.frame_of(image) for image in range(layout.images)]
    assert owners == sorted(owners)
    for frame in range(layout.frames):
        assert [image for image, owner in enumerate(owners) if owner == frame] == list(layout.images_of(frame))
    assert (np.diff(layout.frame_centres) > 0).all()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.lists(st.integers(-10, 9), min_size=1), st.lists(st.integers(-6, 5), min_size=1))
def test_a_selection_is_ascending_unique_and_within_range(steps: list[int], layers: list[int]) -> None:
    found = Selection(steps, layers).resolve(6, 10, 4)
    assert list(found.steps) == sorted({step % 10 for step in steps})
    assert list(found.layers) == sorted({layer % 6 for layer in layers})
