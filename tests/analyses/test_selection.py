"""Harmonic mean and layer selection."""

from statistics import NormalDist

import numpy as np
import pytest
import xarray as xr

from analyses.selection import harmonic_mean, select_layers
from store.errors import InvalidInputError


def brute_force(*matrices: np.ndarray) -> np.ndarray:
    scaled = []
    for matrix in matrices:
        low, high = matrix.min(), matrix.max()
        scaled.append((matrix - low) / (high - low))
    result = np.zeros(matrices[0].shape)
    for index in np.ndindex(result.shape):
        values = [matrix[index] for matrix in scaled]
        if min(values) > 0:
            result[index] = 3 / sum(1 / value for value in values)
    return result


def test_harmonic_mean() -> None:
    matrices = np.random.default_rng(0).random((3, 5, 7))
    expected = brute_force(*matrices)
    np.testing.assert_allclose(harmonic_mean(*matrices), expected)
    assert (harmonic_mean(*matrices) == 0).sum() == 3
    labelled = [xr.DataArray(matrix, dims=("layer", "step")) for matrix in matrices]
    found = harmonic_mean(labelled[0], labelled[1].T, labelled[2])
    assert found.dims == ("layer", "step")
    np.testing.assert_allclose(found, expected)
    samples = harmonic_mean(*np.stack([matrices, matrices[:, ::-1]], 1))
    np.testing.assert_allclose(samples[1], expected[::-1])


def test_harmonic_mean_of_constant_and_missing_matrices() -> None:
    matrix = np.arange(6.0).reshape(2, 3)
    assert (harmonic_mean(matrix, np.ones((2, 3)), matrix) == 0).all()
    assert np.isnan(harmonic_mean(np.full((2, 3), np.nan), matrix, matrix)).all()
    hole = matrix.copy()
    hole[0, 1] = np.nan
    found = harmonic_mean(hole, matrix, matrix)
    assert np.isnan(found[0, 1])
    assert np.isfinite(found).sum() == 5


def test_harmonic_mean_refuses() -> None:
    with pytest.raises(InvalidInputError) as error:
        harmonic_mean(np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 3)))
    assert str(error.value) == (
        "accuracy, confidence and attention_score need one (layer, step) shape; got (2, 3), (3, 2), (2, 3)."
    )
    with pytest.raises(InvalidInputError) as error:
        harmonic_mean(
            xr.DataArray(np.ones((2, 3)), dims=("layer", "step")), *[xr.DataArray(np.ones(2), dims="step")] * 2
        )
    assert str(error.value) == "confidence needs the dims ('layer', 'step'), as accuracy has; got ('step',)."


def made_sweep(clips: int = 8, noise: float = 0.02, sources: list[str] | None = None) -> xr.Dataset:
    """Layer 5 is best at the last step, layer 2 on the mean over steps."""
    rng = np.random.default_rng(4)
    truth = np.array([[0.9, 0.1, 0.3, 0.2], [0.9, 0.2, 0.3, 0.4], [0.6, 0.3, 0.2, 0.95]])
    measures = truth + noise * rng.standard_normal((3, clips, 3, 4))
    other = rng.random((2, clips, 3, 4, 2))
    dims = ("clip", "step", "layer", "target")
    cross = [np.concatenate([other[i, ..., :1], measures[i + 1][..., None], other[i, ..., 1:]], -1) for i in (0, 1)]
    coords = {"step": [0, 24, 49], "layer": [2, 3, 4, 5], "target": ["self", "cross", "text"]}
    if sources:
        coords["source"] = ("clip", sources)
    return xr.Dataset(
        {
            "accuracy": (dims[:3], 100 * measures[0]),
            "confidence": (dims, cross[0]),
            "attention_score": (dims, cross[1]),
        },
        coords,
    )


def test_selects_by_the_last_step_or_the_mean() -> None:
    sweep = made_sweep()
    last = select_layers(sweep, 2)
    mean = select_layers(sweep, 2, by="mean")
    assert last.layers == (5, 2)
    assert mean.layers == (2, 5)
    means = [sweep["accuracy"], *(sweep[n].sel(target="cross") for n in ("confidence", "attention_score"))]
    expected = brute_force(*(array.mean("clip").values for array in means))
    np.testing.assert_allclose(last.scores["mean"], expected[-1])
    np.testing.assert_allclose(mean.scores["mean"], expected.mean(0))
    assert (last.scores["low"] <= last.scores["mean"]).all()
    assert (last.scores["mean"] <= last.scores["high"]).all()
    assert last.scores["probability"].sum() == pytest.approx(2)
    assert last.scores["probability"].sel(layer=5) == 1


