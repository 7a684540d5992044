"""Trackers evaluated clip by clip, against loops over points and images; and what a killed run keeps."""

import json
import math
import re
import weakref

import numpy as np
import pytest
import xarray as xr

from analyses.evaluation.checkpoint import described
from analyses.evaluation.files import load_evaluation, save_evaluation
from analyses.evaluation.tapvid import evaluate_tapvid, tapvid_means
from analyses.metrics.tapvid import mean_tapvid_metrics
from analyses.trackers.cotracker import CoTracker
from analyses.trackers.patches import PatchTracker
from analyses.trackers.static import StaticTracker
from ditprobe.cli.text.tapvid import clip_table, mean_table
from store import Clip
from store.errors import ClipError, InvalidInputError, OutputExistsError, RecordingError
from store.tracks.point_tracks import PointTracks

IMAGES, HEIGHT, WIDTH, POINTS = 11, 24, 40, 6
THRESHOLDS = (1, 2, 4, 8, 16)


def made(seed, images=IMAGES):
    """A clip whose points lie anywhere in it, a third of them hidden."""
    draw = np.random.default_rng(seed)
    tracks = draw.random((images, POINTS, 2)) * [WIDTH, HEIGHT]
    return Clip(
        draw.integers(0, 255, (images, HEIGHT, WIDTH, 3), np.uint8),
        fps=25,
        tracks=tracks,
        visibility=draw.random((images, POINTS)) < 0.66,
    )


CLIPS = {"goat": made(1), "swan": made(2, images=7), "dog": made(3)}


class Near:
    """Knows the truth and misses it by up to a few pixels; counts what it is asked."""

    def __init__(self, clips=CLIPS, miss=0.8, wrong=0.2):
        self.clips, self.miss, self.wrong, self.asked = clips, miss, wrong, []

    def __call__(self, images, queries):
        name = next(name for name, clip in self.clips.items() if np.array_equal(clip.images, images))
        self.asked.append(name)
        clip, draw = self.clips[name], np.random.default_rng(len(queries))
        owner = [
            int(np.abs(np.clip(clip.tracks[int(t)], 0, [clip.width, clip.height]) - [x, y]).sum(-1).argmin())
            for t, x, y in queries
        ]
        tracks = clip.tracks[:, owner] + draw.uniform(-self.miss, self.miss, (len(clip), len(owner), 2))
        visible = clip.visibility[:, owner] ^ (draw.random((len(clip), len(owner))) < self.wrong)
        return PointTracks(queries, tracks, visible, visible.astype(float))


def asked_of(clip, mode, first_image_only=False):
    """(image, track) of every query, one after the other."""
    if mode == "strided":
        images = range(0, len(clip), 5)
        return [(t, n) for t in images for n in range(POINTS) if clip.visibility[t, n]]
    seen = [(next((t for t in range(len(clip)) if clip.visibility[t, n]), None), n) for n in range(POINTS)]
    return [(t, n) for t, n in seen if t is not None and not (first_image_only and t)]


def brute_force(clip, mode, tracker, first_image_only=False):
    """Position accuracy, Jaccard and occlusion accuracy by their definitions, pair by pair."""
    pairs = asked_of(clip, mode, first_image_only)
    queries = np.array([[t, *np.clip(clip.tracks[t, n], 0, [WIDTH, HEIGHT])] for t, n in pairs])
    found = tracker(clip.images, queries)
    right = counted = seen = 0
    near, hits, false = np.zeros(5), np.zeros(5), np.zeros(5)
    for query, (start, point) in enumerate(pairs):
        for image in range(len(clip)):
            if image == start or (mode == "first" and image < start):
                continue
            counted += 1
            truly, said = clip.visibility[image, point], found.visibility[image, query]
            right += truly == said
            seen += truly
            dx, dy = (found.tracks[image, query] - clip.tracks[image, point]) * [256 / WIDTH, 256 / HEIGHT]
            for place, pixels in enumerate(THRESHOLDS):
                close = math.hypot(dx, dy) < pixels
                near[place] += close and truly
                hits[place] += close and truly and said
                false[place] += said and not (close and truly)
    return {
        "average_pts_within_thresh": (near / seen).mean(),
        "average_jaccard": (hits / (seen + false)).mean(),
        "occlusion_accuracy": right / counted,
        "pts_within_4": near[2] / seen,
        "jaccard_16": hits[4] / (seen + false[4]),
    }, len(pairs)


