"""Attention rows and principal components against brute force."""

import numpy as np
import pytest
import torch

from analyses.attention.pca import principal_components
from analyses.attention.rows import attention_of_points
from store.errors import InvalidInputError
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 5, 7, 80, 112, 9)
POINTS = np.array([[9.0, 30.0], [111.0, 1.0], [40.0, 70.0], [0.0, 0.0]])


def tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((2, 3, 5, 7, 4))


def brute_force(query, key, text=None, scale=0.5):
    """One point, one head at a time, with plain exponentials; video tokens first, then text."""
    rows = []
    for x, y in POINTS:
        heads = []
        for head in range(2):
            vector = query[head, 0, min(int(y // 16), 4), min(int(x // 16), 6)]
            keys = [key[head, f, i, j] for f in range(3) for i in range(5) for j in range(7)]
            keys += [] if text is None else list(text[head])
            weights = np.exp(np.array([vector @ k for k in keys]) * scale)
            heads.append(weights / weights.sum())
        rows.append(np.mean(heads, axis=0))
    return np.array(rows)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_rows_equal_brute_force(kind):
    query, key = tokens(0), tokens(1)
    rows = attention_of_points(kind(query), kind(key), POINTS, LAYOUT)
    assert rows.dims == ("point", "frame", "y", "x")
    np.testing.assert_allclose(rows.values.reshape(4, -1), brute_force(query, key), rtol=1e-5)
    np.testing.assert_array_equal(rows["text"], 0)
    np.testing.assert_array_equal(rows["image"], [0, 2, 6])
    np.testing.assert_array_equal(rows["row"], [1, 0, 4, 0])
    np.testing.assert_array_equal(rows["column"], [0, 6, 2, 0])


def test_text_shares_the_softmax_and_the_scale_is_honoured():
    query, key, text = tokens(0), tokens(1), np.random.default_rng(2).standard_normal((2, 6, 4))
    rows = attention_of_points(query, key, POINTS, LAYOUT, text_key=text, scale=0.3)
    expected = brute_force(query, key, text, 0.3)
    np.testing.assert_allclose(rows.values.reshape(4, -1), expected[:, :105], rtol=1e-5)
    np.testing.assert_allclose(rows["text"], expected[:, 105:].sum(-1), rtol=1e-5)


def test_refusals_of_attention_say_what_is_wrong():
    query = tokens(0)
    with pytest.raises(InvalidInputError) as error:
        attention_of_points(query, query, np.zeros((0, 2)), LAYOUT)
    assert str(error.value) == "points is empty. Pass at least one (x, y)."
    with pytest.raises(InvalidInputError) as error:
        attention_of_points(query, query, POINTS, LAYOUT, text_key=np.zeros((3, 6, 4)))
    assert str(error.value) == (
        "text_key needs the shape (head, token, channel) with 2 heads and 4 channels; got (3, 6, 4)."
    )
    with pytest.raises(InvalidInputError) as error:
        attention_of_points(query, query, [[113.0, 4.0]], LAYOUT)
    assert str(error.value) == ("point 0 at (x, y) = (113, 4) is outside the image of 80 x 112 px (height x width).")


def test_components_equal_those_of_a_singular_value_decomposition():
    tensor = tokens(3)
    components = principal_components(tensor)
    flat = np.stack([tensor[:, f, y, x].ravel() for f in range(3) for y in range(5) for x in range(7)])
    centred = flat - flat.mean(0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(3), np.abs(right[:3]).argmax(1)])
    expected = (left * values)[:, :3] * signs
    np.testing.assert_allclose(components.values.reshape(-1, 3), expected, atol=1e-5)
    np.testing.assert_allclose(components["explained"], (values**2 / (values**2).sum())[:3])


def test_components_of_constant_tokens_are_zero():
    components = principal_components(torch.ones((2, 3, 5, 7, 4), dtype=torch.bfloat16))
    assert not components.values.any()
    assert components["explained"].values.tolist() == [0, 0, 0]


def test_refusals_of_components_say_what_is_wrong():
    with pytest.raises(InvalidInputError) as error:
        principal_components(np.zeros((3, 5, 7, 4)))
    assert str(error.value) == (
        "tensor needs the shape (head, frame, y, x, channel) of a query or key; got (3, 5, 7, 4)."
    )
    with pytest.raises(InvalidInputError) as error:
        principal_components(tokens(0), count=9)
    assert str(error.value) == "count must be between 1 and 8 (heads x channels of this tensor); got 9."
    broken = tokens(0)
    broken[0, 1, 2, 3, 0] = np.nan
    with pytest.raises(InvalidInputError) as error:
        principal_components(broken)
    assert str(error.value) == "tensor holds NaN or infinite values. Nothing can be matched with them."
