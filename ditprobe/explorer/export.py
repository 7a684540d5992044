"""A view as one HTML file that needs no network and no Python, and still responds to clicks."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ditprobe.explorer.assets import stored_page
from ditprobe.explorer.view import View
from ditprobe.explorer.wire import Answer, as_levels
from store.errors import RecordingError
from store.files.outputs import OutputFile
from store.text import counted

if TYPE_CHECKING:
    from ditprobe.explorer.controller import Explorer
    from ditprobe.explorer.opened import OpenedRecording

PAGE_FILE = OutputFile("view", "view.html", (".html",))
MOST_BYTES = 6_000_000
"""Of an exported file's answers before they are packed; the page itself is smaller than this in all."""
_MOST_SIDE = 480
_POINTS = 400
_SOON_READ = 4000
"""Tokens of a video."""


def export_page(explorer: Explorer, view: View, *, max_bytes: int = MOST_BYTES) -> str:
    """The page of a view: with its heads, its point in the other records, and other points in its record.

    Parameters
    ----------
    explorer : Explorer
    view : what the page opens with
    max_bytes : of arrays before they are packed. The view is always stored; what else fits is, the other layers, steps
        and branches of its point first, then a grid of points in its frame, then the text tokens.
    """
    store = _Store(explorer, max_bytes)
    store.add(view, heads=True, path=True)
    records = store.add_all(_other_records(explorer, view))
    points = 0 if view.token is not None else store.add_all(_other_points(explorer, view), path=True)
    words = store.add_all(_tokens(explorer, view))
    if view.token is None:
        held, kept, click = counted(points + 1, "point"), "for the first of them", " A click takes the nearest point."
    else:
        held, kept, click = counted(max(words, 1), "text token"), "for the chosen one", ""
    note = (
        f"An exported view: it holds {held} of layer {view.layer}, step {view.step}, and "
        f"{counted(records, 'other record')} {kept}.{click}"
    )
    overview = explorer.overview().head()
    overview["start"] = {name: value for name, value in asdict(view).items() if name != "recording"}
    for described in overview["recordings"]:
        described.pop("path")  # of no use elsewhere, and it may tell who made the file
    code = explorer.answer({"kind": "code", **overview["start"], "recording": 0}).values
    stored = {
        "overview": overview,
        "answers": store.answers,
        "bytes": base64.b64encode(zlib.compress(b"".join(store.parts), 9)).decode(),
        "images": [_images(opened) for opened in explorer.recordings],
        "code": code.get("code", ""),
        "note": note,
    }
    return stored_page(f"ditprobe: {overview['recordings'][0]['name']}", stored)


class _Store:
    """The answers of a file, up to a number of bytes."""

    def __init__(self, explorer: Explorer, max_bytes: int) -> None:
        self._explorer = explorer
        self.parts: list[bytes] = []
        self.answers: list[dict[str, Any]] = []
        self.size = 0
        self._most = max_bytes

    def add_all(self, views: Iterable[View], *, path: bool = False) -> int:
        """Store views one after the other while there is room; how many were stored."""
        stored = 0
        for view in views:
            if not self.add(view, path=path):
                break
            stored += 1
        return stored

    def add(self, view: View, *, heads: bool = False, path: bool = False) -> bool:
        """Store the answers to a view, of all recordings; False, and nothing stored, when there is no more room.

        A view with its heads is always stored.
        """
        answers = []
        for recording in range(len(self._explorer.recordings)):
            request = {**asdict(view), "recording": recording}
            found = self._explorer.answer({"kind": "attention", **request})
            source = {name: found.values[name] for name in ("image",) if name in found.values}
            if "point" in found.values:
                source |= dict(zip(("x", "y"), found.values["point"], strict=True))
            answers.append(({"kind": "attention", **request, **source}, _smaller(found, heads)))
            if path and view.token is None:
                answers.append(
                    ({"kind": "path", **request, **source}, self._explorer.answer({"kind": "path", **request}))
                )
            if view.token is not None and (view.towards or self._is_small(recording)):
                mapped = self._explorer.answer({"kind": "to_text", **request})
                answers.append(({"kind": "to_text", **request}, _smaller(mapped, heads)))
        size = sum(len(buffer) + 8 for _, answer in answers for buffer in answer.buffers())
        if not heads and self.size + size > self._most:
            return False
        for request, answer in answers:
            head = answer.head()
            for told, buffer in zip(head["arrays"], answer.buffers(), strict=True):
                told["start"] = self.size
                padded = buffer + bytes(-len(buffer) % 8)
                self.parts.append(padded)
                self.size += len(padded)
            self.answers.append({"request": request, "head": head})
        return True

    def _is_small(self, recording: int) -> bool:
        """Tell whether all rows of a record are soon read, so that maps of words are stored without being asked for."""
        return self._explorer.recordings[recording].layout.video_tokens <= _SOON_READ


