"""Families of video diffusion transformers, one small module each, and the registry that holds them."""

from probe.families.allegro import Allegro
from probe.families.cogvideox import CogVideoX
from probe.families.consisid import ConsisID
from probe.families.hunyuan_video import HunyuanVideo
from probe.families.hunyuan_video15 import HunyuanVideo15
from probe.families.ltx_video import LTXVideo
from probe.families.mochi import Mochi
from probe.families.registry import families, family_of, family_of_transformer, register_family
from probe.families.skyreels_v2 import SkyReelsV2
from probe.families.wan import Wan
from probe.families.wan_vace import WanVACE

__all__ = [
    "Allegro",
    "CogVideoX",
    "ConsisID",
    "HunyuanVideo",
    "HunyuanVideo15",
    "LTXVideo",
    "Mochi",
    "SkyReelsV2",
    "Wan",
    "WanVACE",
    "families",
    "family_of",
    "family_of_transformer",
    "register_family",
]
