"""Run the notebooks and keep their pictures: ``python notebooks/build.py [sources] [--out folder]``.

Each source is a Python file in jupytext's percent format. It is run from top to bottom in a fresh kernel and written
as ``<name>.ipynb`` with its outputs, atomically.

Pictures are saved as plotly's own JSON, which JupyterLab and VS Code draw without a network. GitHub, nbviewer and
nbconvert cannot, so each picture also gets a PNG, drawn by an installed Chromium or Chrome; without one it is left out.
JupyterLab shows that PNG, pixel by pixel, until the mouse first enters it: hence the plain resolution.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import plotly.offline
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

from store.files.atomic import atomic_write

HERE = Path(__file__).parent
PLOTLY = "application/vnd.plotly.v1+json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
RANDOM = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SECONDS_PER_CELL = 240
# The bundled model is too small to gain from more threads, and with one the numbers do not depend on their number.
# Bars of progress say how fast this machine was, and are of no use once the work is done.
KERNEL_DEFAULTS = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
WIDTH, HEIGHT = 900, 450  # pixels of a figure that does not say

FAILURES = (CellExecutionError, CellTimeoutError, DeadKernelError, OSError, RuntimeError, subprocess.SubprocessError)

PAGE = """<!doctype html><meta charset="utf-8"><body><script>{plotly_js}</script><script>
const figures = {figures};
(async () => {{
  const found = [];
  for (const {{data, layout, width, height}} of figures)
    found.push(await Plotly.toImage({{data, layout}}, {{format: "png", width, height}}));
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
}})();
</script>"""


def sources() -> list[Path]:
    """The notebooks of this folder, in order."""
    return sorted(HERE.glob("[0-9]*.py"))


def execute(source: Path, folder: Path, kernel: Any = None) -> Any:
    """The notebook of a source, run with ``folder`` as its working directory.

    It has a fresh kernel, unless one is passed in, whose working directory and environment are then those it has.

    Raises
    ------
    CellExecutionError
        At the first cell that fails.
    """
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # random ones would change the file at every run
    client = NotebookClient(
        notebook,
        timeout=SECONDS_PER_CELL,
        startup_timeout=SECONDS_PER_CELL,
        kernel_name="python3",
        km=kernel,
        record_timing=False,
        coalesce_streams=True,  # else the pieces of a print depend on the time they took
        resources={"metadata": {"path": str(folder)}},
    )
    with tempfile.TemporaryDirectory() as sockets:
        if kernel is None:
            own_sockets(client.create_kernel_manager(), Path(sockets))
        try:
            client.execute(env=kernel_environment())
        finally:
            if kernel is not None and client.kc is not None:
                client.kc.stop_channels()  # which the client leaves open for a kernel that it did not start
    notebook.metadata.pop("jupytext", None)
    return notebook


def own_sockets(manager: Any, folder: Path) -> None:
    """Let a kernel be reached through files instead of ports, which another process may take before the kernel does."""
    if os.name == "posix":
        manager.transport, manager.ip = "ipc", f"{folder}/kernel"


def kernel_environment() -> dict[str, str]:
    """The environment in which notebooks are run."""
    return {**KERNEL_DEFAULTS, **os.environ, "PLOTLY_RENDERER": "plotly_mimetype"}


def figures(notebook: Any) -> Iterator[Any]:
    """The outputs that are plotly figures."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if PLOTLY in output.get("data", ()):
                yield output


def settle_names(notebook: Any) -> None:
    """Number the random names that xarray gives the parts of its tables, so that the same run is the same file."""
    names: dict[str, str] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", ()):
                text = output["data"]["text/html"]
                output["data"]["text/html"] = RANDOM.sub(lambda m: names.setdefault(m[0], f"part-{len(names)}"), text)


def find_browser() -> str | None:
    """A browser that can draw without a window."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def add_pictures(notebook: Any, browser: str) -> None:
    """Put a PNG next to every plotly figure, all drawn in one run of the browser."""
    outputs = list(figures(notebook))
    if not outputs:
        return
    shown = [output["data"][PLOTLY] for output in outputs]
    layouts = [figure["layout"] for figure in shown]
    sizes = [{"width": layout.get("width", WIDTH), "height": layout.get("height", HEIGHT)} for layout in layouts]
    parts = zip(shown, layouts, sizes, strict=True)
    drawn = _draw([{"data": figure["data"], "layout": layout, **size} for figure, layout, size in parts], browser)
    for output, size, picture in zip(outputs, sizes, drawn, strict=True):
        output["data"]["image/png"] = _smaller(picture.removeprefix("data:image/png;base64,"))
        output["metadata"] = {"image/png": size}


def _smaller(picture: str) -> str:
    """The same pixels, packed better than browsers do; all in base64."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def _draw(shown: list[dict[str, Any]], browser: str) -> list[str]:
    """Data URIs of PNGs."""
    text = json.dumps(shown).replace("</", "<\\/")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        page = Path(folder, "page.html")
        page.write_text(PAGE.format(plotly_js=plotly.offline.get_plotlyjs(), figures=text), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}/user"]
        options += ["--virtual-time-budget=60000", "--dump-dom", page.as_uri()]
        run = subprocess.run([browser, *options], capture_output=True, text=True, timeout=300, check=False)
    found = re.search(r'<pre id="found">(.*?)</pre>', run.stdout, re.DOTALL)
    if found is None:
        raise RuntimeError(f"{browser} drew no pictures (exit {run.returncode}): {run.stderr[-500:]}")
    return json.loads(html.unescape(found[1]))


def write(path: Path, notebook: Any) -> None:
    """Write a notebook, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(jupytext.writes(notebook, fmt="ipynb"), encoding="utf-8")


def build(source: Path, out: Path, browser: str | None) -> Path:
    """Run one source and write its notebook."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(source, Path(folder))
    settle_names(notebook)
    if browser is not None:
        add_pictures(notebook, browser)
    path = out / f"{source.stem}.ipynb"
    write(path, notebook)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Build what was asked; 1 when a notebook failed, whose earlier file then stays as it is."""
    parser = argparse.ArgumentParser(description="Run the notebooks and keep their pictures.")
    parser.add_argument("sources", nargs="*", type=Path, help="Python files; by default all of this folder.")
    parser.add_argument("--out", type=Path, default=HERE, help="Where the .ipynb files go.")
    asked = parser.parse_args(arguments)
    browser, failed = find_browser(), 0
    if browser is None:
        print("No Chromium or Chrome found: the pictures will show in JupyterLab, but not on GitHub.")
    for source in asked.sources or sources():
        began = time.monotonic()
        try:
            path = build(source, asked.out, browser)
        except FAILURES as error:
            print(f"{source.name} failed; its notebook was not written.\n{error}", file=sys.stderr)
            failed += 1
        else:
            size = path.stat().st_size / 1e6
            print(f"{source.name} -> {path} ({size:.1f} MB, {time.monotonic() - began:.0f} s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
