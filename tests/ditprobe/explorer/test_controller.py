"""The explorer without a browser: its numbers are those of the analyses, and what cannot be shown is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from explored import LAYOUT, STEPS, explorer_of, moving_clip, write_recording

import ditprobe as dp
from ditprobe.explorer.controller import Explorer
from ditprobe.explorer.normalisers import Normalisers
from ditprobe.explorer.opened import OpenedRecording
from ditprobe.explorer.view import View
from ditprobe.explorer.wire import Answer, as_levels
from store import Clip, TokenLayout, open_recording
from store.errors import ClipError, InvalidInputError

VIEW = {"step": 9, "layer": 4, "branch": "cond", "image": 6, "x": 31.0, "y": 9.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("explored") / "run.zarr")


@pytest.fixture(scope="module")
def explorer(path: Path) -> Explorer:
    return explorer_of(path)


def message(answer: Answer) -> str:
    return answer.values["error"]["message"]


def decoded(answer: Answer, name: str) -> np.ndarray:
    """An array as the front end reads it."""
    array = answer.arrays[name]
    if name not in answer.scales:
        return array
    levels = array.astype(np.float64) / np.iinfo(array.dtype).max
    return levels**2 * answer.scales[name].reshape(-1, *[1] * (array.ndim - 1))


def test_attention_from_any_frame_is_that_of_the_analysis(explorer: Explorer, path: Path) -> None:
    run = open_recording(path)
    query, key = run.read(step=9, layer=4)
    text_key = run.read_text(step=9, layer=4)[1]
    answer = explorer.answer({"kind": "attention", **VIEW})
    assert (answer.values["frame"], answer.values["cell"], answer.values["track"]) == (2, [1, 3], None)
    points = [[31.0, 9.0]]
    wanted = dp.attention_of_points(query, key, points, LAYOUT, text_key=text_key, frame=2, by_head=True)
    np.testing.assert_allclose(decoded(answer, "mean")[0], wanted.values[:, 0].mean(0), rtol=1e-4, atol=1e-8)
    heads = decoded(answer, "heads")
    np.testing.assert_allclose(heads, wanted.values[:, 0], atol=float(heads.max()) / 30000)
    words = dp.attention_to_text(query, key, text_key, points, LAYOUT, frame=2, by_head=True)
    np.testing.assert_allclose(decoded(answer, "text"), words.values[:, 0], rtol=1e-4, atol=1e-8)


def test_a_brief_answer_has_the_mean_and_the_heads_follow(explorer: Explorer) -> None:
    whole = explorer.answer({"kind": "attention", **VIEW})
    brief = explorer.answer({"kind": "attention", **VIEW, "brief": True})
    assert (set(brief.arrays), set(whole.arrays)) == ({"mean", "text"}, {"mean", "text", "heads"})
    np.testing.assert_array_equal(brief.arrays["mean"], whole.arrays["mean"])
    assert len(brief.to_bytes()) < len(whole.to_bytes())
    other = {**VIEW, "x": VIEW["x"] + 5}
    for view in (VIEW, other):  # of the answer before, and of another point
        heads, expected = explorer.answer({"kind": "heads", **view}), explorer.answer({"kind": "attention", **view})
        np.testing.assert_array_equal(heads.arrays["heads"], expected.arrays["heads"])
        np.testing.assert_array_equal(heads.scales["heads"], expected.scales["heads"])
    assert "does not exist" in message(explorer.answer({"kind": "heads", **VIEW, "layer": 99}))


def test_attention_of_a_text_token_is_that_of_the_analysis(explorer: Explorer, path: Path) -> None:
    run = open_recording(path)
    key, (asked, text) = run.read(step=9, layer=4)[1], run.read_text(step=9, layer=4)
    answer = explorer.answer({"kind": "attention", **VIEW, "token": 2})
    wanted = dp.attention_of_text(asked, key, text, LAYOUT)
    np.testing.assert_allclose(decoded(answer, "mean")[0], wanted.values[2], rtol=1e-4, atol=1e-8)


def test_the_map_of_a_text_token_is_that_of_the_analysis_and_of_the_points(explorer: Explorer, path: Path) -> None:
    run = open_recording(path)
    (query, key), text = run.read(step=9, layer=4), run.read_text(step=9, layer=4)[1]
    answer = explorer.answer({"kind": "to_text", **VIEW, "token": 2})
    wanted = dp.map_attention_to_text(query, key, text, LAYOUT, by_head=True)
    np.testing.assert_allclose(decoded(answer, "mean")[0], wanted.values[:, 2].mean(0), rtol=1e-5)
    np.testing.assert_allclose(decoded(answer, "heads"), wanted.values[:, 2], atol=float(wanted.max()) / 30000)
    np.testing.assert_allclose(decoded(answer, "text"), wanted.values.mean((2, 3, 4)), rtol=1e-5)
    points = [[31.0, 9.0]]
    row = dp.attention_to_text(query, key, text, points, LAYOUT, frame=2, by_head=True)
    np.testing.assert_allclose(wanted.values[:, :, 2, 1, 3], row.values[:, 0], rtol=1e-4)
    assert "needs the token" in message(explorer.answer({"kind": "to_text", **VIEW}))
    assert "there are 6" in message(explorer.answer({"kind": "to_text", **VIEW, "token": 6}))
    with pytest.raises(InvalidInputError, match="text token 6 does not exist: there are 6"):
        dp.map_attention_to_text(query, key, text, LAYOUT, tokens=[6])


def test_path_is_that_of_the_analysis_and_is_compared_with_the_nearest_track(explorer: Explorer, path: Path) -> None:
    """Track 0 is at (10, 12) in image 6, the middle one of frame 2, and a click beside it is taken for it."""
    run = open_recording(path)
    query, key = run.read(step=9, layer=4)
    answer = explorer.answer({"kind": "path", **VIEW, "x": 12.0, "y": 10.0})
    assert (answer.values["track"], answer.values["point"]) == (0, [10.0, 12.0])
    found = dp.match_points(query, key, [[10.0, 12.0]], LAYOUT, frame=2)
    np.testing.assert_allclose(answer.arrays["mean"], dp.to_images(found, LAYOUT, 13)[:, 0], atol=1e-4)
    alone = dp.match_points_by_head(query, key, [[10.0, 12.0]], LAYOUT, frame=2)
    np.testing.assert_allclose(answer.arrays["heads"], alone[:, :, 0], atol=1e-4)
    elsewhere = [image for image in range(13) if image not in LAYOUT.images_of(2)]
    still = np.abs(np.array(elsewhere) - 6).mean() / 8  # a pixel an image, cells of 8 px
    assert answer.values["still_error_cells"] == pytest.approx(still)
    truth = moving_clip().tracks[:, 0]
    off = np.linalg.norm((answer.arrays["mean"] - truth) / 8, axis=-1)[elsewhere].mean()
    assert answer.values["error_cells"] == pytest.approx(off, rel=1e-4)


def test_a_click_far_from_every_track_is_compared_with_nothing(explorer: Explorer) -> None:
    answer = explorer.answer({"kind": "path", **VIEW})
    assert answer.values["track"] is None
    assert "error_cells" not in answer.values
    assert "truth" not in answer.arrays


@pytest.mark.parametrize(
    "changes",
    [{}, {"head": 1}, {"token": 1}, {"token": 1, "towards": True}, {"x": 12.0, "y": 10.0, "branch": "uncond"}],
)
def test_the_code_of_a_view_computes_what_is_shown(
    explorer: Explorer, changes: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plotly.graph_objects.Figure.show", lambda figure: None)
    view = {**VIEW, **changes}
    found: dict = {}
    exec(explorer.answer({"kind": "code", **view}).values["code"], found)
    answer = explorer.answer({"kind": "to_text" if "towards" in changes else "attention", **view})
    head = changes.get("head")
    shown = decoded(answer, "mean")[0] if head is None else decoded(answer, "heads")[head]
    np.testing.assert_allclose(found["attention"].values[0], shown, atol=float(shown.max()) / 30000)
    if "token" not in changes:
        text = decoded(answer, "text")
        np.testing.assert_allclose(found["text"].values[0], text.mean(0) if head is None else text[head], rtol=1e-4)
        path = explorer.answer({"kind": "path", **view}).arrays
        wanted = path["mean"][np.floor(LAYOUT.frame_centres).astype(int)] if head is None else path["heads"][head]
        if head is not None:
            np.testing.assert_allclose(found["path"][:, 0], wanted, atol=1e-3)


def test_the_overview_is_json_and_says_what_was_recorded(explorer: Explorer) -> None:
    told = json.loads(json.dumps(explorer.overview().head(), allow_nan=False))
    (recording,) = told["recordings"]
    assert (recording["steps"], recording["layers"], recording["heads"]) == ([3, 9], [1, 2, 4], [0, 1, 2])
    assert recording["token_names"] == {"cond": ["a", "red", "disc", "moves", "<pad>", "<pad>"], "uncond": None}
    assert (recording["truth"], recording["has_images"], recording["state"]) == ("the truth", True, "complete")
    assert recording["spans"] == [[0, 1], [1, 5], [5, 9], [9, 13]]
    assert told["start"] == {"step": 9, "layer": 2, "branch": "cond", "image": 0, "x": 4.0, "y": 12.0}
    assert "error" not in explorer.answer({"kind": "attention", **told["start"]}).values


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer": 3}, "layer 3 was not recorded. Recorded layers: 1, 2, 4"),
        ({"step": 0}, "step 0 was not recorded. Recorded steps: 3, 9"),
        ({"layer": 77}, "layer 77"),
        ({"x": 900.0}, "outside the image"),
        ({"image": 99}, "image 99 is covered by no recorded frame"),
        ({"token": 6}, "text token 6 does not exist: there are 6"),
        ({"recording": 1}, "recording 1 does not exist: there are 1"),
        ({"step": "x"}, "step"),
        ({"x": float("nan")}, "x"),
        ({"kind": "poem"}, "unknown request 'poem'"),
    ],
)
def test_what_cannot_be_shown_is_said(explorer: Explorer, changes: dict, words: str) -> None:
    assert words in message(explorer.answer({"kind": "attention", **VIEW, **changes}))


def test_a_damaged_record_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.zarr")
    (path / "key" / "c.1.0.2.0.0.0.0.0").write_bytes(b"short")
    explorer = explorer_of(path)
    for kind in ("attention", "path"):
        assert "step 9, layer 4, branch 'cond'" in message(explorer.answer({"kind": kind, **VIEW}))
        assert "error" not in explorer.answer({"kind": kind, **VIEW, "layer": 2}).values


def test_a_recording_that_is_being_written_shows_its_new_records(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from store import RecordingWriter, Selection

    layers = [SimpleNamespace(index=i, name=f"blocks.{i}", heads=3, channels=8) for i in range(6)]
    plan = Selection([3, 9], [4]).plan(
        SimpleNamespace(name="tiny", layers=layers), TokenLayout(4, 5, 7, 40, 56, 13), 10
    )
    values = np.random.default_rng(0).standard_normal((3, 4, 5, 7, 8))
    with RecordingWriter(tmp_path / "run.zarr", plan, sync=False) as writer:
        early = OpenedRecording(open_recording(tmp_path / "run.zarr"))
        explorer = Explorer([early])
        assert "has no finished record yet" in message(explorer.answer({"kind": "overview"}))
        writer.write(step=3, layer=4, query=values, key=values)
    told = explorer.answer({"kind": "overview"}).values
    assert (told["recordings"][0]["state"], told["recordings"][0]["done"]) == ("open", 1)
    assert told["start"]["step"] == 3
    assert "is not written yet" in message(explorer.answer({"kind": "attention", **VIEW}))
    assert "error" not in explorer.answer({"kind": "attention", **VIEW, "step": 3}).values


def test_two_recordings_of_other_layouts_are_shown_without_a_difference(path: Path, tmp_path: Path) -> None:
    same, other = write_recording(tmp_path / "same.zarr", seed=1), TokenLayout(4, 10, 14, 40, 56, 13)
    assert explorer_of(path, same).overview().values["difference"] is None
    told = explorer_of(path, write_recording(tmp_path / "other.zarr", layout=other)).overview().values
    assert told["difference"] == (
        "the layouts differ: 4 frames of 5 x 7 cells and 4 frames of 10 x 14 cells. Each is shown by itself"
    )
    with pytest.raises(InvalidInputError, match="one recording or two side by side; got 3"):
        explorer_of(path, path, path)


def test_a_clip_that_was_not_recorded_is_refused(path: Path) -> None:
    run = open_recording(path)
    with pytest.raises(ClipError, match="the clip has 5 images; the recording shows 13"):
        OpenedRecording(run, Clip(np.zeros((5, 40, 56, 3), np.uint8), 8))
    run.provenance.extra["clip_hash"] = "0" * 12
    try:
        assert OpenedRecording(run, moving_clip()).doubt is None  # as a lossy video of it reads
        other = replace(moving_clip(), prompt="a blue star moves")
        assert "“a blue star moves”, that of the recording “a red disc moves”" in OpenedRecording(run, other).doubt
    finally:
        del run.provenance.extra["clip_hash"]
    larger = Clip(np.repeat(np.repeat(moving_clip().images, 2, 1), 2, 2), 8)
    assert OpenedRecording(run, larger).clip.images.shape == (13, 40, 56, 3)


def test_the_sweep_tells_where_to_start_and_what_is_in_its_map(path: Path) -> None:
    accuracy = xr.DataArray(
        np.array([[[10.0, 20.0, np.nan], [30.0, 70.0, 5.0]]]),
        {"clip": ["a"], "source": ("clip", ["a"]), "step": list(STEPS), "layer": [1, 2, 4]},
        ("clip", "step", "layer"),
        attrs={"units": "%"},
    )
    sweep = xr.Dataset({"accuracy": accuracy, "moving_accuracy": accuracy / 2})
    told = Explorer([OpenedRecording(open_recording(path), moving_clip())], sweep=sweep).overview().values
    assert (told["start"]["step"], told["start"]["layer"]) == (9, 2)
    assert [measure["name"] for measure in told["map"]["measures"]] == ["moving_accuracy", "accuracy"]
    assert told["map"]["measures"][1]["values"] == [[10.0, 30.0], [20.0, 70.0], [None, 5.0]]
    with pytest.raises(InvalidInputError, match="needs the dims step and layer"):
        Explorer([OpenedRecording(open_recording(path))], sweep=xr.Dataset())


def test_what_is_kept_between_clicks_is_bounded_and_the_newest_request_wins() -> None:
    def compute(stopped: Callable[[], bool]) -> np.ndarray | None:
        return None if stopped() else np.zeros((2, 3, 35), np.float32)

    kept = Normalisers(kept_bytes=2000)  # one is 840 bytes
    for frame in range(3):
        assert kept.of((0, 9, 4, "cond", frame), compute) is not None
    assert list(kept._kept) == [(0, 9, 4, "cond", 1), (0, 9, 4, "cond", 2)]

    def late(stopped: Callable[[], bool]) -> np.ndarray | None:
        kept._wanted = (9, 4, "cond", 1)  # another request comes in between
        return compute(stopped)

    assert kept.of((0, 9, 4, "cond", 0), late) is None


def test_answers_are_bytes_that_say_where_their_arrays_are() -> None:
    levels, largest = as_levels(np.array([[0.0, 0.04, 0.16]]), "u2")
    packed = Answer({"a": 1}, {"levels": levels, "plain": np.arange(3, dtype="<f4")}, {"levels": largest}).to_bytes()
    length = int.from_bytes(packed[:4], "little")
    assert (4 + length) % 8 == 0
    head = json.loads(packed[4 : 4 + length])
    assert [(told["name"], told["kind"], told["shape"]) for told in head["arrays"]] == [
        ("levels", "u2", [1, 3]),
        ("plain", "f4", [3]),
    ]
    np.testing.assert_array_equal(np.frombuffer(packed, "<u2", 3, 4 + length), levels[0])
    np.testing.assert_array_equal(np.frombuffer(packed, "<f4", 3, 4 + length + 8), [0, 1, 2])
    assert levels.tolist() == [[0, 32768, 65535]]


def test_a_view_is_checked() -> None:
    with pytest.raises(InvalidInputError, match="a view needs a step and a layer"):
        View.of({"step": 3})
    with pytest.raises(InvalidInputError, match="branch"):
        View(step=3, layer=1, branch="both")


def test_values_are_shown_as_colours_of_the_head_that_carries_them(explorer: Explorer, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.zarr", values=True)
    value = open_recording(path).read_values(step=9, layer=4, heads=[1]).astype(np.float32)
    answer = explorer_of(path).answer({"kind": "values", **VIEW, "head": 1})
    components = dp.principal_components(value)
    np.testing.assert_allclose(answer.values["explained"], components["explained"].values, rtol=1e-5)
    colours = answer.arrays["colours"]
    assert (colours.shape, colours.min(), colours.max()) == ((4, 5, 7, 3), 0, 1)
    red = np.corrcoef(colours[..., 0].ravel(), components.values[..., 0].ravel())[0, 1]
    assert red > 0.98
    assert "values were not recorded" in message(explorer.answer({"kind": "values", **VIEW}))
    assert "head 7" in message(explorer_of(path).answer({"kind": "values", **VIEW, "head": 7}))