def same(first, second):
    """All but the times."""
    xr.testing.assert_identical(first.drop_vars("seconds"), second.drop_vars("seconds"))


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_metrics_are_those_counted_pair_by_pair(mode):
    found = evaluate_tapvid(CLIPS, {"near": Near(), "still": StaticTracker()}, mode=mode)
    assert found.sizes == {"tracker": 2, "clip": 3}
    assert found["images"].values.tolist() == [11, 7, 11]
    for label, tracker in {"near": Near(), "still": StaticTracker()}.items():
        for name, clip in CLIPS.items():
            metrics, queries = brute_force(clip, mode, tracker)
            one = found.sel(tracker=label, clip=name)
            assert int(one["queries"]) == queries
            for metric, value in metrics.items():
                assert float(one[metric]) == pytest.approx(100 * value, abs=1e-10), (label, name, metric)
    assert 10 < float(found["average_jaccard"].sel(tracker="near").mean()) < 90


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_a_tracker_that_is_right_scores_a_hundred_percent(mode):
    found = evaluate_tapvid(CLIPS, {"right": Near(miss=0, wrong=0)}, mode=mode)
    for name in [name for name in found if found[name].dims == ("tracker", "clip") and name != "seconds"]:
        np.testing.assert_array_equal(found[name], np.full((1, 3), 100.0), name)
        assert found[name].attrs["units"] == "%"


def test_only_points_of_the_first_image():
    late = CLIPS["swan"].visibility.copy()
    late[0] = False
    clips = {"goat": CLIPS["goat"], "late": Clip(made(5, 7).images, 25, CLIPS["swan"].tracks, late)}
    found = evaluate_tapvid(clips, {"near": Near(clips)}, first_image_only=True)
    metrics, queries = brute_force(CLIPS["goat"], "first", Near(), first_image_only=True)
    assert found["clip"].values.tolist() == ["goat"]
    assert json.loads(found.attrs["skipped"]) == ["late"]
    assert found["queries"].item() == queries == CLIPS["goat"].visibility[0].sum()
    assert found["average_jaccard"].item() == pytest.approx(100 * metrics["average_jaccard"])


def test_points_beyond_the_border_are_asked_for_at_the_border():
    tracks = np.array([[[-0.25, 3.0], [40.5, 24.25]]] * 3)
    clip, heard = Clip(made(1, 3).images, 25, tracks), []

    def tracker(images, queries):
        heard.extend(queries.tolist())
        return StaticTracker()(images, queries)

    found = evaluate_tapvid({"edge": clip}, {"still": tracker})
    assert heard == [[0, 0, 3], [0, 40, 24]]
    missed = [math.hypot(0.25 * 256 / 40, 0), math.hypot(0.5 * 256 / 40, 0.25 * 256 / 24)]
    assert missed == pytest.approx([1.6, 4.1655], abs=1e-3)
    assert found["pts_within_2"].item() == 50
    assert found["pts_within_8"].item() == 100


def test_clips_are_read_one_at_a_time():
    given, alive = [], []

    def reading():
        for number in range(4):
            clip = made(number)
            given.append(weakref.ref(clip))
            alive.append(sum(each() is not None for each in given))
            yield f"{number}", clip

    assert evaluate_tapvid(reading(), {"still": StaticTracker()}).sizes["clip"] == 4
    assert alive == [1, 2, 2, 2]  # the clip before is let go once the next is there


def test_means_and_intervals():
    found = evaluate_tapvid(CLIPS, {"near": Near(), "right": Near(miss=0, wrong=0)})
    means = tapvid_means(found)
    for tracker in ("near", "right"):
        rows = [{name: float(found[name].sel(tracker=tracker, clip=clip)) for name in means} for clip in CLIPS]
        for name, value in mean_tapvid_metrics(rows).items():
            mean, low, high = means[name].sel(tracker=tracker).values
            assert mean == pytest.approx(value)
            values = [row[name] for row in rows]
            assert min(values) - 1e-9 <= low <= mean + 1e-9 <= high + 2e-9 <= max(values) + 3e-9
            assert (low < high) == (min(values) < max(values))
    assert means["average_jaccard"].dims == ("tracker", "bound")
    alone = tapvid_means(evaluate_tapvid({"goat": CLIPS["goat"]}, {"near": Near()}))
    assert np.isnan(alone["average_jaccard"].values[0]).tolist() == [False, True, True]


