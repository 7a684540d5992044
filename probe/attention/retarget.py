"""Attention modules that run with other attention functions while a context is open, and nothing else changed.

Rotary embedding happens inside diffusers' attention processors, so the only place where the final queries and keys
exist is the call of the attention function itself. Each chosen module gets a copy of its own processor (or forward,
see :mod:`probe.attention.sites`) that is the *same code object* run with other globals, in which the names of the
attention functions lead to replacements that know the layer. Nothing global is patched, and leaving the context puts
the original objects back.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from typing import Any, Self
from weakref import WeakKeyDictionary

from torch import nn

from probe.attention.sites import AttentionSite, ProcessorSite
from probe.attention.wrapping import check_closed
from probe.execution.compiled import CompilerHold

PROCESSOR: AttentionSite = ProcessorSite()
_serial = itertools.count()

Replace = Callable[[int, Callable[..., Any], bool], Callable[..., Any]]
"""From a layer, its attention function, and whether heads come before tokens, to what is called instead."""


class RetargetedAttention:
    """A context manager in which the attention functions of chosen modules are replaced.

    Several may be open on one module, the last entered nearest to the processor, and may close in any order. A
    processor that other code sets meanwhile stays.

    Parameters
    ----------
    modules : mapping from layer number to attention module
    replace : callable
        Makes the replacement of each attention function, see :data:`Replace`.
    site : AttentionSite
        Where in the modules the attention function is called: in a diffusers processor by default.

    Raises
    ------
    UnsupportedBackboneError
        On entering, when a module calls no attention function there.
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

    def __init__(self, modules: Mapping[int, nn.Module], replace: Replace, site: AttentionSite = PROCESSOR) -> None:
        self._modules = dict(modules)
        self._replace = replace
        self._site = site
        self._links: list[tuple[nn.Module, _Chain, _Link]] = []
        self._hold = CompilerHold()
        self._open = False

    def __enter__(self) -> Self:
        check_closed(self._open, f"this {type(self).__name__}")
        try:
            for layer, module in self._modules.items():
                self._install(layer, module)
        except BaseException:
            self._remove()
            raise
        self._hold.__enter__()
        self._open = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        self._hold.__exit__()
        self._remove()

    def _install(self, layer: int, module: nn.Module) -> None:
        check_multiplies(module, f"layer {layer}", self._site)
        link = _Link(lambda attend, heads_first: self._replace(layer, attend, heads_first))
        self._links.append((module, _chain_of(module, self._site), link))
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
        self.held: Any = None

    def put_over(self, module: nn.Module, site: AttentionSite, held: Any) -> None:
        self.close()
        self._open, self._name = True, f"probe._retargeted_{next(_serial)}"
        self.held = site.retargeted(module, held, self._name, self._switched)

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
    """The links that are open on a module, the first entered first, over what it had before."""

    def __init__(self, site: AttentionSite, base: Any) -> None:
        self.site = site
        self._base = base
        self._links: list[_Link] = []

    @property
    def top(self) -> Any:
        return self._links[-1].held if self._links else self._base

    def add(self, module: nn.Module, link: _Link) -> None:
        link.put_over(module, self.site, self.top)
        self._links.append(link)
        self.site.put(module, self.top)

    def remove(self, module: nn.Module, link: _Link) -> None:
        link.close()
        if link not in self._links:
            return
        is_ours = self.site.held(module) is self.top
        place = self._links.index(link)
        above = self._links[place + 1 :]
        del self._links[place:]
        for other in above:
            if is_ours:
                other.put_over(module, self.site, self.top)
            self._links.append(other)
        if is_ours:
            self.site.put(module, self.top)
        if not self._links and _chains.get(module) is self:
            del _chains[module]


_chains: WeakKeyDictionary[nn.Module, _Chain] = WeakKeyDictionary()


def _chain_of(module: nn.Module, site: AttentionSite) -> _Chain:
    chain = _chains.get(module)
    # someone else has set a processor over ours, or attends elsewhere in the module
    if chain is None or chain.site != site or site.held(module) is not chain.top:
        chain = _chains[module] = _Chain(site, site.held(module))
    return chain


def check_multiplies(module: nn.Module, name: str, site: AttentionSite = PROCESSOR) -> None:
    """Reject an attention module that never multiplies queries and keys where its family declares it.

    Raises
    ------
    UnsupportedBackboneError
    """
    site.check(module, name)
