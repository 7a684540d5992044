"""Attention and matching of a single point, straight from memory maps.

One vector is multiplied with every token of a record. The float16 tokens of one head at a time are widened into a
buffer that fits a processor's cache, so that neither a float32 copy of the record nor the record itself has to be in
memory: a click in a recording costs one pass over its keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from analyses.arrays import as_points, as_tensor, cells_as_xy
from analyses.correspondence.bilinear import Corners
from analyses.kernels.attention_weights import attention_weights
from store.layout import TokenLayout

_PIECE = 2**15
"""Most numbers that torch processes in the calling thread. Larger tensors are split between threads, and waiting for
those takes much longer than the arithmetic when other programs keep the processor busy."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The attention of one token, head by head.

    Attributes
    ----------
    video : (head, frame, y, x) float32, shares of the whole row
    text : (head, token) float32, the rest of it; no tokens where the attention has no text
    """

    video: np.ndarray
    text: np.ndarray


def rows_of_token(
    vector: np.ndarray, key: np.ndarray, text_key: np.ndarray | None = None, *, scale: float | None = None
) -> Rows:
    """Softmax of one query over all keys, for each head.

    Parameters
    ----------
    vector : (head, channel), the query of one token
    key : (head, frame, y, x, channel)
    text_key : (head, token, channel), optional
        Text tokens that share the softmax.
    scale : of the products, by default ``1 / sqrt(channel)``

    Examples
    --------
    >>> rows = rows_of_token(np.zeros((2, 4), np.float16), np.zeros((2, 3, 5, 7, 4), np.float16))
    >>> rows.video.shape, float(rows.video.sum())
    ((2, 3, 5, 7), 2.0)
    """
    heads, frames, height, width, _ = key.shape
    asked = as_tensor(np.asarray(vector, np.float32))[:, None]
    video = frames * height * width
    weights = torch.empty(heads, video + (0 if text_key is None else text_key.shape[1]))
    for head, widened in _widened(key, text_key):
        weights[head] = attention_weights(asked[head], widened, scale=scale)[0]
    return Rows(weights[:, :video].reshape(heads, frames, height, width).numpy(), weights[:, video:].numpy())


def backward_normalisers(
    query: np.ndarray, key: np.ndarray, frame: int, *, stopped: Callable[[], bool] = lambda: False
) -> np.ndarray | None:
    """Return the normalisers of the backward direction of the matching cost, which all points of a frame share.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel)
    frame : the frame whose points are matched
    stopped : called once for each head and frame; a true result ends the work

    Returns
    -------
    (head, frame, cell) float32, the log of the sum over the cells of ``frame`` of each token's exponentials; None if
    stopped.

    Examples
    --------
    >>> zero = np.zeros((2, 3, 5, 7, 4), np.float16)
    >>> bool(np.allclose(backward_normalisers(zero, zero, 0), np.log(35)))
    True
    """
    heads, frames, height, width, channels = query.shape
    cells = height * width
    found = torch.empty(heads, frames, cells)
    product = torch.empty(cells, cells)
    for head in range(heads):
        keys = as_tensor(key[head, frame].reshape(cells, channels)).float() * channels**-0.5
        for other in range(frames):
            if stopped():
                return None
            asked = as_tensor(query[head, other].reshape(cells, channels)).float()
            torch.mm(asked, keys.T, out=product)  # in place from here on: allocating costs as much as the arithmetic
            largest = product.amax(-1, keepdim=True)
            found[head, other] = product.sub_(largest).exp_().sum(-1).log_().add_(largest[:, 0])
    return found.numpy()


@dataclass(frozen=True, eq=False)
class PointMatch:
    """Positions at which one point is found in every frame.

    Attributes
    ----------
    mean : (frame, 2) float64, (x, y) in pixels, by the mean over heads of the matching cost
    heads : (head, frame, 2) float64, by each head alone
    """

    mean: np.ndarray
    heads: np.ndarray


def match_point(
    query: np.ndarray, key: np.ndarray, normalisers: np.ndarray, point: np.ndarray, frame: int, layout: TokenLayout
) -> PointMatch:
    """The matches of a point of any frame, as :func:`analyses.correspondence.matching.match_points` finds them.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel)
    normalisers : of ``frame``, made by :func:`backward_normalisers`
    point : (x, y) in pixels
    frame : frame of the point, in which the match is the point itself
    layout : TokenLayout

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> cells = (9 * np.eye(35, dtype=np.float16)).reshape(1, 1, 5, 7, 35).repeat(3, axis=1)
    >>> match_point(cells, cells, backward_normalisers(cells, cells, 1), np.array([3.0, 70.0]), 1, layout).mean[2]
    array([ 3., 70.])
    """
    corners = Corners.around(
        as_points(np.asarray(point, np.float64)[None], layout, torch.device("cpu")), layout, "exact"
    )
    heads, frames, height, width, channels = key.shape
    sources = corners.sources.numpy()
    rows, columns = np.divmod(sources, width)
    asked, answered = (
        as_tensor(np.asarray(tokens[:, frame, rows, columns], np.float32)) / math.sqrt(channels)
        for tokens in (query, key)
    )
    total = torch.zeros(frames, len(sources), height * width)
    alone = torch.empty(heads, frames, len(sources), 2, dtype=torch.float64)
    forward = torch.empty(heads, frames, len(sources), height * width)
    for head, widened in _widened(key):
        logits = (widened @ asked[head].T).unflatten(0, (frames, height * width)).transpose(1, 2)
        forward[head] = torch.softmax(logits, -1)
    for head, widened in _widened(query):
        logits = (widened @ answered[head].T).unflatten(0, (frames, height * width)).transpose(1, 2)
        cost = forward[head].add_((logits - as_tensor(normalisers[head])[:, None]).exp_())
        alone[head] = cells_as_xy(cost.argmax(-1), layout).double()
        total += cost
    mean = cells_as_xy(total.argmax(-1), layout).double()
    found = [corners.read(matches)[..., 0, :].numpy().copy() for matches in (mean, alone)]
    for positions in found:
        positions[..., frame, :] = point
    return PointMatch(*found)


def _widened(tokens: np.ndarray, text: np.ndarray | None = None) -> Iterator[tuple[int, torch.Tensor]]:
    """Each head's tokens as float32 (token, channel), text last, in one buffer that the next head overwrites."""
    parts = [as_tensor(part).flatten(1, -2) for part in (tokens, text) if part is not None]
    buffer = torch.empty(sum(part.shape[1] for part in parts), tokens.shape[-1])
    places = buffer.split([part.shape[1] for part in parts])
    at_once = max(1, _PIECE // tokens.shape[-1])
    pieces = [place.split(at_once) for place in places]
    for head in range(len(tokens)):
        for into, part in zip(pieces, parts, strict=True):
            for piece, stored in zip(into, part[head].split(at_once), strict=True):
                piece.copy_(stored)
        yield head, buffer
