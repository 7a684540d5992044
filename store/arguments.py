"""Arguments checked against their annotations: the kind of each one, before the function looks at its value.

Signatures state what public functions take; :func:`checked` makes them reject anything else with an
:class:`~store.errors.InvalidInputError` that names the argument. Ranges, shapes and what belongs together are checked
by the function itself, with :mod:`store.checks`.
"""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

import numpy as np

from store.checks import flag, integer, must_be, number, one_of, shown, text
from store.errors import InvalidInputError

F = TypeVar("F", bound=Callable[..., Any])

_ARRAY = "an array of numbers"

Array = Annotated[Any, _ARRAY]
"""Numbers as a NumPy array, a tensor, a DataArray or nested lists: real, none masked, not of type object."""


def checked(function: F) -> F:
    """Check the arguments of every call of a function or method against its annotations.

    Parameters of classes, of ``int``, ``float`` (infinities pass, NaN does not), ``bool``, ``str``, ``Literal``,
    ``Array``, callables, protocols, and of mappings, sequences and iterables of those are checked; ``Any`` is not. An
    argument that is the default passes.

    Examples
    --------
    >>> @checked
    ... def half(number: float, *, times: int = 1) -> float:
    ...     return number / 2**times
    >>> half(3, times=2)
    0.75
    >>> half("x")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: number must be a number; got 'x'.
    """
    return _checked(function, ())


def checked_but(*own: str) -> Callable[[F], F]:
    """Check as :func:`checked` does, without the arguments that the function words better itself.

    Examples
    --------
    >>> @checked_but("prompt")
    ... def words(prompt: str, most: int) -> list[str]:
    ...     return str(prompt).split()[:most]
    >>> words(3, 2)
    ['3']
    """
    return lambda function: _checked(function, own)


