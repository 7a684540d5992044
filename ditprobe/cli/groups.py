"""Groups of options that several verbs have: a dataclass in Python, single options on the command line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar, cast, get_type_hints

Verb = TypeVar("Verb", bound=Callable[..., Any])


class OptionGroup:
    """Base of frozen dataclasses whose fields are options; each needs a default and a typer annotation."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the parameters that the group gives a verb."""
        return tuple(each.name for each in fields(cast(Any, cls)))


def takes_groups(function: Verb) -> Verb:
    """Give a verb the options of each :class:`OptionGroup` among its parameters, in place of that parameter.

    Examples
    --------
    >>> from ditprobe.cli.loading import LoadingOptions
    >>> @takes_groups
    ... def show(name: str, loading: LoadingOptions) -> None:
    ...     print(name, loading.offload)
    >>> show("mini", offload="model")
    mini model
    """
    signature, hints = inspect.signature(function), get_type_hints(function, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and issubclass(hint, OptionGroup)}
    parameters: list[inspect.Parameter] = []
    for each in signature.parameters.values():
        if each.name in groups:
            parameters += _parameters(groups[each.name])
        else:
            kind = inspect.Parameter.KEYWORD_ONLY if parameters and parameters[-1].kind == 3 else each.kind
            parameters.append(each.replace(annotation=hints[each.name], kind=kind))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for name, group in groups.items():
            kwargs[name] = group(**{each: kwargs.pop(each) for each in group.names() if each in kwargs})
        return function(*args, **kwargs)

    # typer asks for the signature, and for the annotations by name
    wrapped: Any = call
    wrapped.__signature__ = signature.replace(parameters=parameters, return_annotation=None)
    wrapped.__annotations__ = {**{each.name: each.annotation for each in parameters}, "return": None}
    del wrapped.__wrapped__
    return cast(Verb, wrapped)


def _parameters(group: type[OptionGroup]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(cast(Any, group))
    ]
