"""Make the pictures of the README: ``python docs/images/make.py [names] [--demo FOLDER] [--out FOLDER]``.

``explorer.png`` is the explorer as playwright drives it in headless Chromium or Chrome. ``report.png`` is the first
screen of the demo's report, as such a browser draws it, at two pixels for each of the page. The demo is run for it,
which takes minutes, unless a folder that it has filled is given. The others are drawn from the bundled models:
``generated.png``, ``heads.png``, ``tracked.png``, ``transferred.png`` and ``adapted.png`` (four trainings, minutes).
All are PNGs in true colour: a palette would change the colours that a colour bar explains.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import ditprobe as dp
from analyses.optical_flow import opencv

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PAGE_WIDTH, PAGE_HEIGHT, DENSITY = 1280, 2000, 2
"""Pixels of the page, at most, and pixels of the picture for each of them."""
EXCERPT = """<style>
main > section:not(#answer) { display: none; }
</style></body>"""
MOST_BYTES = 600_000
SCALE = 8
GAP, LABEL, TEXT = 8, 44, 26
"""Pixels between images, of the line above or below them, and of the letters in it."""
INK, SOFT = (31, 36, 48), (91, 98, 112)

SAID = "a red disc moves left over blue stripes"
CAPTION = "a red ring over blue stripes"
REFERENCE, OTHER = "a red ring moves left over blue stripes", "a green star over white dots"


def report(demo: Path | None) -> Image.Image:
    """The first screen of the demo's report.

    Raises
    ------
    RuntimeError
        Without a browser, or where it draws nothing.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise RuntimeError("report.png needs Chromium or Chrome. Install one (Debian, Ubuntu: apt install chromium).")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if demo is None:
            demo = Path(folder, "demo")
            subprocess.run([sys.executable, "-m", "ditprobe.demo", "--out", demo], check=True)
        page, picture = Path(folder, "report.html"), Path(folder, "report.png")
        page.write_text(
            (demo / "report.html").read_text(encoding="utf-8").replace("</body>", EXCERPT), encoding="utf-8"
        )
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/user"]
        options += [f"--window-size={PAGE_WIDTH},{PAGE_HEIGHT}", f"--force-device-scale-factor={DENSITY}"]
        options += ["--virtual-time-budget=20000", f"--screenshot={picture}", page.as_uri()]
        run = subprocess.run([browser, *options], capture_output=True, text=True, timeout=300, check=False)
        if not picture.is_file():
            raise RuntimeError(f"{browser} drew nothing (exit {run.returncode}): {run.stderr[-300:]}")
        return without_empty_end(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB"))


def generated(_: Path | None) -> Image.Image:
    """Six images that mini makes of a prompt."""
    clip = dp.load_backbone("mini").generate(SAID, seed=0)
    return sheet({f"mini: “{SAID}”": large(clip.images)}, numbers(len(clip)))


def heads(_: Path | None) -> Image.Image:
    """Classes of the heads of both bundled models over eight scenes."""
    scenes = {str(seed): dp.make_scene(seed) for seed in range(8)}
    drawn = []
    for name in ("mini", "mini-rope"):
        backbone = dp.load_backbone(name)
        masses = dp.sweep_heads(backbone, scenes, dp.Selection(steps=[46], layers="all"), progress=False)
        figure = dp.plot_head_classes(dp.decide_heads(masses), title=name)
        drawn.append(figure.to_image("png", width=PAGE_WIDTH // 2, height=PAGE_WIDTH * 9 // 32, scale=DENSITY))
    return beside([Image.open(io.BytesIO(data)).convert("RGB") for data in drawn])


def tracked(_: Path | None) -> Image.Image:
    """Points followed forward and backward from the image in the middle of a scene."""
    scene, asked_in = dp.make_scene(4, images=12), 4
    points = np.stack(np.meshgrid(np.arange(3, 40, 7.0), np.arange(3, 40, 7.0)), -1).reshape(-1, 2)[::2]
    found = dp.track_points(
        scene, np.column_stack([np.full(len(points), asked_in), points]), dp.load_backbone("mini"), progress=False
    )
    shown = [0, 2, asked_in, 7, 9, 11]
    captions = [f"image {n}" + (": asked for here" if n == asked_in else "") for n in shown]
    drawn = dp.draw_tracks(scene.images, found, scale=SCALE)[shown]
    return sheet({"followed from image 4 (white rims) forward and backward; hollow: called hidden": drawn}, captions)


def transferred(_: Path | None) -> Image.Image:
    """A reference, what mini makes of another prompt, and the same noise with the reference's motion."""
    backbone, reference = dp.load_backbone("mini"), dp.make_scene(21, prompt=REFERENCE)
    plain, moved = (
        dp.transfer_motion(backbone, reference, OTHER, method=method, steps=20, on_step=False)
        for method in (dp.PlainBackbone(), dp.DiTFlow(fraction=0.4))
    )
    rows = {
        f"reference: “{REFERENCE}”": reference.images,
        f"mini alone: “{OTHER}”": plain.images,
        "the same noise and prompt, with the motion of the reference": moved.images,
    }
    return sheet({name: large(images) for name, images in rows.items()}, numbers(len(reference)))


def adapted(_: Path | None) -> Image.Image:
    """A reference, what mini makes of another prompt, and the same noise with the motion that four methods learnt."""
    backbone, reference = dp.load_backbone("mini"), dp.make_scene(21, prompt=REFERENCE)
    trained = {
        "DeT": dp.DeT(),
        "LoRA (DreamBooth)": dp.DreamBooth(),
        "MotionInversion": dp.InvertedMotion(),
        "Follow-Your-Motion": dp.FollowYourMotion(),
    }
    rows = {f"reference: “{REFERENCE}”": reference.images}
    # a caption that names the motion would leave nothing of it to learn
    fitted = {name: method.fit(backbone, reference, prompt=CAPTION) for name, method in trained.items()}
    for name, method in {"mini alone": dp.PlainBackbone(), **fitted}.items():
        clip = dp.transfer_motion(backbone, reference, OTHER, method=method, on_step=False)
        rows[f"{name}: “{OTHER}”"] = clip.images
    return sheet({name: large(images) for name, images in rows.items()}, numbers(len(reference)))


def explorer(_: Path | None) -> Image.Image:
    """The explorer with a point on the star of a scene: its attention two images later, by head and by word.

    Raises
    ------
    RuntimeError
        Without a browser, or without playwright.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise RuntimeError("explorer.png needs Chromium or Chrome. Install one (Debian, Ubuntu: apt install chromium).")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise RuntimeError("explorer.png needs playwright: pip install playwright.") from error
    from ditprobe.explorer.controller import Explorer
    from ditprobe.explorer.opened import OpenedRecording
    from ditprobe.explorer.server import ExplorerServer

    backbone, scene = dp.load_backbone("mini"), dp.make_scene(9)
    selection = dp.Selection(steps=range(0, 50, 7), layers="all", branches=("cond", "uncond"))
    scenes = {f"scene {number}": dp.make_scene(number) for number in range(16)}
    grid = dp.Selection(steps=range(0, 50, 7), layers="all")
    found = dp.sweep(backbone, scenes, grid, threshold_cells=1, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        run = dp.record(
            backbone, scene, selection, Path(folder, "scene.zarr"), noise="forward", guidance_scale=6, on_step=False
        )
        explored = Explorer([OpenedRecording(run, scene)], sweep=found)
        with ExplorerServer(explored) as server, sync_playwright() as driver:
            opened = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = opened.new_page(viewport={"width": PAGE_WIDTH, "height": 880}, device_scale_factor=DENSITY)
            page.goto(server.address)
            page.wait_for_selector("[data-settled='1']")
            page.locator(".dpx-grid canvas").first.click(position={"x": 62, "y": 61})  # on the star
            page.wait_for_selector("[data-settled='2']")
            page.locator(".dpx-caption").nth(2).click()
            page.mouse.move(0, 0)
            page.wait_for_timeout(500)
            drawn = page.screenshot(full_page=True)
            opened.close()
    return without_empty_end(Image.open(io.BytesIO(drawn)).convert("RGB"))


PICTURES: dict[str, Callable[[Path | None], Image.Image]] = {
    "explorer": explorer,
    "report": report,
    "generated": generated,
    "heads": heads,
    "tracked": tracked,
    "transferred": transferred,
    "adapted": adapted,
}


def large(images: np.ndarray) -> np.ndarray:
    """Every pixel as a square."""
    return images.repeat(SCALE, axis=1).repeat(SCALE, axis=2)


def numbers(count: int) -> list[str]:
    """What stands below the images of a clip."""
    return [f"image {number}" for number in range(count)]


def without_empty_end(picture: Image.Image) -> Image.Image:
    """The picture without the white below its last mark, except for a margin."""
    marked = np.flatnonzero((np.asarray(picture) < 250).any((1, 2)))
    return picture.crop((0, 0, picture.width, min(picture.height, int(marked[-1]) + 24 * DENSITY)))


def sheet(rows: Mapping[str, np.ndarray], captions: Sequence[str]) -> Image.Image:
    """Rows of images (image, y, x, 3) with gaps between them, a name above each row and captions below the last."""
    images = np.stack(list(rows.values()))
    count, columns, height, width = images.shape[:4]
    whole = Image.new(
        "RGB", (columns * (width + GAP) - GAP, count * (height + LABEL + GAP) - GAP + LABEL), (255, 255, 255)
    )
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=TEXT)
    for row, name in enumerate(rows):
        top = row * (height + LABEL + GAP)
        draw.text((2, top + 6), name, fill=INK, font=font)
        for column in range(columns):
            whole.paste(Image.fromarray(images[row, column]), (column * (width + GAP), top + LABEL))
    for column, text in enumerate(captions):
        draw.text((column * (width + GAP) + 2, whole.height - LABEL + 6), text, fill=SOFT, font=font)
    return whole


def beside(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures from left to right, on white."""
    width, height = sum(each.width for each in pictures), max(each.height for each in pictures)
    whole, left = Image.new("RGB", (width, height), "white"), 0
    for each in pictures:
        whole.paste(each, (left, 0))
        left += each.width
    return whole


def write(path: Path, picture: Image.Image) -> int:
    """Write a PNG in true colour and return its bytes.

    Raises
    ------
    RuntimeError
        For a file too large for a page that many open.
    """
    cv2 = opencv()  # Pillow cannot choose the filter, and what is drawn is smaller without one
    pixels = np.asarray(picture.convert("RGB"))[..., ::-1]
    best = [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_FILTER]
    filters = (cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_FILTER_UP)
    data = min((cv2.imencode(".png", pixels, [*best, each])[1].tobytes() for each in filters), key=len)
    if len(data) > MOST_BYTES:
        raise RuntimeError(f"{path.name} would have {len(data):,} bytes, more than {MOST_BYTES:,}.")
    path.write_bytes(data)
    return len(data)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what was asked for, everything by default."""
    parser = argparse.ArgumentParser(description="Make the pictures of the README.")
    parser.add_argument("names", nargs="*", help=f"Which: {', '.join(PICTURES)}; all by default.")
    parser.add_argument("--demo", type=Path, help="A folder that the demo has filled; by default it is run.")
    parser.add_argument("--out", type=Path, default=HERE, help="Where the pictures go.")
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.names if name not in PICTURES]
    if unknown:
        parser.error(f"unknown picture {unknown[0]!r}. Known: {', '.join(PICTURES)}.")
    for name in asked.names or PICTURES:
        path = asked.out / f"{name}.png"
        picture = PICTURES[name](asked.demo)
        print(f"{path}: {picture.width} x {picture.height} px, {write(path, picture):,} bytes")


if __name__ == "__main__":
    main()
