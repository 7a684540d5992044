"""Texts that name arguments, so that each front end can name them in its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Namer = Callable[[str, Any], str]


def in_python(name: str, value: Any) -> str:
    """Return an argument as written in a call.

    Parameters
    ----------
    name : of the argument
    value : ``...`` for one that the reader chooses, None if the argument is only named

    Examples
    --------
    >>> in_python("steps", 50), in_python("save", ...), in_python("guidance_scale", None)
    ('steps=50', 'save=', 'guidance_scale')
    >>> in_python("conditioning", {"image": ...})
    "conditioning={'image': ...}"
    """
    if value is None:
        return name
    return f"{name}=" if value is ... else f"{name}={repr(value).replace('Ellipsis', '...')}"


class Wording:
    """A text that names arguments: ``str`` gives it for Python, :meth:`worded` for any other front end.

    Parameters
    ----------
    template : str
        A format string; ``{overwrite}`` is where the argument of that name goes, ``{}`` where a value goes as it is.
    values : what goes into ``{}``
    arguments : the values of the arguments: ``...`` for one that the reader chooses, None for one that is
        only named

    Examples
    --------
    >>> remedy = Wording("Choose another path than {}, or pass {overwrite} to replace it.", "a.nc", overwrite=True)
    >>> str(remedy)
    'Choose another path than a.nc, or pass overwrite=True to replace it.'
    >>> remedy.worded(lambda name, value: f"--{name}")
    'Choose another path than a.nc, or pass --overwrite to replace it.'
    """

    def __init__(self, template: str, /, *values: object, **arguments: Any) -> None:
        self.template, self.values, self.arguments = template, values, arguments

    def __str__(self) -> str:
        return self.worded(in_python)

    def __repr__(self) -> str:
        return f"Wording({str(self)!r})"

    def worded(self, name: Namer) -> str:
        """Return the text with each argument as ``name(argument, value)`` writes it."""
        named = {argument: name(argument, value) for argument, value in self.arguments.items()}
        return self.template.format(*self.values, **named)


def worded(text: Wording | str, name: Namer) -> str:
    """Return a text for a front end, whether it names arguments or not.

    Examples
    --------
    >>> worded("Leave it out.", in_python)
    'Leave it out.'
    """
    return text.worded(name) if isinstance(text, Wording) else text
