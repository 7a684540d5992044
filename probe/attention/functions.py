"""Attention functions that are not diffusers' or torch's: their operands by name, and whether heads come first."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from store.errors import UnsupportedBackboneError

DISPATCH = "dispatch_attention_fn"  # diffusers' own dispatcher: (batch, token, head, channel)
SDPA = "scaled_dot_product_attention"  # torch's: (batch, head, token, channel)
_OPERANDS = ("query", "key", "value")
_CANONICAL = ("attn_mask", "scale")

Replace = Callable[[Callable[..., Any], bool], Callable[..., Any]]
"""From an attention function, and whether heads come before tokens, to what is called instead."""


@dataclass(frozen=True)
class AttentionFunction:
    """A function that multiplies queries and keys, by the name under which a transformer's code finds it.

    Parameters
    ----------
    name : str
        A global name in the module of the code that calls it, or an attribute of the attention module.
    heads_first : bool
        Whether tensors are (batch, head, token, channel); otherwise (batch, token, head, channel).
    operands : three names
        Parameters of the function for the query, the key and the value; they may be passed by position too.
    mask, scale : str or None
        Its parameters for an attention mask and for what the products are multiplied by; None if it has none.

    Examples
    --------
    >>> AttentionFunction("flash_attn_func", heads_first=False, operands=("q", "k", "v"), mask=None, scale="softmax_scale")
    AttentionFunction(flash_attn_func)
    """  # noqa: E501

    name: str
    heads_first: bool
    operands: tuple[str, str, str] = _OPERANDS
    mask: str | None = "attn_mask"
    scale: str | None = "scale"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name})"

    def replaced(self, function: Callable[..., Any], replace: Replace) -> Callable[..., Any]:
        """Return a stand-in for the function that goes through ``replace``, whatever its operands are called.

        Parameters
        ----------
        function : callable
            The attention function itself.
        replace : callable
            From a function ``attend(query, key, value, *, attn_mask, scale, ...)`` and ``heads_first`` to one that is
            called the same way in its place.

        Raises
        ------
        UnsupportedBackboneError
            When the stand-in is called, for operands that are not of four axes, or a mask that the function lacks.

        Examples
        --------
        >>> import torch
        >>> def dot(q, k, v, softmax_scale=1.0):
        ...     return softmax_scale * q * k + v
        >>> named = AttentionFunction("dot", False, ("q", "k", "v"), mask=None, scale="softmax_scale")
        >>> opposite = lambda attend, heads_first: lambda query, key, value, **more: attend(-query, key, value, **more)
        >>> one = torch.ones(1, 1, 1, 1)
        >>> named.replaced(dot, opposite)(one, 3 * one, v=one, softmax_scale=0.5).item()
        -0.5
        """
        if self.name in (DISPATCH, SDPA):
            return replace(function, self.heads_first)
        names = _parameters(function)

        def attend(query: Any, key: Any, value: Any, *rest: Any, **canonical: Any) -> Any:
            if canonical.get("attn_mask") is not None and self.mask is None:
                raise UnsupportedBackboneError(f"{self.name} takes no attention mask, so none can be added.")
            own = {self._named(name, _CANONICAL, self._own): given for name, given in canonical.items()}
            if names is None:
                return function(query, key, value, *rest, **own)
            return function(**dict(zip(self.operands, (query, key, value), strict=True)), **own)

        replacement = replace(attend, self.heads_first)

        @functools.wraps(function)  # so that another one can be put over it
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if names is None:
                operands, rest, given = list(args[:3]), args[3:], dict(kwargs)
                operands += [given.pop(name) for name in self.operands[len(operands) :]]
            else:
                given, rest = {**dict(zip(names, args, strict=False)), **kwargs}, ()
                operands = [given.pop(name) for name in self.operands]
            if operands[0].ndim != 4:
                raise UnsupportedBackboneError(
                    f"{self.name} was called with a query of shape {tuple(operands[0].shape)}; batch, head, token and "
                    "channel must be axes of their own. Sequences packed into one axis cannot be probed."
                )
            named = {self._named(name, self._own, _CANONICAL): value for name, value in given.items()}
            return replacement(*operands, *rest, **named)

        return stand_in

    @property
    def _own(self) -> tuple[str | None, str | None]:
        return self.mask, self.scale

    @staticmethod
    def _named(name: str, these: tuple[str | None, ...], those: tuple[str | None, ...]) -> str:
        return dict(zip(these, those, strict=True)).get(name) or name

    def check(self, function: Any, where: str) -> None:
        """Raise for a function that does not have the operands stated here.

        Raises
        ------
        UnsupportedBackboneError
        """
        if not callable(function):
            raise UnsupportedBackboneError(
                f"{where} has no function {self.name}, which its family declares as its attention."
            )
        names = _parameters(function)
        missing = [name for name in self.operands if names is not None and name not in names]
        if missing:
            raise UnsupportedBackboneError(
                f"{where} attends with {self.name}({', '.join(names or ())}), which has no {', '.join(missing)}. Name "
                "its query, key and value in AttentionFunction(operands=...)."
            )


def _parameters(function: Any) -> list[str] | None:
    """Names of the parameters; None for compiled functions, which do not tell, and for ``*args``."""
    try:
        found = inspect.signature(function).parameters
    except ValueError:
        return None
    kinds = [parameter.kind for parameter in found.values()]
    return None if inspect.Parameter.VAR_POSITIONAL in kinds else list(found)


def mask_and_scale(query: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, float]:
    """Mask and scale of a call of PyTorch's attention, from its arguments after query, key and value.

    The scale defaults to 1 / sqrt(channels).
    """
    scale = kwargs.get("scale")
    return (args[0] if args else kwargs.get("attn_mask")), 1 / math.sqrt(query.shape[-1]) if scale is None else scale
