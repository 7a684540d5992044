"""Progress of a training, as one page: its loss, what it generates, and how well its layers match."""

from __future__ import annotations

import csv
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from probe.capture.capture import Capture
from probe.loading.load_backbone import load_backbone
from probe.run.run import run_clip
from store.clips.clip import Clip
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.pages import render_page
from store.scenes.scene import make_scene
from store.selection import Selection

PROMPTS = (
    "a red disc moves left over blue stripes",
    "a yellow star moves down over green waves while the camera pans up",
    "a white checked square moves up right over purple dots",
    "a cyan ring moves right and an orange cross moves up over grey clouds",
)
_SCENES, _STEPS, _LATE, _GUIDANCE = range(24), 50, 43, 4.0
_SHOWN = 5


def record_progress(out: str | Path, step: int, *, weights: str | Path | None = None, device: str = "cpu") -> Path:
    """Measure the averaged weights of a training and rewrite ``progress.html``.

    Every layer's queries of image 0 are matched with the keys of the later images of 24 scenes of low seeds, at step
    43 of 50, by the mean over heads of the softmax over keys (one direction only; :func:`analyses.layers.sweep`
    measures fully). Four prompts are generated with the same noise each time.

    Parameters
    ----------
    out : folder of the training; ``progress.csv`` and ``samples/`` in it keep what was measured before
    step : training steps done
    weights : folder of the weights measured; ``out/weights`` by default

    Returns
    -------
    Path
        Of the page, which needs no network.
    """
    out = Path(out)
    backbone = load_backbone(Path(weights or out / "weights"), device=device)
    height, width, images = backbone.default_size
    clips = [make_scene(seed, images, height, width) for seed in _SCENES]
    found = [scene_accuracy(backbone, clip) for clip in clips]
    _append(out / "progress.csv", step, np.mean(found, axis=0))
    rows = [backbone.generate(prompt, seed=0, steps=_STEPS, guidance_scale=_GUIDANCE) for prompt in PROMPTS]
    strip = np.concatenate([np.concatenate(list(clip.images), axis=1) for clip in rows])
    samples = out / "samples"
    samples.mkdir(exist_ok=True)
    for later in (path for path in samples.glob("*.png") if int(path.stem) > step):
        later.unlink()
    Image.fromarray(strip).save(samples / f"{step:06d}.png")
    return write_page(out)


def scene_accuracy(backbone: Any, clip: Clip) -> np.ndarray:
    """(layer,) percent of visible points that a layer finds within one cell; points start at the centres of cells.

    Raises
    ------
    InvalidInputError
        For a clip without tracks.
    """
    if clip.tracks is None or clip.visibility is None:
        raise InvalidInputError("the clip has no tracks, so no accuracy can be measured. Pass a scene of make_scene.")
    tracks, visibility = clip.tracks[1:], clip.visibility[1:]
    captures: list[Capture] = []
    run_clip(backbone, clip, Selection([_LATE], "all"), captures.append, noise="forward", steps=_STEPS)
    return np.array([_accuracy(each.query, each.key, each.layout, tracks, visibility) for each in captures])


def _accuracy(
    query: torch.Tensor, key: torch.Tensor, layout: TokenLayout, tracks: np.ndarray, visibility: np.ndarray
) -> float:
    query, key = query[:, 0].flatten(1, 2).float(), key[:, 1:].flatten(2, 3).float()
    scores = torch.einsum("hnc,hfmc->hfnm", query, key) / query.shape[-1] ** 0.5
    best = scores.softmax(-1).mean(0).argmax(-1).cpu().numpy()
    found = (np.stack([best % layout.width, best // layout.width], -1) + 0.5) * layout.cell_size[0]
    error = np.linalg.norm(found - tracks, axis=-1)[visibility]
    return 100 * float((error < layout.cell_size[0]).mean())


def _append(path: Path, step: int, values: np.ndarray) -> None:
    """One more row; those of later steps, of a run that was stopped and then resumed earlier, are left out."""
    rows = [row for row in _rows(path) if row["step"] < step]
    names = ["step", *(f"layer {layer}" for layer in range(len(values)))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([f"{row[name]:.6g}" for name in names] for row in rows)
        writer.writerow([step, *(f"{value:.2f}" for value in values)])


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def write_page(out: Path) -> Path:
    """``progress.html``: loss and accuracy against the step, and samples from some of the steps."""
    from markupsafe import Markup
    from plotly.graph_objects import Figure
    from plotly.offline import get_plotlyjs
    from plotly.subplots import make_subplots

    loss, accuracy = _rows(out / "log.csv"), _rows(out / "progress.csv")
    pictures = sorted((out / "samples").glob("*.png"))
    chosen = [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, _SHOWN).round().astype(int))]
    titles = ("Loss (mean since the last point)", "Found within one cell, %")
    curves: Figure = make_subplots(1, 2, subplot_titles=titles)
    curves.add_scatter(x=[r["step"] for r in loss], y=[r["loss"] for r in loss], row=1, col=1, showlegend=False)
    for name in list(accuracy[-1])[1:]:
        curves.add_scatter(x=[r["step"] for r in accuracy], y=[r[name] for r in accuracy], name=name, row=1, col=2)
    curves.update_xaxes(title="training step").update_layout(template="plotly_white", height=380, width=1000)
    config = {"displaylogo": False, "showSendToCloud": False}
    figure = curves.to_html(full_html=False, include_plotlyjs=False, div_id="curves", config=config)
    samples = [(f"{int(path.stem):,}", _enlarged(path)) for path in chosen]
    values = {
        "title": f"Training of {out.name}",
        "plotly_js": Markup(get_plotlyjs()),
        "curves": Markup(figure),
        "guidance": f"{_GUIDANCE:g}",
        "prompts": PROMPTS,
        "samples": samples,
    }
    page = out / "progress.html"
    page.write_text(render_page(values, template="training.html", package="probe.mini.training"), encoding="utf-8")
    return page


def _enlarged(path: Path) -> str:
    picture = Image.open(path)
    file = BytesIO()
    picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.NEAREST).save(file, "PNG")
    return b64encode(file.getvalue()).decode()
