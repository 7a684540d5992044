"""Published figures next to measured ones: a table where both are of one protocol, and two where they are not."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from store.files.atomic import write_atomically

_WIDTH = 100


@dataclass(frozen=True)
class Row:
    """A figure: what was published and what was measured, with a 95 % interval over clips.

    Attributes
    ----------
    quantity : what it is
    published : None where nothing was
    measured : None for a published figure that this run did not measure
    low, high : ends of the interval; NaN if there is none
    note : a word on the measured figure
    """

    quantity: str
    published: float | None
    measured: float | None
    low: float = math.nan
    high: float = math.nan
    note: str = ""

    @property
    def difference(self) -> tuple[float, float, float] | None:
        """Measured minus published, and the ends of its interval; None if one of them is missing."""
        if self.published is None or self.measured is None:
            return None
        ends = self.measured, self.low, self.high
        return ends[0] - self.published, ends[1] - self.published, ends[2] - self.published


@dataclass(frozen=True)
class Comparison:
    """The figures of an experiment, its source, and everything in which this run differed.

    Attributes
    ----------
    experiment : name
    what : the figures, with their unit
    rows : tuple of Row
    source : of the published figures
    protocol : how they were measured
    deviations : in words; none where the run keeps to the protocol

    Examples
    --------
    >>> rows = (Row("CogVideoX-2B", 46.3, 45.9, 41.0, 50.6),)
    >>> print(Comparison("difftrack-davis", "position accuracy, %", rows, "Nam et al.", "TAP-Vid DAVIS", ()).text())
    difftrack-davis: position accuracy, %
    <BLANKLINE>
                     published      measured  95 % interval    difference
    CogVideoX-2B          46.3          45.9   41.0 to 50.6   -0.4 (-5.3 to 4.3)
    <BLANKLINE>
    This run keeps to the published protocol.
    Protocol: TAP-Vid DAVIS
    Source: Nam et al.
    """

    experiment: str
    what: str
    rows: tuple[Row, ...]
    source: str
    protocol: str
    deviations: Sequence[str]
    decimals: int = 1

    @property
    def is_comparable(self) -> bool:
        """Tell whether the run keeps to the published protocol."""
        return not self.deviations

    def text(self) -> str:
        """Return the tables and their notes."""
        lines = [f"{self.experiment}: {self.what}", ""]
        if self.is_comparable:
            lines += self._table(published=True, measured=True)
            lines += ["", "This run keeps to the published protocol."]
        else:
            lines += self._table(published=False, measured=True)
            lines += ["", "This run differs from the published one, so no differences are printed:"]
            lines += [f"  - {each}" for each in self.deviations]
            if any(row.published is not None for row in self.rows):
                lines += ["", "PUBLISHED", *self._table(published=True, measured=False)]
        ends = (f"Protocol: {self.protocol}", f"Source: {self.source}")
        return "\n".join([*lines, *(fill(each, _WIDTH, break_on_hyphens=False) for each in ends)])

    def save(self, path: Path) -> None:
        """Write everything as JSON, at once."""
        values = {**dataclasses.asdict(self), "comparable": self.is_comparable}
        for row in values["rows"]:
            row.update({name: None for name in ("low", "high") if math.isnan(row[name])})
        write_atomically(path, json.dumps(values, indent=1).encode())

    def _table(self, *, published: bool, measured: bool) -> list[str]:
        shown = [
            row
            for row in self.rows
            if (measured and row.measured is not None) or (not measured and row.published is not None)
        ]
        width = max([14, *(len(row.quantity) for row in shown)])
        heads = ["published"] * published + ["measured", "95 % interval"] * measured
        heads += ["difference"] * (published and measured)
        lines = ["".join([" " * width, *(f"{head:>{_column(head)}}" for head in heads)]).rstrip()]
        return lines + [self._line(row, width, published, measured) for row in shown]

    def _line(self, row: Row, width: int, published: bool, measured: bool) -> str:
        cells = [f"{row.quantity:<{width}}"]
        if published:
            cells.append(f"{self._number(row.published):>12}")
        if measured:
            interval = "" if math.isnan(row.low) else f"{self._number(row.low)} to {self._number(row.high)}"
            cells += [f"{self._number(row.measured):>14}", f"{interval:>15}"]
        if published and measured and row.difference is not None:
            middle, low, high = (self._number(each) for each in row.difference)
            cells.append(f"   {middle}" + ("" if math.isnan(row.low) else f" ({low} to {high})"))
        return ("".join(cells) + (f"  {row.note}" if measured and row.note else "")).rstrip()

    def _number(self, value: float | None) -> str:
        return "" if value is None else "nan" if math.isnan(value) else f"{value:.{self.decimals}f}"


def _column(head: str) -> int:
    return {"published": 12, "measured": 14, "95 % interval": 15, "difference": 14}[head]
