"""Edits of attention: chosen layers attend through editors while a context is open; nothing else changes.

Where :class:`probe.AttentionTap` watches, an editor may change queries, keys and values, or compute the output by
itself. A tap that was open before sees what is multiplied in the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from probe.attention.functions import mask_and_scale
from probe.attention.retarget import PROCESSOR, RetargetedAttention
from probe.attention.sites import AttentionSite
from probe.attention.token_order import TokenOrder, video_slice
from store.arguments import checked
from store.layout import TokenLayout


@dataclass(frozen=True, eq=False)
class Attention:
    """Operands that an attention is about to multiply.

    Parameters
    ----------
    layer : int
    query, key, value : (batch, head, token, channel)
        Post-norm and post-RoPE; text tokens included.
    mask : tensor or None
        As the model passed it, broadcast over (batch, head, token, token); True or 0 lets attend.
    scale : float
        What the products are multiplied by before the softmax.
    layout : TokenLayout
        Frames and cells of the video tokens.
    video : slice
        Where they are among all tokens, frame by frame.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float
    layout: TokenLayout
    video: slice

    @property
    def text(self) -> slice | None:
        """Place of the other tokens: before the video tokens or after them; None if there are none."""
        if self.video.start > 0:
            return slice(0, self.video.start)
        tokens = self.key.shape[2]
        return slice(self.video.stop, tokens) if self.video.stop < tokens else None

    def of(self, queries: slice) -> Attention:
        """The same attention for some of the query tokens."""
        mask = self.mask
        if mask is not None and mask.shape[-2] > 1:
            mask = mask[..., queries, :]
        return dataclasses.replace(self, query=self.query[:, :, queries], mask=mask)


Attend = Callable[[Attention], Tensor]
"""From queries, keys and values to the output (batch, head, token, channel)."""


class Editor(Protocol):
    """Replacement of an attention: takes what would be multiplied and the attention that would do it.

    ``attend`` may be called with other tensors, of other numbers of tokens too, or not at all.
    """

    def __call__(self, attention: Attention, attend: Attend, /) -> Tensor:
        """The output (batch, head, token, channel)."""


class AttentionEdit(RetargetedAttention):
    """A context manager in which the attention of chosen modules goes through editors.

    Parameters
    ----------
    modules : mapping from layer number to attention module
    editors : mapping from layer number to editors
        The first one is handed the model's own queries and keys; its ``attend`` is the second, and so on; that of the
        last is the model's own attention. Layers without editors are left alone.
    layout : TokenLayout
    text_position : "first", "last" or None
        Where the text is among the tokens of an attention.
    order : callable, optional
        From the tokens of an attention to their :class:`probe.attention.token_order.TokenOrder`, where more than the
        text is concatenated to those of the video.
    site : AttentionSite
        Where in the modules the attention function is called: in a diffusers processor by default.

    Raises
    ------
    UnsupportedBackboneError
        On entering, when a module calls no attention function; in a layer whose video tokens are not
        frame by frame.

    Examples
    --------
    >>> import torch
    >>> from diffusers.models.attention_processor import Attention as Module, AttnProcessor2_0
    >>> module = Module(query_dim=8, heads=2, dim_head=4, processor=AttnProcessor2_0(), bias=False, out_bias=False)
    >>> layout = TokenLayout(3, 5, 7, 80, 112, 9)
    >>> silent = lambda attention, attend: torch.zeros_like(attention.query)
    >>> with AttentionEdit({0: module}, {0: [silent]}, layout, None):
    ...     print(module(torch.ones(1, 105, 8)).abs().max().item())
    0.0
    """

    def __init__(
        self,
        modules: Mapping[int, nn.Module],
        editors: Mapping[int, Sequence[Editor]],
        layout: TokenLayout,
        text_position: str | None,
        *,
        order: Callable[[int], TokenOrder] | None = None,
        site: AttentionSite = PROCESSOR,
    ) -> None:
        super().__init__({layer: modules[layer] for layer, chain in editors.items() if chain}, self._edited, site)
        self._editors = editors
        self._layout = layout
        self._text_first = text_position == "first"
        self._order = order

    def _edited(self, layer: int, attend: Callable[..., Any], heads_first: bool) -> Callable[..., Any]:
        return _replace(attend, lambda own, tensors: self._edit(layer, own, tensors), heads_first=heads_first)

    def _edit(self, layer: int, own: Attend, tensors: dict[str, Any]) -> Tensor:
        tokens, count = tensors["query"].shape[2], self._layout.video_tokens
        video = slice(tokens - count, tokens) if self._text_first else slice(0, count)
        if self._order is not None:
            video = video_slice(self._order(tokens), "An edit of an attention takes tokens")
        attend = own
        for editor in reversed(self._editors[layer]):
            attend = _before(editor, attend)
        return attend(Attention(layer=layer, layout=self._layout, video=video, **tensors))


def _before(editor: Editor, attend: Attend) -> Attend:
    return lambda attention: editor(attention, attend)


Edit = Callable[[Attend, dict[str, Any]], Tensor]


def _replace(attend: Callable[..., Any], edit: Edit, *, heads_first: bool) -> Any:
    def turned(tensor: Tensor) -> Tensor:
        return tensor if heads_first else tensor.transpose(1, 2)

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        def own(wanted: Attention) -> Tensor:
            tensors = (turned(tensor) for tensor in (wanted.query, wanted.key, wanted.value))
            rest, named = args, kwargs
            if rest:
                rest = (wanted.mask, *rest[1:])
            elif wanted.mask is not None or "attn_mask" in named:
                named = {**named, "attn_mask": wanted.mask}
            return turned(attend(*tensors, *rest, **named))

        tensors: dict[str, Any] = {name: turned(x) for name, x in zip(_NAMES, (query, key, value), strict=True)}
        tensors["mask"], tensors["scale"] = mask_and_scale(query, args, kwargs)
        return turned(edit(own, tensors))

    return attention


_NAMES = ("query", "key", "value")


@checked
def inject(key: Tensor, value: Tensor) -> Editor:
    """An editor that attends to other keys and values, such as those of a reference (DiTFlow's injection).

    Parameters
    ----------
    key, value : (1 or batch, head, token, channel)
        One for all batch elements, so for both branches of guidance, or one for each.

    Examples
    --------
    >>> import torch
    >>> def mean(attention, attend):
    ...     return attention.value.mean(2, keepdim=True).expand_as(attention.query)
    >>> mine, other = torch.zeros(2, 1, 3, 4), torch.ones(1, 1, 3, 4)
    >>> layout = TokenLayout(3, 1, 1, 16, 16, 9)
    >>> attention = Attention(0, mine, mine, mine, None, 0.5, layout, slice(0, 3))
    >>> inject(other, other)(attention, lambda seen: mean(seen, None)).unique()
    tensor([1.])
    """

    def editor(attention: Attention, attend: Attend) -> Tensor:
        theirs = dataclasses.replace(
            attention, key=key.expand_as(attention.key), value=value.expand_as(attention.value)
        )
        return attend(theirs)

    return editor