def test_bootstrap_is_the_loop_over_resampled_clips() -> None:
    sweep = made_sweep(clips=6, noise=0.4, sources=["a", "a", "b", "c", "c", "c"])
    found = select_layers(sweep, 1, samples=50, seed=7)
    assert found.sources == 3
    members = ([0, 1], [2], [3, 4, 5])
    draws = np.random.default_rng(7).multinomial(3, np.full(3, 1 / 3), 50)
    values = []
    for draw in draws:
        arrays = [sweep["accuracy"], *(sweep[n].sel(target="cross") for n in ("confidence", "attention_score"))]
        means = []
        for array in arrays:
            whole = [array.isel(clip=clips).mean("clip").values for clips in members]
            means.append(np.mean([mean for mean, times in zip(whole, draw, strict=True) for _ in range(times)], axis=0))
        values.append(brute_force(*means)[-1])
    level = NormalDist().cdf(-4.302653 * 1.5**0.5)  # 4.302653: Student's t at 97.5 % with 2 degrees of freedom
    low, high = np.quantile(values, [level, 1 - level], axis=0)
    np.testing.assert_allclose(found.scores["low"], low)
    np.testing.assert_allclose(found.scores["high"], high)
    share = np.bincount(np.argmax(values, 1), minlength=4) / 50
    np.testing.assert_allclose(found.scores["probability"], share)


def test_clips_without_truth_do_not_count() -> None:
    sweep = made_sweep(noise=0.4)
    sweep["accuracy"][3] = np.nan
    rest = sweep.drop_isel(clip=3)
    means = [rest["accuracy"], *(rest[n].sel(target="cross") for n in ("confidence", "attention_score"))]
    expected = brute_force(*(array.mean("clip").values for array in means))
    found = select_layers(sweep)
    np.testing.assert_allclose(found.scores["mean"], expected[-1])
    assert found.sources == sweep.sizes["clip"] - 1
    np.testing.assert_allclose(found.scores["low"], select_layers(rest).scores["low"])


def test_one_clip_has_no_interval() -> None:
    found = select_layers(made_sweep(clips=3, sources=["a", "a", "a"]), 2)
    assert np.isnan(found.scores[["low", "high", "probability"]].to_array()).all()
    assert repr(found).splitlines()[0] == "LayerSelection: layers 5, 2 by the harmonic mean at step 49, 1 clip"
    assert repr(found).splitlines()[1].endswith("no interval from one clip")


def test_table_and_repr() -> None:
    found = select_layers(made_sweep(noise=0), 2, samples=10)
    table = found.table()
    assert [row["layer"] for row in table] == [5, 2, 3, 4]
    assert [row["selected"] for row in table] == [True, True, False, False]
    assert table[1] == {
        "rank": 2,
        "layer": 2,
        "mean": pytest.approx(0.5 / 0.85),
        "low": pytest.approx(0.5 / 0.85),
        "high": pytest.approx(0.5 / 0.85),
        "probability": 1.0,
        "selected": True,
    }
    assert repr(found) == (
        "LayerSelection: layers 5, 2 by the harmonic mean at step 49, 8 clips\n"
        "  layer 5: 1.000, at the end of the scale in every resample, in the top 2 with probability 1.00\n"
        "  layer 2: 0.588, 95 % interval 0.588 to 0.588, in the top 2 with probability 1.00"
    )
    assert repr(select_layers(made_sweep(noise=0), 2, by="mean", samples=10)).splitlines()[0] == (
        "LayerSelection: layers 2, 5 by the harmonic mean at the mean over steps, 8 clips"
    )


def test_select_layers_refuses() -> None:
    sweep = made_sweep()
    without = sweep.assign(accuracy=sweep["accuracy"] * np.nan)
    for call, message in [
        (lambda: select_layers(sweep, 5), "count must lie between 1 and the 4 layers of the sweep; got 5."),
        (lambda: select_layers(sweep, by="first"), "unknown by='first'. Known: 'last', 'mean'."),
        (lambda: select_layers(sweep, samples=0), "samples must be at least 1; got 0."),
        (
            lambda: select_layers(sweep.drop_vars("confidence")),
            "the sweep has no confidence; it has accuracy, attention_score.",
        ),
        (
            lambda: select_layers(without),
            "the sweep has no accuracy: none of its clips has tracks, so its layers cannot be ranked. "
            "Sweep clips with tracks, or give them a tracker's: with_pseudo_tracks(clip).",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message
