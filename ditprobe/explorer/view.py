"""A view of a recording: which record, and the attention of which point or text token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from store.checks import finite, flag, integer, one_of
from store.errors import InvalidInputError
from store.selection import BRANCHES


@dataclass(frozen=True)
class View:
    """The place that is looked at.

    Parameters
    ----------
    step, layer : int
        Step and layer of the run and the backbone, not negative.
    branch : "cond" or "uncond"
    image : int
        The image in which the point is.
    x, y : float
        The point, in pixels of the clip.
    token : int, optional
        A text token in place of the point.
    head : int, optional
        The head that is shown; the mean over heads without it.
    recording : int
        Position among the opened recordings.
    towards : bool
        Of a text token: what every cell gives it, rather than what it gives the cells.

    Raises
    ------
    InvalidInputError
    """

    step: int
    layer: int
    branch: str = "cond"
    image: int = 0
    x: float = 0.0
    y: float = 0.0
    token: int | None = None
    head: int | None = None
    recording: int = 0
    towards: bool = False

    def __post_init__(self) -> None:
        for name in ("step", "layer", "image", "recording"):
            integer(getattr(self, name), name, min_value=0)
        for name in ("token", "head"):
            if getattr(self, name) is not None:
                integer(getattr(self, name), name, min_value=0)
        for name in ("x", "y"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
        one_of(self.branch, BRANCHES, "branch")
        flag(self.towards, "towards")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The view that a front end asks for; values that are not part of a view are ignored.

        Raises
        ------
        InvalidInputError
            A value is missing or of another kind.

        Examples
        --------
        >>> View.of({"step": 3, "layer": 4, "x": 2, "kind": "attention"}).x
        2.0
        """
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        try:
            return cls(**known)
        except TypeError as error:
            raise InvalidInputError(f"a view needs a step and a layer: {error}.") from error

    def at(self, **changes: Any) -> Self:
        """The view with some values changed."""
        return replace(self, **changes)
