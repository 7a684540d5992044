"""Attention and matching of single points, from memory maps, are those of the analyses of whole tensors."""

from __future__ import annotations

import numpy as np
import pytest

from analyses.attention.mapped import backward_normalisers, match_point, rows_of_token
from analyses.attention.rows import attention_of_points, attention_of_text, attention_to_text
from analyses.correspondence.matching import match_points, match_points_by_head
from store.errors import InvalidInputError
from store.layout import TokenLayout

LAYOUT = TokenLayout(4, 5, 7, 80, 112, 13)
POINTS = np.array([[9.0, 30.0], [112.0, 1.0], [40.0, 70.0], [0.0, 0.0], [55.5, 41.25]])


@pytest.fixture(scope="module")
def tokens() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, key and text key, sharp enough that the best cells differ."""
    rng = np.random.default_rng(0)
    query, key = (1.5 * rng.standard_normal((3, 4, 5, 7, 8)).astype(np.float16) for _ in range(2))
    return query, key, rng.standard_normal((3, 6, 8)).astype(np.float16)


@pytest.mark.parametrize("with_text", [False, True])
def test_rows_are_those_of_attention_of_points(tokens, with_text: bool) -> None:
    query, key, text = tokens
    given = {"text_key": text} if with_text else {}
    wanted = attention_of_points(query, key, POINTS, LAYOUT, **given)
    heads = attention_of_points(query, key, POINTS, LAYOUT, frame=2, by_head=True, **given)
    for number, (row, column) in enumerate(zip(wanted["row"].values, wanted["column"].values, strict=True)):
        alone = rows_of_token(query[:, 2, row, column], key, given.get("text_key"))
        np.testing.assert_allclose(heads.values[:, number], alone.video, rtol=1e-4, atol=1e-7)
        if with_text:
            words = attention_to_text(query, key, text, POINTS, LAYOUT, frame=2, by_head=True)
            np.testing.assert_allclose(words.values[:, number], alone.text, rtol=1e-4, atol=1e-7)
        found = rows_of_token(query[:, 0, row, column], key, given.get("text_key"))
        np.testing.assert_allclose(found.video.mean(0), wanted.values[number], rtol=1e-4, atol=1e-7)
        assert found.text.shape == (3, 6 if with_text else 0)
        np.testing.assert_allclose(found.text.mean(0).sum(), wanted["text"].values[number], rtol=1e-4, atol=1e-7)


def test_rows_of_text_are_those_of_attention_of_text(tokens) -> None:
    _, key, text = tokens
    asked = np.random.default_rng(3).standard_normal(text.shape).astype(np.float16)
    wanted, mean = (attention_of_text(asked, key, text, LAYOUT, by_head=by_head) for by_head in (True, False))
    for token in range(6):
        found = rows_of_token(asked[:, token], key, text)
        np.testing.assert_allclose(wanted.values[:, token], found.video, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(mean.values[token], found.video.mean(0), rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(mean["text"].values[token], found.text.mean(0).sum(), rtol=1e-4)


@pytest.mark.parametrize("frame", range(4))
def test_matches_from_any_frame_are_those_of_the_frame_put_first(tokens, frame: int) -> None:
    query, key, _ = tokens
    order = [frame, *(other for other in range(4) if other != frame)]
    back = np.argsort(order)
    mean = match_points(query[:, order], key[:, order], POINTS, LAYOUT)[back]
    alone = match_points_by_head(query[:, order], key[:, order], POINTS, LAYOUT)[:, back]
    np.testing.assert_array_equal(match_points(query, key, POINTS, LAYOUT, frame=frame), mean)
    np.testing.assert_array_equal(match_points_by_head(query, key, POINTS, LAYOUT, frame=frame), alone)
    normalisers = backward_normalisers(query, key, frame)
    for number, point in enumerate(POINTS):
        found = match_point(query, key, normalisers, point, frame, LAYOUT)
        np.testing.assert_allclose(found.mean, mean[:, number], atol=1e-4)
        np.testing.assert_allclose(found.heads, alone[:, :, number], atol=1e-4)
    assert np.abs(mean - POINTS).max() > 10, "nothing moved: the test would not see a frame mixed up"


def test_normalisers_stop_when_they_are_told(tokens) -> None:
    asked = []
    assert backward_normalisers(*tokens[:2], 0, stopped=lambda: bool(asked) or asked.append(1)) is None


def test_a_frame_that_does_not_exist_is_refused(tokens) -> None:
    for analysis in (attention_of_points, match_points, match_points_by_head):
        with pytest.raises(InvalidInputError, match="frame 4 does not exist: the layout has frames 0 to 3"):
            analysis(*tokens[:2], POINTS, LAYOUT, frame=4)
