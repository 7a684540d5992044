"""Cross-attention guidance: away from the prediction of a model whose frames do not attend to each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analyses.kernels.products import attention_with_lse
from analyses.selection.defaults import chosen_layers
from analyses.selection.guided import guided_layers
from analyses.selection.layer_selection import LayerSelection
from generators.guidance.preset import GuidancePreset
from generators.sampling.step import Run, Step
from generators.sampling.strategy import Strategy
from probe.attention.edit import Attend, Attention, Editor
from probe.backbones.backbone import Backbone
from probe.execution.autocast import outside_autocast
from store.arguments import check_fields, checked
from store.checks import finite
from store.selection import Selection

CHUNK_BYTES = 256 * 2**20
"""Largest size in bytes of the logits that are held at once, unless a single query needs more."""


@dataclass(frozen=True)
class CrossAttentionGuidance(Strategy):
    """Cross-attention guidance, CAG (DiffTrack, Nam et al. 2025): a strategy for :func:`generators.sample`.

    In a second pass the attention of video tokens to *other* frames is set to zero in the chosen layers, after the
    softmax. The change of the conditional prediction, times ``scale``, is added to every branch, so the guided
    prediction is uncond + w (cond - uncond) + scale (cond - perturbed). A step takes one additional pass of one branch.

    Parameters
    ----------
    layers : iterable of int or LayerSelection, optional
        By default those of :func:`analyses.selection.guided.guided_layers`. Negative layers count from the end. The
        step of a selection is not used: every step is guided, or those of ``steps``.
    scale : float
        Strength of the guidance; 1 as published, 0 switches it off.
    steps : iterable of int, optional
        Guided steps, all by default. Negative steps count from the end.
    preset : "exact", "difftrack" or "renormalised"
        "exact" keeps the remaining attention weights unchanged, as published; "renormalised" rescales them to sum to 1;
        "difftrack" follows the released code: "renormalised" in runs without classifier-free guidance, otherwise
        "exact".

    Raises
    ------
    InvalidInputError
        For an unknown preset or a scale that is not finite, when made; for an unknown backbone without ``layers``,
        before the model runs.
    UnknownLayerError
        Before the model runs, for a layer or a step that does not exist.

    Examples
    --------
    >>> from generators.sampling.sample import sample
    >>> from probe import load_backbone
    >>> prompt = "a red disc moves left over blue stripes"
    >>> sample(load_backbone("mini"), prompt, CrossAttentionGuidance(steps=range(1)), steps=2).images.shape
    (6, 40, 40, 3)
    """

    layers: Iterable[int] | LayerSelection | None = None
    scale: float = 1.0
    steps: Iterable[int] | None = None
    preset: GuidancePreset = "exact"

    def __post_init__(self) -> None:
        check_fields(self)
        finite(self.scale, "scale")
        for name in ("layers", "steps"):
            numbers = getattr(self, name)
            if isinstance(numbers, LayerSelection):
                continue  # the model of the selection is checked when the backbone is known
            object.__setattr__(self, name, None if numbers is None else tuple(numbers))

    def start(self, run: Run) -> None:
        """Raise for layers and steps that do not exist.

        Raises
        ------
        InvalidInputError, UnknownLayerError
        """
        self.resolve(run.backbone, run.steps)

    def resolve(self, backbone: Backbone, steps: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The layers and the steps of a run that are guided, ascending.

        Raises
        ------
        InvalidInputError, UnknownLayerError
        """
        layers = guided_layers(backbone) if self.layers is None else chosen_layers(self.layers, backbone)
        found = Selection("all" if self.steps is None else self.steps, layers).resolve(len(backbone.layers), steps, 1)
        return found.layers, found.steps

    def delta(self, step: Step, prediction: Tensor) -> Tensor | None:
        """The scaled difference to the perturbed prediction at a guided step."""
        layers, steps = self.resolve(step.run.backbone, step.run.steps)
        if step.number not in steps or self.scale == 0:
            return None
        editor = within_frames(self.preset == "renormalised" or (self.preset == "difftrack" and not step.run.guided))
        return self.scale * (prediction - step.predict(editors=dict.fromkeys(layers, editor)))


