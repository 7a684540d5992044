"""Tables as plain text, laid out by rich without lines or colours."""

from __future__ import annotations

import io
from collections.abc import Container, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from store.text import printable

_WIDEST = 10_000
"""Line width in characters; longer lines are wrapped only by the terminal, so that a pipe gets whole rows."""


def plain_table(
    columns: Sequence[tuple[str, int]], rows: Iterable[Sequence[str]], *, left: Container[int] = (0,)
) -> list[str]:
    """Return the lines of a table: a header and a line for each row, two spaces between columns.

    Parameters
    ----------
    columns : (name, least width in characters)
    rows : text of each cell
    left : numbers of the columns that are aligned to the left; the others are aligned to the right

    Examples
    --------
    >>> print("\\n".join(plain_table([("layer", 0), ("0", 5)], [("3", "50.0"), ("12", "7.5")])))
    layer      0
    3       50.0
    12       7.5
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for number, (name, width) in enumerate(columns):
        table.add_column(Text(name), justify="left" if number in left else "right", min_width=width, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell, one_line=True)) for cell in row))
    console = Console(file=io.StringIO(), width=_WIDEST, color_system=None, legacy_windows=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]
