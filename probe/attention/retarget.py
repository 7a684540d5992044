"""Attention modules that run with other attention functions while a context is open, and nothing else changed.

Rotary embedding happens inside diffusers' attention processors, so the only place where the final queries and keys
exist is the call of the attention function itself. Each chosen module gets a copy of its own processor whose
``__call__`` is the *same code object* run with other globals, in which the names of the attention functions lead to
replacements that know the layer. Nothing global is patched, and leaving the context puts the original objects back.
"""

from __future__ import annotations

import copy
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

from torch import nn

from probe.attention.wrapping import check_closed
from store.errors import UnsupportedBackboneError

_DISPATCH = "dispatch_attention_fn"  # diffusers' own dispatcher: (batch, token, head, channel)
_SDPA = "scaled_dot_product_attention"  # torch's: (batch, head, token, channel)
_serial = itertools.count()

Replace = Callable[[int, Callable[..., Any], bool], Callable[..., Any]]
"""From a layer, its attention function, and whether heads come before tokens, to what is called instead."""


class RetargetedAttention:
    """A context manager in which the attention functions of chosen modules are replaced.

    Several may be open on one module, the last entered nearest to the processor, and may close in any order. A
    processor that someone else sets meanwhile stays.

    Parameters
    ----------
    modules : mapping from layer number to diffusers attention module
    replace : callable
        Makes the replacement of each attention function, see :data:`Replace`.

    Raises
    ------
    UnsupportedBackboneError
        On entering, when a module's processor calls no attention function.
    ProbeStateError
        On entering one that is open.

    Examples
    --------
    >>> import torch
    >>> from diffusers.models.attention_processor import Attention, AttnProcessor2_0
    >>> module = Attention(query_dim=8, heads=2, dim_head=4, processor=AttnProcessor2_0(), bias=False, out_bias=False)
    >>> def silenced(layer, attend, heads_first):
    ...     return lambda query, key, value, *args, **kwargs: torch.zeros_like(query)
    >>> with RetargetedAttention({0: module}, silenced):
    ...     print(module(torch.ones(1, 105, 8)).abs().max().item())
    0.0
    """

    def __init__(self, modules: Mapping[int, nn.Module], replace: Replace) -> None:
        self._modules = dict(modules)
        self._replace = replace
        self._links: list[tuple[nn.Module, _Chain, _Link]] = []
        self._open = False

    def __enter__(self) -> Self:
        check_closed(self._open, f"this {type(self).__name__}")
        try:
            for layer, module in self._modules.items():
                self._install(layer, module)
        except BaseException:
            self._remove()
            raise
        self._open = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        self._remove()

    def _install(self, layer: int, module: nn.Module) -> None:
        check_multiplies(module, f"layer {layer}")
        link = _Link(lambda attend, heads_first: self._replace(layer, attend, heads_first))
        self._links.append((module, _chain_of(module), link))
        self._links[-1][1].add(module, link)

    def _remove(self) -> None:
        for module, chain, link in reversed(self._links):
            chain.remove(module, link)
        self._links.clear()


class _Link:
    """One replacement on one module; closed, it is the attention that it replaced."""

    def __init__(self, replace: Callable[[Callable[..., Any], bool], Callable[..., Any]]) -> None:
        self._replace = replace
        self._name = ""
        self._open = False
        self.processor: Any = None

    def put_over(self, processor: Any) -> None:
        self.close()
        self._open, self._name = True, f"probe._retargeted_{next(_serial)}"
        self.processor = _retarget(processor, self._name, self._switched)

    def close(self) -> None:
        self._open = False
        sys.modules.pop(self._name, None)

    def _switched(self, attend: Callable[..., Any], heads_first: bool) -> Callable[..., Any]:
        replacement = self._replace(attend, heads_first)

        def attention(*args: Any, **kwargs: Any) -> Any:
            # someone else's processor may keep calling one of ours after it was closed
            return (replacement if self._open else attend)(*args, **kwargs)

        return attention


