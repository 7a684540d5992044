"""Affinity against loops over points, frames and tokens."""

import math

import numpy as np
import pytest
import torch

from analyses.arrays import as_points
from analyses.attention.affinity import QueriedRows, affinity, affinity_values
from store.errors import InvalidInputError
from store.layout import TokenLayout

FRAMES, HEIGHT, WIDTH, HEADS, CHANNELS, TEXT = 3, 5, 7, 2, 4, 6
LAYOUT = TokenLayout(FRAMES, HEIGHT, WIDTH, 60, 140, 9, text_tokens=TEXT)


def tokens(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video = (HEADS, FRAMES, HEIGHT, WIDTH, CHANNELS)
    query, key = (1.5 * torch.randn(video, generator=generator, dtype=torch.float64) for _ in range(2))
    return query, key, torch.randn(HEADS, TEXT, CHANNELS, generator=generator, dtype=torch.float64)


def points_and_visibility(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    points = rng.random((count, 2)) * [140, 60]
    visibility = rng.random((9, count)) < 0.85
    visibility[:, 0], visibility[:, 1] = True, False
    visibility[0, 2:4] = False
    visibility[1:5, 2] = True
    return points, visibility


def brute_force(query, key, text, points, visibility, preset):  # type: ignore[no-untyped-def]
    """Confidence and score, each self, cross, text, by loops."""
    size = [20, 12]
    rows = []
    for point in points:
        if preset == "exact":
            y, x = int(point[1] // size[1]), int(point[0] // size[0])
        else:
            y = min(round(point[0] / size[0]), HEIGHT - 1)
            x = min(round(point[1] / size[1]), WIDTH - 1)
        mean = 0
        for head in range(len(query)):
            parts = [] if text is None else [text[head]]
            keys = torch.cat([*parts, key[head].reshape(-1, CHANNELS)])
            mean = mean + torch.softmax(keys @ query[head, 0, y, x] / math.sqrt(CHANNELS), 0) / len(query)
        skip = 0 if text is None else len(text[0])
        rows.append((mean[:skip], mean[skip:].reshape(FRAMES, HEIGHT * WIDTH)))
    spans = [LAYOUT.images_of(f) for f in range(FRAMES)]
    clear = [[visibility[list(span), p].all() for span in spans] for p in range(len(points))]
    shown = [p for p in range(len(points)) if visibility[0, p]]
    own = shown if preset == "exact" else range(len(points))
    if preset == "exact":
        pairs = [rows[p][1][f].max().item() for p in range(len(points)) for f in (1, 2) if clear[p][f]]
        cross = np.mean(pairs)
    else:
        each = [[rows[p][1][f].max().item() for f in (1, 2) if clear[p][f]] for p in range(len(points))]
        cross = np.mean([np.mean(seen) if seen else 0.0 for seen in each])
    has_text = text is not None
    confidence = [
        np.mean([rows[p][1][0].max().item() for p in own]),
        cross,
        np.mean([rows[p][0].max().item() for p in own]) if has_text else np.nan,
    ]
    score = [
        np.mean([rows[p][1][0].sum().item() for p in shown]),
        np.mean([rows[p][1][1:].sum().item() for p in shown]),
        np.mean([rows[p][0].sum().item() for p in shown]) if has_text else np.nan,
    ]
    return np.array(confidence), np.array(score)


@pytest.mark.parametrize("preset", ["exact", "difftrack"])
@pytest.mark.parametrize("with_text", [True, False])
def test_affinity_is_the_joint_softmax(preset: str, with_text: bool) -> None:
    (query, key, text), (points, visibility) = tokens(), points_and_visibility()
    text = text if with_text else None
    found = affinity(query, key, points, visibility, LAYOUT, text, preset=preset)
    confidence, score = brute_force(query, key, text, points, visibility, preset)
    np.testing.assert_allclose(found.confidence.values, confidence, rtol=1e-12)
    np.testing.assert_allclose(found.attention_score.values, score, rtol=1e-12)
    assert found.confidence.coords["target"].values.tolist() == ["self", "cross", "text"]
    assert np.nansum(found.attention_score) == pytest.approx(1)


@pytest.mark.parametrize("budget", [1, 10_000, 10**7])
def test_heads_and_budgets(budget: int) -> None:
    (query, key, text), (points, visibility) = tokens(1), points_and_visibility()
    rows = QueriedRows.of(as_points(points, LAYOUT, query.device), torch.from_numpy(visibility), LAYOUT, "exact")
    mean, heads = affinity_values(
        query.flatten(2, 3), key.flatten(2, 3), text, rows, per_head=True, budget_bytes=budget
    )
    expected = affinity(query, key, points, visibility, LAYOUT, text)
    np.testing.assert_allclose(mean, [expected.confidence, expected.attention_score], rtol=1e-12)
    for head in range(HEADS):
        one = slice(head, head + 1)
        alone = affinity(query[one], key[one], points, visibility, LAYOUT, text[one])
        np.testing.assert_allclose(heads[:, head], [alone.confidence, alone.attention_score], rtol=1e-12)


def test_the_published_reading_is_transposed() -> None:
    # A point in the last column and first row: read at row 4 (clipped) and column 0 by the released code.
    query, key, text = tokens(2)
    points, visibility = np.array([[135.0, 3.0]]), np.ones((9, 1), dtype=bool)
    swapped = LAYOUT.to_pixels(np.array([[0.0, 4.0]]))
    published = affinity(query, key, points, visibility, LAYOUT, text, preset="difftrack")
    at_swapped = affinity(query, key, swapped, visibility, LAYOUT, text)
    np.testing.assert_allclose(published.confidence, at_swapped.confidence)


def test_nothing_visible_is_nan() -> None:
    (query, key, text), (points, visibility) = tokens(), points_and_visibility()
    found = affinity(query, key, points, np.zeros_like(visibility), LAYOUT, text)
    assert np.isnan(found.confidence).all()
    assert np.isnan(found.attention_score).all()


def test_repr() -> None:
    query = torch.zeros(HEADS, FRAMES, HEIGHT, WIDTH, CHANNELS)
    found = affinity(query, query, [[3.0, 4.0]], np.ones((9, 1), bool), LAYOUT, torch.zeros(HEADS, TEXT, CHANNELS))
    assert repr(found) == (
        "Affinity(confidence self 0.00901, cross 0.00901, text 0.00901; "
        "attention score self 0.315, cross 0.631, text 0.0541)"
    )


def test_affinity_refuses() -> None:
    (query, key, text), (points, visibility) = tokens(), points_and_visibility()
    for call, message in [
        (
            lambda: affinity(query, key, points, visibility[:5], LAYOUT),
            "visibility needs the shape (image, point) = (9, 12); got (5, 12).",
        ),
        (
            lambda: affinity(query, key, points, visibility, LAYOUT, text[:, :, :3]),
            "text_key needs the shape (head, token, channel) with 2 heads and 4 channels; got (2, 6, 3).",
        ),
        (
            lambda: affinity(query, key, points, visibility, LAYOUT, preset="paper"),
            "unknown preset 'paper'. Known: 'exact', 'difftrack'.",
        ),
        (
            lambda: affinity(query, key, [[3.0, 64.5]], visibility, LAYOUT),
            "point 0 at (x, y) = (3, 64.5) is outside the image of 60 x 140 px (height x width).",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message
