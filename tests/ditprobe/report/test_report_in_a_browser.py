"""The report in Chromium: linked maps, a clip that plays, and nothing cut off on a narrow screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Watched, a_browser
from report_helpers import example, sweep

from analyses.selection.select import select_layers
from ditprobe.report.report import write_report


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with a_browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = sweep(heads=3)
    path = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(path, found, select_layers(found, 1), examples=[example()])


def opened(browser: Any, report: Path, width: int) -> Watched:
    watched = Watched(browser, width=width, offline=True)
    watched.page.goto(report.as_uri())
    watched.page.wait_for_selector(".map canvas")
    watched.page.wait_for_selector(".js-plotly-plot", state="attached")
    return watched


def test_a_cell_opens_its_heads_and_its_curve(browser: Any, report: Path) -> None:
    watched = opened(browser, report, 1280)
    page = watched.page
    first = page.locator("#answer .first").bounding_box()
    assert first["y"] + first["height"] < 900  # verdict, maps, heads and example are on the first screen
    assert page.locator("#cell h3").all_inner_texts() == [
        "Accuracy of each head, step 49 (timestep 19)",
        "Accuracy of layer 4 over the steps",
    ]
    moving = page.locator(".map canvas").nth(1)
    box = moving.bounding_box()
    moving.hover(position={"x": 30, "y": 5})
    assert page.locator(".readout").inner_text() == "layer 1, step 0 (timestep 999)"
    moving.click(position={"x": 30, "y": 5})
    assert page.locator("#cell h3").nth(1).inner_text() == "Moving points of layer 1 over the steps"
    moving.press("ArrowRight")
    moving.press("ArrowDown")
    page.mouse.move(box["x"], 10)
    assert page.locator(".readout").inner_text().startswith("layer 2, step 20 (timestep 599)")
    assert "of 2" not in page.locator("#cell .note").nth(0).inner_text()
    assert (watched.told, watched.outside("file:")) == ([], [])
    watched.close()


def test_the_example_plays_and_another_point_can_be_clicked(browser: Any, report: Path) -> None:
    watched = opened(browser, report, 1280)
    page = watched.page
    stage = page.locator("#example .stage")
    stage.click(position={"x": 30, "y": 30})  # which also stops the play that the page begins by itself
    slider = page.locator("#example .player input")
    slider.focus()
    page.keyboard.press("Home")
    assert page.locator("#example .player output").inner_text() == "image 0"
    page.keyboard.press("ArrowRight")
    assert page.locator("#example .player output").inner_text() == "image 1"
    told = page.locator("#example .note").inner_text()
    assert told.startswith("median error here 5.0 px · this frame holds ")
    seen = {told}
    for _ in range(3):
        stage.press("ArrowRight")
        seen.add(page.locator("#example .note").inner_text())
    assert len(seen) > 1  # other points, other shares
    page.locator("#example .play").click()
    page.wait_for_function("() => document.querySelector('#example .player output').textContent === 'image 3'")
    assert (watched.told, watched.outside("file:")) == ([], [])
    watched.close()


def test_nothing_is_cut_on_a_narrow_screen(browser: Any, report: Path) -> None:
    watched = opened(browser, report, 500)
    page = watched.page
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == 500
    shown = ", ".join(f"main {name}" for name in ("h2", "p", "canvas", "figcaption", "svg.main-svg", "dl"))
    outside = """(shown) => [...document.querySelectorAll(shown)]
      .filter((each) => each.getBoundingClientRect().right > 500.5).map((each) => each.outerHTML.slice(0, 60))"""
    assert page.evaluate(outside, shown) == []
    watched.close()
