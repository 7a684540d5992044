"""Losses of Follow-Your-Motion: the change from one latent frame to the next, and the weight of a noise level."""

from __future__ import annotations

import math
from typing import Literal, get_args

from torch import Tensor
from torch.nn.functional import cosine_similarity

from probe.backbones.schedule import Schedule
from store.arguments import checked
from store.checks import one_of
from store.errors import InvalidInputError

MotionLossPreset = Literal["exact", "paper", "code"]


@checked
def motion_loss(
    prediction: Tensor, target: Tensor, *, frame_axis: int = 2, preset: MotionLossPreset = "exact"
) -> Tensor:
    """Distance in direction between two changes from each latent frame to the next.

    Parameters
    ----------
    prediction, target : (1, ...) of five axes
        Of the model and of the clip, in the pipeline's layout: frames on ``frame_axis``, channels on the other one of 1
        and 2, then rows and columns. At least two frames.
    frame_axis : 1 or 2
    preset : "exact", "paper" or "code"
        With d the difference of a frame and the one before it:

        * "exact": 1 - cosine of both d over the channels, mean over pairs of frames, rows and columns.
        * "paper": minus the cosine of both d, each pair of frames one vector of all channels, rows and columns (the
          paper does not give the axis); mean over pairs.
        * "code": 1 - cosine of both *absolute* d along the axis of the frames, mean over channels, rows and columns, as
          released. With two frames it is 0: a cosine of two positive numbers is 1.

    Returns
    -------
    Scalar tensor, float32

    Raises
    ------
    InvalidInputError
        For another preset, tensors of different shapes, or a single frame.

    Examples
    --------
    >>> import torch
    >>> frames = torch.arange(3.0).reshape(1, 1, 3, 1, 1).expand(1, 4, 3, 2, 2)
    >>> motion_loss(2 * frames, frames), motion_loss(-frames, frames)
    (tensor(0.), tensor(2.))
    >>> round(float(motion_loss(-frames, frames, preset="code")), 3)
    0.0
    """
    one_of(preset, get_args(MotionLossPreset), "preset")
    one_of(frame_axis, (1, 2), "frame_axis")
    if prediction.shape != target.shape or prediction.ndim != 5 or prediction.shape[frame_axis] < 2:
        raise InvalidInputError(
            f"prediction and target need one shape of five axes with two frames at least; got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}."
        )
    ours, theirs = (_changes(each.float(), frame_axis) for each in (prediction, target))
    if preset == "exact":
        return 1 - cosine_similarity(ours, theirs, dim=2).mean()
    if preset == "paper":
        return -cosine_similarity(ours.flatten(2), theirs.flatten(2), dim=2).mean()
    return 1 - cosine_similarity(ours.abs(), theirs.abs(), dim=1).mean()


def _changes(video: Tensor, frame_axis: int) -> Tensor:
    """(1, frame - 1, channel, y, x): each frame less the one before it."""
    video = video if frame_axis == 1 else video.transpose(1, 2)
    return video[:, 1:] - video[:, :-1]


def training_weight(schedule: Schedule, step: int, preset: MotionLossPreset) -> float:
    """Return the factor of both losses at a step: 1, and for preset "code" and flow models a bell over the timesteps.

    The released trainer takes the weights of DiffSynth's flow scheduler: exp(-2 ((t - T/2) / T)^2) less its least
    value, divided by its mean over the timesteps.

    Examples
    --------
    >>> schedule = Schedule((1000.0, 500.0, 1.0), (0.0, 0.5, 1.0, 1.0), (1.0, 0.5, 0.0, 0.0), "flow")
    >>> [round(training_weight(schedule, step, "code"), 1) for step in (0, 1, 2)]
    [0.0, 3.0, 0.0]
    """
    if preset != "code" or schedule.prediction != "flow":
        return 1.0
    bells = [math.exp(-2 * ((t - 500.0) / 1000.0) ** 2) for t in schedule.timesteps]
    raised = [bell - min(bells) for bell in bells]
    total = sum(raised)
    return raised[schedule.resolve(step)] * len(raised) / total if total else 1.0


def implied_motion(
    schedule: Schedule, clean: Tensor, noise: Tensor, prediction: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Return the clean latents that a prediction implies, and the true ones: for a motion loss without the noise."""
    return schedule.clean(schedule.noised(clean, noise, step), prediction, step), clean
