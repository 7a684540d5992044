"""Sweeps that are saved, resumed, drawn several times, and sweeps of recordings."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from sweep_helpers import PROMPT, SELECTION

from analyses.layers.sweep import sweep, sweep_recording
from analyses.layers.sweep_files import load_sweep, save_sweep
from analyses.selection.select import select_layers
from analyses.selection.stability import at_thresholds
from probe import Backbone, load_backbone
from probe.mini import MiniConfig, new_pipeline
from probe.recording.record import record
from store.clips.clip import Clip
from store.errors import InvalidInputError, OutputExistsError
from store.scenes.scene import make_scene
from store.selection import Selection


@pytest.fixture
def recordings(mini: Backbone, tmp_path: Path) -> Callable[..., dict[str, Path]]:
    def make(backbone: Backbone, clips: dict[str, Clip], **options: int) -> dict[str, Path]:
        paths = {name: tmp_path / f"{name}.zarr" for name in clips}
        for name, clip in clips.items():
            record(backbone, clip, SELECTION, paths[name], noise="forward", features=True, **options)
        return paths

    return make


def test_recordings_of_half_precision_give_the_same_numbers(recordings: Callable[..., dict[str, Path]]) -> None:
    torch.manual_seed(1)
    half = load_backbone(new_pipeline(MiniConfig(layers=2)), dtype=torch.bfloat16)
    clips = {"a": make_scene(10), "b": make_scene(11)}
    live = sweep(half, clips, SELECTION, per_head=True)
    stored = sweep_recording(recordings(half, clips), clips, per_head=True)
    for name in live.data_vars:
        # bfloat16 has values below 2^-17 that float16 rounds; they move the last bit of a softmax and no match.
        tolerance = 0 if "accuracy" in str(name) else 1e-6
        np.testing.assert_allclose(stored[name], live[name], rtol=tolerance, err_msg=str(name))
        assert stored[name].attrs == live[name].attrs
    np.testing.assert_array_equal(stored["timestep"], live["timestep"])


def test_recordings_of_single_precision_agree(mini: Backbone, recordings: Callable[..., dict[str, Path]]) -> None:
    clips = {"a": make_scene(12)}
    live, stored = sweep(mini, clips, SELECTION), sweep_recording(recordings(mini, clips), clips)
    np.testing.assert_allclose(stored["confidence"], live["confidence"], rtol=2e-3)
    assert abs(stored["accuracy"] - live["accuracy"]).max() < 5
    assert stored.attrs["noise"] == "forward"


def test_a_recorded_window_finds_its_part_of_the_clip(
    mini: Backbone, recordings: Callable[..., dict[str, Path]]
) -> None:
    scene = make_scene(13, images=12, height=48, width=56)
    (path,) = recordings(mini, {"long": scene}, window=1).values()
    whole = sweep_recording(path, scene)
    part = sweep_recording(path, scene.window(6, 12))
    without = sweep_recording(path)
    assert whole["clip"].values.tolist() == ["recording 0"]
    assert whole["first_image"].item() == 6
    np.testing.assert_array_equal(whole["accuracy"], part["accuracy"])
    assert np.isnan(without["accuracy"]).all()
    with pytest.raises(InvalidInputError) as error:
        sweep_recording({"run": path}, {"run": scene.window(0, 7)})
    assert str(error.value) == (
        "recording 'run' holds images 6 to 11, its clip has 7 images. Pass the clip that was recorded, whole or that "
        "window of it."
    )


def test_recordings_must_be_alike(mini: Backbone, tmp_path: Path) -> None:
    scene = make_scene(14)
    for name, selection in {"a": Selection([-1], [0]), "b": Selection([-1], [1])}.items():
        record(mini, scene, selection, tmp_path / name)
    paths = {name: tmp_path / name for name in "ab"}
    for call, message in [
        (
            lambda: sweep_recording(paths),
            "recording 'b' holds layers (1,), 'a' holds (0,). Sweep recordings of the same selection together.",
        ),
        (
            lambda: sweep_recording(tmp_path / "a", [scene, scene]),
            "2 clips were given for 1 recordings. Pass one for each.",
        ),
        (
            lambda: sweep_recording({"a": tmp_path / "a"}, {"c": scene}),
            "clips names 'c'; the recordings are 'a'.",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            call()
        assert str(error.value) == message


class Stop(BaseException):
    """Stands for Ctrl-C."""


def test_an_interrupted_sweep_keeps_finished_clips_and_resumes(mini: Backbone, tmp_path: Path) -> None:
    clips = {name: make_scene(seed) for name, seed in (("b", 20), ("a", 21), ("c", 22))}
    path = tmp_path / "sub" / "sweep.nc"

    def stop_in_the_second(done: int, total: int, name: str) -> None:
        assert total == 9
        if name == "a" and done == 5:
            raise Stop

    with pytest.raises(Stop):
        sweep(mini, clips, SELECTION, save=path, progress=stop_in_the_second)
    assert load_sweep(path)["clip"].values.tolist() == ["b"]
    assert [item.name for item in path.parent.iterdir()] == ["sweep.nc"]

    seen: list[tuple[int, int, str]] = []
    resumed = sweep(mini, clips, SELECTION, save=path, resume=True, progress=lambda *state: seen.append(state))
    assert seen == [(4, 9, "a"), (5, 9, "a"), (6, 9, "a"), (7, 9, "c"), (8, 9, "c"), (9, 9, "c")]
    whole = sweep(mini, clips, SELECTION, save=tmp_path / "whole.nc")
    xr.testing.assert_identical(resumed, whole)
    xr.testing.assert_identical(load_sweep(path), whole)
    again = sweep(mini, clips, SELECTION, save=path, resume=True, progress=lambda *state: pytest.fail("ran again"))
    xr.testing.assert_identical(again, whole)


def test_resuming_refuses_what_does_not_go_together(mini: Backbone, tmp_path: Path) -> None:
    path, one = tmp_path / "sweep.nc", Selection([-1], [0])
    clips = {"a": make_scene(30), "b": make_scene(31)}
    sweep(mini, clips, one, save=path)
    for options, message in [
        (
            {"clips_or_prompts": clips, "seed": 1},
            f"{path} holds a sweep with other settings: seed was 0, now 1. "
            "Resume with the same ones, or save to another path.",
        ),
        (
            {"clips_or_prompts": {**clips, "b": make_scene(32)}},
            f"{path} holds clip 'b', which is now a different clip. Pass the same clips, or save to another path.",
        ),
        (
            {"clips_or_prompts": {"b": clips["b"]}},
            f"{path} holds clip 'a', which was not asked for. Pass the same clips, or save to another path.",
        ),
    ]:
        with pytest.raises(InvalidInputError) as error:
            sweep(mini, selection=one, save=path, resume=True, **options)
        assert str(error.value) == message
    with pytest.raises(OutputExistsError) as taken:
        sweep(mini, clips, one, save=path)
    assert str(taken.value) == (
        f"{path} exists already. Choose another path for the sweep, or pass overwrite=True to replace it or "
        "resume=True to complete it."
    )
    with pytest.raises(OutputExistsError) as folder:
        sweep(mini, clips, one, save=tmp_path)
    assert str(folder.value) == f"{tmp_path} is a folder. Name a file, for example {tmp_path / 'sweep.nc'}."


def test_overwriting_keeps_the_old_sweep_until_the_new_one_has_a_clip(mini: Backbone, tmp_path: Path) -> None:
    path, one = tmp_path / "sweep.nc", Selection([-1], [0])
    sweep(mini, {"old": make_scene(30)}, one, save=path)
    before = path.read_bytes()

    def stop(*state: object) -> None:
        raise Stop

    with pytest.raises(InvalidInputError):
        sweep(mini, {"new": make_scene(31)}, Selection([-1], [0], frames=[0]), save=path, overwrite=True)
    with pytest.raises(Stop):
        sweep(mini, {"new": make_scene(31)}, one, save=path, overwrite=True, progress=stop)
    assert path.read_bytes() == before
    sweep(mini, {"new": make_scene(31)}, one, save=path, overwrite=True)
    assert load_sweep(path)["clip"].values.tolist() == ["new"]
    with pytest.raises(OutputExistsError) as folder:
        sweep(mini, {"new": make_scene(31)}, one, save=tmp_path, overwrite=True)
    assert str(folder.value) == f"{tmp_path} is a folder. Name a file, for example {tmp_path / 'sweep.nc'}."
    with pytest.raises(OutputExistsError) as below:
        sweep(mini, {"new": make_scene(31)}, one, save=path / "sweep.nc")
    assert str(below.value) == (
        f"{path / 'sweep.nc'} cannot be written: {path} is a file, not a folder. Choose another path."
    )


def test_a_resumed_sweep_may_get_longer_names(mini: Backbone, tmp_path: Path) -> None:
    """xarray warns of a saved name's width, and warnings are errors here."""
    path, one = tmp_path / "sweep.nc", Selection([-1], [0])
    clips = {"a": make_scene(30), "a much longer name": make_scene(31)}
    sweep(mini, {"a": clips["a"]}, one, save=path)
    resumed = sweep(mini, clips, one, save=path, resume=True)
    assert load_sweep(path)["clip"].values.tolist() == list(clips)
    save_sweep(resumed, tmp_path / "again.nc")


