"""Parts of a pipeline that training does not need, kept off the accelerator while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from probe.backbones.backbone import Backbone


@contextmanager
def encoders_set_aside(backbone: Backbone, *, aside: torch.device | None = None) -> Iterator[None]:
    """Move text encoders and VAE to the CPU while the context is open, and back.

    Latents and text embeddings are computed once, before a training. What is offloaded or on the CPU already stays
    where it is.

    Parameters
    ----------
    backbone : Backbone
    aside : torch.device, optional
        By default the CPU.
    """
    aside = torch.device("cpu") if aside is None else aside
    moved: list[tuple[nn.Module, torch.device]] = []
    try:
        for part in _encoders(backbone.pipeline):
            device = _device(part)
            if device is not None and device.type != aside.type and not _offloaded(part):
                moved.append((part, device))
                part.to(aside)
        if moved and torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield
    finally:
        for part, device in moved:
            part.to(device)


def _encoders(pipeline: Any) -> list[nn.Module]:
    names = ("text_encoder", "text_encoder_2", "text_encoder_3", "image_encoder", "vae")
    found = [getattr(pipeline, name, None) for name in names]
    return [part for part in found if isinstance(part, nn.Module)]


def _device(part: nn.Module) -> torch.device | None:
    """Device of the parameters of a module; None if there are several places, or none."""
    devices = {each.device for each in (*part.parameters(), *part.buffers())}
    return devices.pop() if len(devices) == 1 else None


def _offloaded(part: nn.Module) -> bool:
    return any(hasattr(module, "_hf_hook") for module in part.modules())
