"""Names of the presets of cross-attention guidance; no torch, so that the command line can list them at once."""

from typing import Literal

GuidancePreset = Literal["exact", "difftrack", "renormalised"]