def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def fail(dataset: xr.Dataset, partial: Path, **options: object) -> None:
        partial.write_text("half")
        seen.append(partial.name)
        raise Stop

    monkeypatch.setattr(xr.Dataset, "to_netcdf", fail)
    with pytest.raises(Stop):
        save_sweep(xr.Dataset(), tmp_path / "sweep.nc")
    assert seen == [f".sweep.{os.getpid()}.partial.nc"]
    assert list(tmp_path.iterdir()) == []


def test_windows_with_nothing_to_follow_are_skipped(mini: Backbone) -> None:
    scene, one = make_scene(5), Selection([-1], [0])
    hidden = scene.visibility.copy()
    hidden[1:] = False
    unseen = Clip(scene.images, scene.fps, scene.tracks, hidden)
    outside = Clip(scene.images, scene.fps, scene.tracks + 400, scene.visibility)
    found = sweep(mini, {"still": scene.window(0, 1), "unseen": unseen, "outside": outside, "whole": scene}, one)
    count = scene.tracks.shape[1]
    assert found["clip"].values.tolist() == ["whole"]
    assert found.attrs["skipped"] == [
        "still, window 0 at image 0: it has one image, so there is nothing to follow",
        f"unseen, window 0 at image 0: none of its {hidden[0].sum()} points is visible after image 0",
        f"outside, window 0 at image 0: 0 of {count} tracked points are visible in image 0, fewer than 4; "
        f"{count} tracked points lie outside the image",
    ]
    for source, options in ((scene.window(0, 1), {}), (PROMPT, {"images": 1})):
        with pytest.raises(InvalidInputError) as error:
            sweep(mini, {"still": source}, one, **options)
        assert str(error.value) == (
            "every window was skipped: still window 0: it has one image, so there is nothing to follow. "
            "Pass longer clips, or other ones."
        )


