"""Wan and the families built upon it."""

from probe.families.wan.skyreels_forcing import SkyReelsForcing
from probe.families.wan.skyreels_v2 import SkyReelsV2
from probe.families.wan.wan import Wan
from probe.families.wan.wan_vace import WanVACE

__all__ = ["SkyReelsForcing", "SkyReelsV2", "Wan", "WanVACE"]
