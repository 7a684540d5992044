"""DMT: starts from the inverted reference and pulls the run towards its spatial marginal mean features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generators.sampling.step import Run, Step
from generators.sampling.strategy import Strategy
from generators.transfer.reference_clip import Reference
from generators.transfer.smm import SMM
from probe.backbones.backbone import Backbone
from probe.run.forward import ForwardPass
from probe.run.run import run_states


@dataclass(frozen=True, kw_only=True)
class DMT(SMM):
    """Space-time feature loss from an inverted start (Yatim et al., CVPR 2024), as DeT's baseline on DiTs.

    Instead of noise, the run begins with the latents from which the deterministic sampler would return to the reference
    (DDIM inversion with the reference's text). Then :func:`generators.transfer.smm.smm_loss` is minimised as by
    :class:`generators.transfer.smm.SMM`.

    Parameters
    ----------
    optimise, layers, fraction, iterations, learning_rate, inject, preset
        As of :class:`generators.transfer.optimised.OptimisedMethod`. DeT uses block 28 of CogVideoX-5B, 20 iterations
        and a rate of 0.01, of which the latter two are the defaults here.

    Raises
    ------
    InvalidInputError

    Notes
    -----
    DeT's supplement, section 8. The inversion takes one pass for each denoising step.

    Examples
    --------
    >>> DMT().iterations, DMT().learning_rate
    (20, (0.01, 0.01))
    """

    iterations: int = 20
    learning_rate: tuple[float, float] | None = (0.01, 0.01)

    def strategies(self, reference: Reference) -> tuple[Strategy, ...]:
        """Return a strategy that starts from the inverted reference, and those of SMM.

        Raises
        ------
        InvalidInputError, UnknownLayerError
            As for SMM, and for a model whose inversion is not defined.
        """
        return (StartFrom(inverted(reference)), *super().strategies(reference))

    def passes(self, backbone: Backbone, steps: int) -> float:
        """Return the passes of SMM, and one for each step of the inversion."""
        return super().passes(backbone, steps) + steps


class StartFrom(Strategy):
    """The strategy that replaces the noise with which a run begins.

    Parameters
    ----------
    latents : (1, ...) tensor
    """

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def start(self, run: Run) -> None:
        """Nothing to prepare."""

    def before(self, step: Step) -> None:
        """Replace the latents of the first step."""
        if step.number == 0:
            step.latents = self._latents


@torch.no_grad()
def inverted(reference: Reference) -> Tensor:
    """Return the latents (1, ...) of step 0 from which the deterministic sampler returns to a reference."""
    clip = reference.clip
    forward = ForwardPass(
        reference.backbone,
        reference.prompt,
        steps=reference.steps,
        height=clip.height,
        width=clip.width,
        images=len(clip),
        conditioning={**reference.backbone.conditioning_of(clip), **reference.conditioning},
    )
    states = run_states(forward, reference.latents, [0], noise="inversion")
    return [state.latents for state in states][-1]
