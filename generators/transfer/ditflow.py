"""DiTFlow: pulls the sample's attention motion flow towards the reference's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analyses.flow.attention_flow import (
    MovingFlowLoss,
    amf_loss,
    attention_motion_flow,
    check_temperature,
)
from generators.transfer.optimised import LossOf, OptimisedMethod
from generators.transfer.reference_clip import Reference
from probe.run.layers_of_clip import Reading


@dataclass(frozen=True, kw_only=True)
class DiTFlow(OptimisedMethod):
    """Motion transfer by attention motion flow (Pondaven et al., CVPR 2025); docs/definitions.md, sections 7 and 8.

    Parameters
    ----------
    optimise, layers, fraction, iterations, learning_rate, inject, preset
        As of :class:`generators.transfer.optimised.OptimisedMethod`.
    static : bool
        Whether vectors that do not move in the reference count in the loss; they do not in the published method.
    temperature : float above 0
        Temperature of the sample's soft flow.

    Examples
    --------
    >>> DiTFlow(optimise="positions").iterations
    5
    """

    static: bool = False
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.temperature)

    def losses(self, reference: Reference, layers: tuple[int, ...]) -> dict[int, LossOf]:
        """For each layer the loss between its hard flow of the reference and its soft flow of the sample."""
        captures = self.read(reference, layers).captures
        flows = {
            layer: attention_motion_flow(seen.query, seen.key, seen.layout, hard=True)
            for layer, seen in captures.items()
        }
        for flow in flows.values():
            amf_loss(flow, torch.zeros_like(flow), static=self.static)  # raises for a reference without motion
        return {layer: self._loss(layer, flow) for layer, flow in flows.items()}

    def _loss(self, layer: int, target: Tensor) -> LossOf:
        moving = None if self.static else MovingFlowLoss(target, temperature=self.temperature)

        def loss(reading: Reading) -> Tensor:
            seen = reading.captures[layer]
            if moving is not None:
                return moving(seen.query, seen.key, seen.layout)
            flow = attention_motion_flow(seen.query, seen.key, seen.layout, temperature=self.temperature)
            return amf_loss(target, flow, static=self.static)

        return loss
