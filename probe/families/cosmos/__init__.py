"""Cosmos Predict 1, 2 and 2.5: one transformer, with latents at noise levels of its own."""

from probe.families.cosmos.predict1 import Cosmos1
from probe.families.cosmos.predict2 import Cosmos2
from probe.families.cosmos.predict25 import Cosmos25

__all__ = ["Cosmos1", "Cosmos2", "Cosmos25"]
