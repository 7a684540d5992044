"""Pages of figures: what they hold, and that a failed write leaves what was there."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from ditprobe.report.page import write_page
from store.errors import RecordingError


def test_a_page_holds_its_figures_without_network(tmp_path: Path) -> None:
    write_page(tmp_path / "deep" / "a.html", "<i>one</i>", [go.Figure(), go.Figure()], width=700, min_width=321)
    page = (tmp_path / "deep" / "a.html").read_text(encoding="utf-8")
    assert page.count("<title>&lt;i&gt;one&lt;/i&gt;</title>") == page.count("<h1>&lt;i&gt;one&lt;/i&gt;</h1>") == 1
    assert [page.count(f'id="figure-{number}"') for number in (1, 2, 3)] == [1, 1, 0]
    assert page.count('<div style="min-width: 321px">') == 2
    assert "max-width: 700px" in page
    assert "<script src" not in page


def test_a_failed_write_leaves_the_old_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RecordingError) as error:
        write_page(path, "one", [go.Figure()])
    assert str(error.value) == f"the picture cannot be written to {path}: No space left on device."
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.html"]
