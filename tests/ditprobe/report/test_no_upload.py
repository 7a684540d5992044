"""No page and no figure of ours offers to upload what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import xarray as xr
from browser import Watched, a_browser

import ditprobe as dp
from analyses.flow.attention_flow import labelled_flow
from ditprobe.report.page import figure_name, render_figures
from probe.mini import MiniConfig, new_pipeline, save_mini
from store import make_scene, write_clip
from store.layout import TokenLayout
from store.pages import POLICY, render_page

UPLOAD = re.compile(r"Share chart|Plotly Cloud|Edit in Chart Studio|sendChartToCloud", re.IGNORECASE)

rng = np.random.default_rng(0)
LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9)
IMAGES = rng.integers(0, 256, (9, 80, 112, 3), dtype=np.uint8)
FLOW = labelled_flow(np.ones((3, 3, 5, 7, 2)), LAYOUT, details={})
SWEEP = xr.DataArray(
    rng.uniform(0, 100, (3, 2, 4)), dims=("clip", "step", "layer"), name="accuracy", attrs={"units": "%"}
)
SCORES = xr.DataArray(rng.uniform(0, 100, (2, 3)), {"tracker": ["a", "b"]}, ("tracker", "clip"), "position")
LAGS = SCORES.expand_dims(lag=[0, 1, 2]).transpose("tracker", "clip", "lag")
MEASURED = xr.Dataset(
    {
        "accuracy": SWEEP,
        **{name: (SWEEP / 100).expand_dims(target=["cross"]) for name in ("confidence", "attention_score")},
    },
    {"step": [0, 1], "layer": [0, 1, 2, 3]},
)
SELECTION = dp.select_layers(MEASURED, 2)
HEADS = xr.Dataset(
    {name: (("layer", "head"), [[0.9, 0.0]]) for name in ("log_ratio", "lower", "upper", "agreement")}
    | {"class": (("layer", "head"), [["temporal", "undecided"]])}
)

FIGURES: dict[str, Callable[[], go.Figure]] = {
    "plot_accuracy_per_threshold": lambda: dp.plot_accuracy_per_threshold(LAGS[..., 1:].rename(lag="threshold")),
    "plot_attention": lambda: dp.plot_attention(
        xr.DataArray(np.full((1, 3, 5, 7), 1 / 105), dims=("point", "frame", "y", "x"))
    ),
    "plot_best_layers": lambda: dp.plot_best_layers(SWEEP, [2]),
    "plot_clip_scores": lambda: dp.plot_clip_scores(SCORES),
    "plot_closer": lambda: dp.plot_closer(IMAGES, *[dp.PointTracks.still(np.array([[0, 8.0, 24.0]]), 9)] * 2),
    "plot_comparison": lambda: dp.plot_comparison(dp.compare(MEASURED, MEASURED)),
    "plot_images": lambda: dp.plot_images(IMAGES, count=3),
    "plot_error_over_time": lambda: dp.plot_error_over_time(LAGS),
    "plot_flow": lambda: dp.plot_flow(FLOW),
    "plot_flow_arrows": lambda: dp.plot_flow_arrows(FLOW, IMAGES),
    "plot_head_classes": lambda: dp.plot_head_classes(HEADS),
    "plot_heads": lambda: dp.plot_heads(SWEEP[0].rename(step="head")),
    "plot_layer_step": lambda: dp.plot_layer_step(SWEEP),
    "plot_pca": lambda: dp.plot_pca(xr.DataArray(rng.normal(size=(3, 5, 7, 3)), dims=("frame", "y", "x", "component"))),
    "plot_selection": lambda: dp.plot_selection(SELECTION),
    "plot_tracks": lambda: dp.plot_tracks(IMAGES, np.full((9, 4, 2), 8.0)),
    "plot_transfer": lambda: dp.plot_transfer(IMAGES, IMAGES, FLOW, FLOW),
}


def scripts(page: str) -> str:
    """What a page runs, without plotly.js itself."""
    return "".join(part for part in re.findall(r"<script.*?</script>", page, re.DOTALL) if len(part) < 1_000_000)


def figures(page: str) -> list[dict[str, object]]:
    """The figures that a page draws, as it holds them."""
    held = r'class="lazy-figure"[^>]*><script type="application/json">(.*?)</script>'
    return [json.loads(text) for text in re.findall(held, page, re.DOTALL)]


def configs(page: str) -> list[dict[str, object]]:
    """The options that each figure of a page is drawn with."""
    return [figure["config"] for figure in figures(page)]


def assert_closed(page: str, count: int | None = None) -> None:
    """One policy that loads and sends nothing, and no figure with a button that uploads."""
    assert page.count(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">') == 1
    assert page.index("Content-Security-Policy") < page.index("<script")
    assert "<script src" not in page
    options = configs(page)
    assert len(options) == page.count('class="lazy-figure"')
    assert scripts(page).count("Plotly.newPlot(") == 1  # of the page's own script, which draws those figures alone
    assert count in (None, len(options))
    for each in options:
        assert (each["showSendToCloud"], each["displaylogo"], each["modeBarButtons"]) == (False, False, [["toImage"]])


@pytest.fixture(scope="module")
def dom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A page as a browser draws it, as HTML without its scripts."""
    path = tmp_path_factory.mktemp("browser") / "page.html"
    with a_browser() as browser:

        def draw(page: str) -> str:
            path.write_text(page, encoding="utf-8")
            watched = Watched(browser, offline=True)
            watched.page.goto(path.as_uri())
            plots = 'class="lazy-figure"' in page or "plotly-graph-div" in page
            watched.page.wait_for_selector(".modebar-btn" if plots else "canvas", state="attached")
            drawn = watched.page.content()
            watched.close()
            return re.sub(r"<script.*?</script>", "", drawn, flags=re.DOTALL)

        yield draw


