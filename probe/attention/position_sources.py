"""Sources of a transformer's positions: read as tables, and put in place of its own for one call.

Two kinds exist. CogVideoX-2B adds a table to the tokens once; later families rotate the queries and keys of every
layer. Rotations are done here, in the attention itself, while the transformer's own are switched off: so queries and
keys can turn by different angles, and gradients reach the tables also where diffusers rotates in place (which fails
in float32, where the rotated slice is needed again for the gradient of the table).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from probe.attention.edit import Attend, Attention, Editor
from probe.attention.positions import AddedPositions, Positions, RotaryPositions
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout

Call = Mapping[str, Any]
Replaced = tuple[dict[str, Any], list[Editor]]
"""Keyword arguments of the call to make, and editors that belong first into every attention layer."""


class PositionSource(Protocol):
    """A way in which transformers take positions."""

    def read(self, denoiser: nn.Module, call: Call, layout: TokenLayout) -> Positions:
        """Return the positions that a transformer uses in a call."""

    def replace(self, denoiser: nn.Module, call: Call, positions: Positions) -> AbstractContextManager[Replaced]:
        """Return a context in which a call has other positions."""


@dataclass(frozen=True)
class RotaryArgument:
    """Rotary tables (token, channel) that the pipeline makes and passes under the name of an argument.

    Examples
    --------
    >>> table = torch.zeros(105, 12)
    >>> RotaryArgument("image_rotary_emb").read(None, {"image_rotary_emb": (table, table)}, TokenLayout(3, 5, 7, 80, 112, 9))
    RotaryPositions(query_cos, query_sin, key_cos, key_sin: 3 x 5 x 7 x 12)
    """  # noqa: E501

    name: str

    def read(self, denoiser: Any, call: Call, layout: TokenLayout) -> Positions:
        """Return the positions that a transformer uses in a call."""
        return _rotary(call[self.name], layout)

    @contextmanager
    def replace(self, denoiser: Any, call: Call, positions: Positions) -> Iterator[Replaced]:
        """Pass no tables and rotate in the attention instead."""
        yield {**call, self.name: None}, [rotate_by(_of_kind(positions, RotaryPositions))]


@dataclass(frozen=True)
class RotaryModule:
    """Rotary tables that a module of the transformer makes; its own become the angle 0 while others are used.

    Parameters
    ----------
    name : str
        Attribute of the transformer.
    arguments : callable
        From the transformer and a call of it to the arguments of the module.
    unfold : callable
        From a table of the module to one (token, channel), the channels of one head or of all heads together.
    halves : bool
        Whether channels that turn together are of two halves of the head, not neighbours.
    """

    name: str
    arguments: Callable[[Any, Call], tuple[Any, ...]]
    unfold: Callable[[Tensor], Tensor] = lambda table: table
    halves: bool = False

    def read(self, denoiser: Any, call: Call, layout: TokenLayout) -> Positions:
        """Return the positions that a transformer uses in a call."""
        cos, sin = getattr(denoiser, self.name)(*self.arguments(denoiser, call))
        return _rotary((self.unfold(cos), self.unfold(sin)), layout)

    @contextmanager
    def replace(self, denoiser: Any, call: Call, positions: Positions) -> Iterator[Replaced]:
        """Rotate in the attention, after the transformer's own rotation by nothing."""
        editors = [rotate_by(_of_kind(positions, RotaryPositions), halves=self.halves)]

        def neutral(module: nn.Module, args: Any, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return torch.ones_like(tables[0]), torch.zeros_like(tables[1])

        handle = getattr(denoiser, self.name).register_forward_hook(neutral)
        try:
            yield dict(call), editors
        finally:
            handle.remove()


@dataclass(frozen=True)
class PatchTable:
    """A table that CogVideoX's patch embedding adds to text and video tokens, computed or learned."""

    def read(self, denoiser: Any, call: Call, layout: TokenLayout) -> Positions:
        """Return the positions that a transformer uses in a call."""
        table = _joint_table(denoiser, call)[0, -layout.video_tokens :]
        return AddedPositions(table.reshape(layout.frames, layout.height, layout.width, -1))

    @contextmanager
    def replace(self, denoiser: Any, call: Call, positions: Positions) -> Iterator[Replaced]:
        """Add another table to the video tokens; text tokens keep theirs."""
        patch, video = denoiser.patch_embed, _of_kind(positions, AddedPositions).table.flatten(0, 2)[None]
        joint = torch.cat([_joint_table(denoiser, call)[:, : -video.shape[1]].to(video), video], dim=1)
        before = patch.use_positional_embeddings, patch.use_learned_positional_embeddings
        patch.use_positional_embeddings = patch.use_learned_positional_embeddings = False
        handle = patch.register_forward_hook(lambda module, args, tokens: tokens + joint.to(tokens.dtype))
        try:
            yield dict(call), []
        finally:
            handle.remove()
            patch.use_positional_embeddings, patch.use_learned_positional_embeddings = before


def _of_kind(positions: Positions, kind: type[Any]) -> Any:
    if not isinstance(positions, kind):
        raise InvalidInputError(f"positions must be {kind.__name__} here; got {type(positions).__name__}.")
    return positions


def _rotary(tables: tuple[Tensor, Tensor], layout: TokenLayout) -> Positions:
    cos, sin = (table.reshape(layout.frames, layout.height, layout.width, -1) for table in tables)
    return RotaryPositions(cos, sin, cos, sin)


def rotate_by(positions: RotaryPositions, *, halves: bool = False) -> Editor:
    """Return an editor that rotates queries and keys of the video tokens.

    Parameters
    ----------
    positions : RotaryPositions
    halves : bool
        Whether channels that turn together are of two halves of the head, not neighbours.

    Examples
    --------
    >>> cos, sin = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    >>> quarter = rotate_by(RotaryPositions(cos, sin, cos, sin))
    >>> ahead = torch.tensor([[[[1.0, 0.0]]]])
    >>> attention = Attention(0, ahead, ahead, ahead, None, 1.0, TokenLayout(1, 1, 1, 16, 16, 1), slice(0, 1))
    >>> quarter(attention, lambda turned: turned.query).flatten().tolist()
    [0.0, 1.0]
    """
    cos_q, sin_q, cos_k, sin_k = (table.flatten(0, 2) for table in positions.tensors().values())

    def editor(attention: Attention, attend: Attend) -> Tensor:
        query = _rotated(attention.query, attention.video, cos_q, sin_q, halves)
        key = _rotated(attention.key, attention.video, cos_k, sin_k, halves)
        return attend(dataclasses.replace(attention, query=query, key=key))

    return editor


def _rotated(tensor: Tensor, video: slice, cos: Tensor, sin: Tensor, halves: bool) -> Tensor:
    """Video tokens of (batch, head, token, channel) turned, computed in at least float32 as the models do."""
    part = tensor[:, :, video]
    real, imaginary = part.chunk(2, dim=-1) if halves else part.unflatten(-1, (-1, 2)).unbind(-1)
    across = torch.cat([-imaginary, real], dim=-1) if halves else torch.stack([-imaginary, real], dim=-1).flatten(-2)
    wide = torch.promote_types(tensor.dtype, torch.float32)
    cos, sin = (_by_head(table.to(tensor.device), tensor.shape[-1]) for table in (cos, sin))
    turned = (part.to(wide) * cos + across.to(wide) * sin).to(tensor.dtype)
    return torch.cat([tensor[:, :, : video.start], turned, tensor[:, :, video.stop :]], dim=2)


def _by_head(table: Tensor, channels: int) -> Tensor:
    """A table (token, channel) as it is, or one of all heads together as (head, token, channel)."""
    if table.shape[-1] == channels:
        return table
    return table.unflatten(-1, (-1, channels)).transpose(0, 1)


def _joint_table(denoiser: Any, call: Mapping[str, Any]) -> Tensor:
    """The added table (1, text then video, channel) of CogVideoX at the size of a call."""
    patch: Any = getattr(denoiser, "patch_embed", None)
    if not (getattr(patch, "use_positional_embeddings", False) or _learned(patch)):
        raise UnsupportedBackboneError(
            f"{type(denoiser).__name__} has neither rotary positions nor a table of added ones that ditprobe knows, so "
            "its positions cannot be replaced."
        )
    _, frames, _, height, width = call["hidden_states"].shape
    images = (frames - 1) * patch.temporal_compression_ratio + 1
    if (height, width, images) == (patch.sample_height, patch.sample_width, patch.sample_frames):
        return patch.pos_embedding
    device = call["hidden_states"].device
    table: Tensor = patch._get_positional_embeddings(height, width, images, device=device)
    return table


def _learned(patch: Any) -> bool:
    return bool(getattr(patch, "use_learned_positional_embeddings", False))
