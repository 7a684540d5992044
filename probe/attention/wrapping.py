"""Methods of one object that do something more while a context is open, whatever the order in which contexts close."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from store.errors import ProbeStateError

_MISSING = object()
_STACK = "_ditprobe_wrappers"

Around = Callable[..., Any]
"""Called with the wrapped method, then with the arguments of the call."""


class _Wrappers:
    """Those open on one method, the first opened first, and the function installed on the object for all of them."""

    def __init__(self, owner: Any, name: str) -> None:
        self.before = vars(owner).get(name, _MISSING)
        self.arounds: list[Around] = []
        self.function = _Wrapper(self, owner, name)


class _Wrapper:
    """A method as an attribute of one object; a copy of the object gets its own plain method instead."""

    def __init__(self, wrappers: _Wrappers, owner: Any, name: str) -> None:
        original = getattr(owner, name)
        functools.update_wrapper(self, original)  # pipelines read the signature, which follows __wrapped__
        setattr(self, _STACK, wrappers)
        self._owner, self._name, self._original = owner, name, original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method = self._original
        for around in getattr(self, _STACK).arounds:
            method = functools.partial(around, method)
        return method(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._owner))  # which copy.deepcopy notes before it copies the attributes
        return self if copied is None else getattr(type(self._owner), self._name).__get__(copied)


@contextmanager
def wrapped_method(owner: Any, name: str, around: Around) -> Iterator[None]:
    """Let the calls of a method of one object go through ``around``; others may open and close in any order.

    When the last one closes, the object is what it was. A wrapper that other code has added meanwhile stays.

    Parameters
    ----------
    owner : object
    name : str
        Name of one of its methods.
    around : callable
        See :data:`Around`. The last one opened is called first.

    Examples
    --------
    >>> class Counter:
    ...     def add(self, number):
    ...         return number + 1
    >>> counter = Counter()
    >>> with wrapped_method(counter, "add", lambda add, number: 10 * add(number)):
    ...     counter.add(1)
    20
    >>> counter.add(1), vars(counter)
    (2, {})
    """
    installed = vars(owner).get(name)
    wrappers = getattr(installed, _STACK, None)
    if wrappers is None or wrappers.function is not installed:  # functools.wraps of someone else copies the attribute
        wrappers = _Wrappers(owner, name)
        setattr(owner, name, wrappers.function)
    wrappers.arounds.append(around)
    try:
        yield
    finally:
        wrappers.arounds.remove(around)
        if not wrappers.arounds and vars(owner).get(name) is wrappers.function:
            if wrappers.before is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, wrappers.before)


def without_wrappers(copied: Any) -> Any:
    """A copy of an object, without what was wrapped around methods of the one it was copied from.

    What replaces a method on an instance refers to that instance, so on a copy it would change the original.

    Examples
    --------
    >>> import copy
    >>> class Counter:
    ...     def add(self, number):
    ...         return number + 1
    >>> counter = Counter()
    >>> with wrapped_method(counter, "add", lambda add, number: 0):
    ...     counter.add(1), without_wrappers(copy.copy(counter)).add(1)
    (0, 2)
    """
    for name, value in list(vars(copied).items()):
        if callable(value) and callable(getattr(type(copied), name, None)):
            delattr(copied, name)
    return copied


def check_closed(is_open: bool, what: str) -> None:
    """Raise if a context is already open.

    Raises
    ------
    ProbeStateError

    Examples
    --------
    >>> check_closed(False, "this probe")
    """
    if is_open:
        raise ProbeStateError(f"{what} is open already and cannot be entered twice. Make a second one.")


def named_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of a module by name, those given by position too.

    Examples
    --------
    >>> named_arguments(nn.Bilinear(1, 1, 1), ("first",), {"input2": "second"})
    {'input1': 'first', 'input2': 'second'}
    """
    if not args:
        return dict(kwargs)
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}
