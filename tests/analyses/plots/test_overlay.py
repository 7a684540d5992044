"""What is drawn is where the tracks say, in the colours that the docstrings say, and nothing else changes."""

import numpy as np
import pytest

from analyses.plots.colours import start_colours
from analyses.plots.overlay import draw_tracks, drawn_images, overlay_strip, viewing_scale
from store.errors import InvalidInputError
from store.tracks.point_tracks import PointTracks

GREY = np.full((5, 40, 60, 3), 90, np.uint8)
DARK, WHITE = (20, 22, 28), (255, 255, 255)


def moving(step=8.0, hidden=(), points=1, asked=0):
    """Points that start at (10.5, 10.5), (10.5, 25.5) ... and move to the right."""
    tracks = np.zeros((5, points, 2))
    tracks[..., 0] = 10.5 + step * (np.arange(5)[:, None] - asked)
    tracks[..., 1] = 10.5 + 15 * np.arange(points)
    visibility = np.ones((5, points), bool)
    for image, point in hidden:
        visibility[image, point] = False
    queries = np.concatenate([np.full((points, 1), asked), tracks[asked]], axis=1)
    return PointTracks(queries, tracks, visibility, visibility.astype(float))


def colour_of(x, y):
    """That of a point that starts there."""
    return tuple(start_colours([[x, y]], 40, 60)[0].tolist())


def at(picture, x, y):
    return tuple(picture[int(y), int(x)].tolist())


