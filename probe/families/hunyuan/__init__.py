"""HunyuanVideo and HunyuanVideo 1.5."""

from probe.families.hunyuan.hunyuan_video import HunyuanVideo
from probe.families.hunyuan.hunyuan_video15 import HunyuanVideo15

__all__ = ["HunyuanVideo", "HunyuanVideo15"]
