"""Families of video diffusion transformers, one small module each, and the registry that holds them."""

from probe.families.allegro import Allegro
from probe.families.cogvideox import CogVideoX, ConsisID
from probe.families.cosmos import Cosmos1, Cosmos2, Cosmos25
from probe.families.easyanimate import EasyAnimate
from probe.families.hunyuan import HunyuanVideo, HunyuanVideo15
from probe.families.kandinsky5 import Kandinsky5
from probe.families.latte import Latte
from probe.families.ltx2 import LTX2
from probe.families.ltx_video import LTXVideo
from probe.families.mochi import Mochi
from probe.families.registry import families, family_of, family_of_transformer, register_family
from probe.families.step_video import StepVideo
from probe.families.wan import SkyReelsForcing, SkyReelsV2, Wan, WanVACE

__all__ = [
    "LTX2",
    "Allegro",
    "CogVideoX",
    "ConsisID",
    "Cosmos1",
    "Cosmos2",
    "Cosmos25",
    "EasyAnimate",
    "HunyuanVideo",
    "HunyuanVideo15",
    "Kandinsky5",
    "LTXVideo",
    "Latte",
    "Mochi",
    "SkyReelsForcing",
    "SkyReelsV2",
    "StepVideo",
    "Wan",
    "WanVACE",
    "families",
    "family_of",
    "family_of_transformer",
    "register_family",
]
