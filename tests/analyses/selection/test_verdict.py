"""A layer is called a carrier only where it beats guesses that need no model: planted truth, and error rates."""

import numpy as np
import pytest
import xarray as xr

from analyses.layers.ground_truth import Target, Truth
from analyses.selection.select import select_layers
from analyses.selection.verdict import ERROR, against_baselines, lower_end
from analyses.selection.words import described, remedies, verdict
from store.layout import TokenLayout

LAYOUT = TokenLayout(5, 10, 10, 40, 40, 5)
THRESHOLD = 1.0
IMAGES = np.arange(LAYOUT.images)[:, None, None]


def scene(rng: np.random.Generator, speed: float) -> Target:
    """Points that move in straight lines, a third of them not at all."""
    start = rng.uniform(8, 32, (60, 2))
    velocity = speed * rng.standard_normal((60, 2)) * (rng.random((60, 1)) > 1 / 3)
    tracks = start + IMAGES * velocity
    visible = ((tracks > 0) & (tracks < 40)).all(-1)
    return Target.of(Truth.of_tracks(tracks, visible, LAYOUT), LAYOUT, threshold_cells=THRESHOLD)


def guesses(target: Target, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """(image, point, 2) tracks by layers that know a little, a lot or nothing."""
    assert target.tracks is not None
    tracks = target.tracks.numpy()
    start = np.broadcast_to(tracks[0], tracks.shape)
    offset = tracks - start
    distance = np.linalg.norm(offset, axis=-1)
    angle = rng.uniform(0, 2 * np.pi, distance.shape)
    turned = np.stack([np.cos(angle), np.sin(angle)], -1)
    # The best that one can do who knows how far a point went, and not which way.
    cell = 40 / 10
    blind = np.where(distance > cell, np.sqrt(np.maximum(distance**2 - (THRESHOLD * cell) ** 2, 0)), 0)
    knows = rng.random(distance.shape)[..., None] < 0.6
    return {
        "nothing moves": start,
        "random cell": rng.uniform(0, 40, tracks.shape),
        "near by": start + rng.normal(0, 4, tracks.shape),
        "right distance": start + distance[..., None] * turned,
        "best distance": start + blind[..., None] * turned,
        "mirrored": start - offset,
        "planted": np.where(knows, tracks, start),
    }


def planted_sweep(clips: int, seed: int, speed: float) -> tuple[xr.Dataset, list[str]]:
    """A sweep of one step whose layers guess as :func:`guesses` says."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list] = {name: [] for name in ("accuracy", "moving_accuracy", "static_accuracy", "blind_accuracy")}
    pairs, moving, names = [], [], []
    for _ in range(clips):
        target = scene(rng, speed)
        found = guesses(target, rng)
        names = list(found)
        exact = np.stack([_accuracies(target, track) for track in found.values()], 1)
        rows["accuracy"].append(exact[0])
        rows["moving_accuracy"].append(exact[1])
        rows["static_accuracy"].append(exact[0, names.index("nothing moves")])
        rows["blind_accuracy"].append(target.blind_accuracy)
        pairs.append(target.pairs)
        moving.append(target.moving_pairs)
    cross = np.random.default_rng(0).random((clips, 1, len(names), 1))
    dims = ("clip", "step", "layer")
    data = {name: (dims, np.array(rows[name])[:, None]) for name in ("accuracy", "moving_accuracy")}
    data |= {name: ("clip", np.array(rows[name])) for name in ("static_accuracy", "blind_accuracy")}
    data |= {"pairs": ("clip", pairs), "moving_pairs": ("clip", moving)}
    data |= dict.fromkeys(("confidence", "attention_score"), ((*dims, "target"), cross))
    coords = {"layer": list(range(len(names))), "step": [49], "target": ["cross"]}
    return xr.Dataset(data, coords, {"threshold_cells": THRESHOLD}), names


def _accuracies(target: Target, tracks: np.ndarray) -> np.ndarray:
    """(2,) percent of all and of moving pairs that (image, point, 2) tracks find."""
    error = np.linalg.norm(tracks - target.tracks.numpy(), axis=-1) / 4
    right = error < THRESHOLD
    return np.array([100 * right[kind.numpy()].mean() for kind in (target.counted, target.moving)])


@pytest.mark.parametrize("speed", [0.8, 1.5, 3.0])
def test_only_the_planted_layer_is_a_carrier(speed: float) -> None:
    """Slow points, and fast ones, where "nothing moves" is easily beaten by any guess."""
    sweep, names = planted_sweep(12, 1, speed)
    found = select_layers(sweep, samples=200)
    assert [names[layer] for layer in found] == ["planted"]


def test_blind_accuracy_bounds_guesses_that_do_not_know_the_direction() -> None:
    sweep, names = planted_sweep(30, 2, 1.0)
    moving = sweep["moving_accuracy"].mean(("clip", "step")).values
    blind = float(sweep["blind_accuracy"].mean())
    by_name = dict(zip(names, moving, strict=True))
    assert by_name["best distance"] == pytest.approx(blind, abs=1.5)
    for name in ("nothing moves", "random cell", "near by", "right distance"):
        assert by_name[name] < blind + 0.5, name
    assert by_name["nothing moves"] == 0


def null_leads(rng: np.random.Generator, clips: int, layers: int, spread: str) -> np.ndarray:
    """(clip, sweep, layer) leads of 1000 sweeps whose layers are as good as the baseline in the mean."""
    shape = (clips, 1000, layers)
    return {
        "normal": lambda: rng.normal(0, 10, shape),
        "skewed": lambda: 10 * (rng.exponential(1, shape) - 1),
        "shared": lambda: rng.normal(0, 10, shape) + rng.normal(0, 10, (clips, 1000, 1)),
    }[spread]()


@pytest.mark.parametrize("spread", ["normal", "skewed", "shared"])
@pytest.mark.parametrize(("clips", "layers"), [(3, 6), (8, 6), (24, 30)])
def test_layers_at_the_baseline_are_rarely_called_carriers(clips: int, layers: int, spread: str) -> None:
    """In at most 5 % of sweeps any of the layers is called a carrier; 1000 sweeps tell that within 1.4 points."""
    leads = null_leads(np.random.default_rng([clips, layers]), clips, layers, spread)
    low = lower_end(leads.reshape(clips, 1, -1), ERROR / layers).reshape(1000, layers)
    assert (low > 0).any(1).mean() <= 0.064


def test_the_error_is_shared_by_all_layers() -> None:
    """The lower end of each layer of a sweep is that of one test at 5 % divided by the number of layers."""
    sweep, names = planted_sweep(6, 4, 1.5)
    found = against_baselines(sweep, samples=5)
    leads = (sweep["accuracy"][:, 0] - sweep["static_accuracy"]).transpose("clip", "layer").values[:, None]
    grain = 100 / float(np.median(sweep["pairs"]))
    np.testing.assert_allclose(found["lead_low"], lower_end(leads, 0.05 / len(names), grain))


def test_a_real_lead_is_found_by_few_clips() -> None:
    """The test has power: 25 points more with a spread of 10, over 8 clips, are found by 9 of 10 sweeps."""
    leads = 25 + null_leads(np.random.default_rng(0), 8, 6, "normal")
    low = lower_end(leads.reshape(8, 1, -1), ERROR / 6)
    assert (low > 0).mean() > 0.9


def test_the_lower_end_is_students_and_counts_noise_draws() -> None:
    values = np.array([4.0, 6.0, 8.0, 10.0])
    # scipy.stats.t.ppf(0.95, 3) = 2.353363; the standard error of the mean is 1.290994
    assert lower_end(values.reshape(4, 1, 1), 0.05)[0] == pytest.approx(7 - 2.353363 * 1.290994)
    assert lower_end(values.reshape(4, 1, 1), 0.05, grain=20)[0] == pytest.approx(7 - 2.353363 * 10)
    assert np.isnan(lower_end(values[:1].reshape(1, 1, 1), 0.05)[0])
    drawn = values[:, None, None] + np.array([-3.0, 3.0])[None, :, None]
    of_clips, of_draws = 1.290994**2, 18 / 2
    freedom = (of_clips + of_draws) ** 2 / (of_clips**2 / 3 + of_draws**2 / 1)
    assert freedom == pytest.approx(1.395, abs=0.01)
    assert lower_end(drawn, 0.05)[0] < lower_end(values.reshape(4, 1, 1), 0.05)[0] - 5


def test_equal_clips_are_no_certainty() -> None:
    """Two clips that differ from the baseline by the same two of 40 pairs show nothing."""
    sweep, _ = planted_sweep(2, 0, 1.0)
    sweep = sweep.assign(accuracy=sweep["static_accuracy"] + 5 + 0 * sweep["accuracy"]).transpose("clip", "step", ...)
    sweep["moving_accuracy"] = sweep["blind_accuracy"] + 5 + 0 * sweep["accuracy"]
    assert not against_baselines(sweep, samples=5)["carrier"].any()


def test_sweeps_without_a_baseline_have_no_carriers_and_say_why() -> None:
    sweep, _ = planted_sweep(12, 1, 1.0)
    for name in ("static_accuracy", "moving_accuracy"):
        found = select_layers(sweep.drop_vars(name), samples=20)
        assert not found
        assert verdict(found).startswith("No layer was tested against 'nothing moves': the sweep does not hold")
    # Sweeps from before ``blind_accuracy``: moving by a guess without direction is at most 50 % for a whole cell.
    older = against_baselines(sweep.drop_vars("blind_accuracy"))
    assert float(older["blind_accuracy"]) == pytest.approx(50)
    half = sweep.drop_vars("blind_accuracy").assign_attrs(threshold_cells=0.5)
    assert float(against_baselines(half)["blind_accuracy"]) == pytest.approx(100 / 6)


def test_no_carrier_is_said_in_words_with_what_would_help() -> None:
    sweep, names = planted_sweep(4, 3, 0.8)
    sweep = sweep.drop_sel(layer=names.index("planted")).assign_attrs(threshold_cells=0.5)
    found = select_layers(sweep, samples=20)
    pairs = int(sweep["moving_pairs"].sum())
    assert found.layers == ()
    assert verdict(found) == f"No layer is shown to beat 'nothing moves' on these 4 clips ({pairs} moving pairs)."
    assert remedies(found)[0] == "more clips (of 4, intervals are wide)"
    assert "a larger threshold than 0.5 cells" in remedies(found)
    assert "What would help: more clips" in described(found)
    asked = select_layers(sweep, 2, samples=20)
    assert len(asked) == 2
    assert verdict(asked).endswith("are not above the baseline.")
    assert described(asked).count("chosen, not above the baseline") == 2


def test_several_thresholds_each_have_their_moving_pairs_and_baselines() -> None:
    target = scene(np.random.default_rng(0), 1.0)
    wide = target.within(2.0)
    moved = np.linalg.norm(target.tracks.numpy() - target.tracks.numpy()[0], axis=-1) / 4
    assert wide.moving_pairs == int((moved[1:] > 2)[target.counted.numpy()[1:]].sum())
    assert target.within(0.5).moving_pairs == target.moving_pairs
    shares = np.arcsin(2 / moved[wide.moving.numpy()]) / np.pi
    assert wide.blind_accuracy == pytest.approx(100 * np.maximum(shares, 4 * np.pi / 100).mean())
