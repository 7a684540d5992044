"""Changes of a transformer while a context is open: weights without gradients, and gradient checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from store.errors import UnsupportedBackboneError

_holders: WeakKeyDictionary[nn.Module, dict[str, list[Callable[[], None]]]] = WeakKeyDictionary()


@contextmanager
def frozen_weights(denoiser: nn.Module) -> Iterator[None]:
    """Switch off gradients of a transformer's weights; contexts may end in any order.

    Gradients of latents or of an adapter need no gradients of the weights, and this keeps much less in memory.

    Examples
    --------
    >>> layer = nn.Linear(2, 2)
    >>> with frozen_weights(layer):
    ...     layer.weight.requires_grad
    False
    >>> layer.weight.requires_grad
    True
    """
    with _held(denoiser, _weights_without_gradients):
        yield


@contextmanager
def gradient_checkpointing(denoiser: nn.Module) -> Iterator[None]:
    """Recompute layers where a gradient needs them; contexts may end in any order.

    Raises
    ------
    UnsupportedBackboneError
        For a transformer that has no checkpointing.
    """
    with _held(denoiser, _checkpointed):
        yield


@contextmanager
def _held(denoiser: nn.Module, change: Callable[[nn.Module], Callable[[], None]]) -> Iterator[None]:
    """A change of a transformer that the first context makes and the last one undoes, in whatever order they end.

    ``change`` makes it and returns a function that undoes it.
    """
    undo = _holders.setdefault(denoiser, {}).setdefault(change.__name__, [])
    undo.append((lambda: None) if undo else change(denoiser))
    try:
        yield
    finally:
        if len(undo) > 1:
            undo.pop()
        else:
            undo.pop()()


def _weights_without_gradients(denoiser: nn.Module) -> Callable[[], None]:
    changed = [weight for weight in denoiser.parameters() if weight.requires_grad]

    def undo() -> None:
        for weight in changed:
            weight.requires_grad_(True)

    for weight in changed:
        weight.requires_grad_(False)
    return undo


def _checkpointed(denoiser: Any) -> Callable[[], None]:
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = [
        (module, {name: vars(module)[name] for name in names if name in vars(module)})
        for module in denoiser.modules()
        if hasattr(module, "gradient_checkpointing")
    ]

    def undo() -> None:
        for module, values in before:
            for name in names:
                vars(module).pop(name, None)
            vars(module).update(values)

    if not getattr(denoiser, "_supports_gradient_checkpointing", True):
        raise UnsupportedBackboneError(
            f"{type(denoiser).__name__} does not support gradient checkpointing. Pass gradient_checkpointing=False."
        )
    denoiser.enable_gradient_checkpointing()
    return undo