def _checked(function: F, own: tuple[str, ...]) -> F:
    signature = inspect.signature(function)
    hints: dict[str, Any] | None = None  # read at the first call, when every name that they use is known

    def check(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            bound = signature.bind(*arguments, **options)
        except TypeError:
            return  # the call itself raises for missing or surplus arguments
        nonlocal hints
        if hints is None:
            hints = {name: hint for name, hint in _hints(function).items() if name not in own}
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            if name in hints and value is not parameter.default and parameter.kind not in _VARIABLE:
                check_kind(value, hints[name], name)

    def call(*arguments: Any, **options: Any) -> Any:
        check(arguments, options)
        return function(*arguments, **options)

    return typing.cast(F, functools.wraps(function)(call))


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_fields(instance: Any) -> None:
    """Check the fields of a dataclass against their annotations; for ``__post_init__``.

    Raises
    ------
    InvalidInputError
    """
    hints = _field_hints(type(instance))
    for item in dataclasses.fields(instance):
        if item.init and getattr(instance, item.name) is not item.default:
            check_kind(getattr(instance, item.name), hints.get(item.name, Any), item.name)


def check_kind(value: Any, hint: Any, name: str) -> None:
    """Raise for a value that is not of the annotated kind.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_kind([1, 2.5], list[int], "layers")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: layers must be integers; got one that is 2.5.
    """
    hint = getattr(hint, "__value__", hint)
    simple = _SIMPLE.get(hint) if isinstance(hint, type) else None
    if simple is not None:
        simple(value, name)
        return
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object, None) or isinstance(hint, (TypeVar, str, typing.ForwardRef)):
        if hint is None and value is not None:
            raise must_be(name, "None", value)
    elif origin is Annotated:
        if _ARRAY in inner[1:]:
            _check_array(value, name)
    elif origin is Literal:
        one_of(value, inner, name)
    elif origin in (Union, types.UnionType):
        _check_union(value, inner, name)
    elif origin is abc.Callable or hint is abc.Callable:
        _need(callable(value), value, name, "callable")
    elif origin is tuple and inner and inner[-1] is not Ellipsis:
        _check_fixed(value, inner, name)
    elif isinstance(origin, type) and issubclass(origin, abc.Mapping):
        _need(isinstance(value, abc.Mapping), value, name, "a mapping")
        for key, item in value.items():
            check_kind(key, inner[0], f"the keys of {name}")
            if inner[1] is not float or item == item:  # a measurement by name may be NaN
                check_kind(item, inner[1], f"{name}[{shown(key)}]")
    elif isinstance(origin, type) and issubclass(origin, abc.Iterable):
        _check_items(value, origin, inner[0] if inner else Any, name)
    elif isinstance(origin or hint, type):
        _check_class(value, origin or hint, name)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function; those whose names are imported for type checkers alone are left out."""
    space, found = getattr(inspect.unwrap(function), "__globals__", {}), {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        try:
            found[name] = eval(hint, space) if isinstance(hint, str) else hint
        except NameError:
            continue
    return found


_fields: dict[type, dict[str, Any]] = {}


def _field_hints(kind: type) -> dict[str, Any]:
    if kind not in _fields:
        _fields[kind] = typing.get_type_hints(kind, include_extras=True)
    return _fields[kind]


def _need(fits: bool, value: Any, name: str, what: str) -> None:
    if not fits:
        raise must_be(name, f"{what}", value)


def _check_union(value: Any, kinds: tuple[Any, ...], name: str) -> None:
    if value is None and type(None) in kinds:
        return
    optional, kinds = type(None) in kinds, tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1 and typing.get_origin(kinds[0]) is Literal:
        one_of(value, (*typing.get_args(kinds[0]), *[None] * optional), name)
    elif len(kinds) == 1:
        check_kind(value, kinds[0], name)
    if len(kinds) == 1:
        return
    if isinstance(value, str) and any((typing.get_origin(kind) or kind) in (os.PathLike, Path) for kind in kinds):
        _need(bool(value) and "\0" not in value, value, name, "a path")
    wanted = []
    for kind in kinds:
        try:
            check_kind(value, kind, name)
            return
        except InvalidInputError as error:
            wanted.append(error.wanted or "of another kind")
    raise must_be(name, " or ".join(dict.fromkeys(wanted)), value)


def _check_fixed(value: Any, kinds: tuple[Any, ...], name: str) -> None:
    fits = isinstance(value, (abc.Sequence, np.ndarray)) and not isinstance(value, (str, bytes))
    fits = fits and getattr(value, "ndim", 1) > 0
    _need(fits and len(value) == len(kinds), value, name, f"{len(kinds)} values")
    for item, kind in zip(value, kinds, strict=True):
        _check_item(item, kind, name)


def _check_items(value: Any, origin: type, kind: Any, name: str) -> None:
    sized = issubclass(origin, abc.Sequence) or origin in (tuple, list)
    kinds: Any = (abc.Sequence, np.ndarray) if kind in (int, float, bool, Any) else abc.Sequence
    fits = isinstance(value, kinds if sized else abc.Iterable)
    fits = fits and not isinstance(value, (str, bytes, abc.Mapping)) and getattr(value, "ndim", 1) > 0
    _need(fits or (isinstance(value, str) and kind is str), value, name, _LISTED)
    if isinstance(value, range):
        _need(len(value) <= _MOST, value, name, f"a list of at most {_MOST} values")
        value = value[:1]
    if hasattr(value, "__len__") and kind is not Any and not isinstance(value, str):
        for item in value:
            _check_item(item, kind, name)


_MOST = 10**7
_LISTED = "a list or another iterable"


def _check_item(item: Any, kind: Any, name: str) -> None:
    try:
        check_kind(item, kind, name)
    except InvalidInputError as error:
        if kind in _PLURAL:
            refusal = InvalidInputError(f"{name} must be {_PLURAL[kind]}; got one that is {shown(item)}.")
            refusal.wanted = _PLURAL[kind]
            raise refusal from error
        raise


def _check_array(value: Any, name: str) -> None:
    """Raise for what holds no real numbers, and masked arrays, whose mask would be lost."""
    data: Any = value.data if hasattr(value, "dims") and hasattr(value, "data") else value
    if np.ma.is_masked(data):
        raise InvalidInputError(
            f"{name} is a masked array, and the mask would be lost. Fill it ({name}.filled(...)), or leave out what is "
            "masked."
        )
    if isinstance(data, (list, tuple)):
        try:
            data = np.asarray([np.asarray(each) for each in data]) if data else np.zeros(0)
        except (ValueError, TypeError, RuntimeError):
            data = None
    if hasattr(data, "is_complex"):  # a tensor
        real = not data.is_complex() and data.device.type != "meta" and str(data.layout) == "torch.strided"
        _need(real, value, name, f"{_ARRAY} that are real, dense and in memory")
    else:
        _need(getattr(getattr(data, "dtype", None), "kind", "?") in "biuf", value, name, _ARRAY)


def _check_class(value: Any, kind: type, name: str) -> None:
    if getattr(kind, "_is_protocol", False):
        wanted = [part for part in (*vars(kind), *getattr(kind, "__annotations__", {})) if not part.startswith("_")]
        missing = [part for part in dict.fromkeys(wanted) if not hasattr(value, part)]
        if "__call__" in vars(kind):
            _need(callable(value) and not isinstance(value, type), value, name, "callable")
        _need(not missing, value, name, f"a {kind.__name__} (it lacks {', '.join(missing)})")
    elif kind is np.ndarray:
        _need(isinstance(value, np.ndarray), value, name, "a NumPy array")
        _check_array(value, name)
    elif kind in (os.PathLike, Path):
        _need(isinstance(value, os.PathLike), value, name, "a path")
    else:
        _need(isinstance(value, kind), value, name, f"a {kind.__name__}")
        if kind.__name__ in ("Tensor", "DataArray"):
            _check_array(value, name)


def _scalar(check: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """The same check for plain numbers alone: what is checked here is handed on as it is."""

    def checked_scalar(value: Any, name: str) -> Any:
        if hasattr(value, "ndim") and not isinstance(value, np.generic):
            what = "a number" if check is number else "an int"
            raise must_be(name, f"{what}", value)
        return check(value, name)

    return checked_scalar


_SIMPLE: dict[Any, Callable[[Any, str], Any]] = {
    int: _scalar(functools.partial(integer, min_value=-(2**64), max_value=2**64)),
    float: _scalar(number),
    bool: flag,
    str: text,
}
_PLURAL = {int: "integers", float: "numbers", bool: "True or False", str: "texts"}
