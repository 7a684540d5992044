"""CogVideoX and the families built upon it."""

from probe.families.cogvideox.cogvideox import CogVideoX
from probe.families.cogvideox.consisid import ConsisID

__all__ = ["CogVideoX", "ConsisID"]