@checked
def within_frames(renormalise: bool = False, *, chunk_bytes: int = CHUNK_BYTES) -> Editor:
    """An editor in which a video token attends only to its own frame and to text; text attends as before.

    Parameters
    ----------
    renormalise : bool
        False keeps each weight of the softmax over all tokens, so that they sum to less than 1.
    chunk_bytes : int
        Where no fused attention returns its log-sum-exp (gradients, masks by query), queries are processed in chunks
        whose float32 logits over all tokens are at most this large.

    Notes
    -----
    The weights of the softmax over all tokens on the query's own frame and the text equal those of a softmax over these
    tokens alone, times exp(lse_kept - lse_all). This takes two fused attentions, the first with the frames as a batch.

    Examples
    --------
    >>> from store.layout import TokenLayout
    >>> even, value = torch.zeros(1, 1, 3, 2), torch.ones(1, 1, 3, 2)
    >>> attention = Attention(0, even, even, value, None, 1.0, TokenLayout(3, 1, 1, 16, 16, 9), slice(0, 3))
    >>> within_frames()(attention, None)[0, 0, :, 0]
    tensor([0.3333, 0.3333, 0.3333])
    >>> within_frames(renormalise=True)(attention, None)[0, 0, :, 0]
    tensor([1., 1., 1.])
    """

    def editor(attention: Attention, attend: Attend) -> Tensor:
        fused = _fused(attention, renormalise)
        if fused is not None:
            parts = [fused]
        else:
            converted = replace(attention, key=attention.key.float(), value=attention.value.float())
            chunks = _chunks(attention, chunk_bytes)
            parts = [_kept(converted.of(queries), frame, renormalise) for frame, queries in chunks]
        text = attention.text
        if text is not None:
            own = attend(attention.of(text))
            parts.insert(0 if text.start == 0 else len(parts), own)
        return torch.cat(parts, dim=2)

    return editor


def _fused(attention: Attention, renormalise: bool) -> Tensor | None:
    """Output (batch, head, video token, channel) by fused attentions; None if they do not apply."""
    mask, layout = attention.mask, attention.layout
    if mask is not None and (mask.ndim != 4 or mask.shape[-2] != 1):
        return None
    query = attention.query[:, :, attention.video]
    frames = (layout.frames, layout.height * layout.width)
    kept = attention_with_lse(
        _by_frame(query, frames),
        *(_own_and_text(each, attention, frames) for each in (attention.key, attention.value)),
        scale=attention.scale,
        mask=None if mask is None else _mask_of_kept(mask, attention, frames),
    )
    if kept is None:
        return None
    output = _joined(kept[0], len(query))
    if renormalise:
        return output
    over_all = attention_with_lse(query, attention.key, attention.value, scale=attention.scale, mask=mask)
    if over_all is None:
        return None
    share = (_joined(kept[1][..., None], len(query)) - over_all[1][..., None]).exp_()
    return (output * share).to(query.dtype)


def _by_frame(tokens: Tensor, frames: tuple[int, int]) -> Tensor:
    """(batch, head, frame x cell, channel) as (batch x frame, head, cell, channel)."""
    return tokens.unflatten(2, frames).transpose(1, 2).flatten(0, 1)


def _joined(tokens: Tensor, batch: int) -> Tensor:
    """(batch x frame, head, cell, channel) as (batch, head, frame x cell, channel)."""
    return tokens.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)


def _own_and_text(tokens: Tensor, attention: Attention, frames: tuple[int, int]) -> Tensor:
    """(batch x frame, head, cell and text token, channel) keys or values of each frame and of the text."""
    own = _by_frame(tokens[:, :, attention.video], frames)
    if attention.text is None:
        return own
    return torch.cat([own, tokens[:, :, attention.text].repeat_interleave(frames[0], 0)], 2)


def _mask_of_kept(mask: Tensor, attention: Attention, frames: tuple[int, int]) -> Tensor:
    """(batch x frame, head or 1, 1, cell and text token) of a mask (batch or 1, head or 1, 1, token)."""
    mask = mask.expand(len(attention.query), -1, -1, attention.key.shape[2]).transpose(-1, -2)
    return _own_and_text(mask, attention, frames).transpose(-1, -2)


def _chunks(attention: Attention, chunk_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Tokens of each frame, in parts whose logits over all tokens are small enough."""
    batch, heads, tokens, _ = attention.key.shape
    count = max(1, chunk_bytes // (4 * batch * heads * tokens))
    cells = attention.layout.height * attention.layout.width
    for start in range(attention.video.start, attention.video.stop, cells):
        for first in range(start, start + cells, count):
            yield slice(start, start + cells), slice(first, min(first + count, start + cells))


@outside_autocast()
def _kept(attention: Attention, frame: slice, renormalise: bool) -> Tensor:
    """Output (batch, head, query, channel) of queries of one frame from that frame and the text."""
    kept = [frame] if attention.text is None else [frame, attention.text]
    logits = torch.cat([_logits(attention, keys) for keys in kept], dim=-1)
    over = logits if renormalise else _logits(attention, slice(None))
    weights = (logits - over.logsumexp(-1, keepdim=True)).exp()
    value = torch.cat([attention.value[:, :, keys] for keys in kept], dim=2)
    return (weights @ value).to(attention.query.dtype)


def _logits(attention: Attention, keys: slice) -> Tensor:
    """Products (batch, head, query, key) in float32, minus infinity where the mask forbids."""
    logits = attention.query.float() @ attention.key[:, :, keys].transpose(-1, -2) * attention.scale
    if attention.mask is None:
        return logits
    mask = attention.mask[..., keys]
    return logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
