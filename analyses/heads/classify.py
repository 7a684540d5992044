"""Spatial and temporal heads of one layer: an exact rule, and the published ones."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
import xarray as xr

from analyses.arrays import BUDGET_BYTES, query_and_key
from analyses.heads.masses import attention_rows, head_masses
from probe.execution.autocast import outside_autocast
from store.arguments import Array, checked
from store.checks import finite, one_of
from store.errors import InvalidInputError
from store.layout import TokenLayout

HeadPreset = Literal["exact", "paper", "code"]

CLASSES = ("spatial", "temporal", "undecided")
MARGINS = {"exact": 1.25, "paper": 1.25, "code": 1.3}
"""Factor by which one weight must exceed the other; those of "paper" and "code" are the published ones."""

BLOCK = 128
"""Tokens in a block of the released code."""


@checked
@torch.no_grad()
@outside_autocast()
def classify_heads(
    query: Array,
    key: Array,
    layout: TokenLayout,
    text_key: Array | None = None,
    *,
    preset: HeadPreset = "exact",
    margin: float | None = None,
    radius: int = 1,
    budget_bytes: int = BUDGET_BYTES,
) -> xr.Dataset:
    """Class of each head of one layer, from the queries and keys of one clip at one step.

    A single clip says little about how stable a class is: :func:`analyses.heads.sweep.sweep_heads` measures several,
    and :func:`analyses.heads.decide.decide_heads` gives intervals.

    Parameters
    ----------
    query, key : (head, frame, y, x, channel) torch or numpy, post-norm and post-RoPE
    layout : TokenLayout
    text_key : (head, token, channel), optional
        Keys of the text tokens; the published presets leave text out.
    preset : "exact", "paper" or "code"
        * "exact": ``spatial`` is the mean weight on a cell of the same frame, ``temporal`` that on a cell of another
          frame at the same place (``radius``), each divided by its mean under uniform attention. A head is temporal
          where ``temporal > margin * spatial``, spatial where ``spatial > margin * temporal``, else undecided.
        * "paper": cosine between the attention matrix and a band mask, over tokens in the order (frame, y, x) for
          ``spatial`` and (y, x, frame) for ``temporal``; temporal where ``margin * temporal > spatial``, else spatial.
          The width of the band is not stated; one frame of tokens is used, as in the released code.
        * "code": sums of attention within bands of 128-token blocks, less than ``cells // 128`` blocks apart; temporal
          where ``temporal >= margin * spatial``, else spatial. The band is on blocks of tokens in both orders.
    margin : above 0, optional
        By default 1.25, and 1.3 for "code".
    radius : cells
        Used by "exact" only.
    budget_bytes : working memory beyond input and result

    Returns
    -------
    Dataset over ``head``
        ``spatial``, ``temporal`` (float), ``log_ratio`` = ln(temporal / spatial), ``class`` (str).

    Raises
    ------
    InvalidInputError
        For tensors that do not fit the layout, a single frame, or fewer cells than a block with preset "code": its
        masks are empty there, and it would call every head temporal.

    Notes
    -----
    Follow-Your-Motion (Ma et al., 2025), stage 1. The paper and the released code are biased in opposite directions: a
    head whose two weights are equal is temporal for "paper" and spatial for "code".

    Examples
    --------
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> cells = 40 * torch.eye(35).reshape(1, 1, 5, 7, 35).expand(1, 3, 5, 7, 35)
    >>> classify_heads(cells, cells, layout)["class"].values.tolist()
    ['temporal']
    """
    one_of(preset, tuple(MARGINS), "preset")
    margin = finite(MARGINS[preset] if margin is None else margin, "margin", above=0)
    if layout.frames < 2:
        raise InvalidInputError("heads are classified by what they attend to over time; the layout has one frame.")
    if preset == "exact":
        if margin < 1:
            raise InvalidInputError(f"margin must be at least 1 with preset 'exact'; got {margin:g}.")
        found = head_masses(query, key, layout, text_key, radius=radius, budget_bytes=budget_bytes)
        density = (found["mass"] / found["uniform"]).sel(target=["own_frame", "same_place"]).values
        spatial, temporal = density.T
        kinds = exact_classes(log_ratio(temporal, spatial), math.log(margin))
    else:
        spatial, temporal = _bands(query, key, layout, preset, budget_bytes)
        is_temporal = margin * temporal > spatial if preset == "paper" else temporal >= margin * spatial
        kinds = np.where(is_temporal, "temporal", "spatial")
    return xr.Dataset(
        {
            "spatial": ("head", spatial),
            "temporal": ("head", temporal),
            "log_ratio": ("head", log_ratio(temporal, spatial)),
            "class": ("head", kinds),
        },
        {"head": np.arange(len(spatial))},
        {"preset": preset, "margin": margin, **({"radius": radius} if preset == "exact" else {})},
    )


def log_ratio(temporal: np.ndarray, spatial: np.ndarray) -> np.ndarray:
    """ln(temporal / spatial), infinite where one of them is 0.

    Examples
    --------
    >>> log_ratio(np.array([2.0, 0.0]), np.array([2.0, 1.0])).tolist()
    [0.0, -inf]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(temporal) - np.log(spatial)