def _smaller(answer: Answer, heads: bool) -> Answer:
    """An answer with 256 levels, and the mean over heads alone where the heads are not wanted."""
    if "mean" not in answer.arrays:
        return answer
    mean, largest = as_levels(answer.arrays["mean"], "u1")
    arrays, scales = {"mean": mean}, {"mean": largest}
    text = answer.arrays["text"]
    arrays["text"] = text if heads else text.mean(0, keepdims=True)
    if heads:
        levels, most = answer.arrays["heads"], answer.scales["heads"]
        arrays["heads"], scales["heads"] = (np.rint(levels / 257)).astype("<u1"), most
    return Answer(answer.values, arrays, scales)


def _other_records(explorer: Explorer, view: View) -> Iterator[View]:
    """The same point in every other record, the nearest layers and steps first."""
    recording = explorer.recordings[0].recording
    others = [
        (step, branch, layer)
        for step in recording.steps
        for branch in recording.branches
        for layer in recording.layers
        if recording.is_done(step=step, layer=layer, branch=branch)
        and (step, branch, layer) != (view.step, view.branch, view.layer)
    ]
    others.sort(
        key=lambda record: (
            record[1] != view.branch,
            (record[0] != view.step) + (record[2] != view.layer),
            abs(record[2] - view.layer),
        )
    )
    for step, branch, layer in others:
        yield view.at(step=step, branch=branch, layer=layer)


def _other_points(explorer: Explorer, view: View) -> Iterator[View]:
    """Cells of the view's frame, coarse before fine, so that what fits covers the whole image."""
    layout = explorer.recordings[0].layout
    rows, columns = layout.height, layout.width
    stride, seen = 1, set()
    while -(-rows // stride) * -(-columns // stride) > _POINTS:
        stride *= 2
    for step in sorted({1 << power for power in range(12) if stride <= 1 << power <= max(rows, columns)}, reverse=True):
        for row in range(step // 2, rows, step):
            for column in range(step // 2, columns, step):
                if (row, column) in seen:
                    continue
                seen.add((row, column))
                x, y = layout.to_pixels(np.array([float(column), float(row)])).tolist()
                yield view.at(x=x, y=y)


def _tokens(explorer: Explorer, view: View) -> Iterator[View]:
    """The text tokens that are neither padding nor an empty slot of a scene prompt, where they have names."""
    names = explorer.recordings[0].token_names(view.branch) or []
    for token, name in enumerate(names):
        if name not in ("<pad>", "<nothing>", "</s>", "[PAD]", ""):
            yield view.at(token=token)


def _images(opened: OpenedRecording) -> dict[str, str]:
    """The images as data addresses, no side above 480 px."""
    if opened.clip is None:
        return {}
    found = {}
    for number, image in enumerate(opened.clip.images):
        kind, data = opened.picture(number)
        if max(image.shape[:2]) > _MOST_SIDE:
            picture, written = Image.fromarray(image), io.BytesIO()
            picture.thumbnail((_MOST_SIDE, _MOST_SIDE))
            picture.save(written, "JPEG", quality=80)
            data = written.getvalue()
        found[str(number)] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return found


def write_page(explorer: Explorer, view: View, path: Path, *, overwrite: bool = False) -> Path:
    """Write the page of a view to a file, atomically.

    Raises
    ------
    InvalidInputError, OutputExistsError
        The path does not end in ``.html``, or it is taken.
    RecordingError
        The view cannot be answered, or the file not be written.
    """
    PAGE_FILE.check(path, overwrite=overwrite)
    answer = explorer.answer({"kind": "attention", **asdict(view)})
    if "error" in answer.values:
        raise RecordingError(answer.values["error"]["message"])
    PAGE_FILE.write(path, export_page(explorer, view))
    return path
