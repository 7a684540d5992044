"""Positions of the video tokens as values: tables that are added to the tokens, or that rotate queries and keys."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from store.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class Positions:
    """Position tables of the video tokens, each (frame, y, x, channel); text tokens keep what they have."""

    def tensors(self) -> dict[str, Tensor]:
        """The tables by name; ``type(self)(**tables)`` makes another one.

        Examples
        --------
        >>> import torch
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


def check_positions(given: Positions, own: Positions, name: str) -> None:
    """Raise for positions of another kind or size than a model's own.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> import torch
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
