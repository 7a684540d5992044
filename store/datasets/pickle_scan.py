"""Inspection of the instructions of a pickle before any of them is carried out.

The instructions run a small stack machine. Here the same machine runs on stand-ins that know their kind, how deep they
are nested and how large they are when every reference is written out. So a file of a few bytes that asks for gigabytes,
nests without end or changes what it has already handed over is rejected at no cost.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable, Sequence
from typing import Any

from store.files.damaged import shown

_MOST_INSTRUCTIONS = 1_000_000  # 250,000 images as files of their own need half of them
_MOST_WAITING = 100_000
_MOST_VALUES = 10_000_000
_MOST_NESTED = 50
_MOST_OTHER_KEYS = 2_000  # what is not a text can be made to collide in a dict
_LONGEST_NAME = 200

_MARK = object()
_OUTSIDE = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
_SETS = {"EMPTY_SET", "ADDITEMS", "FROZENSET"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_GROWING = {"APPEND": "list", "APPENDS": "list", "SETITEM": "dict", "SETITEMS": "dict", "BUILD": "object"}
_CONTAINERS = {
    "EMPTY_LIST": "list",
    "LIST": "list",
    "EMPTY_TUPLE": "tuple",
    "TUPLE": "tuple",
    "TUPLE1": "tuple",
    "TUPLE2": "tuple",
    "TUPLE3": "tuple",
    "EMPTY_DICT": "dict",
    "DICT": "dict",
    "REDUCE": "object",
    "NEWOBJ": "object",
    "NEWOBJ_EX": "object",
    "OBJ": "object",
    "INST": "object",
}


class Refused(Exception):
    """A rejected request of a file."""


class _Value:
    """A stand-in for what an instruction would put on the stack."""

    __slots__ = ("depth", "held", "kind", "size", "text")

    def __init__(self, kind: str, text: str | None = None) -> None:
        self.kind, self.text = kind, text
        self.depth, self.size, self.held = 1, 1, False

    def hold(self, parts: Sequence[_Value]) -> None:
        """Take others in; they cannot change after that, so depth and size stay true."""
        if any(part is self for part in parts):
            raise ValueError("a value holds itself")
        self.depth = max([self.depth, *(1 + part.depth for part in parts)])
        self.size += sum(part.size for part in parts)
        for part in parts:
            part.held = True
        if self.depth > _MOST_NESTED:
            raise ValueError(f"values are nested more than {_MOST_NESTED} deep")
        if self.size > _MOST_VALUES:
            raise ValueError(f"a value holds more than {_MOST_VALUES} others")


_PLAIN = _Value("value")


def scan_pickle(content: mmap.mmap, check_name: Callable[[str, str], None]) -> None:
    """Raise for a pickle that is too large, too deep or not allowed, before anything in it is built.

    Parameters
    ----------
    content : the file, read from its current position to its STOP
    check_name : called with (module, name) of everything that is asked for by name; raises :class:`Refused`

    Raises
    ------
    Refused
        For what lies outside of the file.
    ValueError
        For anything else; damaged files raise further kinds.
    """
    scan = _Scan(check_name)
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content), 1):  # type: ignore[arg-type]
        if count > _MOST_INSTRUCTIONS:
            raise ValueError(f"it has more than {_MOST_INSTRUCTIONS} instructions")
        if opcode.name == "FRAME" and argument > content.size() - content.tell():
            raise ValueError(f"a part of it should have {argument} bytes")
        if opcode.name in _PUT and argument > count:
            raise ValueError(f"it numbers its values up to {argument}")
        scan.step(opcode, argument)
        if len(scan.stack) > _MOST_WAITING:
            raise ValueError(f"more than {_MOST_WAITING} values wait to be put together")


class _Scan:
    def __init__(self, check_name: Callable[[str, str], None]) -> None:
        self._check_name = check_name
        self.stack: list[Any] = []
        self._memo: dict[int, _Value] = {}
        self._other_keys = 0

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """One instruction."""
        name, stack = opcode.name, self.stack
        if name in _PUT:
            self._memo[argument] = self._top()
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in _GET:
            stack.append(self._known(argument))
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP" and stack and stack[-1] is _MARK:
            stack.pop()
        elif name == "DUP":
            stack.append(self._top())
        elif name in _OUTSIDE:
            raise Refused("what lies outside of the file")
        elif name in _SETS:
            raise ValueError("it holds a set")
        else:
            self._effect(opcode, argument)

    def _effect(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Number of items that an instruction takes from the stack and puts there, as :mod:`pickletools` lists it."""
        name = opcode.name
        taken = self._take(opcode) if opcode.stack_before else []
        if name in ("GLOBAL", "INST"):
            module, _, called = argument.partition(" ")
            self._check_name(module, called)
        elif name == "STACK_GLOBAL":
            module, called = (value.text for value in taken)
            if module is None or called is None:
                raise ValueError("it asks for something by something other than a name")
            self._check_name(module, called)
        elif name in ("PERSID", "BINPERSID"):
            given = argument if name == "PERSID" else taken[0].text
            raise Refused("an outside object" if given is None else f"the outside object {shown(given)!r}")
        if name in _GROWING:
            self._grow(name, taken[0], taken[1:])
        elif opcode.stack_after:
            self.stack.append(self._made(name, taken, argument))

    def _made(self, name: str, parts: list[_Value], argument: Any) -> _Value:
        kind = _CONTAINERS.get(name)
        if kind is None:
            if isinstance(argument, str) and name not in ("GLOBAL", "INST"):
                return _Value("text", argument if len(argument) <= _LONGEST_NAME else None)
            return _Value("bytearray") if name == "BYTEARRAY8" else _PLAIN
        value = _Value(kind)
        if name == "DICT":
            self._check_keys(parts)
        value.hold(parts)
        return value

    def _grow(self, name: str, target: _Value, parts: list[_Value]) -> None:
        wanted = _GROWING[name]
        if target.kind not in (wanted, "object") or (target.kind == "object" and wanted == "list"):
            raise ValueError(f"it changes a {target.kind} in place")
        if target.held:
            raise ValueError(f"it changes a {target.kind} that is part of another value")
        if wanted == "dict":
            self._check_keys(parts)
        target.hold(parts)
        self.stack.append(target)

    def _check_keys(self, parts: list[_Value]) -> None:
        for key in parts[::2]:
            if key.kind in ("tuple", "list", "dict"):
                raise ValueError(f"the key of a dict is a {key.kind}")
            self._other_keys += key.kind != "text"
        if self._other_keys > _MOST_OTHER_KEYS:
            raise ValueError(f"more than {_MOST_OTHER_KEYS} keys of dicts are not texts")

    def _take(self, opcode: pickletools.OpcodeInfo) -> list[_Value]:
        """The values that an instruction takes, the lowest first and without the mark."""
        wanted, above = opcode.stack_before, []
        if pickletools.markobject in wanted:
            while self.stack and self.stack[-1] is not _MARK:
                above.append(self.stack.pop())
            if not self.stack:
                raise ValueError("a mark is missing")
            self.stack.pop()
            wanted = wanted[: wanted.index(pickletools.markobject)]
        for _ in wanted:
            above.append(self._top())
            self.stack.pop()
        return above[::-1]

    def _top(self) -> _Value:
        if not self.stack or self.stack[-1] is _MARK:
            raise ValueError("a value is missing")
        value: _Value = self.stack[-1]
        return value

    def _known(self, number: int) -> _Value:
        if number not in self._memo:
            raise ValueError(f"a value number {number} is missing")
        return self._memo[number]
