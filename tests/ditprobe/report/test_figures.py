"""Figures as files: the size in millimetres, the kinds, and what is missing, told with its remedy."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr

import ditprobe as dp
from store.errors import InvalidInputError, MissingFigureWriterError, OutputExistsError, RecordingError
from store.pages import POLICY

FIGURE = dp.plot_layer_step(
    xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("step", "layer"), name="accuracy", attrs={"units": "%"})
)


@pytest.fixture
def kaleido(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A kaleido that keeps what it is asked for; ``error``, where set, is raised in place of a picture."""
    module, errors = ModuleType("kaleido"), ModuleType("kaleido.errors")
    module.asked, module.error = [], None
    for name in ("BrowserClosedError", "BrowserFailedError", "ChromeNotFoundError"):
        setattr(errors, name, type(name, (RuntimeError,), {}))

    def calc_fig_sync(figure: dict[str, Any], *, opts: dict[str, Any], kopts: dict[str, Any]) -> bytes:
        if module.error is not None:
            raise getattr(errors, module.error)("no browser")
        module.asked.append((figure, opts, kopts))
        return b"picture"

    module.calc_fig_sync = calc_fig_sync
    monkeypatch.setitem(sys.modules, "kaleido", module)
    monkeypatch.setitem(sys.modules, "kaleido.errors", errors)
    return module


@pytest.mark.parametrize(("kind", "scale"), [("pdf", 1), ("svg", 1), ("png", 3.125)])
def test_a_figure_is_written_at_a_size_in_millimetres(kind: str, scale: float, kaleido: Any, tmp_path: Path) -> None:
    path = dp.save_figure(FIGURE, tmp_path / "deep" / f"a.{kind}", width_mm=85, height_mm=50)
    ((figure, opts, kopts),) = kaleido.asked
    assert path.read_bytes() == b"picture"
    assert opts == {"format": kind, "width": 321, "height": 189, "scale": scale}  # 96 px in 25.4 mm
    assert kopts == {"mathjax": False}  # which would be fetched
    assert figure["layout"]["title"] == FIGURE.to_dict()["layout"]["title"]


def test_a_figure_keeps_its_own_height(kaleido: Any, tmp_path: Path) -> None:
    dp.save_figure(FIGURE, tmp_path / "a.pdf")
    dp.save_figure(go.Figure(), tmp_path / "b.pdf")
    assert [(opts["width"], opts["height"]) for _, opts, _ in kaleido.asked] == [
        (643, FIGURE.layout.height),
        (643, 398),
    ]


def test_a_page_needs_neither_kaleido_nor_a_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    page = dp.save_figure(FIGURE, tmp_path / "a.html", width_mm=85, height_mm=50).read_text(encoding="utf-8")
    assert POLICY in page
    assert "max-width: 321px" in page
    assert FIGURE.layout.height != 189
    assert "<h1>Accuracy</h1>" in page
    assert '"showSendToCloud":false' in page


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_a_missing_kaleido_is_told_with_its_remedy(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(MissingFigureWriterError) as caught:
        dp.save_figure(FIGURE, tmp_path / f"a.{kind}")
    assert str(caught.value) == (
        f"a .{kind} needs kaleido: pip install 'ditprobe[figures]'. An .html needs nothing more."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", ["ChromeNotFoundError", "BrowserFailedError", "BrowserClosedError"])
def test_a_missing_browser_is_told_with_its_remedy(error: str, kaleido: Any, tmp_path: Path) -> None:
    kaleido.error = error
    with pytest.raises(
        MissingFigureWriterError, match=r"^a \.pdf needs a Chrome or Chromium that runs here: install one"
    ):
        dp.save_figure(FIGURE, tmp_path / "a.pdf")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused(kaleido: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken.pdf").write_text("mine")
    with pytest.raises(OutputExistsError):
        dp.save_figure(FIGURE, tmp_path / "taken.pdf")
    with pytest.raises(InvalidInputError, match=r"suffix must be \.pdf, \.svg, \.png or \.html\. Name it a\.pdf\.$"):
        dp.save_figure(FIGURE, "a.eps")
    with pytest.raises(InvalidInputError, match="width_mm"):
        dp.save_figure(FIGURE, tmp_path / "a.pdf", width_mm=0)
    with pytest.raises(InvalidInputError, match=r"^figure must be a Figure; got dict\.$"):
        dp.save_figure({}, tmp_path / "a.pdf")
    assert kaleido.asked == []

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RecordingError, match="No space left on device"):
        dp.save_figure(FIGURE, tmp_path / "taken.pdf", overwrite=True)
    assert (tmp_path / "taken.pdf").read_text() == "mine"


def test_a_pdf_and_an_svg_have_the_asked_size(tmp_path: Path) -> None:
    pytest.importorskip("kaleido", reason="kaleido is not installed: pip install 'ditprobe[figures]'")
    try:
        paths = [dp.save_figure(FIGURE, tmp_path / f"a.{kind}", width_mm=85, height_mm=60) for kind in ("pdf", "svg")]
    except MissingFigureWriterError as error:
        pytest.skip(str(error))
    box = re.search(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", paths[0].read_bytes())
    assert [float(side) * 25.4 / 72 for side in box.groups()] == pytest.approx([85, 60], abs=0.3)  # mm
    assert re.search(r'<svg[^>]* width="321" height="227"', paths[1].read_text())
    assert "colour from 0 to 100 %" in paths[1].read_text()
