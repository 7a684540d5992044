"""Alternatives that DeT compares its temporal kernel with: convolutions in space and time, windows, an MLP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from generators.adapters.adapter import LayerChoice
from generators.adapters.beside import BesideAttention, Place
from generators.adapters.temporal_kernel import check_odd
from probe.backbones.backbone import Backbone
from store.checks import integer
from store.errors import InvalidInputError


class SpaceTimeKernel(BesideAttention):
    """``Up * gelu(Down * I)`` with convolutions over frames, rows and columns: DeT's arm "Conv3D" (table 3).

    Parameters
    ----------
    backbone, layers, seed, place
        As of :class:`generators.adapters.beside.BesideAttention`.
    width : int
        Channels between the two convolutions.
    kernel : odd int
        Frames, rows and columns that each convolution sees.

    Examples
    --------
    >>> from probe import load_backbone
    >>> SpaceTimeKernel(load_backbone("mini"), width=8).kind
    'space-time-kernel'
    """

    kind = "space-time-kernel"

    def __init__(
        self,
        backbone: Backbone,
        *,
        width: int = 128,
        kernel: int = 3,
        place: Place = "beside",
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        integer(width, "width", min_value=1)
        check_odd(kernel)
        super().__init__(backbone, layers=layers, seed=seed, place=place, width=width, kernel=kernel)

    def new_motion_block(self, channels: int) -> nn.Module:
        """Down and Up."""
        return _Convolutions(channels, self.settings["width"], self.settings["kernel"])


class _Convolutions(nn.Module):
    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.down = nn.Conv3d(channels, width, kernel, padding=kernel // 2, bias=False)
        self.up = nn.Conv3d(width, channels, kernel, padding=kernel // 2, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, video: Tensor) -> Tensor:
        found: Tensor = self.up(gelu(self.down(video.movedim(-1, 1))))
        return found.movedim(1, -1)


class TokenMLP(BesideAttention):
    """``Up gelu(Down I)`` of each token by itself: the kernel of DeT without its time.

    Parameters
    ----------
    backbone, layers, seed, place
        As of :class:`generators.adapters.beside.BesideAttention`.
    width : int
        Channels between the two layers.

    Examples
    --------
    >>> from probe import load_backbone
    >>> TokenMLP(load_backbone("mini"), width=8).kind
    'token-mlp'
    """

    kind = "token-mlp"

    def __init__(
        self,
        backbone: Backbone,
        *,
        width: int = 128,
        place: Place = "beside",
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        integer(width, "width", min_value=1)
        super().__init__(backbone, layers=layers, seed=seed, place=place, width=width)

    def new_motion_block(self, channels: int) -> nn.Module:
        """Two linear layers."""
        down, up = (nn.Linear(*ends, bias=False) for ends in self._ends(channels))
        nn.init.zeros_(up.weight)
        return nn.Sequential(down, nn.GELU(), up)

    def _ends(self, channels: int) -> tuple[tuple[int, int], tuple[int, int]]:
        width = self.settings["width"]
        return (channels, width), (width, channels)


class LocalAttention(BesideAttention):
    """Attention within windows of frames and cells, beside the full one: DeT's arm "Local Attn" (table 3).

    Windows do not overlap; the last ones of a side are smaller where it is not a multiple of theirs. The paper does
    not say which windows it has.

    Parameters
    ----------
    backbone, layers, seed, place
        As of :class:`generators.adapters.beside.BesideAttention`.
    width : int
        Channels of queries, keys and values, one head.
    window : (frames, rows, columns)

    Examples
    --------
    >>> from probe import load_backbone
    >>> LocalAttention(load_backbone("mini"), width=8).kind
    'local-attention'
    """

    kind = "local-attention"

    def __init__(
        self,
        backbone: Backbone,
        *,
        width: int = 128,
        window: tuple[int, int, int] = (3, 5, 5),
        place: Place = "beside",
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        integer(width, "width", min_value=1)
        if not isinstance(window, tuple | list) or len(window) != 3:
            raise InvalidInputError(f"window must be (frames, rows, columns); got {window!r}.")
        sides = [integer(side, "a side of window", min_value=1) for side in window]
        super().__init__(backbone, layers=layers, seed=seed, place=place, width=width, window=sides)

    def new_motion_block(self, channels: int) -> nn.Module:
        """Projections to queries, keys and values, and back."""
        return _Windows(channels, self.settings["width"], tuple(self.settings["window"]))


class _Windows(nn.Module):
    def __init__(self, channels: int, width: int, window: tuple[int, ...]) -> None:
        super().__init__()
        self.into = nn.Linear(channels, 3 * width, bias=False)
        self.out = nn.Linear(width, channels, bias=False)
        self.window = window
        nn.init.zeros_(self.out.weight)

    def forward(self, video: Tensor) -> Tensor:
        sides = video.shape[1:4]
        query, key, value = (self._split(each) for each in self.into(video).chunk(3, dim=-1))
        real = self._split(torch.ones(1, *sides, 1, device=video.device, dtype=torch.bool))[..., 0]
        mask = real.repeat(len(video), 1)[:, None, None]
        found = scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], attn_mask=mask)[:, 0]
        joined: Tensor = self.out(self._join(found, len(video), sides))
        return joined

    def _counts(self, sides: torch.Size) -> list[int]:
        return [-(-side // part) for side, part in zip(sides, self.window, strict=True)]

    def _split(self, video: Tensor) -> Tensor:
        """(batch, frame, y, x, channel) to (batch and window, token, channel), padded at the ends."""
        sides = video.shape[1:4]
        missing = [-side % part for side, part in zip(sides, self.window, strict=True)]
        video = pad(video, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
        for axis, part in ((3, self.window[2]), (2, self.window[1]), (1, self.window[0])):
            video = video.unflatten(axis, (-1, part))  # batch, F, f, Y, y, X, x, channel
        return video.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(0, 3).flatten(1, 3)

    def _join(self, tokens: Tensor, batch: int, sides: torch.Size) -> Tensor:
        video = tokens.unflatten(1, self.window).unflatten(0, (batch, *self._counts(sides)))
        video = video.permute(0, 1, 4, 2, 5, 3, 6, 7).flatten(5, 6).flatten(3, 4).flatten(1, 2)
        return video[:, : sides[0], : sides[1], : sides[2]]
