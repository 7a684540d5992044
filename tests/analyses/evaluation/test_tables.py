"""Tables hold what the datasets hold: one row for what was measured once, so that plain means are right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from analyses.evaluation.tables import evaluation_table, latex_table, tidy, write_table
from analyses.layers.differences import difference
from analyses.statistics import mean_over_clips
from store.errors import InvalidInputError, OutputExistsError, RecordingError

DIMS = ("clip", "step", "layer")
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def sweep() -> xr.Dataset:
    """Three windows of two clips, two steps, three layers, two heads, three targets; one accuracy is not recorded."""
    accuracy = rng.uniform(0, 100, (3, 2, 3))
    accuracy[1, 0, 2] = np.nan
    data = {
        "accuracy": (DIMS, accuracy, {"units": "%"}),
        "confidence": ((*DIMS, "target"), rng.uniform(0, 1, (3, 2, 3, 3))),
        "head_accuracy": ((*DIMS, "head"), rng.uniform(0, 100, (3, 2, 3, 2))),
        "head_confidence": ((*DIMS, "head", "target"), rng.uniform(0, 1, (3, 2, 3, 2, 3))),
        "harmonic_mean": (("step", "layer"), rng.uniform(0, 1, (2, 3))),
        "static_accuracy": ("clip", [40.0, 50.0, 60.0]),
        "points": ("clip", [100, 100, 64]),
    }
    coords = {
        "clip": ["goat, 0", "goat, 1", "ball"],
        "source": ("clip", ["goat", "goat", "ball"]),
        "step": [0, 49],
        "timestep": ("step", [999.0, 19.0]),
        "layer": [0, 2, 4],
        "layer_name": ("layer", ["a", "b", "c"]),
        "head": [0, 1],
        "target": ["self", "cross", "text"],
    }
    return xr.Dataset(data, coords)


@pytest.fixture(scope="module")
def evaluation() -> xr.Dataset:
    names = {"tracker": ["ours", "flow"], "clip": ["a", "b", "c"], "lag": [0, 1], "threshold": [1.0, 16.0]}
    return xr.Dataset(
        {
            "jaccard_1": (("tracker", "clip"), rng.uniform(0, 1, (2, 3))),
            "error": (("tracker", "clip", "lag"), rng.uniform(0, 9, (2, 3, 2))),
            "within": (("tracker", "clip", "threshold"), rng.uniform(0, 100, (2, 3, 2))),
            "queries": ("clip", [100, 64, 100]),
        },
        names,
    )


def test_a_table_has_one_row_for_each_clip_step_and_layer(sweep: xr.Dataset) -> None:
    table = tidy(sweep)
    assert len(table) == 3 * 2 * 3
    assert not table.duplicated(["clip", "step", "layer"]).any()
    assert list(table[["clip", "step", "layer"]].iloc[1]) == ["goat, 0", 0, 2]
    assert list(table.columns[:3]) == list(DIMS)
    for row in table.to_dict("records"):
        place = {dim: row[dim] for dim in DIMS}
        one = sweep.sel(place)
        np.testing.assert_equal(row["accuracy"], one["accuracy"].item())
        assert row["confidence_cross"] == one["confidence"].sel(target="cross").item()
        assert (row["timestep"], row["layer_name"], row["source"]) == tuple(
            one[name].item() for name in ("timestep", "layer_name", "source")
        )
        assert (row["points"], row["harmonic_mean"]) == (one["points"].item(), one["harmonic_mean"].item())
    assert {f"confidence_{target}" for target in ("self", "cross", "text")} <= set(table)
    assert "confidence" not in table
    assert not [name for name in table if name.startswith("head") or name == "target"]


def test_means_of_a_table_are_those_of_the_sweep(sweep: xr.Dataset) -> None:
    table = tidy(sweep)
    plain = table.groupby(["step", "layer"])["accuracy"].mean().unstack("layer")
    np.testing.assert_allclose(plain, sweep["accuracy"].mean("clip"))
    assert table["confidence_text"].mean() == pytest.approx(sweep["confidence"].sel(target="text").mean().item())
    whole = table.groupby(["source", "step", "layer"])["accuracy"].mean().groupby(["step", "layer"]).mean()
    np.testing.assert_allclose(whole.unstack("layer"), mean_over_clips(sweep["accuracy"]))


def test_a_table_of_heads_has_one_row_for_each_head(sweep: xr.Dataset) -> None:
    table = tidy(sweep, heads=True)
    assert len(table) == 3 * 2 * 3 * 2
    assert not table.duplicated([*DIMS, "head"]).any()
    assert list(table.columns[:4]) == [*DIMS, "head"]
    assert [name for name in table if "accuracy" in name] == ["head_accuracy"]
    means = table.groupby(["layer", "head"])["head_confidence_cross"].mean().unstack("head")
    np.testing.assert_allclose(means, sweep["head_confidence"].sel(target="cross").mean(("clip", "step")))
    with pytest.raises(InvalidInputError, match=r"^no single heads were measured\. Sweep with per_head=True"):
        tidy(sweep.drop_dims("head"), heads=True)


def test_a_table_of_an_evaluation_has_one_row_for_each_clip_and_tracker(evaluation: xr.Dataset) -> None:
    table = tidy(evaluation)
    assert list(table) == ["clip", "tracker", "jaccard_1", "within_1", "within_16", "queries"]
    assert len(table) == 6
    np.testing.assert_allclose(
        table.groupby("tracker")["jaccard_1"].mean()[["ours", "flow"]], evaluation["jaccard_1"].mean("clip")
    )
    flow = table[(table["tracker"] == "flow") & (table["clip"] == "b")].iloc[0]
    assert flow["within_16"] == evaluation["within"].sel(tracker="flow", clip="b", threshold=16).item()
    assert flow["queries"] == 64


def test_a_written_table_reads_back_as_it_was(sweep: xr.Dataset, evaluation: xr.Dataset, tmp_path: Path) -> None:
    for measured, heads in ((sweep, False), (sweep, True), (evaluation, False)):
        path = write_table(measured, tmp_path / "deep" / "table.csv", heads=heads, overwrite=True)
        pd.testing.assert_frame_equal(pd.read_csv(path), tidy(measured, heads=heads), check_dtype=False)
    assert [item.name for item in path.parent.iterdir()] == ["table.csv"]


def test_differences_have_tables_too(sweep: xr.Dataset) -> None:
    assert tidy(difference(sweep, sweep))["accuracy"].dropna().eq(0).all()


def test_what_is_no_table_and_no_place_for_one_is_refused(sweep: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"^a Dataset is needed; got DataArray\."):
        tidy(sweep["accuracy"])
    with pytest.raises(InvalidInputError, match=r"^a table needs a sweep over \(clip, step, layer\) or an eval"):
        tidy(xr.Dataset({"a": ("clip", [1])}))
    with pytest.raises(InvalidInputError, match=r"Name it sweep\.csv\.$"):
        write_table(sweep, "sweep.xlsx")
    (tmp_path / "taken.csv").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_table(sweep, tmp_path / "taken.csv")
    assert (tmp_path / "taken.csv").read_text() == "mine"


def test_a_table_that_cannot_be_written_is_told(
    sweep: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RecordingError, match="No space left on device"):
        write_table(sweep, tmp_path / "table.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_latex_table_escapes_text_and_rounds_numbers(sweep: xr.Dataset) -> None:
    table = pd.DataFrame({"layer_5 & 4": [79.51, np.nan], "n": [3, 4], "who": ["a%", "–"]}, index=["x_1", "y"])
    text = latex_table(table, caption="50 % & more", label="tab:a")
    assert text.splitlines() == [
        r"\begin{table}",
        r"  \centering",
        r"  \caption{50 \% \& more}",
        r"  \label{tab:a}",
        r"  \begin{tabular}{lrrr}",
        r"    \toprule",
        r"     & layer\_5 \& 4 & n & who \\",
        r"    \midrule",
        r"    x\_1 & 79.5 & 3 & a\% \\",
        r"    y & -- & 4 & -- \\",
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    whole = latex_table(tidy(sweep), index=False, digits=2)
    assert whole.count(r"\\") == len(tidy(sweep)) + 1
    with pytest.raises(
        InvalidInputError, match=r"^table must be a pandas DataFrame; got Dataset\. tidy\(sweep\) makes one\.$"
    ):
        latex_table(sweep)


def test_an_evaluation_is_a_table_of_means_with_their_intervals() -> None:
    from analyses.evaluation.tapvid import evaluate_tapvid
    from analyses.trackers.static import StaticTracker
    from store import make_scene

    scenes = {f"scene {seed}": make_scene(seed) for seed in range(3)}
    found = evaluate_tapvid(scenes, {"still": StaticTracker()})
    table = evaluation_table(found)
    assert table.index.tolist() == ["still"]
    mean = float(found["occlusion_accuracy"].mean())
    assert table.loc["still", "occlusion accuracy"].startswith(f"{mean:.1f} (")
