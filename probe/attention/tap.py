"""The attention tap: observes the queries and keys that chosen attention modules multiply, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from probe.attention.functions import mask_and_scale
from probe.attention.retarget import PROCESSOR, RetargetedAttention
from probe.attention.sites import AttentionSite
from probe.execution.autocast import outside_autocast
from store.arguments import checked
from store.errors import UnsupportedBackboneError

_CACHES = (
    "faster_cache",
    "first_block_cache",
    "layer_skip",
    "mag_cache",
    "pyramid_attention_broadcast",
    "sea_cache",
    "taylorseer_cache",
)


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One attention call, as the model made it.

    Parameters
    ----------
    layer : int
        The key under which the module was tapped.
    query, key, value : (batch, head, token, channel) tensors, views of the model's own
        Text tokens included; with gradients enabled they are part of the model's graph.
    output : tensor of the same shape, or None
        None where it was not asked for.
    mask : tensor or None
        The attention mask as the model passed it.
    scale : float
        What the products are multiplied by before the softmax.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor | None
    mask: Tensor | None
    scale: float


Observer = Callable[[AttentionCall], None]


class AttentionTap(RetargetedAttention):
    """A context manager in which ``observe`` is called at every attention of the given modules.

    Parameters
    ----------
    modules : mapping from layer number to attention module
        Fuse projections, choose an attention backend and set up parallelism before entering.
    observe : callable
        Takes an :class:`AttentionCall`; what it raises leaves through the model's forward. The recomputation of
        gradient checkpointing is not observed a second time.
    root : module, optional
        The transformer that holds the modules; rejected while a cache that skips attention is active on it.
    site : AttentionSite
        Where in the modules the attention function is called: in a diffusers processor by default, see
        :mod:`probe.attention.sites`.
    output : bool
        Whether observers are given the output, and so are called after the attention. False calls them before it, so
        that one that raises spares the model that attention.

    Raises
    ------
    UnsupportedBackboneError
        On entering, when a module calls no attention function or a cache is active.

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

    @checked
    def __init__(
        self,
        modules: Mapping[int, nn.Module],
        observe: Observer,
        *,
        root: nn.Module | None = None,
        site: AttentionSite = PROCESSOR,
        output: bool = True,
    ) -> None:
        super().__init__(modules, partial(_watch, observe, output), site)
        self._root = root

    def __enter__(self) -> Self:
        if self._root is not None:
            check_no_cache(self._root)
        return super().__enter__()


def check_no_cache(root: nn.Module) -> None:
    """Reject a transformer on which a cache is active that skips attention at some steps.

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


def _watch(
    observe: Observer, with_output: bool, layer: int, attend: Callable[..., Any], heads_first: bool
) -> Callable[..., Any]:
    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        if with_output:
            output = attend(query, key, value, *args, **kwargs)
            watch(query, key, value, output, *args, **kwargs)
            return output
        watch(query, key, value, None, *args, **kwargs)
        return attend(query, key, value, *args, **kwargs)

    def watch(query: Tensor, key: Tensor, value: Tensor, output: Tensor | None, *args: Any, **kwargs: Any) -> None:
        grad = torch.is_grad_enabled()
        if grad and torch._C._current_graph_task_id() != -1:  # checkpointing recomputes within backward
            return
        tensors: dict[str, Any] = {"query": query, "key": key, "value": value, "output": output}
        if not heads_first:
            tensors = {name: None if each is None else each.transpose(1, 2) for name, each in tensors.items()}
        mask, scale = mask_and_scale(query, args, kwargs)
        # What an observer computes is not recomputed, so checkpointing must not count its saved tensors.
        hooks = torch.autograd.graph.saved_tensors_hooks(_same, _same) if grad else nullcontext()
        with outside_autocast(), hooks:
            observe(AttentionCall(layer=layer, mask=mask, scale=scale, **tensors))

    return attention


def _same(tensor: Tensor) -> Tensor:
    return tensor
