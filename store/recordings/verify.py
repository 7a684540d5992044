"""Verification of a recording: its records, and the metadata about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from store.errors import CorruptRecordingError
from store.plan import Plan
from store.recordings.schema import (
    DONE,
    DROPPED,
    LEDGER,
    MISSING,
    check_integrity,
    coordinates,
)
from store.recordings.sources import Source, positions, read_latents


@dataclass(frozen=True)
class Damage:
    """Something damaged that :meth:`Recording.verify` found.

    Parameters
    ----------
    array : str
        The array, or "attributes".
    problem : str
    step, branch, layer
        The record; None if the damage is not in a record.

    Examples
    --------
    >>> str(Damage("query", "the file c.1.0.2.0.0.0.0.0 is missing", 9, "cond", 4))
    "step 9, layer 4, branch 'cond', query: the file c.1.0.2.0.0.0.0.0 is missing"
    >>> str(Damage("y", "its values are not those of the selection"))
    'y: its values are not those of the selection'
    """

    array: str
    problem: str
    step: int | None = None
    branch: str | None = None
    layer: int | None = None

    def __str__(self) -> str:
        where = "" if self.step is None else f"step {self.step}, "
        if self.layer is not None:
            where += f"layer {self.layer}, branch {self.branch!r}, "
        return f"{where}{self.array}: {self.problem}"


@dataclass(frozen=True)
class Opened:
    """State of a recording once it is opened.

    Parameters
    ----------
    source : Source
    attributes : dict
    plan : Plan
    status : (step, branch, layer) uint8
    checksums : (step, branch, layer, array) uint32
    path : str
    """

    source: Source
    attributes: dict[str, Any]
    plan: Plan
    status: np.ndarray
    checksums: np.ndarray
    path: str

    @property
    def version(self) -> int:
        """Version of the format."""
        return int(self.attributes["schema_version"])

    def inexact_casts(self) -> int | None:
        """Values that the cast changed, of all records that are done; None if format 1 does not say."""
        if self.version == 1:
            return None if self.attributes["state"] == "open" else self.attributes.get("inexact_casts")
        return int(self.source.small("inexact_casts", self.status.shape, "<i8")[self.status == DONE].sum())


def damage_of(opened: Opened) -> list[Damage]:
    """Everything that is damaged, the records last; reads the whole recording."""
    checks = (_attributes, _metadata, _coordinates, _ledger, _counts, _completeness, _records, _latents)
    return [damage for check in checks for damage in check(opened)]


def _problem(check: Callable[[], object]) -> str | None:
    try:
        check()
    except CorruptRecordingError as error:
        return str(error)
    return None


def _attributes(opened: Opened) -> Iterator[Damage]:
    if problem := _problem(partial(check_integrity, opened.attributes, opened.path)):
        yield Damage("attributes", problem)


def _metadata(opened: Opened) -> Iterator[Damage]:
    """Every array is declared as planned, and in format 2 the same at the root as in its own folder."""
    planned = {array.name: (array.shape, np.dtype(array.stored_as), array.dims) for array in opened.plan.arrays}
    small = [] if opened.version == 1 else [*LEDGER, *(name for name, *_ in coordinates(opened.plan))]
    try:
        group: Any = opened.source.group()
        root: Any = None if opened.version == 1 else opened.source.group(consolidated=True)
    except Exception as error:  # Zarr raises many kinds for metadata that are damaged
        yield Damage("attributes", f"the metadata of the root cannot be read ({error})")
        return
    for name in [*planned, *small]:
        try:
            own = group[name]
            declared = own.shape, own.dtype, own.metadata.dimension_names
            # as text, in which NaN equals NaN
            same = root is None or repr(own.metadata.to_dict()) == repr(root[name].metadata.to_dict())
        except Exception as error:
            yield Damage(name, f"its metadata cannot be read ({error})")
            continue
        if name in planned and declared != planned[name]:
            yield Damage(name, f"its metadata say {declared}")
        elif not same:
            yield Damage(name, "its own metadata and those at the root differ")


def _coordinates(opened: Opened) -> Iterator[Damage]:
    """The coordinates are those that the attributes, which have a fingerprint, lead to."""
    try:
        group: Any = opened.source.group()
    except Exception:  # the metadata of the root, already reported by the check above
        return
    for name, _, expected, _ in coordinates(opened.plan):
        try:
            values = np.asarray(group[name][...])
        except Exception as error:  # every Zarr codec and store raises its own kinds
            yield Damage(name, f"it cannot be read ({error})")
            continue
        if values.tolist() != expected.tolist():
            yield Damage(name, "its values are not those that the attributes lead to")


def _ledger(opened: Opened) -> Iterator[Damage]:
    """Times can be read, and the status is one of those that exist; status and checksums were read on opening."""
    for name in ("timestep", "sigma"):
        if problem := _problem(partial(opened.source.small, name, (len(opened.plan.steps),), "<f8")):
            yield Damage(name, problem)
    for position in positions(opened.status > max(MISSING, DONE, DROPPED)):
        yield Damage("status", f"it is {opened.status[position]}, which means nothing", *_name(opened.plan, position))


def _counts(opened: Opened) -> Iterator[Damage]:
    if opened.version == 1:
        return
    try:
        counted, noted = opened.inexact_casts(), opened.attributes.get("inexact_casts")
    except CorruptRecordingError as error:
        yield Damage("inexact_casts", str(error))
        return
    if noted not in (None, counted):
        yield Damage("inexact_casts", f"the attribute says {noted}, the records add up to {counted}")


def _completeness(opened: Opened) -> Iterator[Damage]:
    missing = int((opened.status == MISSING).sum())
    if opened.attributes.get("state") == "complete" and missing:
        yield Damage("status", f"the recording is called complete, but {missing} of {opened.plan.records} are missing")


def _records(opened: Opened) -> Iterator[Damage]:
    for position in positions(opened.status == DONE):
        for number, array in enumerate(opened.plan.arrays):
            try:
                opened.source.record(array, position, None, int(opened.checksums[position][number]))
            except CorruptRecordingError as error:
                yield Damage(array.name, str(error), *_name(opened.plan, position))


def _latents(opened: Opened) -> Iterator[Damage]:
    if opened.version > 1:
        return
    for position, step in enumerate(opened.plan.steps):
        if problem := _problem(partial(read_latents, opened.source, position)):
            yield Damage("latents", problem, step)


def _name(plan: Plan, position: tuple[int, int, int]) -> tuple[int, str, int]:
    return plan.steps[position[0]], plan.branches[position[1]], plan.layers[position[2]]