class _Killed(BaseException):
    pass


class _Mortal(Near):
    """The near one, which dies after so many clips."""

    __qualname__ = "Near"

    def __init__(self, life):
        super().__init__()
        self.life = life

    def __call__(self, images, queries):
        if len(self.asked) == self.life:
            raise _Killed
        return super().__call__(images, queries)


def both(first):
    return {"near": first, "still": StaticTracker()}


@pytest.mark.parametrize("life", [0, 1, 2])
def test_a_killed_run_goes_on_where_it_was(tmp_path, life):
    path, whole = tmp_path / "deep" / "clips.jsonl", evaluate_tapvid(CLIPS, both(Near()))
    with pytest.raises(_Killed):
        evaluate_tapvid(CLIPS, both(_Mortal(life)), checkpoint=path)
    assert path.exists() == (life > 0)
    again = Near()
    same(evaluate_tapvid(CLIPS, both(again), checkpoint=path, resume=True), whole)
    assert again.asked == list(CLIPS)[life:]
    idle = Near()
    same(evaluate_tapvid(CLIPS, both(idle), checkpoint=path, resume=True), whole)
    assert idle.asked == []


def test_a_line_cut_anywhere_by_a_kill_is_tracked_again(tmp_path):
    path, whole = tmp_path / "clips.jsonl", evaluate_tapvid(CLIPS, {"near": Near()})
    evaluate_tapvid(CLIPS, {"near": Near()}, checkpoint=path)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == 4
    start = len(content) - len(lines[-1])
    for end in (5, len(lines[0]) - 1, start + 1, start + 40, len(content) - 1):
        path.write_bytes(content[:end])
        again = Near()
        same(evaluate_tapvid(CLIPS, {"near": again}, checkpoint=path, resume=True), whole)
        assert again.asked == (["dog"] if end > start else list(CLIPS))
        kept = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert [each.get("clip") for each in kept] == [None, *CLIPS]


def test_more_and_fewer_clips_go_on_with_the_same_file(tmp_path):
    path, near = tmp_path / "clips.jsonl", Near()
    few = {name: CLIPS[name] for name in ("goat", "dog")}
    evaluate_tapvid(few, {"near": near}, checkpoint=path)
    same(evaluate_tapvid(CLIPS, {"near": near}, checkpoint=path, resume=True), evaluate_tapvid(CLIPS, {"near": Near()}))
    assert near.asked == ["goat", "dog", "swan"]
    same(evaluate_tapvid(few, {"near": near}, checkpoint=path, resume=True), evaluate_tapvid(few, {"near": Near()}))
    assert len(near.asked) == 3


def test_what_is_not_known_is_kept_as_null(tmp_path):
    seen = np.zeros((3, 1), bool)
    seen[1] = True
    clip = Clip(made(1, 3).images, 25, np.full((3, 1, 2), 5.0), seen)
    path = tmp_path / "clips.jsonl"
    found = evaluate_tapvid({"once": clip}, {"still": StaticTracker()}, checkpoint=path)
    assert "NaN" not in path.read_text()
    assert '"pts_within_1": null' in path.read_text()
    assert np.isnan(found["average_pts_within_thresh"].item())
    assert found["occlusion_accuracy"].item() == 0
    same(evaluate_tapvid({"once": clip}, {"still": StaticTracker()}, checkpoint=path, resume=True), found)


def refused(kind, text, *args, **kwargs):
    with pytest.raises(kind) as caught:
        evaluate_tapvid(*args, **kwargs)
    assert str(caught.value) == text