def exact_classes(ratio: np.ndarray, log_margin: float) -> np.ndarray:
    """Classes of the exact rule by the logarithm of temporal over spatial density.

    Examples
    --------
    >>> exact_classes(np.array([0.5, -0.5, 0.1]), 0.2).tolist()
    ['temporal', 'spatial', 'undecided']
    """
    return np.select([ratio > log_margin, ratio < -log_margin], ["temporal", "spatial"], "undecided")


def _bands(
    query: Array, key: Array, layout: TokenLayout, preset: HeadPreset, budget_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """(head,) spatial and temporal weights of the published rules."""
    asked, keys = query_and_key(query, key, layout)
    frames, cells = layout.frames, layout.height * layout.width
    tokens = frames * cells
    block, width = (1, cells) if preset == "paper" else (BLOCK, cells // BLOCK)
    if width < 1:
        raise InvalidInputError(
            f"preset 'code' needs at least {BLOCK} cells in a frame, so that its masks of {BLOCK}-token blocks are "
            f"not empty; the layout has {cells}. Use preset='exact' or 'paper'."
        )
    order = torch.arange(tokens, device=asked.device)
    place = (order % cells) * frames + order // cells  # place of each token in the order (y, x, frame)
    permuted = torch.argsort(place)
    sums = torch.zeros(3, len(asked), dtype=torch.float64, device=asked.device)
    for head, here, weights in attention_rows(asked.flatten(1, 2), keys.flatten(1, 2), None, budget_bytes):
        rows = torch.arange(here.start, here.stop, device=weights.device)
        weights = weights.double()
        sums[0, head] += _within_band(weights, rows, block, width)
        sums[1, head] += _within_band(weights[..., permuted], place[rows], block, width)
        sums[2, head] += weights.square().sum((-1, -2))
    spatial, temporal, squares = sums.cpu().numpy()
    if preset == "code":
        return spatial, temporal
    # both masks have the same number of ones, each row's band clipped at the ends
    low, high = _band(order, block, width, tokens)
    norms = np.sqrt(squares) * math.sqrt(float((high - low).sum()))
    return spatial / norms, temporal / norms


def _band(place: torch.Tensor, block: int, width: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """First and past-the-last position less than ``width`` blocks away from each position."""
    number = place // block
    return ((number - width + 1) * block).clamp(min=0), ((number + width) * block).clamp(max=tokens)


def _within_band(weights: torch.Tensor, place: torch.Tensor, block: int, width: int) -> torch.Tensor:
    """(head,) sums of (head, row, token) weights within the band around each row's position."""
    tokens = weights.shape[-1]
    running = torch.nn.functional.pad(weights.cumsum(-1), (1, 0))
    low, high = (end.expand(len(weights), -1)[..., None] for end in _band(place, block, width, tokens))
    return (running.gather(-1, high) - running.gather(-1, low)).sum((-1, -2))
