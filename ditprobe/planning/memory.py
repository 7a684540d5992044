"""Bytes of working with the queries and keys of one layer, from their shape alone."""

from __future__ import annotations

from pathlib import Path

import torch

from analyses.arrays import BUDGET_BYTES
from analyses.kernels.expected_cells import TILE_BYTES
from probe.backbones.layers import LayerInfo
from store.layout import TokenLayout

_FLOAT32 = 4


def capture_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int, *, features: bool = False) -> int:
    """Return the bytes of a capture: query and key of one layer, step and branch, and of its text tokens.

    Parameters
    ----------
    layer : heads and channels per head
    layout : TokenLayout
    itemsize : bytes of a number
    features : the attention output too

    Examples
    --------
    CogVideoX-2b at 480 x 720 px and 49 images: 2 x (13 x 30 x 45 + 226) tokens x 30 heads x 64 channels x 2 bytes.

    >>> layer = LayerInfo(0, "transformer_blocks.0.attn1", 30, 64)
    >>> capture_bytes(layer, TokenLayout(13, 30, 45, 480, 720, 49, 226), 2)
    136519680
    """
    width = layer.heads * layer.channels
    tokens = layout.video_tokens + layout.text_tokens
    return (2 * tokens + features * layout.video_tokens) * width * itemsize


def flow_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int, *, backward: bool = False) -> int:
    """Return the working memory of :func:`analyses.flow.attention_flow.attention_motion_flow`, queries and keys aside.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`
    backward : with the gradients of queries and keys, as motion transfer computes them

    Notes
    -----
    It computes in float32, a pair of frames at a time: the tokens of two frames with their heads joined, a tile of the
    attention between them, and copies in float32 of what is narrower (not on CUDA, which needs less for that reason).
    The gradients of all frames are summed in float32 and then converted.

    Examples
    --------
    CogVideoX-5b at 13 frames in half precision, with gradients.

    >>> layer = LayerInfo(0, "transformer_blocks.0.attn1", 48, 64)
    >>> flow_bytes(layer, TokenLayout(13, 30, 45, 480, 720, 49, 226), 2, backward=True)
    648788400
    """
    cells = layout.height * layout.width
    rows = min(cells, max(1, TILE_BYTES // (cells * _FLOAT32)))
    tile, frame = rows * cells * _FLOAT32, cells * layer.heads * layer.channels * _FLOAT32
    joined, some = 2 * frame * itemsize // _FLOAT32, frame * rows // cells
    widened = frame if itemsize < _FLOAT32 else 0
    flow = layout.frames**2 * cells * 2 * _FLOAT32
    if not backward:
        return flow + joined + tile + max(some + widened, tile)
    gradients = 2 * layout.frames * frame
    converted = gradients * itemsize // _FLOAT32 if itemsize < _FLOAT32 else 0
    return gradients + flow + max(joined + 2 * tile + max(some + widened, tile), converted)


def sweep_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int, *, budget: int = BUDGET_BYTES) -> int:
    """Return the memory that a sweep adds to a run: a capture with its attention output, and what measures it.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`
    budget : working memory of the measuring

    Notes
    -----
    Of half precision, one block of queries and keys is also copied to float32 (not on CUDA).
    """
    return budget + capture_bytes(layer, layout, itemsize, features=True)


def tracking_bytes(
    layer: LayerInfo, layout: TokenLayout, itemsize: int, *, sources: int = 400, budget: int = BUDGET_BYTES
) -> int:
    """Return the memory that tracking adds to a forward pass: tokens of a chunk, twice, its costs, and the budget.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`
    sources : cells that are matched with all others; a point has up to four
    budget : working memory of one matching
    """
    costs = sources * layout.video_tokens * _FLOAT32
    return budget + 2 * capture_bytes(layer, layout, itemsize) + costs


def heads_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int, *, budget: int = BUDGET_BYTES) -> int:
    """Return the memory that the classification of heads adds to a run: a capture, its keys in float32, the budget.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`
    budget : working memory of the attention's rows
    """
    keys = (layout.video_tokens + layout.text_tokens) * layer.heads * layer.channels * _FLOAT32
    return budget + capture_bytes(layer, layout, itemsize) + 2 * keys


def recorder_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int) -> tuple[int, int]:
    """Return the memory of a recorder: on the device, and of the records that wait for the disk, in the CPU's.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`

    Notes
    -----
    On CUDA a tensor is cast, compared with its cast and reduced, one tensor at a time. Four records may wait, two are
    written, and one is filled.

    Examples
    --------
    >>> layer = LayerInfo(0, "transformer_blocks.0.attn1", 30, 64)
    >>> recorder_bytes(layer, TokenLayout(13, 30, 45, 480, 720, 49, 226), 2)
    (202176000, 955637760)
    """
    numbers = layout.video_tokens * layer.heads * layer.channels
    return numbers * (2 + itemsize + 1 + 1), (4 + 2 + 1) * capture_bytes(layer, layout, 2)


def free_bytes(device: str) -> int | None:
    """Return the memory that is free on a kind of device, "cuda" or another; None if that is not known.

    Examples
    --------
    >>> (free_bytes("cpu") or 1) > 0
    True
    """
    if device == "cuda" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not on Linux
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
