"""MotionClone: pulls the sample's temporal attention towards the reference's strongest entries."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from analyses.arrays import check_axes
from generators.transfer.optimised import LossOf, OptimisedMethod
from generators.transfer.reference_clip import Reference
from probe.execution.autocast import outside_autocast
from store.arguments import checked
from store.checks import integer
from store.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class MotionClone(OptimisedMethod):
    """Motion transfer by sparse temporal attention (Ling et al., ICLR 2025), as a baseline on DiTs.

    DiTs have no separate temporal attention: here, that of a cell is the part of the full attention between the frames
    of that cell. The published guidance changes the prediction by the loss's gradient; here the loss is minimised as in
    the other methods.

    Parameters
    ----------
    optimise, layers, fraction, iterations, learning_rate, inject, preset
        As of :class:`generators.transfer.optimised.OptimisedMethod`; the loss is the same for both presets.
    count : int
        Number of largest entries of each row that count; 1 as published.

    Examples
    --------
    >>> MotionClone().count
    1
    """

    count: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        integer(self.count, "count", min_value=1)

    def losses(self, reference: Reference, layers: tuple[int, ...]) -> dict[int, LossOf]:
        """For each layer the loss between the attention of the reference and of the sample."""
        captures = self.read(reference, layers).captures
        return {
            layer: _loss(layer, temporal_attention(captures[layer].query, captures[layer].key), self.count)
            for layer in layers
        }


@checked
@outside_autocast()
def temporal_attention(query: Tensor, key: Tensor) -> Tensor:
    """Attention of each cell to itself in all frames.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel)

    Returns
    -------
    (head, y, x, frame, frame_to), rows that sum to 1: softmax over ``frame_to`` of q k^T / sqrt(channel)

    Examples
    --------
    >>> import torch
    >>> temporal_attention(torch.zeros(2, 3, 5, 7, 4), torch.zeros(2, 3, 5, 7, 4))[0, 0, 0, 0]
    tensor([0.3333, 0.3333, 0.3333])
    """
    for name, each in (("query", query), ("key", key)):
        check_axes(each, ("head", "frame", "y", "x", "channel"), name)
    if query.shape != key.shape:
        raise InvalidInputError(f"query and key need one shape; got {tuple(query.shape)} and {tuple(key.shape)}.")
    query, key = (each.float().permute(0, 2, 3, 1, 4) for each in (query, key))
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)


@checked
def motion_clone_loss(attention: Tensor, reference: Tensor, count: int = 1) -> Tensor:
    """Mean squared difference of the largest entries in each row of the reference.

    Parameters
    ----------
    attention, reference : (..., frame, frame_to)
    count : int
        Number of entries per row; all of them if there are fewer.

    Returns
    -------
    Scalar tensor

    Examples
    --------
    >>> import torch
    >>> motion_clone_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.2, 0.8]]))
    tensor(0.0900)
    """
    integer(count, "count", min_value=1)
    for name, each in (("attention", attention), ("reference", reference)):
        if each.ndim < 2 or not each.is_floating_point() or not each.numel():
            raise InvalidInputError(f"{name} must be floats (..., frame, frame_to); got {tuple(each.shape)}.")
    if attention.shape != reference.shape:
        raise InvalidInputError(
            f"attention and reference need one shape; got {tuple(attention.shape)} and {tuple(reference.shape)}."
        )
    largest = reference.topk(min(count, reference.shape[-1]), dim=-1).indices
    return (attention.gather(-1, largest) - reference.gather(-1, largest)).square().mean()


def _loss(layer: int, theirs: Tensor, count: int) -> LossOf:
    return lambda reading: motion_clone_loss(
        temporal_attention(reading.captures[layer].query, reading.captures[layer].key), theirs, count
    )
