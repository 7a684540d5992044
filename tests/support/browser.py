"""Chromium or Chrome of this machine, driven by playwright; tests are skipped where either is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@contextmanager
def a_browser() -> Iterator[Any]:
    """A headless browser, or a skipped test."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Watched:
    """A page whose console and requests are kept."""

    def __init__(self, browser: Any, *, width: int = 1280, height: int = 900, offline: bool = False) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, offline=offline)
        self.context.set_default_timeout(120_000)  # milliseconds: the machine may be busy
        self.page = self.context.new_page()
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def settled(self, after: int = 0) -> int:
        """Wait until the newest request, and its path, are shown; the number of that request."""
        self.page.wait_for_function(
            "least => Number(document.querySelector('[data-settled]')?.dataset.settled || 0) > least", arg=after
        )
        return int(self.page.get_attribute("[data-settled]", "data-settled"))

    def outside(self, address: str) -> list[str]:
        """What was asked of anybody but the given address."""
        return [url for url in self.asked if not url.startswith((address, "data:", "blob:"))]

    def close(self) -> None:
        """Close the page."""
        self.context.close()
