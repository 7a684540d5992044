"""The attention tap: sees the queries and keys that chosen attention modules multiply, and changes nothing.

Rotary embedding happens inside diffusers' attention processors, so the only place where the final queries and keys
exist is the call of the attention function itself. Each tapped module gets a copy of its own processor whose
``__call__`` is the *same code object* run with other globals, in which the names of the attention functions lead to
closures that know the layer. Nothing global is patched, and leaving the context puts the original objects back.
"""

from __future__ import annotations

import copy
import itertools
import math
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from store.errors import UnsupportedBackboneError

_DISPATCH = "dispatch_attention_fn"  # diffusers' own dispatcher: (batch, token, head, channel)
_SDPA = "scaled_dot_product_attention"  # torch's: (batch, head, token, channel)
_CACHES = (
    "faster_cache",
    "first_block_cache",
    "layer_skip",
    "mag_cache",
    "pyramid_attention_broadcast",
    "sea_cache",
    "taylorseer_cache",
)
_serial = itertools.count()


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One attention call, as the model made it.

    Parameters
    ----------
    layer : int
        The key under which the module was tapped.
    query, key, value, output : (batch, head, token, channel) tensors, views of the model's own
        Text tokens included; with gradients enabled they are part of the model's graph.
    mask : tensor or None
        The attention mask as the model passed it.
    scale : float
        What the products are multiplied by before the softmax.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    mask: Tensor | None
    scale: float


Observer = Callable[[AttentionCall], None]


class AttentionTap:
    """A context manager in which ``observe`` is called after every attention of the given modules.

    Parameters
    ----------
    modules : mapping from layer number to diffusers attention module
        Fuse projections, choose an attention backend and set up parallelism before entering.
    observe : callable
        Takes an :class:`AttentionCall`; what it raises leaves through the model's forward. The recomputation of
        gradient checkpointing is not observed a second time.
    root : module, optional
        The transformer that holds the modules; refused while a cache that skips attention is active on it.

    Raises
    ------
    UnsupportedBackboneError
        On entering, when a module's processor calls no attention function or a cache is active.

    Examples
    --------
    >>> from diffusers.models.attention_processor import Attention, AttnProcessor2_0
    >>> attention = Attention(query_dim=8, heads=2, dim_head=4, processor=AttnProcessor2_0())
    >>> shapes = []
    >>> with AttentionTap({0: attention}, lambda call: shapes.append(tuple(call.query.shape))):
    ...     _ = attention(torch.zeros(1, 35, 8))
    >>> shapes
    [(1, 2, 35, 4)]
    """

    def __init__(self, modules: Mapping[int, nn.Module], observe: Observer, *, root: nn.Module | None = None) -> None:
        self._modules = dict(modules)
        self._observe = observe
        self._root = root
        self._originals: list[tuple[nn.Module, Any]] = []
        self._registered: list[str] = []

    def __enter__(self) -> AttentionTap:
        if self._root is not None:
            check_no_cache(self._root)
        try:
            for layer, module in self._modules.items():
                self._install(layer, module)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()

    def _install(self, layer: int, module: nn.Module) -> None:
        original: Any = module.processor
        check_multiplies(module, f"layer {layer}")
        name = f"probe._tapped_{next(_serial)}"
        tapped = _retarget(original, name, lambda call: self._see(layer, call))
        self._registered.append(name)
        self._originals.append((module, original))
        module.processor = tapped

    def _remove(self) -> None:
        for module, original in reversed(self._originals):
            module.processor = original
        for name in self._registered:
            sys.modules.pop(name, None)
        self._originals.clear()
        self._registered.clear()

    def _see(self, layer: int, call: dict[str, Any]) -> None:
        self._observe(AttentionCall(layer=layer, **call))


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


def check_no_cache(root: nn.Module) -> None:
    """Refuse a transformer on which a cache is active that skips attention at some steps.

    Raises
    ------
    UnsupportedBackboneError
        Names the cache.
    """
    for module in root.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in getattr(registry, "hooks", {}).values():
            kind = type(hook).__module__.rpartition(".")[2]
            if kind in _CACHES:
                raise UnsupportedBackboneError(
                    f"{type(root).__name__} has an active {kind} hook, which skips attention at some steps, so what "
                    "is captured would be incomplete. Call disable_cache() on the transformer (or remove the hook) "
                    "before probing."
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


def _retarget(processor: Any, name: str, see: Callable[[dict[str, Any]], None]) -> Any:
    """A copy of a processor that runs the same code with the attention functions replaced by watched ones."""
    function = cast(types.FunctionType, type(processor).__call__)
    # A real, registered module: the compiler looks the globals of a frame up in sys.modules by their __name__.
    module = types.ModuleType(name)
    module.__dict__.update(function.__globals__, __name__=name)
    for target in _attention_names(function):
        module.__dict__[target] = _watched(module.__dict__[target], target, see)
    sys.modules[name] = module
    call = types.FunctionType(
        function.__code__, module.__dict__, function.__name__, function.__defaults__, function.__closure__
    )
    call.__kwdefaults__ = function.__kwdefaults__
    call.__annotations__ = function.__annotations__
    tapped = copy.copy(processor)
    kind = type(processor)
    tapped.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    return tapped


def _watched(target: Any, name: str, see: Callable[[dict[str, Any]], None]) -> Any:
    if name == _DISPATCH:
        return _watch(target, see, heads_first=False)
    if name == _SDPA:
        return _watch(target, see, heads_first=True)
    # torch.nn.functional (usually as F): a stand-in module that differs in one function
    stand_in = types.ModuleType(target.__name__)
    stand_in.__dict__.update(vars(target))
    setattr(stand_in, _SDPA, _watch(getattr(target, _SDPA), see, heads_first=True))
    return stand_in


def _watch(attend: Callable[..., Any], see: Callable[[dict[str, Any]], None], *, heads_first: bool) -> Any:
    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = attend(query, key, value, *args, **kwargs)
        grad = torch.is_grad_enabled()
        if grad and torch._C._current_graph_task_id() != -1:  # checkpointing recomputes within backward
            return output
        tensors = {"query": query, "key": key, "value": value, "output": output}
        if not heads_first:
            tensors = {name: tensor.transpose(1, 2) for name, tensor in tensors.items()}
        mask = args[0] if args else kwargs.get("attn_mask")
        scale = kwargs.get("scale")
        call = {**tensors, "mask": mask, "scale": 1 / math.sqrt(query.shape[-1]) if scale is None else scale}
        # What an observer computes is not recomputed, so checkpointing must not count its saved tensors.
        with torch.autograd.graph.saved_tensors_hooks(_same, _same) if grad else nullcontext():
            see(call)
        return output

    return attention


def _same(tensor: Tensor) -> Tensor:
    return tensor
