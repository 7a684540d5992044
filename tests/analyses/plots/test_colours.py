"""Colours turn around the centre, pale towards it, and are light; the plot and the video of a clip share them."""

import colorsys

import numpy as np
import pytest

from analyses.plots.colours import start_colours
from analyses.plots.overlay import draw_tracks
from analyses.plots.tracks import plot_tracks
from store.tracks.point_tracks import PointTracks


def hue_and_saturation(points):
    """Of points in an image of 40 x 60 px."""
    return np.array([colorsys.rgb_to_hsv(*colour)[:2] for colour in start_colours(points, 40, 60) / 255])


def test_colours_turn_around_the_centre():
    right, below, left, above = hue_and_saturation([[60, 20], [30, 40], [0, 20], [30, 0]])[:, 0]
    np.testing.assert_allclose([right, below, left, above], [0, 0.25, 0.5, 0.75], atol=0.01)


def test_colours_pale_towards_the_centre():
    saturation = hue_and_saturation([[30, 20], [36, 20], [45, 20], [60, 20]])[:, 1]
    assert (np.diff(saturation) > 0).all()
    assert (saturation[0], saturation[-1]) == (0, pytest.approx(0.8, abs=0.01))


def test_every_colour_shows_on_a_dark_edge():
    """Contrast as WCAG 2 defines it, with the true sRGB curve, to the edge of the discs; full blue has 2.2."""

    def luminance(colours):
        parts = np.asarray(colours) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    y, x = np.mgrid[0:41:2, 0:61:2]
    colours = start_colours(np.stack([x.ravel(), y.ravel()], -1), 40, 60)
    assert (luminance(colours) + 0.05).min() / (luminance([20, 22, 28]) + 0.05) > 4.5
    assert len(np.unique(colours, axis=0)) > 300


def test_starts_outside_have_the_colour_of_their_direction_and_unknown_ones_are_white():
    found = start_colours([[90.0, 20.0], [60.0, 20.0], [np.nan, 4.0]], 40, 60)
    assert found.tolist() == [[255, 51, 51], [255, 51, 51], [255, 255, 255]]
    assert start_colours(np.zeros((0, 2)), 40, 60).shape == (0, 3)


def test_a_point_has_one_colour_in_the_plot_and_in_the_video():
    """Asked for in images 0 and 2, and elsewhere in image 0 in the second case."""
    queries = np.array([[0, 12.5, 8.5], [2, 44.5, 30.5], [2, 50.5, 6.5]])
    tracks = PointTracks.still(queries, 3)
    tracks.tracks[0, 1] = (8.5, 30.5)
    images = np.full((3, 40, 60, 3), 90, np.uint8)
    plotted = plot_tracks(images, tracks).frames[2].data[-1].marker.color
    drawn = draw_tracks(images, tracks, trail=0, radius=4, scale=4)[2]
    for (_, x, y), colour in zip(queries, plotted, strict=True):
        red, green, blue = drawn[int(4 * y), int(4 * x)]
        assert colour == f"rgb({red},{green},{blue})"
