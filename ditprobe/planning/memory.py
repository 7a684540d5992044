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


def guidance_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int) -> int:
    """Return the memory that cross-attention guidance adds to a layer that it guides, of one branch.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`

    Notes
    -----
    Queries, keys and values are put together by frame, with the text in each frame; the attentions within the frames
    and over all tokens (for its log-sum-exp) are there at once.

    Examples
    --------
    >>> layer = LayerInfo(0, "transformer_blocks.0.attn1", 30, 64)
    >>> guidance_bytes(layer, TokenLayout(13, 30, 45, 480, 720, 49, 226), 2)
    426915840
    """
    width = layer.heads * layer.channels
    by_frame = layout.video_tokens + layout.frames * layout.text_tokens
    return (4 * layout.video_tokens + 2 * by_frame) * width * itemsize


def injection_bytes(layer: LayerInfo, layout: TokenLayout, itemsize: int) -> int:
    """Return the memory that an injection adds to a run: keys and values of the reference, twice, and those replaced.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`
    """
    return 3 * capture_bytes(layer, layout, itemsize)


def optimising_bytes(
    layer: LayerInfo,
    layout: TokenLayout,
    itemsize: int,
    layers: int,
    *,
    checkpointing: bool = False,
    positions: bool = False,
) -> int:
    """Return the memory of a motion transfer that optimises latents or positions, the weights aside.

    Parameters
    ----------
    layer, layout, itemsize : as of :func:`capture_bytes`
    layers : number of layers that gradients are taken through, those up to the guiding one
    checkpointing : with gradient checkpointing
    positions : positions are optimised, as a table that is added to the tokens; rotary ones take less

    Notes
    -----
    About 17 numbers of a token and channel are kept in each of these layers, as in a training of an adapter
    (:class:`generators.adapters.training.plan.TrainingPlan`); in addition come the loss with its gradients, what is
    seen of the reference, and the queries and keys of an iteration and of the one before. A table of positions is there
    five times in float32: with its gradient, two moments of Adam, and the one before.

    Examples
    --------
    CogVideoX-2b guided by its layer 17: most of it is what a backward pass needs.

    >>> layer, layout = LayerInfo(0, "transformer_blocks.0.attn1", 30, 64), TokenLayout(13, 30, 45, 480, 720, 49, 226)
    >>> [round(optimising_bytes(layer, layout, 2, 18, checkpointing=on) / 1e9, 1) for on in (False, True)]
    [21.9, 3.6]
    """
    from generators.adapters.training.plan import TrainingPlan

    kept = TrainingPlan.of_sizes(
        parameters=0,
        weights=0,
        layers=layers,
        channels=layer.heads * layer.channels,
        tokens=layout.video_tokens + layout.text_tokens,
        steps=0,
        passes=0,
        item=itemsize,
        checkpointing=checkpointing,
    )
    tables = 5 * _FLOAT32 * layout.video_tokens * layer.heads * layer.channels if positions else 0
    seen = 3 * capture_bytes(layer, layout, itemsize)
    return kept.memory + flow_bytes(layer, layout, itemsize, backward=True) + seen + tables


def adapter_bytes(layer: LayerInfo, layout: TokenLayout, parameters: int) -> int:
    """Return the memory that an attached adapter adds to a run: its parameters, and its work beside one layer.

    Parameters
    ----------
    layer, layout : as of :func:`capture_bytes`
    parameters : number of parameters; they and their work are in float32
    """
    return _FLOAT32 * (parameters + 3 * layout.video_tokens * layer.heads * layer.channels)


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
