"""The grid of the video tokens in the call under way, as the hooks of an adapter need it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from probe.attention.token_order import video_slice
from probe.attention.wrapping import named_arguments
from probe.backbones.backbone import Backbone
from store.errors import InvalidInputError, ProbeStateError
from store.layout import TokenLayout


class TokenGrid:
    """Frames, rows and columns of the video tokens of a transformer's current call.

    Parameters
    ----------
    backbone : Backbone
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._shape: tuple[int, int, int] | None = None
        self._of: tuple[Any, ...] | None = None
        self._call: dict[str, Any] = {}
        self._layout: TokenLayout | None = None

    def note(self, denoiser: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take the size of a call; a forward pre-hook of the transformer."""
        kwargs = named_arguments(denoiser, args, kwargs)
        hidden = kwargs.get("hidden_states")
        key = (tuple(hidden.shape), self._backbone.running_images) if isinstance(hidden, Tensor) else None
        if key is None or key != self._of:
            self._call = {**kwargs, "hidden_states": hidden.detach() if isinstance(hidden, Tensor) else hidden}
            layout = self._backbone.layouts_of_call(self._call)[0]
            self._layout = dataclasses.replace(layout, text_tokens=0)  # branches have texts of other lengths
            self._shape, self._of = (layout.frames, layout.height, layout.width), key

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns."""
        if self._shape is None:
            raise ProbeStateError("a layer was called outside its transformer, so where its tokens lie is unknown.")
        return self._shape

    @property
    def tokens(self) -> int:
        """Video tokens."""
        frames, height, width = self.shape
        return frames * height * width

    def rows(self, tokens: int) -> slice:
        """Rows of the video tokens among as many tokens: all, or beside the text and what conditions add.

        Raises
        ------
        InvalidInputError
            For fewer tokens than the video has.
        UnsupportedBackboneError
            Where the model orders its tokens in another way.
        """
        video = self.tokens
        if tokens < video:
            raise InvalidInputError(f"a layer has {tokens} tokens, fewer than the {video} of the video.")
        if tokens == video and self._backbone.text_position is not None:
            return slice(0, video)  # a separate stream, beside that of the text
        if self._layout is None:
            raise ProbeStateError("a layer was called outside its transformer, so where its tokens lie is unknown.")
        order = self._backbone.order_of_tokens(self._call, self._layout, tokens, "a layer")
        return video_slice(order, "An adapter adds to tokens")

    def video(self, hidden: Tensor) -> Tensor:
        """The video tokens (batch, frame, y, x, channel) of (batch, token, channel)."""
        return hidden[:, self.rows(hidden.shape[1])].unflatten(1, self.shape)
