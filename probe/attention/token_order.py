"""Order of the tokens in an attention: positions of video and text tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from store.errors import UnsupportedBackboneError
from store.layout import TokenLayout


@dataclass(frozen=True, eq=False)
class TokenOrder:
    """Places of the video tokens, frame by frame, and of the text tokens on the token axis of an attention.

    Parameters
    ----------
    video : slice or index array
        As many as the layout has video tokens.
    text : slice, index array or None
        None where text is attended apart.
    """

    video: Any
    text: Any = None


def video_slice(order: TokenOrder, what: str) -> slice:
    """Return the place of the video tokens, for code that needs them frame by frame.

    Raises
    ------
    UnsupportedBackboneError
        Where the model orders them in another way, beginning with ``what``.

    Examples
    --------
    >>> video_slice(TokenOrder(slice(5, 110)), "An edit takes tokens")
    slice(5, 110, None)
    """
    if not isinstance(order.video, slice):
        raise UnsupportedBackboneError(
            f"{what} frame by frame, and this model orders them in another way (sparse attention by squares of "
            "cells). Its attention can be captured, not edited."
        )
    return order.video


def order_of_joint_tokens(tokens: int, layout: TokenLayout, text_position: str | None, name: str) -> TokenOrder:
    """Return the order of text tokens before or after the video tokens; spare ones are padding of the text.

    Raises
    ------
    UnsupportedBackboneError
        When the number of tokens does not fit.

    Examples
    --------
    >>> order_of_joint_tokens(110, TokenLayout(3, 5, 7, 80, 112, 9, 4), "first", "a layer")
    TokenOrder(video=slice(5, 110, None), text=slice(0, 4, None))
    """
    video = layout.video_tokens
    spare = tokens - video
    if spare < layout.text_tokens or (text_position is None and spare):
        raise UnsupportedBackboneError(
            f"{name} attended over {tokens} tokens, but {layout.frames} frames of {layout.height} x {layout.width} "
            f"cells and {layout.text_tokens} text tokens are {video + layout.text_tokens}. Something (sequence "
            "parallelism, a method that drops tokens) rearranges the tokens; switch it off before probing."
        )
    if text_position is None:
        return TokenOrder(slice(0, video))
    if text_position == "first":
        return TokenOrder(slice(spare, tokens), slice(0, layout.text_tokens))
    return TokenOrder(slice(0, video), slice(video, video + layout.text_tokens))
