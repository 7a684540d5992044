"""Harmonic mean and layer selection."""

from statistics import NormalDist

import numpy as np
import pytest
import xarray as xr

from analyses.selection.select import select_layers
from analyses.statistics import harmonic_mean
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
    assert "At step 49, 1 clip, 1 noise draw." in repr(found)
    assert found.carriers == ()


def test_table_and_repr() -> None:
    found = select_layers(made_sweep(noise=0), 2, samples=10)
    table = found.table()
    assert [row["layer"] for row in table] == [5, 2, 3, 4]
    assert [row["selected"] for row in table] == [True, True, False, False]
    second = table[1]
    assert (second["rank"], second["tied"], second["layer"]) == (2, False, 2)
    assert [second[name] for name in ("mean", "low", "high")] == pytest.approx([0.5 / 0.85] * 3)
    assert (second["probability"], second["accuracy"], second["selected"]) == (1.0, pytest.approx(60.0), True)
    assert (second["carrier"], np.isnan(second["lead"])) == (False, True)
    lines = repr(found).splitlines()
    assert lines[:3] == [
        "LayerSelection: layers 5 and 2",
        "No layer was tested against 'nothing moves': the sweep does not hold static_accuracy and moving_accuracy. "
        "Sweep again.",
        "At step 49, 8 clips, 1 noise draw.",
    ]
    assert "chosen, not above the baseline" in lines[5]
    assert "Averaged over the steps, 8 clips" in repr(select_layers(made_sweep(noise=0), 2, by="mean", samples=10))


def test_select_layers_refuses() -> None:
    sweep = made_sweep()
    without = sweep.assign(accuracy=sweep["accuracy"] * np.nan)
    for call, message in [
        (lambda: select_layers(sweep, 5), "count must lie between 1 and the 4 layers of the sweep; got 5."),
        (lambda: select_layers(sweep, by="first"), "unknown by 'first'. Known: 'last', 'mean'."),
        (lambda: select_layers(sweep, samples=0), "samples must lie between 1 and 100000; got 0."),
        (
            lambda: select_layers(sweep.drop_vars("confidence")),
            "the sweep has no confidence; it has accuracy, attention_score.",
        ),
        (lambda: select_layers(sweep, 1.5), "count must be an int; got 1.5."),
        (lambda: select_layers(sweep, criterion="best"), "unknown criterion 'best'. Known: 'harmonic', 'accuracy'."),
        (lambda: select_layers(sweep, accuracy="still"), "unknown accuracy 'still'. Known: 'all', 'moving'."),
        (
            lambda: select_layers(sweep, accuracy="moving"),
            "the sweep has no moving_accuracy; it has accuracy, confidence, attention_score.",
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


def test_a_mean_over_clips_is_refused_in_words() -> None:
    with pytest.raises(InvalidInputError) as error:
        select_layers(made_sweep().mean("clip"))
    assert str(error.value) == (
        "the sweep's accuracy has no dim clip; it has (step, layer). How sure a choice is follows from single clips: "
        "pass the sweep itself, not a mean or a part of it."
    )


@pytest.mark.parametrize("layers", [[2], [2, 3], [2, 3, 4]])
def test_few_layers_are_ranked_by_accuracy_and_the_selection_says_so(layers: list[int]) -> None:
    found = select_layers(made_sweep().sel(layer=layers), 1, samples=20)
    assert found.layers == (2,)
    assert found.criterion == "accuracy"
    assert found.table()[0]["mean"] == pytest.approx(60, abs=3)
    few = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    assert found.note.startswith(f"With {few}, fewer than 4, the harmonic mean puts most layers at an end of its scale")
    assert found.note in repr(found)


def test_a_measure_that_is_the_same_everywhere_is_no_ground_for_a_ranking() -> None:
    sweep = made_sweep()
    sweep["confidence"] = sweep["confidence"] * 0 + 0.3
    found = select_layers(sweep, 1, samples=20)
    assert (found.criterion, found.layers) == ("accuracy", (5,))
    assert "The cross confidence is the same everywhere" in found.note


def test_equal_layers_share_a_rank_and_are_called_tied() -> None:
    sweep = made_sweep(noise=0).isel(step=[-1])
    # Layer 3 holds the least of the one measure, layer 4 of the two others: both are 0, whatever else they are.
    sweep["accuracy"] = sweep["accuracy"] * 0 + xr.DataArray([60.0, 10.0, 20.0, 95.0], dims="layer")
    found = select_layers(sweep, 2, samples=20)
    assert [(row["rank"], row["tied"], row["layer"]) for row in found.table()] == [
        (1, False, 5),
        (2, False, 2),
        (3, True, 4),
        (3, True, 3),
    ]
    assert "Layers 4 and 3 are tied at rank 3; the one with the higher accuracy comes first." in repr(found)


def test_ranking_by_moving_accuracy_looks_at_moving_points_alone() -> None:
    sweep = made_sweep()
    sweep["moving_accuracy"] = 100 - sweep["accuracy"]
    assert select_layers(sweep, 1, criterion="accuracy").layers == (5,)
    assert select_layers(sweep, 1, criterion="accuracy", accuracy="moving").layers == (4,)
    means = [sweep["moving_accuracy"], *(sweep[n].sel(target="cross") for n in ("confidence", "attention_score"))]
    expected = brute_force(*(array.mean("clip").values for array in means))
    np.testing.assert_allclose(select_layers(sweep, 1, accuracy="moving").scores["mean"], expected[-1])


def test_the_interval_counts_the_noise_draws() -> None:
    rng = np.random.default_rng(0)
    one = made_sweep(clips=8, noise=0.0)
    shift = 10 * rng.standard_normal(4)
    drawn = [
        one.assign(accuracy=one["accuracy"] + shift[number]).assign_coords(
            source=("clip", [f"clip {n}" for n in range(8)]), draw=("clip", [number] * 8)
        )
        for number in range(4)
    ]
    first = select_layers(drawn[0], 1, criterion="accuracy")
    every = select_layers(xr.concat(drawn, "clip"), 1, criterion="accuracy")
    assert (first.sources, first.draws, every.sources, every.draws) == (8, 1, 8, 4)
    assert float((first.scores["high"] - first.scores["low"]).max()) < 1e-9
    width = every.scores["high"] - every.scores["low"]
    assert (width > shift.std()).all()
    np.testing.assert_allclose(every.scores["mean"], one["accuracy"].mean("clip")[-1] + shift.mean())