def test_another_run_s_finished_clips_are_refused(tmp_path):
    path, patches = tmp_path / "clips.jsonl", {"patches": PatchTracker(cell=8)}
    evaluate_tapvid(CLIPS, patches, checkpoint=path, data="a.pkl")
    kept = path.read_bytes()
    end = "Resume with the same ones, or name another checkpoint."
    refused(
        InvalidInputError,
        f"{path} holds an evaluation with other settings: trackers.patches.cell was 8, now 4. {end}",
        *(CLIPS, {"patches": PatchTracker(cell=4)}),
        checkpoint=path,
        resume=True,
        data="a.pkl",
    )
    refused(
        InvalidInputError,
        f"{path} holds an evaluation with other settings: data was 'a.pkl', now 'b.pkl'; mode was 'first', now "
        f"'strided'; stride was None, now 5. {end}",
        *(CLIPS, patches),
        checkpoint=path,
        resume=True,
        data="b.pkl",
        mode="strided",
    )
    refused(
        InvalidInputError,
        f"{path} holds clip 'goat', which is now a different clip. Pass the same clips, or name another checkpoint.",
        *({"goat": CLIPS["dog"]}, patches),
        checkpoint=path,
        resume=True,
        data="a.pkl",
    )
    refused(
        OutputExistsError,
        f"{path} exists already. Choose another path for the finished clips, or pass overwrite=True to replace it or "
        "resume=True to complete it.",
        *(CLIPS, patches),
        checkpoint=path,
    )
    assert path.read_bytes() == kept
    evaluate_tapvid(CLIPS, patches, checkpoint=path, data="b.pkl", overwrite=True)
    assert json.loads(path.read_bytes().splitlines()[0])["settings"]["data"] == "b.pkl"