class _Chain:
    """The links that are open on a module, the first entered first, over the processor that it had before."""

    def __init__(self, base: Any) -> None:
        self._base = base
        self._links: list[_Link] = []

    @property
    def top(self) -> Any:
        return self._links[-1].processor if self._links else self._base

    def add(self, module: nn.Module, link: _Link) -> None:
        link.put_over(self.top)
        self._links.append(link)
        module.processor = self.top

    def remove(self, module: nn.Module, link: _Link) -> None:
        link.close()
        if link not in self._links:
            return
        is_ours = module.processor is self.top
        place = self._links.index(link)
        above = self._links[place + 1 :]
        del self._links[place:]
        for other in above:
            if is_ours:
                other.put_over(self.top)
            self._links.append(other)
        if is_ours:
            module.processor = self.top
        if not self._links and _chains.get(module) is self:
            del _chains[module]


_chains: WeakKeyDictionary[nn.Module, _Chain] = WeakKeyDictionary()


def _chain_of(module: nn.Module) -> _Chain:
    chain = _chains.get(module)
    if chain is None or module.processor is not chain.top:  # someone else has set a processor over ours
        chain = _chains[module] = _Chain(module.processor)
    return chain


def check_multiplies(module: nn.Module, name: str) -> None:
    """Refuse an attention module whose processor never multiplies queries and keys.

    Raises
    ------
    UnsupportedBackboneError
    """
    processor = type(module.processor)
    function = processor.__call__
    if not isinstance(function, types.FunctionType):
        raise UnsupportedBackboneError(
            f"{name} has the attention processor {processor.__name__}, whose __call__ is no plain Python function and "
            "cannot be tapped. Set a diffusers attention processor on it first."
        )
    if not _attention_names(function):
        raise UnsupportedBackboneError(
            f"{name} has the attention processor {processor.__name__}, which never multiplies queries and keys: it "
            f"calls neither {_SDPA} nor {_DISPATCH}. Its attention is linear (or otherwise without a softmax over "
            "keys), so there is no attention to probe."
        )


def _attention_names(function: types.FunctionType) -> set[str]:
    """The global names through which a processor's ``__call__`` reaches an attention function."""
    used = set(_names(function.__code__))
    found = used & {_DISPATCH, _SDPA} & set(function.__globals__)
    if _SDPA in used:
        found |= {name for name in used if hasattr(function.__globals__.get(name), _SDPA)}
    return found


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _retarget(processor: Any, name: str, replace: Callable[[Callable[..., Any], bool], Any]) -> Any:
    """A copy of a processor that runs the same code with the attention functions replaced."""
    function = cast(types.FunctionType, type(processor).__call__)
    # A real, registered module: the compiler looks the globals of a frame up in sys.modules by their __name__.
    module = types.ModuleType(name)
    module.__dict__.update(function.__globals__, __name__=name)
    for target in _attention_names(function):
        module.__dict__[target] = _replaced(module.__dict__[target], target, replace)
    sys.modules[name] = module
    call = types.FunctionType(
        function.__code__, module.__dict__, function.__name__, function.__defaults__, function.__closure__
    )
    call.__kwdefaults__ = function.__kwdefaults__
    call.__annotations__ = function.__annotations__
    copied = copy.copy(processor)
    kind = type(processor)
    copied.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    return copied


def _replaced(target: Any, name: str, replace: Callable[[Callable[..., Any], bool], Any]) -> Any:
    """Stand-in that a processor finds under the name of an attention function, or of the module that holds it."""
    if name in (_DISPATCH, _SDPA):
        return replace(target, name == _SDPA)
    # torch.nn.functional (usually as F): a stand-in module that differs in one function
    stand_in = types.ModuleType(target.__name__)
    stand_in.__dict__.update(vars(target))
    setattr(stand_in, _SDPA, replace(getattr(target, _SDPA), True))
    return stand_in
