"""Latent-frame tracks at image rate, and accuracy."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from analyses.correspondence.resampling import to_image_rate
from analyses.metrics.accuracy import matching_accuracy
from store.errors import InvalidInputError
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 5, 7, 60, 140, 9)


def random_tracks(frames: int = 3) -> torch.Tensor:
    return torch.randn(frames, 6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("layout", "images"),
    [
        (LAYOUT, 9),
        (LAYOUT, 17),
        (TokenLayout(3, 5, 7, 60, 140, 7, spans=[range(2), range(2, 4), range(4, 7)]), 7),
    ],
)
def test_exact_is_linear_between_frame_centres(layout: TokenLayout, images: int) -> None:
    tracks = random_tracks().numpy()
    centres = layout.frame_centres * (images - 1) / (layout.images - 1)
    expected = np.empty((images, 6, 2))
    for point in range(6):
        for axis in range(2):
            expected[:, point, axis] = np.interp(np.arange(images), centres, tracks[:, point, axis])
    np.testing.assert_allclose(to_image_rate(tracks, layout, images), expected, atol=1e-12)


@pytest.mark.parametrize("images", [2, 9, 13])
def test_difftrack_is_half_sample_linear_resampling(images: int) -> None:
    tracks = random_tracks()
    series = tracks.permute(1, 2, 0).reshape(1, 12, 3)
    expected = F.interpolate(series, size=images, mode="linear", align_corners=False)
    expected = expected.reshape(6, 2, images).permute(2, 0, 1)
    torch.testing.assert_close(to_image_rate(tracks, LAYOUT, images, "difftrack"), expected)


@pytest.mark.parametrize("preset", ["exact", "difftrack"])
def test_static_points_stay_and_heads_may_lead(preset: str) -> None:
    point = torch.rand(1, 6, 2) * 77
    assert torch.equal(to_image_rate(point.expand(3, -1, -1), LAYOUT, 9, preset), point.expand(9, -1, -1))
    heads = torch.stack([random_tracks(), 2 * random_tracks()])
    assert torch.equal(to_image_rate(heads, LAYOUT, 9, preset)[1], to_image_rate(heads[1], LAYOUT, 9, preset))


def test_one_frame_holds_for_every_image() -> None:
    layout = TokenLayout(1, 5, 7, 60, 140, 4, spans=[range(4)])
    tracks = random_tracks(1)
    assert torch.equal(to_image_rate(tracks, layout, 4), tracks.expand(4, -1, -1))
    assert torch.equal(to_image_rate(tracks, layout, 4, "difftrack"), tracks.expand(4, -1, -1))


def test_to_images_refuses() -> None:
    for call, message in [
        (
            lambda: to_image_rate(random_tracks(4), LAYOUT, 9),
            "tracks need the shape (frame, point, 2) with 3 frames; got (4, 6, 2).",
        ),
        (lambda: to_image_rate(random_tracks(), LAYOUT, 0), "images must be at least 1; got 0."),
        (
            lambda: to_image_rate(random_tracks(), LAYOUT, 9, "linear"),
            "unknown preset 'linear'. Known: 'exact', 'difftrack'.",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message


def test_accuracy_counts_visible_pairs_strictly_below_the_threshold() -> None:
    tracks = np.zeros((3, 4, 2))
    predicted = np.zeros((3, 4, 2))
    predicted[:, :, 0] = np.array([[0, 8.0, 7.999, 20], [0, 0, 9, 9], [1, 9, 0, 0]])
    visibility = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [1, 0, 0, 0]], dtype=bool)
    tracks[2, 3] = np.nan
    # Visible: 0, 8.0, 7.999, 20 | 0, 9 | 1, of which 0, 7.999, 0 and 1 are below 8.
    assert matching_accuracy(predicted, tracks, visibility) == pytest.approx(100 * 4 / 7)
    assert matching_accuracy(predicted, tracks, visibility, threshold=8.001) == pytest.approx(100 * 5 / 7)


def test_accuracy_of_nothing_visible_is_nan() -> None:
    tracks = torch.zeros(3, 4, 2)
    assert math.isnan(matching_accuracy(tracks, tracks, torch.zeros(3, 4, dtype=torch.bool)))


def test_accuracy_refuses() -> None:
    tracks, seen = torch.zeros(3, 4, 2), torch.ones(3, 4, dtype=torch.bool)
    hole = tracks.clone()
    hole[1, 2] = math.nan
    for call, message in [
        (
            lambda: matching_accuracy(tracks[:2], tracks, seen),
            "predicted and tracks need the same shape (image, point, 2); got (2, 4, 2) and (3, 4, 2).",
        ),
        (
            lambda: matching_accuracy(tracks, tracks, seen.T),
            "visibility needs the shape (image, point) = (3, 4); got (4, 3).",
        ),
        (
            lambda: matching_accuracy(tracks[0], tracks[0], seen),
            "tracks need the shape (image, point, 2); got (4, 2).",
        ),
        (
            lambda: matching_accuracy(tracks, hole, seen),
            "a visible point has a track or a prediction that is not finite. Mark it as hidden.",
        ),
        (
            lambda: matching_accuracy(tracks, tracks, seen, threshold=0),
            "threshold must be a positive number of pixels; got 0.",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message