def buttons(drawn: str) -> set[str]:
    """What the toolbars of a drawn page offer."""
    return set(re.findall(r'data-title="([^"]*)"', drawn))


def test_every_plot_is_made_here() -> None:
    assert sorted(FIGURES) == sorted(name for name in dp.__all__ if name.startswith("plot_"))


@pytest.mark.parametrize("name", FIGURES)
def test_no_plot_has_an_upload_button_wherever_it_is_shown(name: str) -> None:
    figure = FIGURES[name]()
    assert "sendChartToCloud" in figure.layout.modebar.remove
    figure.update_layout(template="plotly_dark")
    assert "sendChartToCloud" in figure.layout.modebar.remove  # another theme does not bring it back


def test_plotlys_own_page_of_our_figure_has_no_upload_button(dom: Callable[[str], str]) -> None:
    drawn = dom(FIGURES["plot_layer_step"]().to_html())
    assert "Zoom" in buttons(drawn)
    assert not UPLOAD.search(drawn)


def test_a_page_of_figures_has_no_upload_button(dom: Callable[[str], str]) -> None:
    page = render_figures("Two", [go.Figure(go.Scatter(y=[1, 2])), FIGURES["plot_transfer"]()])
    assert_closed(page, 2)
    drawn = dom(page)
    assert buttons(drawn) == {"Download plot"}
    assert not UPLOAD.search(drawn)


def test_the_pages_of_amf_and_transfer_have_no_upload_button(
    run: Callable[..., object], dom: Callable[[str], str]
) -> None:
    save_mini(new_pipeline(MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)), "small")
    small = ("-b", "./small", "--device", "cpu", "--steps", "2")
    write_clip("scene.mp4", make_scene(18, 3, 16, 24))
    run("amf", "scene.mp4", "--layer", "1", "--picture", "flow.html", *small)
    words = "a pink star moves up over grey dots"
    run("transfer", "scene.mp4", words, "--layers", "1", "--picture", "beside.html", *small)
    for name in ("flow.html", "beside.html"):
        page = Path(name).read_text(encoding="utf-8")
        assert_closed(page, 0)  # what these pages show is drawn without plotly
        assert len(page) < 1_000_000
        drawn = dom(page)
        assert "<canvas" in drawn
        assert buttons(drawn) == set()
        assert not UPLOAD.search(drawn)


def test_the_report_has_no_upload_button(tmp_path: Path, dom: Callable[[str], str]) -> None:
    clips = ["a", "b", "c"]
    sweep = MEASURED.assign_coords(clip=clips, step=[0, 49], source=("clip", clips))
    page = dp.write_report(tmp_path / "report.html", sweep, dp.select_layers(sweep, 2)).read_text(encoding="utf-8")
    assert_closed(page)
    drawn = dom(page)
    assert buttons(drawn) == {"Download plot"}
    assert not UPLOAD.search(drawn)


def test_the_policy_stands_before_anything_that_it_rules() -> None:
    page = render_page({"title": "a", "body": "b"})
    assert page.index("Content-Security-Policy") < page.index("<title>") < page.index("<style>")


@pytest.mark.parametrize(
    ("title", "name"),
    [("Accuracy<br><span>0 to 100 %</span>", "accuracy"), (None, "figure"), ("<b>A</b>/../b", "a-b"), ("é 1", "é-1")],
)
def test_a_saved_figure_is_named_after_its_title(title: str | None, name: str) -> None:
    figure = go.Figure(layout={"title": {"text": title}})
    assert figure_name(figure) == name
    (options,) = configs(render_figures("a", [figure]))
    assert options["toImageButtonOptions"] == {"format": "svg", "filename": name}
