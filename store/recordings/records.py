"""Records as they go to the disk: the planned arrays of one step, layer and branch, cast to what is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from store.bfloat16 import NAN
from store.errors import InvalidInputError
from store.files.atomic import aligned_empty
from store.plan import Plan
from store.recordings.casting import BeyondFloat16Error, CastPart, to_bfloat16, to_float16
from store.recordings.shards import Allocate, ShardFormat, Slab
from store.recordings.sources import Position
from store.selection import resolve_number


@dataclass(frozen=True)
class Record:
    """One record that waits for the disk.

    Parameters
    ----------
    position : tuple of int
        Its place along the planned steps, branches and layers.
    what : str
        Its step, layer and branch, for messages.
    parts : dict of str to array
        float16, or uint16 for the bits of bfloat16.
    inexact : int
        Values that the cast changed.
    slabs : dict of str to Slab
        Memory of the parts that are not shared, which a later record can reuse.
    ready : callable, optional
        Waits until the parts are filled, and returns how each was cast.
    """

    position: Position
    what: str
    parts: dict[str, np.ndarray]
    inexact: int
    slabs: dict[str, Slab]
    ready: Callable[[], Mapping[str, CastPart]] | None = None


class RecordFormat:
    """Arrays, shapes and positions of the records of a plan.

    Parameters
    ----------
    plan : Plan

    Attributes
    ----------
    shards : dict of str to ShardFormat
        Files of each planned array.
    overflowing : set of tuple of int
        Positions of records with values beyond what is stored.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.shards = {array.name: ShardFormat(array) for array in plan.arrays}
        self.overflowing: set[Position] = set()
        self._spare: dict[str, list[Slab]] = {name: [] for name in self.shards}
        self.allocate: Allocate = aligned_empty

    def position(self, step: int, layer: int, branch: str) -> tuple[Position, str]:
        """Position of a record, and its step, layer and branch in words.

        Raises
        ------
        InvalidInputError
            When it is not planned.
        """
        plan = self.plan
        step = resolve_number("step", step, plan.run_steps, "run")
        layer = resolve_number("layer", layer, plan.layer_count)
        what = f"step {step}, layer {layer}, branch {branch!r}"
        if step not in plan.steps or layer not in plan.layers or branch not in plan.branches:
            raise InvalidInputError(
                f"{what} is not planned. Planned are steps {list(plan.steps)}, layers {list(plan.layers)}, "
                f"branches {list(plan.branches)}."
            )
        return (plan.steps.index(step), plan.branches.index(branch), plan.layers.index(layer)), what

    def cast(self, given: Mapping[str, np.ndarray | None], position: Position, what: str, *, copy: bool) -> Record:
        """Cast the planned arrays to what is stored, a shorter text filled up with NaN.

        Raises
        ------
        InvalidInputError
            When a planned array is missing, one was not planned, a shape is wrong, or values are not finite or beyond
            what is stored.
        """
        parts, inexact, slabs = {}, 0, dict[str, Slab]()
        for name in self.shards:
            values = given[name]
            if values is None:
                raise InvalidInputError(f"{what}: {name} is planned but was not given.")
            slab = self._slab(name)
            parts[name], changed = self._cast(name, np.asarray(values), position, what, copy, slab.payload)
            inexact += changed
            if parts[name] is slab.payload:
                slabs[name] = slab
            else:
                self._spare[name].append(slab)
        for name, values in given.items():
            if values is not None and name not in parts:
                raise InvalidInputError(f"{what}: {name} was given but is not planned.")
        return Record(position, what, parts, inexact, slabs)

    def lend(self) -> dict[str, Slab]:
        """Memory for the parts of one record, used again when it is written: no more than wait for the disk."""
        return {name: self._slab(name) for name in self.shards}

    def _slab(self, name: str) -> Slab:
        spare = self._spare[name]
        return spare.pop() if spare else self.shards[name].slab(self.allocate)

    def check(self, casts: Mapping[str, CastPart], position: Position, what: str) -> int:
        """Raise for parts that a recording would lose; return the number of values that the casts changed.

        Raises
        ------
        InvalidInputError
        """
        for name, cast in casts.items():
            try:
                cast.check(f"{what}: {name}", self.plan.stored_dtype)
            except BeyondFloat16Error:
                self.overflowing.add(position)
                raise
        return sum(cast.inexact for cast in casts.values())

    def give_back(self, record: Record, name: str) -> None:
        """Keep the memory of a written part for a later record, unless it is shared."""
        if name in record.slabs:
            self._spare[name].append(record.slabs[name])

    def _cast(
        self, name: str, values: np.ndarray, position: Position, what: str, copy: bool, out: np.ndarray
    ) -> tuple[np.ndarray, int]:
        shard, values = self.shards[name], self._selected(name, values)
        shape, tokens = shard.shape, 0
        if name.startswith("text_") and values.ndim == 3:
            tokens = shape[1] - values.shape[1]
            shape = (shape[0], min(values.shape[1], shape[1]), shape[2])
        spare = out if shape == shard.shape else None
        try:
            if self.plan.stored_dtype == "bfloat16":
                cast, inexact = to_bfloat16(values, shape, f"{what}: {name}", out=spare)
            else:
                cast, inexact = to_float16(values, shape, f"{what}: {name}", copy=copy, out=spare)
        except BeyondFloat16Error:
            self.overflowing.add(position)
            raise
        if tokens > 0:
            missing = NAN if cast.dtype == np.uint16 else np.nan
            cast = np.pad(cast, ((0, 0), (0, tokens), (0, 0)), constant_values=missing)
        return cast, inexact

    def _selected(self, name: str, values: np.ndarray) -> np.ndarray:
        """The planned heads and frames of an array that may have all of them."""
        plan = self.plan
        if name != "features" and values.ndim and len(values) == plan.head_count != len(plan.heads):
            values = values[list(plan.heads)]
        axis = {"query": 1, "key": 1, "value": 1, "features": 0}.get(name)
        if axis is not None and values.ndim > axis and values.shape[axis] == plan.layout.frames != len(plan.frames):
            values = values.take(plan.frames, axis)
        return values
