"""MOFT: pulls the motion channels of the features towards the reference's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from analyses.arrays import check_axes
from generators.transfer.optimised import LossOf, OptimisedMethod
from generators.transfer.reference_clip import Reference
from store.arguments import checked
from store.checks import finite, fraction
from store.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class MOFT(OptimisedMethod):
    """Motion transfer by motion features (Xiao et al., NeurIPS 2024), as DiTFlow's baseline on DiTs.

    Parameters
    ----------
    optimise, layers, fraction, iterations, learning_rate, inject, preset
        As of :class:`generators.transfer.optimised.OptimisedMethod`; the loss is the same for both presets.
    channels : float
        Fraction of the channels that count as motion, see :func:`motion_channels`.

    Examples
    --------
    >>> MOFT().channels
    0.04
    """

    channels: float = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction(self.channels, "channels")

    @property
    def reads_blocks(self) -> bool:
        """True: the features are the output of blocks."""
        return True

    def losses(self, reference: Reference, layers: tuple[int, ...]) -> dict[int, LossOf]:
        """For each layer the loss between features of the reference and of the sample."""
        theirs = self.read(reference, layers, blocks=True).blocks
        return {layer: _loss(layer, theirs[layer], motion_channels(theirs[layer], self.channels)) for layer in layers}


@checked
def motion_channels(features: Tensor, fraction: float = 0.04) -> Tensor:
    """Channels with the largest weight in the first right singular vector of the features minus their temporal mean.

    Parameters
    ----------
    features : (frame, y, x, channel)
    fraction : float
        Fraction of all channels; at least one is returned.

    Returns
    -------
    (count,) int64, the largest weight first

    Examples
    --------
    >>> features = torch.zeros(3, 5, 7, 4)
    >>> features[..., 2] = torch.arange(3.0)[:, None, None]
    >>> motion_channels(features)
    tensor([2])
    """
    _check(features, "features")
    if not 0 < finite(fraction, "fraction") <= 1:
        raise InvalidInputError(f"fraction must be above 0 and at most 1; got {fraction}.")
    moving = _less_mean(features).flatten(0, 2)
    weights = torch.linalg.svd(moving, full_matrices=False).Vh[0].abs()
    return weights.argsort(descending=True)[: max(1, int(fraction * len(weights)))]


@checked
def moft_loss(features: Tensor, reference: Tensor, channels: Tensor) -> Tensor:
    """Difference in direction of the features minus their temporal mean, in the motion channels.

    Parameters
    ----------
    features, reference : (frame, y, x, channel)
        Features of the sample and of the reference.
    channels : (count,) int64
        See :func:`motion_channels`.

    Returns
    -------
    Scalar tensor, 0 to 2: the mean over frames and cells of 1 - the cosine over channels.

    Examples
    --------
    >>> features = torch.rand(3, 5, 7, 4)
    >>> round(moft_loss(features + 2, features, torch.tensor([1, 3])).item(), 4)
    0.0
    """
    _check(features, "features")
    _check(reference, "reference")
    if features.shape != reference.shape:
        raise InvalidInputError(
            f"features and reference need one shape; got {tuple(features.shape)} and {tuple(reference.shape)}."
        )
    count = features.shape[-1]
    whole = channels.ndim == 1 and channels.dtype in (torch.int32, torch.int64) and len(channels) > 0
    if not whole or not bool(((channels >= -count) & (channels < count)).all()):
        raise InvalidInputError(f"channels must be numbers of the {count} channels, (count,) int64.")
    ours, theirs = (_less_mean(each)[..., channels] for each in (features, reference))
    return (1 - cosine_similarity(ours, theirs, dim=-1)).mean()


def _check(features: Tensor, name: str) -> None:
    check_axes(features, ("frame", "y", "x", "channel"), name)


def _less_mean(features: Tensor) -> Tensor:
    features = features.float()
    return features - features.mean(0, keepdim=True)


def _loss(layer: int, theirs: Tensor, channels: Tensor) -> LossOf:
    return lambda reading: moft_loss(reading.blocks[layer], theirs, channels)
