"""Spatial and temporal heads of a backbone as two groups, by a rule, at random, or not split at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr

from analyses.heads.classify import BLOCK
from analyses.heads.of_clip import classify_clip_heads
from probe.backbones.backbone import Backbone
from store.arguments import checked
from store.checks import integer, one_of
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.text import counted
from store.wording import Wording

Split = Literal["exact", "paper", "code", "random", "none"]
Undecided = Literal["nearest", "neither"]
HeadGroups = dict[str, list[list[int]]]
"""Heads of each layer, by the name of the group."""

SPATIAL, TEMPORAL = "spatial", "temporal"
_NOISIEST = {"step": 1, "steps": 1000}
"""The released code shows the clip at noise index 1 of 1000."""


@checked
def head_groups(
    backbone: Backbone,
    clip: Clip,
    *,
    split: Split = "exact",
    margin: float | None = None,
    undecided: Undecided = "nearest",
    seed: int = 0,
    prompt: str | None = None,
    conditioning: Mapping[str, Any] | None = None,
) -> HeadGroups:
    """Groups of the heads of a backbone for :class:`generators.adapters.decoupled.lora.DecoupledLoRA`.

    Parameters
    ----------
    backbone : Backbone
    clip : Clip
        On which the heads are classified; of a size that the backbone takes.
    split : "exact", "paper", "code", "random" or "none"
        The first three are the rules of :func:`analyses.heads.classify.classify_heads`; "code" shows the clip under
        almost pure noise, as released, the others at the last of 50 steps. "random": as many heads of each group as by
        "exact", drawn from all layers. "none": all heads in both groups.
    margin : float, optional
        Margin of the rule.
    undecided : "nearest" or "neither"
        Group of a head to which the exact rule gives none: that of its larger density, or no group.
    seed : int
        Seed of the noise, and of "random".
    prompt : str, optional
        Shown with the clip; its own by default.
    conditioning : mapping, optional
        Further arguments of the pipeline.

    Returns
    -------
    dict with "spatial" and "temporal": a list of heads for each layer

    Raises
    ------
    InvalidInputError
        When all heads are of one class, for "code" with fewer than 128 cells in a frame, and as
        :func:`analyses.heads.of_clip.classify_clip_heads`.

    Examples
    --------
    >>> from probe import load_backbone
    >>> from store import make_scene
    >>> groups = head_groups(load_backbone("mini"), make_scene(3, prompt="a red disc moves left over blue stripes"))
    >>> sorted(groups), len(groups["spatial"])
    (['spatial', 'temporal'], 6)
    """
    one_of(split, get_args(Split), "split")
    one_of(undecided, get_args(Undecided), "undecided")
    every = [list(range(layer.heads)) for layer in backbone.layers]
    if split == "none":
        return {SPATIAL: every, TEMPORAL: every}
    if split == "code":
        _check_blocks(backbone, clip)
    rule: Any = "exact" if split == "random" else split
    when: Any = _NOISIEST if split == "code" else {}
    classes = classify_clip_heads(
        backbone, clip, preset=rule, margin=margin, seed=seed, prompt=prompt, conditioning=conditioning, **when
    )
    groups = _groups(classes, undecided)
    check_both(groups, split)
    return random_groups(groups, every, seed) if split == "random" else groups


def _groups(classes: xr.Dataset, undecided: Undecided) -> HeadGroups:
    kinds = classes["class"].values.astype(str)
    if undecided == "nearest":
        nearest = np.where(classes["log_ratio"].values > 0, TEMPORAL, SPATIAL)
        kinds = np.where(kinds == "undecided", nearest, kinds)
    return {name: [np.flatnonzero(layer == name).tolist() for layer in kinds] for name in (SPATIAL, TEMPORAL)}


def _check_blocks(backbone: Backbone, clip: Clip) -> None:
    """Raise if a frame has fewer cells than a block of the released code."""
    layout = backbone.layout(clip.height, clip.width, len(clip))
    cells = layout.height * layout.width
    if cells < BLOCK:
        raise InvalidInputError(
            f"the released rule for heads needs at least {BLOCK} cells in a frame, so that its masks of {BLOCK}-token "
            f"blocks are not empty; frames of this clip have {cells} on {backbone.name}.",
            remedy=Wording("Choose another rule, such as {split}.", split="exact"),
        )


def check_both(groups: HeadGroups, split: str) -> None:
    """Raise if a group has no heads.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_both({"spatial": [[], []], "temporal": [[0, 1], [0, 1]]}, "paper")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: split 'paper' finds no spatial heads: all 4 heads that it decides are temporal, so there are not two groups to train. Choose another rule, or pass split='none' for all heads in both groups.
    """  # noqa: E501
    counts = {name: sum(map(len, layers)) for name, layers in groups.items()}
    for name, other in ((SPATIAL, TEMPORAL), (TEMPORAL, SPATIAL)):
        if not counts[name]:
            raise InvalidInputError(
                f"split {split!r} finds no {name} heads: all {counted(counts[other], 'head')} that it decides are "
                f"{other}, so there are not two groups to train.",
                remedy=Wording("Choose another rule, or pass {split} for all heads in both groups.", split="none"),
            )


def random_groups(groups: HeadGroups, every: Sequence[Sequence[int]], seed: int) -> HeadGroups:
    """Return groups of the same sizes, of heads drawn from all layers.

    Parameters
    ----------
    groups : heads of each layer by group, no head in two
    every : all heads of each layer
    seed : int

    Examples
    --------
    >>> found = random_groups({"a": [[0], [0]], "b": [[1], []]}, [[0, 1], [0, 1]], 0)
    >>> [sum(map(len, layers)) for layers in found.values()]
    [2, 1]
    """
    places = [(layer, head) for layer, heads in enumerate(every) for head in heads]
    order = np.random.default_rng([integer(seed, "seed", min_value=0), len(places)]).permutation(len(places))
    found: HeadGroups = {}
    start = 0
    for name, layers in groups.items():
        count = sum(map(len, layers))
        chosen = sorted(places[number] for number in order[start : start + count])
        found[name] = [[head for layer, head in chosen if layer == number] for number in range(len(every))]
        start += count
    return found
