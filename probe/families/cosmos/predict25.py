"""Cosmos Predict 2.5, from text, and from an image or a clip if one is given: a rectified flow."""

from __future__ import annotations

import dataclasses
from typing import Any

from probe.backbones.schedule import Schedule
from probe.families.cosmos.shared import Cosmos
from probe.families.registry import register_family


@register_family
class Cosmos25(Cosmos):
    """A Cosmos Predict 2.5 pipeline; it continues an ``image`` or a ``video`` of ``conditioning``."""

    family = "Cosmos 2.5"
    pipelines = ("Cosmos2_5_PredictBasePipeline",)
    fps = 16.0

    def schedule_of(self, scheduler: Any) -> Schedule:
        """Return the noise levels, which are also the timesteps that the transformer is given."""
        found = super().schedule_of(scheduler)
        return dataclasses.replace(found, timestep_inputs=found.noise[:-1])
