"""The front end in a real browser: click, drag, slide, compare, export; nothing on the console, nobody else asked."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Watched, a_browser
from explored import explorer_of, write_recording
from PIL import Image

from ditprobe.explorer.assets import module, style
from ditprobe.explorer.server import ExplorerServer
from store import TokenLayout


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with a_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("explored")
    return write_recording(folder / "a.zarr"), write_recording(folder / "b.zarr", seed=1)


def shares(page: Any) -> list[str]:
    return page.locator(".dpx-caption b").all_inner_texts()


def test_click_slide_and_keys_show_another_attention(browser: Any, paths: tuple[Path, Path]) -> None:
    with ExplorerServer(explorer_of(paths[0])) as server:
        watched = Watched(browser)
        page = watched.page
        page.goto(server.address)
        settled = watched.settled()
        assert "cells from the truth on average" in page.inner_text(".dpx-status")  # it starts at a track
        before = shares(page)
        assert len(before) == 4

        stage = page.locator(".dpx-big").bounding_box()
        page.mouse.click(stage["x"] + stage["width"] * 31 / 56, stage["y"] + stage["height"] * 9 / 40)
        settled = watched.settled(settled)
        clicked = shares(page)
        assert clicked != before
        assert "no track passes here" in page.inner_text(".dpx-status")

        page.locator("input[aria-label=Layer]").focus()
        page.keyboard.press("ArrowRight")
        settled = watched.settled(settled)
        assert page.inner_text("label:has([aria-label=Layer]) output").startswith("4 of 6")
        assert shares(page) != clicked

        page.locator(".dpx-big").focus()
        page.keyboard.press("ArrowDown")  # the point, by a cell
        settled = watched.settled(settled)
        page.keyboard.press("h")
        page.locator(".dpx-head.dpx-on").wait_for()
        page.keyboard.press("m")
        page.locator(".dpx-head.dpx-on").wait_for(state="detached")
        page.keyboard.press("k")
        assert page.input_value("input[aria-label=Image]") == "1"

        page.locator(".dpx-chip", has_text="disc").click()
        settled = watched.settled(settled)
        page.locator(".dpx-text h2", has_text="Attention of the text token “disc”").wait_for()
        from_word = shares(page)
        page.locator(".dpx-segments button", has_text="to the word").click()
        settled = watched.settled(settled)
        page.locator(".dpx-text h2", has_text="Attention of all cells on the text token “disc”").wait_for()
        assert shares(page) != from_word
        page.locator(".dpx-segments button", has_text="uncond").click()
        watched.settled(settled)
        assert watched.told == []
        assert watched.outside(server.address.rsplit("/", 2)[0]) == []
        watched.close()


def test_two_recordings_stand_beside_their_difference(browser: Any, paths: tuple[Path, Path], tmp_path: Path) -> None:
    other = write_recording(tmp_path / "c.zarr", layout=TokenLayout(4, 10, 14, 40, 56, 13, text_tokens=6))
    for second, slots, said in ((paths[1], 3, 0), (other, 2, 1)):
        with ExplorerServer(explorer_of(paths[0], second)) as server:
            watched = Watched(browser)
            watched.page.goto(server.address)
            watched.settled()
            assert watched.page.locator(".dpx-big").count() == slots
            assert watched.page.locator(".dpx-note", has_text="the layouts differ").count() == said
            assert watched.told == []
            watched.close()


def test_a_damaged_record_is_told_and_the_next_layer_shows(browser: Any, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.zarr")
    (path / "key" / "c.1.0.1.0.0.0.0.0").write_bytes(b"short")
    with ExplorerServer(explorer_of(path)) as server:
        watched = Watched(browser)
        watched.page.goto(server.address)
        watched.page.locator(".dpx-frame .dpx-error").wait_for()
        assert "step 9, layer 2, branch 'cond'" in watched.page.inner_text(".dpx-frame .dpx-error")
        settled = watched.settled()
        watched.page.keyboard.press("Tab")
        watched.page.keyboard.press("]")
        watched.settled(settled)
        assert watched.page.locator(".dpx-frame .dpx-error:visible").count() == 0
        assert watched.told == []
        watched.close()


def test_a_recording_that_is_being_written_says_so(browser: Any, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.zarr", done=5)
    with ExplorerServer(explorer_of(path)) as server:
        watched = Watched(browser)
        page = watched.page
        page.goto(server.address)
        settled = watched.settled()
        assert page.inner_text(".dpx-writing").strip() == "being written: 5 of 12 records"
        page.locator("input[aria-label=Step]").focus()
        page.keyboard.press("ArrowRight")
        watched.settled(settled)
        assert "is not written yet" in page.inner_text(".dpx-frame .dpx-error")
        assert watched.told == []
        watched.close()


def test_the_exported_files_are_whole_and_the_page_responds_offline(
    browser: Any, paths: tuple[Path, Path], tmp_path: Path
) -> None:
    with ExplorerServer(explorer_of(paths[0])) as server:
        watched = Watched(browser)
        watched.page.goto(server.address)
        watched.settled()
        for kind in ("PNG", "SVG", "HTML"):
            with watched.page.expect_download() as download:
                watched.page.locator(".dpx-actions button", has_text=kind).click()
            download.value.save_as(tmp_path / f"view.{kind.lower()}")
        watched.page.locator(".dpx-actions button", has_text="Python").click()
        assert "dp.attention_of_points(" in watched.page.inner_text("dialog pre")
        watched.close()
    with Image.open(tmp_path / "view.png") as picture:
        assert picture.width > 1500
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height)) > 500
    assert (tmp_path / "view.svg").read_text().count("<image") == 8  # four frames, each with its attention
    assert (tmp_path / "view.html").stat().st_size < 8_000_000

    watched = Watched(browser, width=500, offline=True)
    page = watched.page
    page.goto((tmp_path / "view.html").as_uri())
    settled = watched.settled()
    before = shares(page)
    stage = page.locator(".dpx-big").bounding_box()
    page.mouse.click(stage["x"] + stage["width"] * 0.8, stage["y"] + stage["height"] * 0.8)
    settled = watched.settled(settled)
    assert shares(page) != before
    page.locator("input[aria-label=Layer]").focus()
    page.keyboard.press("ArrowLeft")
    watched.settled(settled)
    assert page.evaluate("document.documentElement.scrollWidth") == 500
    assert watched.told == []
    assert watched.outside("file://") == []
    watched.close()


def test_the_widget_answers_messages(browser: Any, paths: tuple[Path, Path]) -> None:
    """Messages as a notebook carries them, with the kernel's part on this side of the page."""
    pytest.importorskip("anywidget")
    from ditprobe.explorer.widget import ExplorerWidget

    widget = ExplorerWidget(explorer_of(paths[0]))
    sent: list[Any] = []
    widget.send = lambda content, buffers=None: sent.append((content, buffers))

    def carry(message: str) -> str:
        widget._reply(json.loads(message))
        content, buffers = sent.pop()
        return json.dumps([content, [base64.b64encode(buffer).decode() for buffer in buffers or []]])

    watched = Watched(browser)
    page = watched.page
    page.expose_function("carry", carry)
    code = base64.b64encode(module().encode()).decode()
    page.set_content(f"""<style>{style()}</style><div id="cell"></div><script type="module">
        const bytes = Uint8Array.from(atob("{code}"), (letter) => letter.charCodeAt(0));
        const widget = await import(URL.createObjectURL(new Blob([bytes], {{ type: "text/javascript" }})));
        const handlers = [];
        widget.default.render({{ el: document.getElementById("cell"), model: {{
          on: (name, handler) => handlers.push(handler),
          send: async (message) => {{
            const [content, buffers] = JSON.parse(await carry(JSON.stringify(message)));
            const views = buffers.map((one) => new DataView(Uint8Array.from(atob(one), (l) => l.charCodeAt(0)).buffer));
            handlers.forEach((handler) => handler(content, views));
          }} }} }});
      </script>""")
    settled = watched.settled()
    assert len(shares(page)) == 4
    page.locator(".dpx-grid canvas").nth(2).click(position={"x": 60, "y": 30})
    watched.settled(settled)
    assert page.locator(".dpx-source").get_attribute("data-frame") == "2"
    assert watched.told == []
    watched.close()
    widget.close()