def test_a_recording_refuses_another_clip(mini: Backbone, recordings: Callable[..., dict[str, Path]]) -> None:
    paths = recordings(mini, {"a": make_scene(15, images=12, height=48, width=56)}, stride=2)
    assert sweep_recording(paths, [make_scene(15, images=12, height=48, width=56)]).sizes["clip"] == 1
    with pytest.raises(InvalidInputError) as error:
        sweep_recording(paths, [make_scene(16, images=12, height=48, width=56)])
    assert str(error.value) == (
        "recording 'a' is of another clip: the images given for it are not those that the model saw. Pass the clip "
        "that was recorded, one for each recording in the same order."
    )


def test_one_threshold_of_several_gives_the_numbers_of_a_sweep_of_it_alone(mini: Backbone) -> None:
    scenes = [make_scene(0), make_scene(1)]
    found = sweep(mini, scenes, SELECTION, threshold_cells=(1.0, 0.5, 2))
    assert found["threshold"].values.tolist() == [1.0, 0.5, 2.0]
    assert (found.attrs["threshold_cells"], found.attrs["thresholds"]) == (1.0, [1.0, 0.5, 2.0])
    for place, threshold in enumerate((1.0, 0.5, 2.0)):
        alone = sweep(mini, scenes, SELECTION, threshold_cells=threshold)
        assert "threshold" not in alone.dims
        for name in ("accuracy", "moving_accuracy", "static_accuracy", "blind_accuracy", "moving_pairs"):
            np.testing.assert_array_equal(found[f"{name}_within"].isel(threshold=place), alone[name], name)
        if place == 0:
            for name in alone.data_vars:
                np.testing.assert_array_equal(found[name], alone[name])
        (within,) = [part for number, part in at_thresholds(found) if number == threshold]
        np.testing.assert_array_equal(within["accuracy"], alone["accuracy"])


