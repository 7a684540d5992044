"""SMM: pulls the change of spatially averaged features between frames towards the reference's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from analyses.arrays import check_axes
from analyses.flow.reference_flow import FlowPreset
from generators.transfer.optimised import LossOf, OptimisedMethod
from generators.transfer.reference_clip import Reference
from store.arguments import checked
from store.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class SMM(OptimisedMethod):
    """Motion transfer by spatial marginal mean features (Yatim et al., CVPR 2024), as DiTFlow's baseline on DiTs.

    Parameters
    ----------
    optimise, layers, fraction, iterations, learning_rate, inject, preset
        As of :class:`generators.transfer.optimised.OptimisedMethod`; the loss of the preset is that of
        :func:`smm_loss`.

    Examples
    --------
    >>> SMM().reads_blocks
    True
    """

    @property
    def reads_blocks(self) -> bool:
        """True: the features are the output of blocks."""
        return True

    def losses(self, reference: Reference, layers: tuple[int, ...]) -> dict[int, LossOf]:
        """For each layer the loss between features of the reference and of the sample."""
        theirs = self.read(reference, layers, blocks=True).blocks
        return {layer: _loss(layer, theirs[layer], self.preset) for layer in layers}


@checked
def smm_loss(features: Tensor, reference: Tensor, *, preset: FlowPreset = "exact") -> Tensor:
    """Difference in direction of the changes of spatially averaged features between frames.

    Parameters
    ----------
    features, reference : (frame, y, x, channel)
        Features of the sample and of the reference; their heights and widths may differ.
    preset : "exact" or "ditflow"
        "exact": 1 - the cosine, over channels, of the change from each frame to each other one. "ditflow", as
        released: the sample's changes are taken from the *reference's* frame, the cosine is over frames for each
        channel, and a frame's zero change from itself is included.

    Returns
    -------
    Scalar tensor, 0 to 2: the mean over pairs of frames (of "ditflow", over frames and channels).

    Examples
    --------
    >>> features = torch.rand(3, 5, 7, 4)
    >>> abs(round(smm_loss(features + 2, features).item(), 4))
    0.0
    """
    for name, each in (("features", features), ("reference", reference)):
        check_axes(each, ("frame", "y", "x", "channel"), name)
    ends = [(each.shape[0], each.shape[3]) for each in (features, reference)]
    if ends[0] != ends[1]:
        raise InvalidInputError(
            f"features and reference need as many frames and channels; got {ends[0]} and {ends[1]}."
        )
    ours, theirs = (each.float().flatten(1, 2).mean(1) for each in (features, reference))
    if preset == "ditflow":
        changes = (theirs[None] - theirs[:, None], ours[None] - theirs[:, None])
        return (1 - cosine_similarity(*changes, dim=1)).mean()
    pairs = ~torch.eye(len(ours), dtype=torch.bool, device=ours.device)
    changes = ((theirs[None] - theirs[:, None])[pairs], (ours[None] - ours[:, None])[pairs])
    return (1 - cosine_similarity(*changes, dim=-1)).mean()


def _loss(layer: int, theirs: Tensor, preset: FlowPreset) -> LossOf:
    return lambda reading: smm_loss(reading.blocks[layer], theirs, preset=preset)
