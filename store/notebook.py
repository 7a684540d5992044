"""Displays of values in notebooks: the text of a repr as HTML, and clips that play."""

from __future__ import annotations

import base64
import io
import re
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from store.clips.clip import Clip

_MOST_SIDE, _LEAST_SIDE, _MOST_IMAGES = 320, 240, 64
_STYLE = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45"
_CELL = "text-align:left;vertical-align:top;padding:1px 14px 1px 0"


def repr_html(text: str) -> str:
    """A repr as HTML: its first line as heading, lines of columns as tables, all others as paragraphs.

    Parameters
    ----------
    text : lines; columns are two spaces or more apart

    Examples
    --------
    >>> print(repr_html("Plan\\n  steps  0, 49\\n  cells  5 x 7").count("<tr>"))
    2
    """
    heading, *lines = text.splitlines() or [""]
    parts = [f"<b>{escape(heading)}</b>"]
    rows: list[str] = []
    for line in [*lines, ""]:
        cells = re.split(r" {2,}", line.strip())
        if len(cells) > 1:
            rows.append("<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in cells) + "</tr>")
            continue
        if rows:
            parts.append(f'<div style="overflow-x:auto"><table>{"".join(rows)}</table></div>')
            rows = []
        if line.strip():
            parts.append(f"<div>{escape(line.strip())}</div>")
    return f'<div style="{_STYLE}">{"".join(parts)}</div>'


def clip_html(clip: Clip) -> str:
    """A clip that plays, above its repr: an animated WebP within the page, at most 320 px and 64 images.

    Small clips are enlarged with their pixels as squares.

    Examples
    --------
    >>> from store import Clip
    >>> "data:image/webp;base64," in clip_html(Clip(np.zeros((2, 8, 8, 3), np.uint8), fps=8))
    True
    """
    chosen = np.unique(np.linspace(0, len(clip) - 1, min(len(clip), _MOST_IMAGES)).round().astype(int))
    pictures = [Image.fromarray(clip.images[number]) for number in chosen]
    for picture in pictures:
        picture.thumbnail((_MOST_SIDE, _MOST_SIDE))
    milliseconds = max(20, round(1000 * len(clip) / clip.fps / len(pictures)))
    small, written = max(clip.height, clip.width) <= _LEAST_SIDE // 2, io.BytesIO()
    options = {"save_all": True, "append_images": pictures[1:], "duration": milliseconds, "loop": 0}
    pictures[0].save(written, "WEBP", lossless=small, quality=80, **options)
    longest = max(pictures[0].size)
    scale = max(1, _LEAST_SIDE // longest)
    width = pictures[0].width * scale
    data = base64.b64encode(written.getvalue()).decode()
    shown = (
        f'<img alt="the clip, playing" width="{width}" style="image-rendering:{"pixelated" if scale > 1 else "auto"};'
        f'border-radius:4px;margin-bottom:4px" src="data:image/webp;base64,{data}">'
    )
    return f'<div style="{_STYLE}">{shown}<div>{escape(repr(clip))}</div></div>'
