"""Rows that were measured on the same clips, and their differences, as Markdown with 95 % bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import xarray as xr

from analyses.statistics import bootstrap_mean

Titles = Mapping[str, tuple[str, int]]
"""Of each metric its title and its digits."""


def means_table(found: xr.DataArray, titles: Titles, *, missing: str) -> str:
    """Every metric of every row, and under the title ``missing`` how many clips lack the first metric.

    Parameters
    ----------
    found : (row, clip, metric)
    titles, missing
    """
    lines = [_head("", [*(title for title, _ in titles.values()), missing])]
    for row in found["row"].values:
        cells = [_interval(found.sel(row=row, metric=name), digits) for name, (_, digits) in titles.items()]
        lacking = int(found.sel(row=row, metric=next(iter(titles))).isnull().sum())
        lines.append(f"| {row} | " + " | ".join(cells) + f" | {lacking} |")
    return "\n".join(lines)


def against_table(found: xr.DataArray, base: str, titles: Titles, *, rows: Iterable[str] | None = None) -> str:
    """Each row less one of them, paired by clip.

    Parameters
    ----------
    found : (row, clip, metric)
    base : the row that is subtracted
    titles
    rows : by default all others
    """
    lines = [_head(f"less {base}", [title for title, _ in titles.values()])]
    for row in found["row"].values if rows is None else rows:
        if row == base:
            continue
        cells = []
        for name, (_, digits) in titles.items():
            ahead = found.sel(row=row, metric=name) - found.sel(row=base, metric=name)
            low, high = bootstrap_mean(ahead)
            cells.append(f"{float(ahead.mean()):+.{digits}f} ({float(low):+.{digits}f} to {float(high):+.{digits}f})")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _head(first: str, titles: list[str]) -> str:
    return f"| {first} | " + " | ".join(titles) + " |\n|---|" + "---|" * len(titles)


def _interval(values: xr.DataArray, digits: int) -> str:
    low, high = bootstrap_mean(values)
    return f"{float(values.mean()):.{digits}f} ({float(low):.{digits}f}-{float(high):.{digits}f})"
