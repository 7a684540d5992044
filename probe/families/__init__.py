"""Families of video diffusion transformers, one small module each, and the registry that holds them."""

from probe.families.cogvideox import CogVideoX
from probe.families.hunyuan_video import HunyuanVideo
from probe.families.ltx_video import LTXVideo
from probe.families.registry import families, family_of, family_of_transformer, register_family
from probe.families.wan import Wan

__all__ = [
    "CogVideoX",
    "HunyuanVideo",
    "LTXVideo",
    "Wan",
    "families",
    "family_of",
    "family_of_transformer",
    "register_family",
]
