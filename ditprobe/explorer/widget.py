"""The explorer as a widget of JupyterLab, VS Code and whatever else shows anywidgets."""

from __future__ import annotations

import os
import threading
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from ditprobe.explorer.assets import module, style
from ditprobe.explorer.controller import Explorer
from ditprobe.explorer.export import export_page, write_page
from ditprobe.explorer.view import View
from store.checks import integer


class ExplorerWidget(anywidget.AnyWidget):
    """An explorer in a notebook; made by :func:`ditprobe.explorer.explore.explore`.

    Messages from the front end are ``{"id": number, "request": ...}``; the reply has the same id, the answer's head,
    and its arrays as buffers.
    """

    _esm = traitlets.Unicode(module()).tag(sync=True)
    _css = traitlets.Unicode(style()).tag(sync=True)

    def __init__(self, explorer: Explorer, *, folder: Any = None) -> None:
        super().__init__()
        self.explorer = explorer
        self._folder = folder  # a temporary recording lives as long as its widget
        self.on_msg(self._receive)

    def close(self) -> None:
        """Close the widget, and remove the temporary recording that was made for it."""
        super().close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def save_html(self, path: str | os.PathLike[str], *, overwrite: bool = False, **view: Any) -> Path:
        """Write a view to an HTML file that needs no network and no Python and still responds to clicks.

        Parameters
        ----------
        path : ends in ``.html``
        overwrite : replace what is there
        **view : fields of :class:`ditprobe.explorer.view.View`; the others are those that the explorer opens with

        Raises
        ------
        InvalidInputError, OutputExistsError, RecordingError
        """
        return write_page(self.explorer, View.of({**self.explorer.start(), **view}), Path(path), overwrite=overwrite)

    def still(self, *, height: int = 900, **view: Any) -> Any:
        """A view as an output that stays in the saved notebook and still responds, as a file of :meth:`save_html` does.

        Parameters
        ----------
        height : int
            Pixels.
        **view : fields of :class:`ditprobe.explorer.view.View`; the others are those that the explorer opens with

        Returns
        -------
        IPython.display.HTML
        """
        from IPython.display import HTML

        page = export_page(self.explorer, View.of({**self.explorer.start(), **view}))
        frame = f'style="width:100%;height:{integer(height, "height", min_value=100)}px;border:0"'
        return HTML(f'<div><iframe title="A view of the explorer" {frame} srcdoc="{escape(page)}"></iframe></div>')

    def _receive(self, _: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        if not isinstance(content, dict) or "request" not in content:
            return
        if content["request"].get("kind") in (
            "path",
            "to_text",
        ):  # may take seconds: the next click must not wait for it
            threading.Thread(target=self._reply, args=(content,), daemon=True).start()
        else:
            self._reply(content)

    def _reply(self, content: dict[str, Any]) -> None:
        request = content["request"]
        if request.get("kind") == "image":
            kind, data = self.explorer.picture(int(request["recording"]), int(request["image"]))
            self.send({"id": content["id"], "head": {"type": kind}}, [data])
            return
        answer = self.explorer.answer(request)
        self.send({"id": content["id"], **answer.head()}, answer.buffers())

    def __repr__(self) -> str:
        opened = self.explorer.recordings[0]
        run = opened.recording
        layers, steps = (", ".join(map(str, numbers)) for numbers in (run.layers, run.steps))
        return f"Explorer of {opened.name}: layers {layers}, steps {steps}, {len(run.heads)} heads"
