"""A registry of named objects that other distributions extend through an entry-point group.

One registry holds one kind of thing (families of backbones, trackers, transfer methods, metrics). Our own objects are
registered like anyone's; those of other distributions are found when the registry is first read.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from store.checks import shown
from store.errors import InvalidInputError

Item = TypeVar("Item")


class Registry(Mapping[str, Item], Generic[Item]):
    """Objects by name, in the order in which they were registered.

    Parameters
    ----------
    kind : str
        Noun for messages, such as "family".
    group : str
        Entry-point group from which other distributions are read, such as "ditprobe.families". The name of an entry
        point is the name of the object; it may also register further ones while it is imported.
    check : callable, optional
        Called with (name, object) before it is kept; raises for what is not one of this kind.
    remedy : str
        Last sentence of the message for an unknown name.

    Examples
    --------
    >>> shapes = Registry("shape", "ditprobe.example_shapes")
    >>> _ = shapes.register("disc", "round")
    >>> shapes["disc"], list(shapes)
    ('round', ['disc'])
    >>> shapes["disk"]
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: unknown shape 'disk'. Did you mean 'disc'? Known: 'disc'.
    """

    def __init__(
        self, kind: str, group: str, *, check: Callable[[str, object], object] | None = None, remedy: str = ""
    ) -> None:
        self.kind, self.group = kind, group
        self._check, self._remedy = check, remedy
        self._items: dict[str, Item] = {}
        self._read = False

    def register(self, name: str, item: Item, *, replace: bool = False) -> Item:
        """Add an object under a name and return it.

        Parameters
        ----------
        name : str
        item : object
        replace : bool
            Whether it may take the place of another object of this name.

        Raises
        ------
        InvalidInputError
            For an empty name, or a name that another object has.
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidInputError(f"the name of a {self.kind} must be text that is not empty; got {shown(name)}.")
        before = self._items.get(name)
        if before is not None and before is not item and not replace:
            raise InvalidInputError(
                f"a {self.kind} named {name!r} is registered already ({_described(before)}). Choose another name, or "
                "pass replace=True."
            )
        if self._check is not None:
            self._check(name, item)
        self._items[name] = item
        return item

    def unregister(self, name: str) -> None:
        """Remove an object.

        Raises
        ------
        InvalidInputError
            For a name that is not registered.
        """
        self[name]
        del self._items[name]

    def __getitem__(self, name: str) -> Item:
        self._load()
        if name not in self._items:
            raise InvalidInputError(self._unknown(name))
        return self._items[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the object of a name, or ``default`` for one that is not registered."""
        self._load()
        return self._items.get(name, default)

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(tuple(self._items))

    def __len__(self) -> int:
        self._load()
        return len(self._items)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __repr__(self) -> str:
        return f"Registry of {self.kind}: {', '.join(self)}"

    def _unknown(self, name: object) -> str:
        close = difflib.get_close_matches(name, self._items, n=1) if isinstance(name, str) else []
        guess = f" Did you mean {close[0]!r}?" if close else ""
        known = ", ".join(map(repr, self._items)) or "none"
        return f"unknown {self.kind} {shown(name)}.{guess} Known: {known}.{self._remedy and f' {self._remedy}'}"

    def _load(self) -> None:
        """Register what installed distributions offer, once; one that fails is left out with a warning."""
        if self._read:
            return
        self._read = True
        for point in entry_points(group=self.group):
            self._load_point(point)

    def _load_point(self, point: EntryPoint) -> None:
        try:
            item = point.load()
            if self._items.get(point.name) is not item:
                self.register(point.name, item)
        except Exception as error:  # any code of another distribution may fail in any way
            source = f" of {point.dist.name}" if point.dist is not None else ""
            warnings.warn(
                f"the {self.kind} {point.name!r}{source} ({point.value}) could not be registered: "
                f"{type(error).__name__}: {error} It is left out.",
                stacklevel=4,
            )


def _described(item: object) -> str:
    return getattr(item, "__qualname__", None) or type(item).__qualname__
