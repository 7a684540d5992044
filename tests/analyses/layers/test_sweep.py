"""Sweeps of a small random backbone: numbers, windows, prompts, recordings, saving and resuming."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sweep_helpers import PROMPT, SELECTION

from analyses.layers.ground_truth import Target, Truth
from analyses.layers.measures import measure
from analyses.layers.sweep import sweep
from analyses.layers.sweep_files import load_sweep, save_sweep
from analyses.selection.select import select_layers
from probe import Backbone, Capture, run_clip
from store.clips.clip import Clip
from store.errors import InvalidInputError, RecordingError
from store.scenes.scene import make_scene
from store.selection import Selection


def test_sweep_measures_every_capture(mini: Backbone) -> None:
    scene = make_scene(3)
    found = sweep(mini, {"three": scene}, SELECTION, per_head=True, seed=5)
    captures: list[Capture] = []

    def keep(capture: Capture) -> None:
        tensors = {name: getattr(capture, name).clone() for name in ("query", "key", "text_key", "features")}
        captures.append(Capture(**{**vars(capture), **tensors}))

    run_clip(mini, scene, SELECTION, keep, noise="forward", seed=5, features=True)
    assert len(captures) == 6
    layout = captures[0].layout
    target = Target.of(Truth.of_tracks(scene.tracks, scene.visibility, layout), layout)
    for capture in captures:
        expected = measure(
            capture.query,
            capture.key,
            target,
            text_key=capture.text_key,
            features=capture.features,
            per_head=True,
        )
        at = found.sel(clip="three", step=capture.step, layer=capture.layer)
        assert at["timestep"] == capture.timestep
        for name, value in expected.items():
            np.testing.assert_array_equal(at[name], value)
    assert found["step"].values.tolist() == [0, 30, 49]
    assert found["static_accuracy"].item() == target.static_accuracy
    assert found["pairs"].item() == target.pairs
    assert found["head_confidence"].dims == ("clip", "step", "layer", "head", "target")
    assert found["layer_name"].values.tolist() == ["transformer_blocks.0.attn1", "transformer_blocks.1.attn1"]


def test_every_variable_and_coordinate_is_labelled(mini: Backbone) -> None:
    found = sweep(mini, make_scene(0), Selection([-1], [1]), per_head=True)
    assert found["accuracy"].dims == ("clip", "step", "layer")
    for name, variable in found.variables.items():
        assert variable.attrs["long_name"], name
    for name, variable in found.data_vars.items():
        assert variable.attrs["units"] == ("%" if "accuracy" in str(name) else "1"), name
    assert found["clip"].values.tolist() == ["clip 0"]
    assert found.attrs["noise"] == "forward"
    assert found.attrs["threshold_cells"] == 0.5
    (details,) = found.attrs["clips"]
    assert details["images"] == "images 0 to 5 of 6, 40 x 40 px"


def test_harmonic_mean_comes_from_the_means_over_clips(mini: Backbone) -> None:
    found = sweep(mini, [make_scene(0), make_scene(1)], SELECTION)

    def scaled(values: np.ndarray) -> np.ndarray:
        return (values - values.min()) / (values.max() - values.min())

    accuracy = scaled(found["accuracy"].values.mean(0))
    cross = [scaled(found[n].sel(target="cross").values.mean(0)) for n in ("confidence", "attention_score")]
    for index in np.ndindex(3, 2):
        values = [accuracy[index], cross[0][index], cross[1][index]]
        expected = 0 if min(values) == 0 else 3 / sum(1 / value for value in values)
        assert found["harmonic_mean"].values[index] == pytest.approx(expected)
    assert len(select_layers(found, 1, samples=20).layers) == 1


def test_long_and_large_clips_become_windows(mini: Backbone) -> None:
    scene = make_scene(4, images=12, height=48, width=56)
    visibility = scene.visibility.copy()
    visibility[6] = False
    visibility[6, np.flatnonzero(scene.visibility[6])[:3]] = True
    clip = Clip(scene.images, scene.fps, scene.tracks, visibility)
    found = sweep(mini, {"long": scene, "hidden": clip}, Selection([-1], [0]))
    assert found["clip"].values.tolist() == ["long [0]", "long [1]", "hidden [0]"]
    assert found["source"].values.tolist() == ["long", "long", "hidden"]
    assert found["first_image"].values.tolist() == [0, 6, 0]
    assert found.attrs["skipped"] == [
        f"hidden, window 1 at image 6: 3 of {scene.tracks.shape[1]} tracked points are visible in image 6, fewer than 4"
    ]
    assert found.attrs["resized"] == "2 of 2 clips, with their tracks"
    assert found.attrs["windows"] == "3 windows of 2 of 2 clips"
    assert found.attrs["clips"][1]["images"] == "images 6 to 11 of 12, 40 x 40 px, resized from 48 x 56"
    alone = sweep(mini, scene.window(6, 12).resized(40, 40), Selection([-1], [0]))
    np.testing.assert_array_equal(found["accuracy"][1], alone["accuracy"][0])
    with pytest.raises(InvalidInputError) as error:
        sweep(mini, {"hidden": clip.window(6, 12)}, Selection([-1], [0]))
    assert str(error.value) == (
        f"every window was skipped: hidden window 0: 3 of {scene.tracks.shape[1]} tracked points are visible in "
        "image 6, fewer than 4. Pass clips with more tracks, or min_points=1."
    )


def test_a_plain_video_has_everything_but_accuracy(mini: Backbone) -> None:
    plain = Clip(make_scene(2).images, 8.0)
    found = sweep(mini, {"plain": plain}, SELECTION)
    for name in ("accuracy", "moving_accuracy", "feature_accuracy", "static_accuracy", "harmonic_mean"):
        assert np.isnan(found[name]).all(), name
    assert np.isfinite(found["confidence"]).all()
    assert found["points"].item() == 100
    assert found["harmonic_mean"].attrs["reason"] == (
        "no clip has tracks, so there is no accuracy and no harmonic mean"
    )
    assert found.attrs["clips"][0]["truth"] == "none: a grid of points"
    mixed = sweep(mini, {"plain": plain, "scene": make_scene(2)}, SELECTION)
    assert np.isfinite(mixed["harmonic_mean"]).all()
    assert "reason" not in mixed["harmonic_mean"].attrs


def test_prompts_are_analysed_while_they_are_generated(mini: Backbone) -> None:
    few = Selection(steps=[1], layers=[0, 1])
    found = sweep(
        mini, ["a red disc moves right over blue dots", "a cyan square moves up over grey waves"], few, steps=3
    )
    assert found["clip"].values.tolist() == ["prompt 0", "prompt 1"]
    assert np.isnan(found["accuracy"]).all()
    assert np.isfinite(found["attention_score"]).all()
    scene = make_scene(6)
    known = sweep(mini, {"disc": PROMPT}, few, steps=3, truth={"disc": (scene.tracks, scene.visibility)})
    assert np.isfinite(known["accuracy"]).all()


def test_the_difftrack_preset_counts_the_query_image_and_hidden_points(mini: Backbone) -> None:
    scene = make_scene(8)
    visibility = scene.visibility.copy()
    visibility[0, :5] = False
    clip = Clip(scene.images, scene.fps, scene.tracks, visibility)
    found = {preset: sweep(mini, clip, Selection([-1], [1]), preset=preset) for preset in ("exact", "difftrack")}
    assert found["difftrack"]["pairs"].item() == visibility.sum()
    assert found["exact"]["pairs"].item() == visibility[1:, visibility[0]].sum()
    assert found["difftrack"]["points"].item() == found["exact"]["points"].item() + 5


def test_loading_refuses_what_is_no_sweep(tmp_path: Path) -> None:
    text, other = tmp_path / "text.nc", tmp_path / "other.nc"
    text.write_text("no netCDF")
    xr.Dataset({"a": ("x", [1.0])}).to_netcdf(other, engine="scipy")
    with pytest.raises(RecordingError) as error:
        load_sweep(tmp_path)
    assert str(error.value) == f"{tmp_path} holds no sweep: it is a folder. Name a file, for example sweep.nc."
    with pytest.raises(RecordingError) as error:
        load_sweep(text)
    assert str(error.value) == f"{text} holds no sweep, or it is damaged: it is not a netCDF 3 file."
    with pytest.raises(RecordingError) as error:
        load_sweep(other)
    assert str(error.value) == f"{other} holds no sweep, or it is damaged: 'json_attributes'."
    whole = other.read_bytes()
    for length in (5, 40, len(whole) - 9):
        other.write_bytes(whole[:length])
        with pytest.raises(RecordingError) as error:
            load_sweep(other)
        assert str(error.value).startswith(f"{other} holds no sweep, or it is damaged: ")
        assert "\n" not in str(error.value)
    with pytest.raises(RecordingError) as error:
        save_sweep(xr.Dataset(), text / "below.nc")
    assert str(error.value).startswith(f"the sweep cannot be written to {text / 'below.nc'}: ")


def test_sweep_refuses_before_the_model_runs(mini: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyses.layers.sweep_run.show_clip", lambda *args, **options: pytest.fail("the model ran"))
    scene, one = make_scene(0), Selection([-1], [0])
    for call, message in [
        (
            lambda: sweep(mini, scene, Selection([-1], [0], branches=("cond", "uncond"))),
            "a sweep looks at one branch; got cond, uncond. Select branches=('cond',), and sweep again for the other.",
        ),
        (
            lambda: sweep(mini, scene, Selection([-1], [0], frames=[0, 1])),
            "a sweep needs every frame: its points are followed through all of them. Leave out frames.",
        ),
        (lambda: sweep(mini, [], one), "there is nothing to sweep: no clip was given."),
        (lambda: sweep(mini, {"a": 3}, one), "'a' is a int; a sweep takes clips and prompts."),
        (
            lambda: sweep(mini, {"a": scene}, one, truth={"b": (scene.tracks, scene.visibility)}),
            "truth names 'b', which is not swept. Swept: 'a'.",
        ),
        (
            lambda: sweep(mini, {"a": scene}, one, truth={"a": (scene.tracks, scene.visibility)}),
            "clip 'a' has tracks of its own. Give truth for prompts only.",
        ),
        (
            lambda: sweep(mini, scene, one, threshold_cells=0),
            "threshold_cells must be above 0; got 0.",
        ),
        (lambda: sweep(mini, scene, one, steps=0), "steps must be at least 1; got 0."),
        (lambda: sweep(mini, PROMPT, one, steps=-1), "steps must be at least 1; got -1."),
        (lambda: sweep(mini, scene, one, seed=-3), "seed must be at least 0; got -3."),
        (lambda: sweep(mini, PROMPT, one, seed=-3), "seed must be at least 0; got -3."),
        (lambda: sweep(mini, {1: scene, "1": scene}, one), "'1' names two of what is swept. Rename one of them."),
        (
            lambda: sweep(mini, {"a": make_scene(0, images=12), "a [1]": scene}, one),
            "'a [1]' names two of what is swept. Rename one of them.",
        ),
        (
            lambda: sweep(mini, scene, one, overwrite=True),
            "overwrite=True needs a file. Pass save=, or leave it out.",
        ),
        (
            lambda: sweep(mini, scene, one, resume=True, overwrite=True),
            "resume=True and overwrite=True are mutually exclusive: the first completes what is there, the second "
            "replaces it. Pass one.",
        ),
        (
            lambda: sweep(mini, scene, one, noise="pink"),
            "unknown noise 'pink'. Known: 'clean', 'forward', 'inversion'.",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message
