"""The shared temporal kernel of DeT: a convolution over time beside every attention."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import gelu

from generators.adapters.adapter import LayerChoice
from generators.adapters.beside import BesideAttention, Place
from probe.backbones.backbone import Backbone
from store.checks import integer, one_of
from store.errors import InvalidInputError

Init = Literal["exact", "det"]


class TemporalKernel(BesideAttention):
    """``Up * gelu(Down * I)`` beside attention, convolutions over the frames of each cell separately (DeT, eq. 2).

    Parameters
    ----------
    backbone, layers, seed
        As of :class:`generators.adapters.adapter.MotionAdapter`.
    width : int
        Channels between the two convolutions, m.
    kernel : odd int
        Frames that each convolution sees, k.
    init : "exact" or "det"
        Initial values of Down: Kaiming's, or standard normal ones as released. Up is zero.
    place : "beside", "qkv" or "kv"
        As of :class:`generators.adapters.beside.BesideAttention`.

    Raises
    ------
    InvalidInputError, UnknownLayerError

    Notes
    -----
    Shi et al., "Decouple and Track", ICCV 2025, section 3.2. They have k = 3 and m = 128 for CogVideoX-5B, k = 5 and
    m = 128 for HunyuanVideo. Neither the number of frames nor that of cells is part of the parameters.

    Examples
    --------
    >>> from probe import load_backbone
    >>> TemporalKernel(load_backbone("mini"), width=64, layers=[0, 1, 2])
    TemporalKernel('mini', 3 of 6 layers, place='beside', width=64, kernel=3, init='exact': 147,456 parameters)
    """

    kind = "temporal-kernel"

    def __init__(
        self,
        backbone: Backbone,
        *,
        width: int = 128,
        kernel: int = 3,
        init: Init = "exact",
        place: Place = "beside",
        layers: LayerChoice = None,
        seed: int = 0,
    ) -> None:
        integer(width, "width", min_value=1)
        check_odd(kernel)
        one_of(init, ("exact", "det"), "init")
        super().__init__(backbone, layers=layers, seed=seed, place=place, width=width, kernel=kernel, init=init)

    def new_motion_block(self, channels: int) -> nn.Module:
        """Down and Up."""
        return TemporalConvolutions(channels, self.settings["width"], self.settings["kernel"], self.settings["init"])


def check_odd(kernel: int) -> None:
    """Raise if a kernel has no middle.

    Raises
    ------
    InvalidInputError
    """
    if integer(kernel, "kernel", min_value=1) % 2 == 0:
        raise InvalidInputError(f"kernel must be odd, so that it has a middle; got {kernel}.")


class TemporalConvolutions(nn.Module):
    """Two convolutions over time with a GELU between them: (batch, frame, y, x, channel) to the same shape."""

    def __init__(self, channels: int, width: int, kernel: int, init: Init = "exact") -> None:
        super().__init__()
        self.down = nn.Conv1d(channels, width, kernel, padding=kernel // 2, bias=False)
        self.up = nn.Conv1d(width, channels, kernel, padding=kernel // 2, bias=False)
        nn.init.zeros_(self.up.weight)
        if init == "det":
            nn.init.normal_(self.down.weight)

    def forward(self, video: Tensor) -> Tensor:
        """Convolve the frames of each cell."""
        batch, frames, height, width, channels = video.shape
        cells = video.permute(0, 2, 3, 4, 1).reshape(-1, channels, frames)
        found: Tensor = self.up(gelu(self.down(cells)))
        return found.view(batch, height, width, channels, frames).permute(0, 4, 1, 2, 3)
