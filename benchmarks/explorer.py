"""Latency of a click in the explorer at the full shape of CogVideoX-2B: ``python -m benchmarks.explorer``.

A recording of 30 heads, 13 frames of 30 x 45 cells, 64 channels and 226 text tokens is synthesised (random numbers
take as long as a model's), with two layers of one step. Measured are the controller alone, from the request to the
bytes that are sent, and, where Chromium and playwright are there, the whole way in a headless browser: from the press
of the button to the frame that has the new picture in it, each click at another point. The first click of a layer is
told apart, since it compares the checksums of the layer, with the files in the page cache and without. The load of the
machine is printed too: on a busy one the fastest tenth is nearest to what an idle one does.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ditprobe.explorer.controller import Explorer
from ditprobe.explorer.opened import OpenedRecording
from ditprobe.explorer.server import ExplorerServer
from store import Clip, RecordingWriter, Selection, TokenLayout, open_recording

LAYOUT = TokenLayout(13, 30, 45, 480, 720, 49, text_tokens=226)
HEADS, CHANNELS, LAYERS, STEP = 30, 64, (12, 17), 49
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def write_recording(path: Path) -> None:
    """Random queries and keys at the full shape."""
    layers = [
        SimpleNamespace(index=i, name=f"transformer_blocks.{i}.attn1", heads=HEADS, channels=CHANNELS)
        for i in range(30)
    ]
    plan = Selection([STEP], LAYERS).plan(SimpleNamespace(name="CogVideoX-2B shape", layers=layers), LAYOUT, 50)
    rng = np.random.default_rng(0)
    with RecordingWriter(path, plan, sync=False) as writer:
        for layer in LAYERS:
            arrays = {
                array.name: rng.standard_normal(array.record_shape, np.float32).astype(np.float16)
                for array in plan.arrays
            }
            writer.write(step=STEP, layer=layer, **arrays)


def views(count: int) -> Iterator[dict[str, Any]]:
    """Points all over the clip."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        image, x, y = int(rng.integers(49)), float(rng.uniform(0, 720)), float(rng.uniform(0, 480))
        yield {"step": STEP, "branch": "cond", "image": image, "x": x, "y": y}


def own_memory() -> int:
    """Resident memory that is not a mapped file, in MB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"RssAnon:\s+(\d+) kB", status)[0]) // 1000


def line(name: str, milliseconds: list[float]) -> str:
    """A row of the table."""
    low, middle, high = np.percentile(milliseconds, [10, 50, 90])
    return f"| {name} | {middle:.0f} | {low:.0f} | {high:.0f} | {len(milliseconds)} |"


def evict(path: Path) -> None:
    """Take the files of a recording out of the page cache, so that the next read is from the disk (Linux)."""
    os.sync()
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold_row(path: Path, clip: Clip) -> str:
    """The first request of all, with nothing in memory."""
    evict(path)
    explorer = Explorer([OpenedRecording(open_recording(path), clip)])
    began = time.perf_counter()
    explorer.answer({"kind": "attention", **next(views(1)), "layer": LAYERS[0], "brief": True}).to_bytes()
    return line("the first of a layer, from the disk", [1000 * (time.perf_counter() - began)])


def controller_rows(explorer: Explorer, clicks: int) -> list[str]:
    """The controller alone."""

    def timed(request: dict[str, Any], clock: Callable[[], float] = time.perf_counter) -> float:
        began = clock()
        answer = explorer.answer(request)
        answer.to_bytes()
        assert "error" not in answer.values, answer.values
        return 1000 * (clock() - began)

    row = {"kind": "attention", "layer": LAYERS[0]}
    first = [timed({**row, **next(views(1)), "layer": layer}) for layer in LAYERS]
    brief = [timed({**row, **view, "brief": True}) for view in views(clicks)]
    busy = [timed({**row, **view, "brief": True}, time.process_time) for view in views(clicks)]
    whole = [timed({**row, **view}) for view in views(clicks)]
    switched = [timed({**row, **view, "layer": LAYERS[i % 2]}) for i, view in enumerate(views(clicks))]
    paths = [timed({"kind": "path", **view, "image": 0, "layer": LAYERS[0]}) for view in views(clicks)]
    return [
        line("row of all heads, request to the bytes of their mean", brief),
        line("the same, time of the processor alone, whatever else the machine does", busy),
        line("row of all heads, request to the bytes of each head", whole),
        line("the same, another layer each time", switched),
        line("the first of a layer in the page cache, which compares its checksums", first),
        line("path, the first from a frame", paths[:1]),
        line("path, the next ones", paths[1:]),
    ]


@contextmanager
def page_of(address: str) -> Iterator[Any]:
    """A page in a headless browser; None without one."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        yield None
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(address)
        page.wait_for_selector("[data-settled]", timeout=120_000)
        yield page
        browser.close()


# From the press of the button to the next frame of the screen after the picture was drawn.
CLICK = """async ([x, y]) => {
  const canvas = document.querySelector(".dpx-big"), box = canvas.getBoundingClientRect();
  const time = document.querySelector(".dpx-time");
  const shown = new Promise((resolve) => new MutationObserver((_, observer) => {
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now()), 0));
  }).observe(time, { childList: true, characterData: true, subtree: true }));
  const began = performance.now();
  const at = { clientX: box.left + x * box.width, clientY: box.top + y * box.height, button: 0, pointerId: 1, bubbles: true };
  canvas.setPointerCapture = () => {};
  canvas.dispatchEvent(new PointerEvent("pointerdown", at));
  canvas.dispatchEvent(new PointerEvent("pointerup", at));
  return (await shown) - began;
}"""  # noqa: E501


def browser_rows(explorer: Explorer, clicks: int) -> list[str]:
    """The whole way, in a browser."""
    with ExplorerServer(explorer) as server, page_of(server.address) as page:
        if page is None:
            return ["| in a browser | not measured: no Chromium, or no playwright | | | |"]
        took = []
        for view in views(clicks):
            took.append(page.evaluate(CLICK, [view["x"] / 720, view["y"] / 480]))
            time.sleep(0.3)  # a person's next click; the path is drawn meanwhile
        return [line("click to picture in Chromium, without a GPU", took)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--write", type=Path, help="write the recording there and do nothing else")
    parser.add_argument("--threads", type=int, help="threads of torch, by default its own choice")
    chosen = parser.parse_args()
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    if chosen.write is not None:
        write_recording(chosen.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.zarr")
        subprocess.run([sys.executable, "-m", "benchmarks.explorer", "--write", path], check=True)
        images = np.random.default_rng(2).integers(0, 255, (49, 60, 90, 3), dtype=np.uint8)
        clip = Clip(images, 8).resized(480, 720)
        before = own_memory()
        print(f"load of the machine: {os.getloadavg()[0]:.1f} busy processes on {os.cpu_count()} processors\n")
        print("| | median, ms | 10 %, ms | 90 %, ms | clicks |\n|---|---:|---:|---:|---:|")
        print(cold_row(path, clip), flush=True)
        explorer = Explorer([OpenedRecording(open_recording(path), clip)])
        for row in controller_rows(explorer, chosen.clicks) + browser_rows(explorer, chosen.clicks):
            print(row, flush=True)
        after = own_memory()
    print(f"\n{torch.get_num_threads()} threads of torch. Memory of this process, without the mapped files:")
    print(f"{before} MB before the first click, {after} MB after the last. Keys as float32 would be 135 MB a layer.")


if __name__ == "__main__":
    main()
