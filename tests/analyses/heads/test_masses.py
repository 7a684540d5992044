"""Attention masses of heads beside the full matrix, and planted heads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from analyses.heads.classify import classify_heads
from analyses.heads.masses import TARGETS, MovingPairs, attention_rows, head_masses
from store.errors import InvalidInputError
from store.layout import TokenLayout

LAYOUT = TokenLayout(3, 4, 5, 64, 80, 9)
HEADS, CHANNELS, TEXT = 2, 6, 3


def tensors(seed: int = 0, layout: TokenLayout = LAYOUT) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (HEADS, layout.frames, layout.height, layout.width, CHANNELS)
    query, key = (torch.randn(shape, generator=generator) for _ in range(2))
    return query, key, torch.randn(HEADS, TEXT, CHANNELS, generator=generator)


def tracks(layout: TokenLayout = LAYOUT) -> tuple[np.ndarray, np.ndarray]:
    """One point that crosses the picture, one at rest, one that is hidden in the last images."""
    time = np.linspace(0, 1, layout.images)[:, None]
    moving = np.concatenate([4 + 70 * time, np.full_like(time, 30.0)], 1)
    still, hidden = np.full((layout.images, 2), 20.0), np.concatenate([75 - 70 * time, 10 + 40 * time], 1)
    visible = np.ones((layout.images, 3), bool)
    visible[5:, 2] = False
    return np.stack([moving, still, hidden], 1), visible


def brute_force(
    query: torch.Tensor, key: torch.Tensor, text: torch.Tensor | None, layout: TokenLayout, radius: int
) -> dict[str, np.ndarray]:
    """Every target by loops over the full attention matrix, without tracks."""
    n = layout.height * layout.width
    q, k = (part.double().flatten(1, 3).numpy() for part in (query, key))
    keys = k if text is None else np.concatenate([k, text.double().numpy()], 1)
    logits = np.einsum("hic,hjc->hij", q, keys) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    found = {name: np.zeros(len(q)) for name in TARGETS}
    tokens = layout.frames * n
    for i in range(tokens):
        f, (y, x) = i // n, divmod(i % n, layout.width)
        for j in range(tokens):
            g, (v, u) = j // n, divmod(j % n, layout.width)
            near = abs(v - y) <= radius and abs(u - x) <= radius
            found["own_frame"] += weights[:, i, j] * (f == g) / tokens
            found["same_place"] += weights[:, i, j] * (f != g and near) / tokens
            found["first_frame"] += weights[:, i, j] * (f > 0 and g == 0) / (tokens - n)
        found["text"] += weights[:, i, tokens:].sum(-1) / tokens
    return found | {"weights": weights}


@pytest.mark.parametrize("radius", [0, 1])
@pytest.mark.parametrize("with_text", [False, True])
@pytest.mark.parametrize("budget_bytes", [2**28, 4000])
def test_masses_are_those_of_the_full_matrix(radius: int, with_text: bool, budget_bytes: int) -> None:
    query, key, text = tensors()
    given = text if with_text else None
    found = head_masses(query, key, LAYOUT, given, radius=radius, budget_bytes=budget_bytes)["mass"]
    wanted = brute_force(query, key, given, LAYOUT, radius)
    names = ["own_frame", "same_place", "first_frame", *(["text"] if with_text else [])]
    for name in names:
        np.testing.assert_allclose(found.sel(target=name), wanted[name], rtol=1e-5)
    assert np.isnan(found.sel(target=["motion", "still"])).all()
    assert with_text or np.isnan(found.sel(target="text")).all()


def test_mass_along_the_motion_is_that_of_the_full_matrix() -> None:
    query, key, _ = tensors(1)
    paths, visible = tracks()
    weights = brute_force(query, key, None, LAYOUT, 0)["weights"]
    found = head_masses(query, key, LAYOUT, tracks=paths, visibility=visible, radius=0)
    n, motion, still = LAYOUT.height * LAYOUT.width, [], []
    for point in range(3):
        for f in range(3):
            for g in range(3):
                spans = [LAYOUT.images_of(frame) for frame in (f, g)]
                if f == g or not all(visible[span, point].all() for span in map(list, spans)):
                    continue
                places = []
                for frame in (f, g):
                    time = LAYOUT.frame_centres[frame]
                    x, y = (np.interp(time, range(9), paths[:, point, axis]) for axis in (0, 1))
                    places.append((int(y // 16), int(x // 16)))
                if places[0] != places[1]:
                    source = f * n + places[0][0] * 5 + places[0][1]
                    motion.append(weights[:, source, g * n + places[1][0] * 5 + places[1][1]])
                    still.append(weights[:, source, g * n + places[0][0] * 5 + places[0][1]])
    assert found.attrs["moving_pairs"] == len(motion) > 3
    np.testing.assert_allclose(found["mass"].sel(target="motion"), np.mean(motion, 0), rtol=1e-5)
    np.testing.assert_allclose(found["mass"].sel(target="still"), np.mean(still, 0), rtol=1e-5)


def test_uniform_attention_has_the_uniform_mass() -> None:
    query, key, text = tensors()
    paths, visible = tracks()
    found = head_masses(0 * query, key, LAYOUT, text, tracks=paths, visibility=visible)
    np.testing.assert_allclose(found["mass"], np.broadcast_to(found["uniform"], found["mass"].shape), rtol=1e-5)


def planted(kind: str, layout: TokenLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """A head that attends to its own frame, or to its own cell in every frame."""
    n = layout.height * layout.width
    frame = torch.eye(layout.frames)[:, None].expand(-1, n, -1)
    cell = torch.eye(n)[None].expand(layout.frames, -1, -1)
    tokens = 30 * (frame if kind == "spatial" else cell).reshape(1, layout.frames, layout.height, layout.width, -1)
    return tokens, tokens


@pytest.mark.parametrize("preset", ["exact", "paper", "code"])
@pytest.mark.parametrize("kind", ["spatial", "temporal"])
def test_planted_heads_are_classified_by_every_rule(kind: str, preset: str) -> None:
    layout = TokenLayout(4, 16, 16, 256, 256, 13)
    found = classify_heads(*planted(kind, layout), layout, preset=preset, radius=0)
    assert found["class"].values.tolist() == [kind]


def test_a_head_without_preference_is_undecided_only_by_the_exact_rule() -> None:
    """Bands of the same width have the same mass under uniform attention; the two published margins lean apart."""
    layout = TokenLayout(4, 16, 16, 256, 256, 13)
    alike = torch.zeros(1, 4, 16, 16, 2)
    kinds = {
        preset: classify_heads(alike, alike, layout, preset=preset)["class"].item()
        for preset in ("exact", "paper", "code")
    }
    assert kinds == {"exact": "undecided", "paper": "temporal", "code": "spatial"}


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_bands_are_those_of_the_full_masks(preset: str) -> None:
    layout = TokenLayout(3, 16, 17, 256, 272, 9)
    query, key, _ = tensors(2, layout)
    n, frames = 16 * 17, 3
    tokens = n * frames
    weights = torch.softmax(query.double().flatten(1, 3) @ key.double().flatten(1, 3).mT / CHANNELS**0.5, -1)
    block, width = (1, n) if preset == "paper" else (128, n // 128)
    number = torch.arange(tokens) // block
    spatial = ((number[:, None] - number).abs() < width).double()
    # the released code's own construction: the same band, seen with cells before frames
    temporal = spatial.reshape(n, frames, n, frames).permute(1, 0, 3, 2).reshape(tokens, tokens)
    sums = torch.stack([(weights * mask).sum((-1, -2)) for mask in (spatial, temporal)])
    if preset == "paper":
        norms = [weights.square().sum((-1, -2)).sqrt() * mask.square().sum().sqrt() for mask in (spatial, temporal)]
        sums = sums / torch.stack(norms)
    found = classify_heads(query, key, layout, preset=preset, budget_bytes=2**20)
    np.testing.assert_allclose(found["spatial"], sums[0], rtol=1e-5)
    np.testing.assert_allclose(found["temporal"], sums[1], rtol=1e-5)


def test_blocks_larger_than_a_frame_are_refused() -> None:
    query, key, _ = tensors()
    with pytest.raises(InvalidInputError, match=r"at least 128 cells in a frame.*has 20\. Use preset='exact'"):
        classify_heads(query, key, LAYOUT, preset="code")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"margin": 0.5}, "margin must be at least 1"),
        ({"preset": "best"}, "preset"),
        ({"budget_bytes": 100}, "does not hold one row"),
    ],
)
def test_bad_options_are_refused(change: dict[str, object], message: str) -> None:
    query, key, _ = tensors()
    with pytest.raises(InvalidInputError, match=message):
        classify_heads(query, key, LAYOUT, **change)


def test_one_frame_is_refused() -> None:
    alone = torch.zeros(1, 1, 4, 5, 2)
    with pytest.raises(InvalidInputError, match="one frame"):
        classify_heads(alone, alone, TokenLayout(1, 4, 5, 64, 80, 1))


def test_tracks_of_another_clip_are_refused() -> None:
    paths, visible = tracks()
    with pytest.raises(InvalidInputError, match="with 9 images"):
        MovingPairs.of_tracks(paths[:5], visible[:5], LAYOUT, 1)
    query, key, _ = tensors()
    with pytest.raises(InvalidInputError, match="go together"):
        head_masses(query, key, LAYOUT, tracks=paths)


def test_rows_come_in_blocks_within_the_budget() -> None:
    query, key, _ = tensors()
    flat = [part.flatten(1, 3) for part in (query, key)]
    blocks = list(attention_rows(*flat, None, 4 * 60 * 4 * 7))
    assert max(weights.shape[0] * weights.shape[1] for _, _, weights in blocks) <= 7
    assert sum(weights.shape[0] * weights.shape[1] for _, _, weights in blocks) == HEADS * 60
