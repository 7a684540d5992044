"""Losses against sums written out by hand, for every kind of prediction and every preset."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from guided import backbone_of

from generators.adapters.latent_tracks import LatentTracks, latent_times, latent_tracks, sample_foreground
from generators.adapters.motion_tracks import tracks_of
from generators.adapters.training.losses import denoising_loss, point_tracking_loss, tracking_weight
from probe.backbones.schedule import Schedule
from store import Clip, make_scene
from store.errors import ClipError, InvalidInputError

SIGNAL, NOISE = math.sqrt(0.3), math.sqrt(0.7)
SCHEDULES: dict[str, Any] = {
    "v_prediction": Schedule((800.0,), (SIGNAL, 1.0), (NOISE, 0.0), "v_prediction"),
    "epsilon": Schedule((800.0,), (SIGNAL, 1.0), (NOISE, 0.0), "epsilon"),
    "flow": Schedule((800.0,), (0.2, 1.0), (0.8, 0.0), "flow"),
    "sample": Schedule((800.0,), (SIGNAL, 1.0), (NOISE, 0.0), "sample"),
}


def tensors(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 3, 4, 5, 6, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("kind", list(SCHEDULES))
def test_target_is_the_prediction_that_gives_back_the_clean_latents(kind: str) -> None:
    schedule, (clean, noise, _) = SCHEDULES[kind], tensors()
    noised = schedule.noised(clean, noise, 0)
    assert torch.allclose(schedule.clean(noised, schedule.target(clean, noise, 0), 0), clean, atol=1e-5)


def test_oracle_targets() -> None:
    clean, noise, _ = tensors()
    assert torch.allclose(SCHEDULES["v_prediction"].target(clean, noise, 0), SIGNAL * noise - NOISE * clean)
    assert torch.equal(SCHEDULES["flow"].target(clean, noise, 0), noise - clean)
    assert torch.equal(SCHEDULES["epsilon"].target(clean, noise, 0), noise)
    assert torch.equal(SCHEDULES["sample"].target(clean, noise, 0), clean)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "flow"])
@pytest.mark.parametrize("preset", ["exact", "paper", "det"])
def test_oracle_denoising_loss(kind: str, preset: Any) -> None:
    schedule, (clean, noise, prediction) = SCHEDULES[kind], tensors()
    noised = schedule.noised(clean, noise, 0)
    if preset != "det":
        expected = np.mean((prediction - schedule.target(clean, noise, 0)).numpy() ** 2)
    else:
        implied = {
            "v_prediction": SIGNAL * noised - NOISE * prediction,
            "epsilon": (noised - NOISE * prediction) / SIGNAL,
            "flow": noised - 0.8 * prediction,
        }[kind]
        variance = 0.64 if kind == "flow" else 0.7
        expected = np.mean((implied - clean).numpy() ** 2) / variance
    assert float(denoising_loss(schedule, clean, noise, prediction, 0, preset=preset)) == pytest.approx(
        float(expected), rel=1e-5
    )


def test_released_denoising_loss_is_that_of_v_and_weights_that_of_noise() -> None:
    clean, noise, prediction = tensors()
    ratio = {}
    for kind in ("v_prediction", "flow", "epsilon"):
        exact, det = (
            denoising_loss(SCHEDULES[kind], clean, noise, prediction, 0, preset=preset) for preset in ("exact", "det")
        )
        ratio[kind] = float(det / exact)
    assert ratio["v_prediction"] == pytest.approx(1, rel=1e-4)
    assert ratio["flow"] == pytest.approx(1, rel=1e-4)
    assert ratio["epsilon"] == pytest.approx(1 / 0.3, rel=1e-4)


def test_clean_latents_of_predicted_noise_need_a_signal() -> None:
    schedule = Schedule((999.0,), (0.0, 1.0), (1.0, 0.0), "epsilon")
    clean, noise, prediction = tensors()
    with pytest.raises(InvalidInputError, match="no signal"):
        denoising_loss(schedule, clean, noise, prediction, 0, preset="det")


def some_tracks() -> LatentTracks:
    generator = torch.Generator().manual_seed(4)
    points = torch.rand(4, 7, 2, generator=generator) * torch.tensor([6.0, 5.0])
    return LatentTracks(points, torch.rand(4, 7, generator=generator) > 0.3, (5, 6))


@pytest.mark.parametrize("preset", ["exact", "paper", "det"])
@pytest.mark.parametrize("frame_axis", [1, 2])
def test_oracle_point_tracking_loss(preset: Any, frame_axis: int) -> None:
    latents, tracks = tensors(2)[0], some_tracks()  # (1, channel 3, frame 4, y 5, x 6)
    total, count = 0.0, 0
    for frame in range(3):
        for point in range(7):
            here, there = bool(tracks.visible[frame, point]), bool(tracks.visible[frame + 1, point])
            counts = there if preset == "det" else here and there
            if preset == "exact" and not counts:
                continue
            count += 1
            if counts:
                ends = [_value(latents, frame + k, tracks.points[frame + k, point].tolist(), preset) for k in (0, 1)]
                total += float(np.mean((ends[1] - ends[0]) ** 2))
    given = latents if frame_axis == 2 else latents.transpose(1, 2)
    found = float(point_tracking_loss(given, tracks, frame_axis=frame_axis, preset=preset))
    assert found == pytest.approx(total / count, rel=1e-4)


def _value(latents: torch.Tensor, frame: int, point: list[float], preset: str) -> np.ndarray:
    values, (x, y) = latents[0, :, frame].numpy(), point
    if preset != "exact":
        return np.asarray(values[:, min(int(y), 4), min(int(x), 5)])
    x, y = min(max(x - 0.5, 0), 5), min(max(y - 0.5, 0), 4)
    left, top = min(int(x), 4), min(int(y), 3)
    right, down = x - left, y - top
    rows = [values[:, top + k, left] * (1 - right) + values[:, top + k, left + 1] * right for k in (0, 1)]
    return np.asarray(rows[0] * (1 - down) + rows[1] * down)


def test_hidden_points_dilute_the_published_mean_alone() -> None:
    latents, tracks = tensors(2)[0], some_tracks()
    more = LatentTracks(
        torch.cat([tracks.points, tracks.points], 1),
        torch.cat([tracks.visible, torch.zeros_like(tracks.visible)], 1),
        (5, 6),
    )
    for preset, factor in (("exact", 1.0), ("paper", 0.5), ("det", 0.5)):
        one, both = (float(point_tracking_loss(latents, each, preset=preset)) for each in (tracks, more))  # type: ignore[arg-type]
        assert both == pytest.approx(factor * one, rel=1e-4)


def test_a_point_that_keeps_its_colour_costs_nothing() -> None:
    latents = torch.zeros(1, 3, 4, 5, 6)
    for frame in range(4):
        latents[0, :, frame, 2, frame + 1] = 1.0
    steps = torch.arange(4.0)
    points = torch.stack([steps + 1.5, torch.full((4,), 2.5)], -1)[:, None]
    seen = torch.ones(4, 1, dtype=torch.bool)
    for preset in ("exact", "paper", "det"):
        assert float(point_tracking_loss(latents, LatentTracks(points, seen, (5, 6)), preset=preset)) == 0  # type: ignore[arg-type]
    still = LatentTracks(points[:1].expand(4, 1, 2), seen, (5, 6))
    assert float(point_tracking_loss(latents, still)) > 0.1


def test_tracking_loss_refuses_latents_of_another_size() -> None:
    with pytest.raises(InvalidInputError, match="the tracks are of 4 latent frames of 5 x 6 cells"):
        point_tracking_loss(torch.zeros(1, 3, 4, 5, 7), some_tracks())


def test_tracking_weight_of_presets() -> None:
    schedule = Schedule((800.0, 400.0), (SIGNAL, 0.8, 1.0), (NOISE, 0.6, 0.0), "v_prediction")
    assert [tracking_weight(schedule, n, "paper") for n in (0, 1)] == [1.0, 1.0]
    assert [tracking_weight(schedule, n, "det") for n in (0, 1)] == [0.0, 1.0]
    assert tracking_weight(schedule, 0, "exact") == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("name", "images", "frames", "expected"),
    [("wan", 9, 3, [0.0, 2.5, 6.5]), ("cogvideox added", 9, 4, [0.0, 0.0, 2.5, 6.5]), ("mini", 3, 3, [0.0, 1.0, 2.0])],
)
def test_latent_frames_stand_for_the_mean_of_their_span(
    name: str, images: int, frames: int, expected: list[float]
) -> None:
    assert latent_times(backbone_of(name), images, frames).tolist() == expected


def test_oracle_tracks_in_latent_frames() -> None:
    backbone = backbone_of("wan")
    clip = Clip(np.zeros((9, 80, 112, 3), np.uint8), fps=8)
    image = np.arange(9.0)
    tracks = np.stack([10 + 8 * image, np.full(9, 40.0)], -1)[:, None]
    seen = np.ones((9, 1), bool)
    seen[7] = False
    latents = torch.zeros(1, 16, 3, 10, 14)
    exact = latent_tracks(backbone, latents, clip, tracks, seen)
    assert exact.points[:, 0, 0].tolist() == pytest.approx([10 / 8, 30 / 8, 62 / 8])
    assert exact.points[:, 0, 1].tolist() == [5.0, 5.0, 5.0]
    assert exact.visible[:, 0].tolist() == [True, True, False]  # images 6 and 7
    det = latent_tracks(backbone, latents, clip, tracks, seen, preset="det")
    assert det.points[:, 0, 0].tolist() == pytest.approx([10 / 8, 42 / 8, 74 / 8])  # images 0, 4, 8
    assert det.visible.all()


def test_thin_parts_of_a_mask_are_drawn_more_often() -> None:
    mask = np.zeros((30, 60), bool)
    mask[5:25, 5:25], mask[15, 25:55] = True, True
    drawn = sample_foreground(mask, 3000, seed=1)
    assert mask[drawn[:, 1].astype(int), drawn[:, 0].astype(int)].all()
    assert (drawn[:, 0] > 25).mean() > 3 * mask[:, 25:].sum() / mask.sum()


class TestBadInput:
    """Tracks and masks that do not fit the clip."""

    scene = make_scene(3, prompt="a red disc moves left over blue stripes")

    def test_a_visible_point_outside_the_image(self) -> None:
        tracks = np.array(self.scene.tracks)
        tracks[2, 0] = (300.0, 5.0)
        visibility = np.array(self.scene.visibility)
        visibility[2, 0] = True
        clip = Clip(self.scene.images, 8.0, tracks=tracks, visibility=visibility)
        with pytest.raises(InvalidInputError, match=r"point 0 is visible in image 2 at \(x, y\) = \(300, 5\)"):
            tracks_of(clip, backbone_of("mini"))

    def test_a_mask_of_another_size(self) -> None:
        with pytest.raises(ClipError, match="the mask has the shape"):
            tracks_of(self.scene, backbone_of("mini"), mask=np.ones((20, 20), bool))

    def test_an_empty_mask(self) -> None:
        with pytest.raises(ClipError, match="is empty"):
            tracks_of(self.scene, backbone_of("mini"), source="flow", mask=np.zeros((40, 40), bool))

    def test_no_tracks(self) -> None:
        with pytest.raises(ClipError, match="no tracks of its own"):
            tracks_of(Clip(self.scene.images, 8.0), backbone_of("mini"), source="clip")
        with pytest.raises(InvalidInputError, match="unknown source"):
            tracks_of(self.scene, backbone_of("mini"), source="elsewhere")  # type: ignore[arg-type]

    def test_optical_flow_and_a_tracker_follow_the_foreground(self) -> None:
        mask = np.zeros((40, 40), bool)
        mask[10:20, 10:20] = True
        for source in ("flow", _still):
            found = tracks_of(self.scene, backbone_of("mini"), source=source, mask=mask, points=8)  # type: ignore[arg-type]
            assert found.tracks.shape == (len(self.scene), 8, 2)
            assert (found.tracks[0] >= 10).all()
            assert (found.tracks[0] <= 20).all()


def _still(images: Any, queries: Any) -> Any:
    from store.tracks.point_tracks import PointTracks

    return PointTracks.still(np.asarray(queries), len(images))
