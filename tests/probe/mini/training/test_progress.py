"""The page of a training: its numbers against plain loops, and what it keeps and drops."""

from __future__ import annotations

import base64
import csv
import json
import math
import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from probe import Backbone, Capture, load_backbone, run_clip
from probe.mini import MiniConfig, new_pipeline, save_mini
from probe.mini.training import progress
from probe.mini.training.progress import PROMPTS, record_progress, scene_accuracy, write_page
from store import Clip, Selection, make_scene
from store.errors import InvalidInputError
from store.layout import TokenLayout

TINY = MiniConfig(images=3, height=16, width=24, layers=2, heads=2, channels=16)


def tiny_pipeline(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return new_pipeline(TINY)


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone(tiny_pipeline(), device="cpu")


def by_hand(query: np.ndarray, key: np.ndarray, clip: Clip) -> float:
    """Percent of the visible points found within 4 pixels, one point and image at a time."""
    heads, frames, height, width, channels = query.shape
    right = seen = 0
    for image in range(1, frames):
        for point, (x, y) in enumerate(clip.tracks[0]):
            if not clip.visibility[image, point]:
                continue
            weights = np.zeros((height, width))
            for head in range(heads):
                logits = key[head, image] @ query[head, 0, int(y // 4), int(x // 4)] / math.sqrt(channels)
                exponentials = np.exp(logits - logits.max())
                weights += exponentials / exponentials.sum()
            row, column = np.unravel_index(weights.argmax(), weights.shape)
            true_x, true_y = clip.tracks[image, point]
            right += math.hypot(4 * column + 2 - true_x, 4 * row + 2 - true_y) < 4
            seen += 1
    return 100 * right / seen


@pytest.mark.parametrize("seed", [1, 2])
def test_the_accuracy_of_a_scene_is_that_of_plain_loops(tiny: Backbone, seed: int) -> None:
    clip = make_scene(seed, 3, 16, 24)
    assert not clip.visibility.all()
    captures: list[Capture] = []
    run_clip(tiny, clip, Selection([43], [0, 1]), captures.append, noise="forward", steps=50)
    found = scene_accuracy(tiny, clip)
    assert found.shape == (2,)
    for layer, capture in enumerate(captures):
        query, key = (tensor.double().numpy() for tensor in (capture.query, capture.key))
        assert found[layer] == pytest.approx(by_hand(query, key, clip))
    assert 0 < found.min() < 100


def test_what_moves_by_a_cell_is_found_there_and_not_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = torch.eye(4 * 6).reshape(1, 1, 4, 6, 24).repeat(2, 3, 1, 1, 1) * 9
    moved = torch.stack([cells[:, frame].roll(frame, dims=2) for frame in range(3)], dim=1)
    start = np.array([[4 * x + 2.0, 4 * y + 2.0] for y in range(4) for x in range(6)])
    tracks = np.stack([start + np.array([4.0 * image, 0.0]) for image in range(3)])
    visibility = tracks[..., 0] < 24
    clip = Clip(np.zeros((3, 16, 24, 3), np.uint8), 8.0, tracks, visibility)
    layout = TokenLayout(3, 4, 6, 16, 24, 3)

    def two_layers(backbone: object, clip: Clip, selection: Selection, sink: Any, **options: object) -> None:
        for key in (moved, cells):
            sink(SimpleNamespace(query=cells, key=key, layout=layout))

    monkeypatch.setattr(progress, "run_clip", two_layers)
    assert scene_accuracy(None, clip).tolist() == [100.0, 0.0]


def test_a_clip_without_tracks_is_refused_before_the_model_runs(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "run_clip", lambda *args, **options: pytest.fail("the model ran"))
    with pytest.raises(InvalidInputError) as caught:
        scene_accuracy(tiny, Clip(make_scene(0, 3, 16, 24).images, 8.0))
    assert str(caught.value) == ("the clip has no tracks, so no accuracy can be measured. Pass a scene of make_scene.")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scenes at the last of three steps."""
    for name, value in {"_SCENES": range(2), "_STEPS": 3, "_LATE": 2}.items():
        monkeypatch.setattr(progress, name, value)


def curves(page: str) -> dict[str, tuple[list[float], list[float]]]:
    """Steps and values of each line of the page, the loss under the name None."""
    start = page.index("[", page.index("Plotly.newPlot("))
    lines, _ = json.JSONDecoder().raw_decode(page[start:])
    return {line.get("name"): (line["x"], line["y"]) for line in lines}


def shown(page: str) -> dict[str, Image.Image]:
    """The pictures of the page by their captions."""
    found = re.findall(r'<figcaption>(.*?)</figcaption><img src="data:image/png;base64,(.*?)">', page)
    return {caption: Image.open(BytesIO(base64.b64decode(data))) for caption, data in found}


def rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


@pytest.mark.usefixtures("short")
def test_the_page_shows_loss_accuracy_and_samples(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    save_mini(pipeline, tmp_path / "weights")
    (tmp_path / "log.csv").write_text("step,loss,learning_rate,seconds\n500,0.75,0.001,9\n1000,0.5,0.001,18\n")
    page = record_progress(tmp_path, 1000)
    assert page == tmp_path / "progress.html"
    backbone = load_backbone(pipeline, device="cpu")
    expected = np.mean([scene_accuracy(backbone, make_scene(seed, 3, 16, 24)) for seed in (0, 1)], axis=0)
    assert rows(tmp_path / "progress.csv") == [
        ["step", "layer 0", "layer 1"],
        ["1000", *(f"{value:.2f}" for value in expected)],
    ]
    text = page.read_text()
    lines = curves(text)
    assert lines[None] == ([500.0, 1000.0], [0.75, 0.5])
    for layer in (0, 1):
        assert lines[f"layer {layer}"] == ([1000.0], [pytest.approx(expected[layer], abs=0.01)])
    strip = np.asarray(Image.open(tmp_path / "samples" / "001000.png"))
    assert strip.shape == (4 * 16, 3 * 24, 3)
    first, last = (backbone.generate(PROMPTS[n], seed=0, steps=3, guidance_scale=4.0).images for n in (0, 3))
    np.testing.assert_array_equal(strip[:16], np.concatenate(list(first), axis=1))
    np.testing.assert_array_equal(strip[48:, 24:48], last[1])
    ((caption, picture),) = shown(text).items()
    assert caption == "after 1,000 steps"
    np.testing.assert_array_equal(np.asarray(picture), strip.repeat(2, axis=0).repeat(2, axis=1))
    assert all(f"<li>{prompt}</li>" in text for prompt in PROMPTS)
    assert "<script src" not in text
    assert "://" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "Content-Security-Policy" in text
    assert '"showSendToCloud": false' in text


@pytest.mark.usefixtures("short")
def test_what_is_later_than_the_step_that_goes_on_is_dropped(tmp_path: Path) -> None:
    for seed, name in enumerate(("first", "other")):
        save_mini(tiny_pipeline(seed), tmp_path / name)
    for step in (100, 200, 300):
        record_progress(tmp_path, step, weights=tmp_path / "first")
    before = rows(tmp_path / "progress.csv")
    assert [row[0] for row in before] == ["step", "100", "200", "300"]
    page = record_progress(tmp_path, 200, weights=tmp_path / "other").read_text()
    after = rows(tmp_path / "progress.csv")
    assert [row[0] for row in after] == ["step", "100", "200"]
    assert [float(value) for value in after[1]] == [float(value) for value in before[1]]
    assert after[2] != before[2]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["000100.png", "000200.png"]
    assert list(shown(page)) == ["after 100 steps", "after 200 steps"]
    assert curves(page)["layer 0"][0] == [100.0, 200.0]


def test_of_many_samples_the_first_the_last_and_some_between_are_shown(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("step,layer 0\n1,50\n")
    (tmp_path / "samples").mkdir()
    for number in range(1, 12):
        Image.new("RGB", (3, 2), (number, 0, 0)).save(tmp_path / "samples" / f"{500 * number:06d}.png")
    pictures = shown(write_page(tmp_path).read_text())
    assert [int(re.sub(r"\D", "", caption)) for caption in pictures] == [500, 1500, 3000, 4500, 5500]
    assert [picture.getpixel((5, 3))[0] for picture in pictures.values()] == [1, 3, 6, 9, 11]
