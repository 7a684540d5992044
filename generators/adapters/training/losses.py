"""Losses of DeT: the denoising error of one clip, and how much the clean latents change along its tracks."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from generators.adapters.latent_tracks import LatentTracks
from probe.backbones.schedule import Schedule
from store.arguments import checked
from store.checks import one_of
from store.errors import InvalidInputError

LossPreset = Literal["exact", "paper", "det"]
DET_LAST_TIMESTEP = 400.0
"""The released code takes the tracking loss at timesteps up to this one of 1000."""


@checked
def denoising_loss(
    schedule: Schedule,
    clean: Tensor,
    noise: Tensor,
    prediction: Tensor,
    step: int,
    *,
    preset: LossPreset = "exact",
) -> Tensor:
    """Distance of a prediction from the one that denoises a clip (DeT, eq. 5, L_DL).

    Parameters
    ----------
    schedule : Schedule
        Schedule of the training; its prediction type says what ``prediction`` is.
    clean, noise : (1, ...) tensors of one shape
        Latents of the clip, and the gaussian noise that was added.
    prediction : tensor of the same shape
        What the model made of ``schedule.noised(clean, noise, step)``.
    step : int
    preset : "exact", "paper" or "det"
        "exact" and "paper": the mean squared error of the prediction itself. "det", as released: that of the clean
        latents that the prediction implies, over the variance of the noise. For models that predict v or a flow they
        are equal; for those that predict noise "det" weights by one over the variance of the signal.

    Returns
    -------
    Scalar tensor, float32

    Raises
    ------
    InvalidInputError
        For another preset, tensors of different shapes, and as :meth:`probe.backbones.schedule.Schedule.clean`.

    Examples
    --------
    >>> schedule = Schedule((999.0,), (0.6, 1.0), (0.8, 0.0), "v_prediction")
    >>> clean, noise = torch.zeros(1, 4), torch.ones(1, 4)
    >>> perfect = schedule.target(clean, noise, 0)
    >>> denoising_loss(schedule, clean, noise, perfect + 0.5, 0)
    tensor(0.2500)
    >>> denoising_loss(schedule, clean, noise, perfect + 0.5, 0, preset="det")
    tensor(0.2500)
    """
    if not clean.shape == noise.shape == prediction.shape:
        shapes = ", ".join(str(tuple(each.shape)) for each in (clean, noise, prediction))
        raise InvalidInputError(f"clean, noise and prediction need one shape; got {shapes}.")
    clean, noise, prediction = (each.float() for each in (clean, noise, prediction))
    if preset != "det":
        return (prediction - schedule.target(clean, noise, step)).square().mean()
    implied = schedule.clean(schedule.noised(clean, noise, step), prediction, step)
    return (implied - clean).square().mean() / schedule.noise[schedule.resolve(step)] ** 2


@checked
def point_tracking_loss(
    latents: Tensor,
    tracks: LatentTracks,
    *,
    frame_axis: int = 2,
    preset: LossPreset = "exact",
) -> Tensor:
    """Change of predicted clean latents along tracks from a latent frame to the next (DeT, eq. 4).

    Parameters
    ----------
    latents : (1, ...) of five axes
        Predicted clean latents in the pipeline's layout: frames on ``frame_axis``, channels on the other one of 1
        and 2, then rows and columns.
    tracks : LatentTracks
        Tracks of the same frames and size.
    frame_axis : 1 or 2
    preset : "exact", "paper" or "det"
        "exact": latents between cell centres are interpolated, and the mean is over the pairs of frames in which a
        point is seen in both. "paper": the cell that holds the point, in both frames seen; the mean is over all
        points. "det", as released: as "paper", but a point counts where it is seen in the later frame alone.

    Returns
    -------
    Scalar tensor, float32: the mean squared difference; 0 where no point counts.

    Raises
    ------
    InvalidInputError
        For latents of other frames or another size than the tracks.

    Examples
    --------
    >>> still = LatentTracks(torch.full((3, 5, 2), 2.5), torch.ones(3, 5, dtype=torch.bool), (4, 6))
    >>> point_tracking_loss(torch.ones(1, 8, 3, 4, 6), still)
    tensor(0.)
    """
    one_of(preset, get_args(LossPreset), "preset")
    video = latents.float().transpose(1, 2) if frame_axis == 2 else latents.float()
    frames, height, width = video.shape[1], video.shape[3], video.shape[4]
    if (frames, (height, width)) != (len(tracks.points), tracks.size):
        raise InvalidInputError(
            f"the tracks are of {len(tracks.points)} latent frames of {tracks.size[0]} x {tracks.size[1]} cells, the "
            f"latents of {frames} of {height} x {width}."
        )
    points, visible = tracks.points.to(video), tracks.visible.to(video.device)
    features = _at_points(video[0], points, nearest=preset != "exact")
    change = (features[1:] - features[:-1]).square()
    seen = visible[1:] if preset == "det" else visible[1:] & visible[:-1]
    masked = change * seen[..., None]
    if preset != "exact":
        return masked.mean()
    return masked.sum() / (seen.sum().clamp(min=1) * change.shape[-1])


def _at_points(video: Tensor, points: Tensor, *, nearest: bool) -> Tensor:
    """(frame, point, channel): values (frame, channel, y, x) at points (x, y) in cells, cell centres at +0.5."""
    height, width = video.shape[-2:]
    if nearest:
        x = points[..., 0].floor().long().clamp(0, width - 1)
        y = points[..., 1].floor().long().clamp(0, height - 1)
        frame = torch.arange(len(video), device=video.device)[:, None]
        return video[frame, :, y, x]
    size = torch.tensor([width, height], device=video.device, dtype=video.dtype)
    where = (2 * points / size - 1)[:, None]  # align_corners=False: -1 and 1 are the borders of the image
    found = grid_sample(video, where, mode="bilinear", padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


def tracking_weight(schedule: Schedule, step: int, preset: LossPreset) -> float:
    """Return what the tracking loss of a step is multiplied by, in addition to its weight in the sum.

    "exact": the fraction of the signal in the variance, since the clean latents that a model predicts under much noise
    are a blur; "paper": 1; "det": 1 up to timestep 400 of 1000, then 0.

    Examples
    --------
    >>> schedule = Schedule((999.0, 100.0), (0.6, 0.8, 1.0), (0.8, 0.6, 0.0), "v_prediction")
    >>> [round(tracking_weight(schedule, step, "exact"), 2) for step in (0, 1)]
    [0.36, 0.64]
    >>> [tracking_weight(schedule, step, "det") for step in (0, 1)]
    [0.0, 1.0]
    """
    step = schedule.resolve(step)
    if preset == "paper":
        return 1.0
    if preset == "det":
        return float(schedule.timesteps[step] <= DET_LAST_TIMESTEP)
    signal, noise = schedule.signal[step] ** 2, schedule.noise[step] ** 2
    return signal / (signal + noise)
