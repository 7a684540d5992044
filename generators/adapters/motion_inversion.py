"""MotionInversion on full attention: embeddings of frames for queries and keys, and of cells for values."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from generators.adapters.adapter import LayerChoice, MotionAdapter, add_video
from generators.adapters.beside import projection_of
from generators.adapters.grid import TokenGrid
from probe.attention.projections import input_channels
from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from store.errors import InvalidInputError


class MotionInversion(MotionAdapter):
    """An embedding for each frame added to the input of queries and keys, and one for each cell to that of values.

    Parameters
    ----------
    backbone, layers, seed
        As of :class:`generators.adapters.adapter.MotionAdapter`.
    size : Size, optional
        Size of the clip, which decides the numbers of frames and cells; the backbone's default size.

    Raises
    ------
    InvalidInputError, UnknownLayerError

    Notes
    -----
    Wang et al., "Motion Inversion for Video Customization", in the form of DeT's supplement, section 8: E_t (frame,
    channel) and E_s (y, x, channel), in all blocks, at zero to begin with. :meth:`without_cells` drops E_s, which
    holds appearance: MotionInversion does so at inference; DeT does not say whether it did.

    Examples
    --------
    >>> from probe import load_backbone
    >>> MotionInversion(load_backbone("mini"))
    MotionInversion('mini', 6 of 6 layers, cells=True: 81,408 parameters)
    """

    kind = "motion-inversion"
    of_size = True

    def __init__(
        self,
        backbone: Backbone,
        *,
        size: Size | None = None,
        cells: bool = True,
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        size = backbone.default_size if size is None else Size(*size)
        layout = backbone.layout(*size)
        self._grid = (layout.frames, layout.height, layout.width)
        super().__init__(backbone, layers=layers, size=size, seed=seed, cells=cells)

    def new_block(self, layer: int, attention: nn.Module) -> nn.Module:
        """The embeddings of one layer."""
        for name in (*_FRAMES, "to_v"):
            projection_of(attention, name, self.kind)
        return Embeddings(*self._grid, input_channels(attention), self.settings["cells"])

    def hook(self, attention: nn.Module, block: Any, grid: TokenGrid) -> Iterable[RemovableHandle]:
        """A forward pre-hook for each projection."""
        handles = [_add_before(projection_of(attention, name, self.kind), block, grid, "frames") for name in _FRAMES]
        if self.settings["cells"]:
            handles.append(_add_before(projection_of(attention, "to_v", self.kind), block, grid, "cells"))
        return handles

    def without_cells(self) -> MotionInversion:
        """This adapter with frames alone; their parameters are shared."""
        denoisers = nn.ModuleList(
            nn.ModuleDict({name: _frames_alone(block) for name, block in blocks.named_children()})
            for blocks in self.denoisers
        )
        found = object.__new__(MotionInversion)
        found.__dict__.update(self.__dict__)
        found._modules = {**self._modules, "denoisers": denoisers}
        found.settings = {**self.settings, "cells": False}
        return found


_FRAMES = ("to_q", "to_k")


class Embeddings(nn.Module):
    """``frames`` (frame, channel) and ``cells`` (y, x, channel), both zero."""

    def __init__(self, frames: int, height: int, width: int, channels: int, cells: bool) -> None:
        super().__init__()
        self.frames = nn.Parameter(torch.zeros(frames, channels))
        self.cells = nn.Parameter(torch.zeros(height, width, channels)) if cells else None


def _frames_alone(block: Any) -> nn.Module:
    found = copy.copy(block)
    found._parameters = {**block._parameters, "cells": None}
    return found


def _add_before(module: nn.Module, block: Embeddings, grid: TokenGrid, name: str) -> RemovableHandle:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        values: Tensor = getattr(block, name)
        frames, height, width = grid.shape
        made = (len(values),) if name == "frames" else tuple(values.shape[:2])
        if made != ((frames,) if name == "frames" else (height, width)):
            raise InvalidInputError(
                f"this motion-inversion adapter has embeddings of {made} {name}; the clip has {frames} frames of "
                f"{height} x {width} cells. Generate clips of the size that it was trained on."
            )
        video = values[:, None, None] if name == "frames" else values[None]
        addition = video.expand(*grid.shape, -1).reshape(1, -1, values.shape[-1])
        addition = addition.expand(len(args[0]), -1, -1)
        return (add_video(args[0], addition, grid.rows(args[0].shape[1])), *args[1:])

    return module.register_forward_pre_hook(hook)