def distances(height, width, x, y):
    """Of pixel centres from a point."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.hypot(columns - x, rows - y)


def test_a_visible_point_is_a_disc_with_a_dark_edge_and_a_white_one_where_it_was_asked_for():
    tracks = moving()
    drawn = draw_tracks(GREY, tracks, trail=0, radius=10, scale=4)
    colour = colour_of(10.5, 10.5)
    for image in range(5):
        x, y = tracks.tracks[image, 0] * 4
        away = distances(160, 240, x, y)
        assert (drawn[image][away < 9] == colour).all()
        assert (drawn[image][(away > 11) & (away < 12)] == (WHITE if image == 0 else DARK)).all()
        assert (drawn[image][away > 14.5] == 90).all()


def test_a_hidden_point_is_hollow():
    drawn = draw_tracks(GREY, moving(hidden=[(2, 0)]), trail=0, radius=10, scale=4)
    x, y = 4 * (10.5 + 16), 42.0
    away = distances(160, 240, x, y)
    assert (drawn[2][away < 6] == 90).all()
    assert (drawn[2][(away > 8) & (away < 9)] == colour_of(10.5, 10.5)).all()
    assert (drawn[2][(away > 11) & (away < 12)] == DARK).all()
    assert (drawn[2][away > 14.5] == 90).all()


def test_edges_are_smooth():
    drawn = draw_tracks(GREY[:1], PointTracks.still(np.array([[0, 30.0, 20.0]]), 1), radius=8)
    edge = drawn[0, 20, :, 0].astype(int)
    mixed = (edge > 90) & (edge < 255)
    assert mixed.any()


def test_the_trail_covers_the_images_that_were_asked_for_and_no_more():
    tracks = moving()
    drawn = draw_tracks(GREY, tracks, trail=2, radius=4, scale=4)
    middles = [4 * (10.5 + 8 * (image - 0.5)) for image in range(1, 5)]
    assert at(drawn[4], middles[3], 42) == colour_of(10.5, 10.5)
    assert at(drawn[4], middles[2], 42) != (90, 90, 90)
    assert at(drawn[4], middles[1], 42) == (90, 90, 90)
    assert at(drawn[2], middles[2], 42) == (90, 90, 90)  # what is still to come
    bare = draw_tracks(GREY, tracks, trail=0, radius=4, scale=4)
    assert at(bare[4], middles[3], 42) == (90, 90, 90)


def thickness(drawn, image, segment):
    """Coloured pixels above and below the middle of a step, at a scale of 4."""
    return int((drawn[image][:, int(4 * (10.5 + 8 * (segment - 0.5)))] != 90).any(-1).sum())


def test_the_trail_thins_with_age():
    drawn = draw_tracks(GREY, moving(), trail=4, radius=4, scale=4)
    widths = [thickness(drawn, 4, segment) for segment in (1, 2, 3, 4)]
    assert widths == sorted(widths)
    assert 0 < widths[0] < widths[-1]


def test_the_trail_is_broken_where_the_point_was_hidden():
    drawn = draw_tracks(GREY, moving(hidden=[(2, 0)]), trail=4, radius=4, scale=4)
    assert [thickness(drawn, 4, segment) > 0 for segment in (1, 2, 3, 4)] == [True, False, False, True]
    assert [thickness(drawn, 3, segment) > 0 for segment in (1, 2)] == [True, False]


@pytest.mark.parametrize(
    ("options", "joined"), [({}, False), ({"jump": 0.28}, True), ({"jump": 0.27}, False), ({"jump": np.inf}, True)]
)
def test_the_trail_is_broken_where_the_point_jumps(options, joined):
    """From x = 26.5 to 46.5 in an image whose diagonal is 72.1: 0.277 of it; all other steps are 0.111."""
    tracks = moving()
    tracks.tracks[3:, 0, 0] += 12
    drawn = draw_tracks(GREY, tracks, trail=4, radius=4, scale=4, **options)
    middles = (4 * 14.5, 4 * 22.5, 4 * 36.5, 4 * 50.5)
    assert [at(drawn[4], x, 42) != (90, 90, 90) for x in middles] == [True, True, joined, True]
    shorter = draw_tracks(GREY, tracks, trail=4, radius=4, scale=4, jump=0.11)
    assert all(at(shorter[4], x, 42) == (90, 90, 90) for x in middles)


def test_the_colour_stays_that_of_the_start():
    two = draw_tracks(GREY, moving(points=2), trail=0, radius=4)
    for image in (0, 4):
        assert at(two[image], 10.5 + 8 * image, 10.5) == colour_of(10.5, 10.5)
        assert at(two[image], 10.5 + 8 * image, 25.5) == colour_of(10.5, 25.5)


def test_points_of_later_queries_are_marked_in_their_own_image():
    drawn = draw_tracks(GREY, moving(asked=2, step=4.0), trail=0, radius=10, scale=4)
    for image in range(5):
        edge = at(drawn[image], 4 * (10.5 + 4 * (image - 2)) + 11.5, 42)
        assert edge == (WHITE if image == 2 else DARK)


def test_images_are_enlarged_pixel_by_pixel_and_the_input_stays():
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 7, 3), dtype=np.uint8)
    before = images.copy()
    empty = PointTracks.still(np.zeros((0, 3)), 3)
    drawn = draw_tracks(images, empty, scale=3)
    np.testing.assert_array_equal(drawn, images.repeat(3, axis=1).repeat(3, axis=2))
    assert drawn.dtype == np.uint8
    tracks = PointTracks.still(np.array([[0, 3.5, 3.5]]), 3)
    drawn = draw_tracks(images, tracks)
    drawn[:] = 0
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(tracks.tracks, np.full((3, 1, 2), 3.5))
    read_only = images.copy()
    read_only.setflags(write=False)
    draw_tracks(read_only[:, ::-1], tracks)


def test_large_images_and_points_outside_are_drawn():
    images = np.zeros((2, 720, 1280, 3), np.uint8)
    queries = np.array([[0, 640.0, 360.0], [0, 5.0, 5.0]])
    tracks = PointTracks.still(queries, 2)
    tracks.tracks[1, 1] = (-4000.0, 9000.0)
    drawn = draw_tracks(images, tracks)
    assert at(drawn[0], 640, 360) == WHITE  # the colour of the centre
    assert [at(drawn[1], 640 - away, 360) for away in (9, 12, 16)] == [WHITE, DARK, (0, 0, 0)]  # 720 / 70 px


def test_images_come_one_at_a_time_too():
    tracks = moving()
    one_by_one = drawn_images(GREY, tracks, scale=2)
    assert iter(one_by_one) is one_by_one
    np.testing.assert_array_equal(np.stack(list(one_by_one)), draw_tracks(GREY, tracks, scale=2))


def test_a_strip_holds_evenly_spaced_images_and_says_which():
    tracks = moving()
    drawn = draw_tracks(GREY, tracks, scale=2)
    strip = overlay_strip(GREY, tracks, 3, scale=2)
    assert strip.shape == (80 + 18, 3 * 120 + 2 * 4, 3)
    for place, image in enumerate((0, 2, 4)):
        np.testing.assert_array_equal(strip[:80, place * 124 : place * 124 + 120], drawn[image])
        label = strip[80:, place * 124 : place * 124 + 120]
        background = DARK if image == 0 else WHITE
        assert at(label, 100, 9) == background
        assert (label != background).any()  # the number
    assert (strip[:, 120:124] == 255).all()
    assert overlay_strip(GREY, tracks, 9).shape == (58, 5 * 60 + 4 * 4, 3)
    assert overlay_strip(GREY[:1], PointTracks.still(tracks.queries, 1)).shape == (58, 60, 3)


def test_small_clips_are_shown_large():
    assert [viewing_scale(*size) for size in ((40, 60), (320, 320), (319, 900), (1, 1))] == [8, 1, 2, 320]


def test_bad_input_is_refused():
    tracks = moving()
    for text, options in (
        ("scale must be a whole number, at least 1; got 0", {"scale": 0}),
        ("scale must be an int; got 1.5", {"scale": 1.5}),
        ("trail must be at least 0 images; got -1", {"trail": -1}),
        ("jump must be at least 0, a share of the diagonal of the image; got -0.1", {"jump": -0.1}),
        ("jump must be a number; got nan", {"jump": float("nan")}),
        ("radius must be a positive number of pixels; got 0", {"radius": 0}),
    ):
        with pytest.raises(InvalidInputError) as caught:
            draw_tracks(GREY, tracks, **options)
        assert str(caught.value) == f"{text}."
    with pytest.raises(InvalidInputError, match="images are 4, but the tracks have 5 images"):
        drawn_images(GREY[:4], tracks)
    with pytest.raises(InvalidInputError, match="uint8"):
        draw_tracks(GREY / 255, tracks)
    with pytest.raises(InvalidInputError, match="count must be at least 1; got 0"):
        overlay_strip(GREY, tracks, 0)
