"""The images of a clip side by side."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten

import plotly.graph_objects as go

from analyses.arrays import as_images
from analyses.plots.attention import frame_panels
from analyses.plots.theme import entitle, escape, evenly, image_trace
from store.arguments import Array, checked
from store.checks import integer
from store.clips.clip import Clip
from store.errors import InvalidInputError

_LONGEST = 88
"""Most letters of a title; a longer one would be cut off at the border of the figure."""


@checked
def plot_images(
    images: Array | Clip | Mapping[str, Array | Clip], *, count: int = 6, title: str | None = None
) -> go.Figure:
    """Evenly spaced images of a clip side by side, each with its number; several clips are stacked as rows.

    Parameters
    ----------
    images : Clip, (image, y, x, 3) uint8, or a mapping of names to these, all with equal numbers of images of one size
    count : images per row, including the first and the last; fewer if the clip has fewer
    title : by default the prompt of the clip, if it has one

    Raises
    ------
    InvalidInputError
        For images of another kind, rows that differ in their images, and a count below one.

    Examples
    --------
    >>> import numpy as np
    >>> [note.text for note in plot_images(np.zeros((9, 40, 40, 3), np.uint8), count=3).layout.annotations]
    ['image 0', 'image 4', 'image 8']
    """
    integer(count, "count", min_value=1)
    rows = dict(images) if isinstance(images, Mapping) else {"": images}
    if not rows:
        raise InvalidInputError("images is empty. Name at least one clip.")
    pictures = {name: as_images(each.images if isinstance(each, Clip) else each) for name, each in rows.items()}
    shapes = {each.shape for each in pictures.values()}
    if len(shapes) > 1:
        sizes = "; ".join(
            f"{name}: {len(each)} of {each.shape[1]} x {each.shape[2]} px" for name, each in pictures.items()
        )
        raise InvalidInputError(f"rows need equal numbers of images of one size; got {sizes}. Cut or resize them.")
    total, height, width = next(iter(shapes))[:3]
    shown = evenly(total, count)
    numbers = [f"image {number}" for number in shown]
    titles = [
        f"<b>{escape(name)}</b>, {text}" if name and not place else text
        for name in rows
        for place, text in enumerate(numbers)
    ]
    figure, columns = frame_panels(titles, (height, width), rows=len(rows))
    for row, each in enumerate(pictures.values(), 1):
        for place, number in enumerate(shown):
            trace = image_trace(each[number], (-0.5, -0.5, width - 0.5, height - 0.5))
            figure.add_trace(trace, row + place // columns, place % columns + 1)
    prompt = images.prompt if isinstance(images, Clip) else None
    note = f"{len(shown)} of {total} images" if len(shown) < total else f"{total} images"
    tall = int(figure.layout.height)
    text = title or prompt or f"Images of the clip{'s' * (len(rows) > 1)}"
    heading = escape(shorten(text, _LONGEST, placeholder=" …"))
    entitle(figure, heading, f"{note} of {height} x {width} px", height=tall, top=88)
    figure.update_yaxes(constraintoward="top")
    return figure
