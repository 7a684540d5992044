"""Positions of the video tokens as values: read from a transformer, and put in place of its own.

Two kinds exist. CogVideoX-2B adds a table to the tokens once; later families rotate the queries and keys of every
layer. Rotations are done by us, in the attention itself, while the transformer's own are switched off: so queries and
keys can turn by different angles, and gradients reach the tables also where diffusers rotates in place (which fails
in float32, where the rotated slice is needed again for the gradient of the table).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.attention.edit import Attend, Attention, Editor
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout


@dataclass(frozen=True, eq=False)
class Positions:
    """Position tables of the video tokens, each (frame, y, x, channel); text tokens keep what they have."""

    def tensors(self) -> dict[str, Tensor]:
        """The tables by name; ``type(self)(**tables)`` makes another one.

        Examples
        --------
        >>> sorted(AddedPositions(torch.zeros(3, 5, 7, 4)).tensors())
        ['table']
        """
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __repr__(self) -> str:
        shape = " x ".join(map(str, next(iter(self.tensors().values())).shape))
        return f"{type(self).__name__}({', '.join(self.tensors())}: {shape})"


@dataclass(frozen=True, eq=False, repr=False)
class AddedPositions(Positions):
    """A table that is added to the tokens before the first layer; channels are those of all heads together."""

    table: Tensor


@dataclass(frozen=True, eq=False, repr=False)
class RotaryPositions(Positions):
    """Cosines and sines by which each pair of neighbouring channels of a head is rotated, in every layer.

    Models repeat each value for both channels of a pair; tables that were optimised need not.
    """

    query_cos: Tensor
    query_sin: Tensor
    key_cos: Tensor
    key_sin: Tensor


def read_positions(denoiser: nn.Module, call: Mapping[str, Any], layout: TokenLayout) -> Positions:
    """The positions that a transformer uses in a call.

    Parameters
    ----------
    denoiser : diffusers transformer
    call : keyword arguments of the call
    layout : TokenLayout

    Raises
    ------
    UnsupportedBackboneError
        When it has neither rotary nor added positions that are known here.

    Examples
    --------
    >>> from probe.mini import MiniConfig, new_pipeline
    >>> denoiser = new_pipeline(MiniConfig(layers=1)).transformer
    >>> call = {"hidden_states": torch.zeros(1, 6, 12, 20, 20)}
    >>> read_positions(denoiser, call, TokenLayout(6, 10, 10, 40, 40, 6))
    AddedPositions(table: 6 x 10 x 10 x 128)
    """
    grid = (layout.frames, layout.height, layout.width, -1)
    rotary = _rotary_tables(denoiser, call)
    if rotary is not None:
        cos, sin = (table.reshape(grid) for table in rotary)
        return RotaryPositions(cos, sin, cos, sin)
    return AddedPositions(_joint_table(denoiser, call)[0, -layout.video_tokens :].reshape(grid))


def check_positions(given: Positions, own: Positions, name: str) -> None:
    """Refuse positions of another kind or size than a model's own.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> table = AddedPositions(torch.zeros(3, 5, 7, 4))
    >>> check_positions(table, table, "a model")
    """
    if type(given) is not type(own) or any(
        mine.shape != theirs.shape
        for mine, theirs in zip(given.tensors().values(), own.tensors().values(), strict=True)
    ):
        raise InvalidInputError(
            f"{name} takes {own!r} (frame x y x channel) at this size; got {given!r}. Positions belong to the backbone "
            "and the clip size that they were made for."
        )


@contextmanager
def using_positions(
    denoiser: nn.Module, call: Mapping[str, Any], positions: Positions | None
) -> Iterator[tuple[dict[str, Any], list[Editor]]]:
    """A transformer's call with other positions; None leaves it as it is.

    Yields
    ------
    The call's keyword arguments, and editors that belong first into every attention layer.
    """
    if positions is None:
        yield dict(call), []
    elif isinstance(positions, AddedPositions):
        with _added(denoiser, call, positions.table):
            yield dict(call), []
    elif isinstance(positions, RotaryPositions):
        with _unrotated(denoiser, call) as changed:
            yield changed, [_rotating(positions)]
    else:
        raise InvalidInputError(f"positions must be AddedPositions or RotaryPositions; got {type(positions).__name__}.")


# Rotary --------------------------------------------------------------------------------------------------------------


def _rotary_tables(denoiser: Any, call: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    if call.get("image_rotary_emb") is not None:  # CogVideoX: the pipeline makes them
        cos, sin = call["image_rotary_emb"]
        return cos, sin
    if isinstance(getattr(denoiser, "rope", None), nn.Module):  # Wan, HunyuanVideo
        cos, sin = denoiser.rope(call["hidden_states"])
        return cos, sin
    return None


@contextmanager
def _unrotated(denoiser: Any, call: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The transformer without rotations of its own; by the angle 0 where it cannot do without."""
    if call.get("image_rotary_emb") is not None:
        yield {**call, "image_rotary_emb": None}
        return

    def neutral(module: nn.Module, args: Any, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.ones_like(tables[0]), torch.zeros_like(tables[1])

    handle = denoiser.rope.register_forward_hook(neutral)
    try:
        yield dict(call)
    finally:
        handle.remove()


def _rotating(positions: RotaryPositions) -> Editor:
    cos_q, sin_q, cos_k, sin_k = (table.flatten(0, 2) for table in positions.tensors().values())

    def editor(attention: Attention, attend: Attend) -> Tensor:
        query = _rotated(attention.query, attention.video, cos_q, sin_q)
        key = _rotated(attention.key, attention.video, cos_k, sin_k)
        return attend(dataclasses.replace(attention, query=query, key=key))

    return editor


def _rotated(tensor: Tensor, video: slice, cos: Tensor, sin: Tensor) -> Tensor:
    """Video tokens of (batch, head, token, channel) turned, computed in at least float32 as the models do."""
    part = tensor[:, :, video]
    real, imaginary = part.unflatten(-1, (-1, 2)).unbind(-1)
    across = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    wide = torch.promote_types(tensor.dtype, torch.float32)
    cos, sin = cos.to(tensor.device), sin.to(tensor.device)
    turned = (part.to(wide) * cos + across.to(wide) * sin).to(tensor.dtype)
    return torch.cat([tensor[:, :, : video.start], turned, tensor[:, :, video.stop :]], dim=2)


# Added ---------------------------------------------------------------------------------------------------------------


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


@contextmanager
def _added(denoiser: Any, call: Mapping[str, Any], table: Tensor) -> Iterator[None]:
    patch = denoiser.patch_embed
    video = table.flatten(0, 2)[None]
    joint = torch.cat([_joint_table(denoiser, call)[:, : -video.shape[1]].to(video), video], dim=1)
    before = patch.use_positional_embeddings, patch.use_learned_positional_embeddings
    patch.use_positional_embeddings = patch.use_learned_positional_embeddings = False
    handle = patch.register_forward_hook(lambda module, args, tokens: tokens + joint.to(tokens.dtype))
    try:
        yield
    finally:
        handle.remove()
        patch.use_positional_embeddings, patch.use_learned_positional_embeddings = before