def test_each_noise_draw_is_a_sweep_with_a_seed_of_its_own(mini: Backbone) -> None:
    scenes = {"a": make_scene(0), "long": make_scene(1, images=12)}
    found = sweep(mini, scenes, SELECTION, draws=2, seed=3)
    assert found["clip"].values.tolist() == [
        *("a, draw 0", "a, draw 1", "long [0], draw 0", "long [1], draw 0", "long [0], draw 1", "long [1], draw 1")
    ]
    assert found.attrs["windows"] == "2 windows of 1 of 2 clips"
    assert found.attrs["draws"] == 2
    first, second = found.attrs["draw_seeds"]
    assert first == 3
    for draw, seed in enumerate((first, second)):
        alone = sweep(mini, scenes, SELECTION, seed=seed)
        assert "draw" not in alone.coords
        part = found.isel(clip=np.flatnonzero(found["draw"] == draw))
        for name in ("accuracy", "moving_accuracy", "confidence", "static_accuracy"):
            np.testing.assert_array_equal(part[name], alone[name], name)
    assert not np.array_equal(found["confidence"][0], found["confidence"][1])


def test_draws_and_thresholds_are_saved_and_resumed(mini: Backbone, tmp_path: Path) -> None:
    how = {"draws": 2, "threshold_cells": (1.0, 0.5), "save": tmp_path / "drawn.nc"}
    scenes = {"a": make_scene(0), "b": make_scene(1)}
    sweep(mini, {"a": scenes["a"]}, SELECTION, **how)
    resumed = sweep(mini, scenes, SELECTION, resume=True, **how)
    xr.testing.assert_equal(resumed, sweep(mini, scenes, SELECTION, **(how | {"save": None})))
    xr.testing.assert_equal(load_sweep(tmp_path / "drawn.nc"), resumed)
    with pytest.raises(InvalidInputError, match="draws was 2, now None"):
        sweep(mini, scenes, SELECTION, resume=True, **(how | {"draws": 1}))


def test_a_sweep_from_before_the_blind_baseline_is_gone_on_with(mini: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "older.nc"
    older = sweep(mini, {"a": make_scene(0)}, SELECTION, save=path).drop_vars("blind_accuracy")
    save_sweep(older, path)
    resumed = sweep(mini, {"a": make_scene(0), "b": make_scene(1)}, SELECTION, save=path, resume=True)
    first, second = resumed["blind_accuracy"].values
    assert np.isnan(first)
    # The older clip counts with the most that a guess can score within half a cell.
    known = select_layers(resumed, 1, samples=5).scores["blind_accuracy"]
    assert float(known) == pytest.approx((100 / 6 + second) / 2)
    assert select_layers(load_sweep(path).drop_vars("blind_accuracy"), 1, samples=5).layers


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"seed": [0, 0]},
            "seeds must be one or several, each once; got [0, 0].",
        ),
        ({"seed": "0"}, "seed must be an int; got '0'."),
        ({"draws": 0}, "draws must be at least 1; got 0."),
        ({"draws": 2, "noise": "clean"}, "draws=2 draws noise, and noise='clean' has none. Pass noise='forward'."),
        (
            {"threshold_cells": ()},
            "threshold_cells is empty. Name at least one threshold in cells, or leave it out.",
        ),
        ({"threshold_cells": "1"}, "threshold_cells must be a finite number; got '1'."),
        ({"threshold_cells": (1, 1.0)}, "threshold_cells names a threshold twice: 1.0, 1.0."),
    ],
)
def test_seeds_draws_and_thresholds_are_refused_in_words(mini: Backbone, options: dict, message: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        sweep(mini, make_scene(0), SELECTION, **options)
    assert str(error.value) == message


def test_draws_of_a_prompt_have_no_common_truth(mini: Backbone) -> None:
    truth = {"prompt": (np.full((6, 4, 2), 20.0), np.ones((6, 4), bool))}
    with pytest.raises(InvalidInputError, match="draws=2 generates another clip in each draw, and truth follows"):
        sweep(mini, {"prompt": PROMPT}, SELECTION, draws=2, truth=truth)