def test_files_that_are_no_checkpoint_are_refused_and_left(tmp_path):
    path, near = tmp_path / "clips.jsonl", {"near": Near()}
    for content in (b"hello", b"hello\nworld\n", b'{"format": "something else"}\n'):
        path.write_bytes(content)
        text = f"{path} is not a checkpoint of an evaluation. Name another file."
        refused(RecordingError, text, CLIPS, near, checkpoint=path, resume=True)
        assert path.read_bytes() == content
    path.write_bytes(b"")
    evaluate_tapvid(CLIPS, near, checkpoint=path, resume=True)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:30] + b"\n", *lines[2:]]))
    text = f"{path}, line 2, is damaged: it is not whole. Delete that line, and its clip is tracked again."
    refused(RecordingError, text, CLIPS, near, checkpoint=path, resume=True)
    assert near["near"].asked == list(CLIPS)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (b'"jaccard_2"', b'"jaacard_2"'),
        (b'"jaccard_2": ', b'"jaccard_2": "x", "jaccard_2": 1e9, "a": '),
        (b'"images": ', b'"images": -'),
        (b'"clip": "goat"', b'"clip": ["goat"]'),
        (b'"metrics": {', b'"metrics": [], "others": {'),
        (b'"seconds": ', b'"seconds": 1e999, "second": '),
    ],
)
@pytest.mark.parametrize("digest", [True, False])
def test_a_line_with_other_names_or_values_is_refused_with_its_number(tmp_path, was, now, digest):
    path, near = tmp_path / "clips.jsonl", {"near": Near()}
    evaluate_tapvid(CLIPS, near, checkpoint=path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert was in lines[1]
    lines[1] = lines[1].replace(was, now)
    content = b"".join(lines)
    path.write_bytes(content if digest else re.sub(rb', "ditprobe_digest": "\w+"', b"", content))
    with pytest.raises(RecordingError, match=r"clips\.jsonl, line 2, is damaged: .*Delete that line"):
        evaluate_tapvid(CLIPS, near, checkpoint=path, resume=True)


def test_bad_input_is_refused_before_anything_is_tracked(tmp_path):
    near = Near()
    need = "trackers must be at least one callable by name, for example {'flow': FlowTracker()}."
    refused(InvalidInputError, need, CLIPS, near)
    refused(InvalidInputError, need, CLIPS, {})
    refused(InvalidInputError, "unknown mode 'last'. Known: 'first', 'strided'.", CLIPS, {"near": near}, mode="last")
    refused(
        InvalidInputError,
        "first_image_only=True asks as mode 'first' does, but mode is 'strided'. Leave one of them out.",
        *(CLIPS, {"near": near}),
        mode="strided",
        first_image_only=True,
    )
    refused(InvalidInputError, "no clips were given. Pass at least one.", {}, {"near": near})
    bare = Clip(CLIPS["goat"].images, fps=25)
    text = "clip 'bare' has no tracks, so nothing can be evaluated on it. Leave it out."
    refused(ClipError, text, {"bare": bare}, {"near": near})
    hidden = Clip(CLIPS["goat"].images, 25, CLIPS["goat"].tracks, np.zeros((IMAGES, POINTS), bool))
    text = (
        "none of the 1 clips has a point that is visible in an image that is asked about, so there is nothing to "
        "evaluate."
    )
    refused(InvalidInputError, text, {"hidden": hidden}, {"near": near})
    text = "resume=True needs a file. Pass checkpoint=, or leave it out."
    refused(InvalidInputError, text, CLIPS, {"near": near}, resume=True)
    text = (
        "resume=True and overwrite=True are mutually exclusive: the first completes what is there, the second "
        "replaces it. "
        "Pass one."
    )
    where = {"checkpoint": tmp_path / "clips.jsonl", "resume": True, "overwrite": True}
    refused(InvalidInputError, text, CLIPS, {"near": near}, **where)
    assert near.asked == []


def test_an_answer_of_another_shape_is_refused():
    short = CLIPS["swan"]
    text = "tracker 'short' must return PointTracks of the shape (7, 6, 2); got (6, 6, 2)."
    refused(
        InvalidInputError,
        text,
        {"swan": short},
        {"short": lambda images, queries: StaticTracker()(images[1:], queries)},
    )


def test_progress_names_what_comes_next():
    seen = []
    evaluate_tapvid(CLIPS, both(Near()), progress=lambda *state: seen.append(state))
    assert seen[:3] == [(0, 6, "goat (near)"), (1, 6, "goat (still)"), (2, 6, "swan (near)")]
    assert seen[-1] == (6, 6, "all clips")
    seen.clear()
    evaluate_tapvid(iter(CLIPS.items()), {"near": Near()}, progress=lambda *state: seen.append(state))
    assert seen[0] == (0, None, "goat (near)")


def test_trackers_are_described_alike_in_every_process():
    assert described(PatchTracker(max_cycle_error=math.inf)) == {
        "kind": "PatchTracker",
        "cell": 16,
        "size": None,
        "max_cycle_error": "inf",
    }
    assert described(CoTracker(lambda video, queries, backward_tracking: None, threshold=0.25)) == {
        "kind": "CoTracker",
        "name": "CoTracker",
        "threshold": "0.25",
    }


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_text_files_leave_out_what_has_further_dims(tmp_path, suffix):
    found = evaluate_tapvid(CLIPS, both(Near()))
    longer = found.assign(error=(("tracker", "clip", "lag"), np.zeros((2, 3, 5))), lag=[1, 2, 3, 4, 5])
    written = [save_evaluation(one, tmp_path / f"{name}.{suffix}") for name, one in (("a", found), ("b", longer))]
    assert written[0].read_text() == written[1].read_text()


def test_an_evaluation_of_fractions_is_read_in_percent(tmp_path):
    found = evaluate_tapvid(CLIPS, both(Near()))
    old = found.copy()
    for name in [name for name in found if found[name].attrs.get("units") == "%"]:
        old[name] = (found[name] / 100).assign_attrs({**found[name].attrs, "units": "1"})
    old.to_netcdf(tmp_path / "old.nc", engine="scipy")
    read = load_evaluation(tmp_path / "old.nc")
    for given in (read, old):
        xr.testing.assert_allclose(tapvid_means(given), tapvid_means(found))
        assert mean_table(given) == mean_table(found)
        assert clip_table(given) == clip_table(found)
    assert read["average_jaccard"].attrs["units"] == "%"


def test_figures_on_disk(tmp_path):
    found = evaluate_tapvid(CLIPS, both(Near()), data="a.pkl")
    xr.testing.assert_identical(
        xr.load_dataset(save_evaluation(found, tmp_path / "deep" / "found.nc"), engine="scipy")["average_jaccard"],
        found["average_jaccard"],
    )
    written = json.loads(save_evaluation(found, tmp_path / "found.json").read_text())
    assert written["settings"]["data"] == "a.pkl"
    assert written["units"] == "%"
    assert len(written["clips"]) == 6
    assert written["clips"][3]["clip"] == "swan"
    assert written["clips"][3]["pts_within_8"] == found["pts_within_8"].sel(clip="swan", tracker="still").item()
    mean = tapvid_means(found)["average_jaccard"].sel(tracker="near")
    assert list(written["means"]["near"]["average_jaccard"].values()) == mean.values.tolist()
    lines = save_evaluation(found, tmp_path / "found.csv").read_text().splitlines()
    assert lines[0].split(",")[:5] == ["clip", "tracker", "images", "queries", "occlusion_accuracy"]
    assert [line.split(",")[:3] for line in lines[1:3]] == [["goat", "near", "11"], ["goat", "still", "11"]]
    with pytest.raises(OutputExistsError, match=r"found\.csv exists already"):
        save_evaluation(found, tmp_path / "found.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "found.csv", "found.json"]
