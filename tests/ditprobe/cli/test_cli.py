"""The command line as its users call it: what it prints, what it leaves, and how it rejects."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import Result

from analyses.layers.sweep_files import load_sweep
from analyses.selection.files import load_selection
from store import Clip, make_scene, open_recording, read_clip, write_clip

DATA = Path(os.environ.get("DITPROBE_DATA", Path(__file__).parents[4] / "shared" / "data"))
Run = Callable[..., Result]


@pytest.fixture
def data() -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no real clips at {DATA}; set DITPROBE_DATA")
    return DATA


SHORT = ("--steps", 4, "--at", "0,-1")


@pytest.mark.parametrize(
    "verb",
    ["amf", "eval-tapvid", "generate", "guide", "info", "record", "report", "select", "sweep", "track", "transfer"],
)
def test_every_verb_has_help_with_an_example(run: Run, verb: str) -> None:
    text = run(verb, "--help").output
    assert "Examples:" in text
    assert f"  ditprobe {verb} " in text


def test_no_verb_shows_the_verbs(run: Run) -> None:
    assert "sweep" in run("--help").output


def test_record_a_scene_then_ask_what_is_in_it(run: Run) -> None:
    kept = ("--stored-dtype", "bfloat16")
    printed = run("record", "--scene", 3, "--layers", "1,4", *SHORT, *kept, "--out", "run.zarr").output
    assert printed.startswith("Plan for mini: 4 records, ")
    assert "written to run.zarr" in printed
    assert open_recording("run.zarr").layers == (1, 4)
    assert "bfloat16  " in run("info", "run.zarr").output
    assert "every record marked done is intact" in run("info", "run.zarr", "--verify").output
    with xr.open_zarr("run.zarr", chunks=None) as opened:
        assert opened["query"].sizes["layer"] == 2


def test_record_a_prompt_keeps_the_generated_clip(run: Run) -> None:
    prompt = "a red disc moves left over blue stripes"
    run("record", "--prompt", prompt, "--layers", 0, *SHORT, "--save-clip", "made.mp4")
    assert len(read_clip("made.mp4")) == 6
    assert open_recording("recording.zarr").provenance.prompt == prompt


def test_a_dry_run_says_how_long_and_how_much_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    printed = run("record", "--scene", 3, *SHORT, "--dry-run").output
    assert "time      about" in printed
    assert "2 forward passes at 40 x 40 px and 6 images (height x width)" in printed
    printed = run("sweep", "--scenes", "0:3", *SHORT, "--dry-run").output
    assert "for 6 calls of the model" in printed
    assert not list(tmp_path.iterdir())


def test_sweep_select_and_report(run: Run) -> None:
    printed = run("sweep", "--scenes", "0:3", *SHORT, "--threshold-cells", 1, "--report", "swept.html").output
    assert "nothing moves:" in printed
    assert "accuracy within 1 cell, %" in printed
    assert "accuracy on moving points (" in printed
    assert "LayerSelection: " in printed
    found = load_sweep("sweep.nc")
    assert found["accuracy"].shape == (3, 2, 6)
    page = Path("swept.html").read_text()
    assert "scene 0" in page
    rows = json.loads(run("select", "sweep.nc", "--count", 2, "--json").output)
    assert len(rows["layers"]) == 2
    assert len(rows["table"]) == 6
    assert rows["verdict"].startswith(("Layer", "No layer"))
    assert "top 2" in run("select", "sweep.nc", "--count", 2, "--out", "layers.json").output
    assert list(load_selection("layers.json")) == rows["layers"]
    printed = run("select", "sweep.nc", "--accuracy", "moving", "--rank-by", "accuracy", "--stability").output
    assert "carrier, % of the settings" in printed
    assert (
        "again.html: 3 clips, 2 steps, 6 layers" in run("report", "sweep.nc", "--out", "again.html", "--dry-run").output
    )
    assert not Path("again.html").exists()
    run("report", "sweep.nc", "--scenes", "0", "--out", "again.html")
    assert "accuracy" in run("info", "sweep.nc").output


def test_a_sweep_of_several_thresholds_and_draws_shows_how_stable_a_choice_is(run: Run) -> None:
    run("sweep", "--scenes", "0:2", *SHORT, "--threshold-cells", "1,0.5", "--draws", 2, "--no-features")
    found = load_sweep("sweep.nc")
    assert found.sizes["clip"] == 4
    assert found["threshold"].values.tolist() == [1.0, 0.5]
    printed = run("select", "sweep.nc", "--stability").output
    assert "1 sweep, 2 thresholds" in printed
    assert "No layer is shown to beat 'nothing moves' on these 2 clips" in printed
    assert "2 clips, 2 noise draws" in printed
    rejected = run("sweep", "--scenes", "0", "--threshold-cells", "one", "--out", "b.nc", code=2).output
    assert "--threshold-cells 'one' is not a number of cells. Write for example 1, or '1,0.5,2'." in rejected


def test_a_sweep_of_recordings_gives_the_numbers_of_the_live_one(run: Run) -> None:
    for seed in (0, 1):
        run("record", "--scene", seed, *SHORT, "--noise", "forward", "--features", "--out", f"scene{seed}.zarr")
    run("sweep", "--recording", "scene0.zarr", "--recording", "scene1.zarr", "--scenes", "0,1", "--out", "stored.nc")
    run("sweep", "--scenes", "0,1", *SHORT, "--out", "live.nc")
    stored, live = load_sweep("stored.nc"), load_sweep("live.nc")
    # the store rounds the model's float32 to float16, which can move a match between two near-equal cells
    np.testing.assert_allclose(stored["accuracy"].values, live["accuracy"].values, atol=3)
    np.testing.assert_allclose(stored["confidence"].values, live["confidence"].values, rtol=0.02)


def test_ctrl_c_keeps_finished_clips_and_resume_completes_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import analyses.layers.sweep_run as sweep_module

    real, calls = sweep_module.show_clip, []

    def interrupted(*args: object, **kwargs: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    monkeypatch.setattr(sweep_module, "show_clip", interrupted)
    result = run("sweep", "--scenes", "0:4", *SHORT, code=130)
    assert "Finished work is kept" in result.output
    assert load_sweep("sweep.nc")["clip"].values.tolist() == ["scene 0", "scene 1"]
    run("sweep", "--scenes", "0:4", *SHORT, "--resume")
    assert len(calls) == 3 + 2, "finished clips are not run again"
    monkeypatch.undo()


def test_clips_without_tracks_get_everything_but_accuracy(run: Run) -> None:
    scene = make_scene(4, images=13, height=48, width=56)
    write_clip("plain.mp4", Clip(scene.images, fps=8))
    printed = run("sweep", "--clips", "plain.mp4", *SHORT, "--report", "plain.html").output
    assert "No clip has true tracks: no accuracy, no selection." in printed
    found = load_sweep("sweep.nc")
    assert found.sizes["clip"] == 2
    assert np.isnan(found["accuracy"]).all()
    assert np.isfinite(found["confidence"].sel(target="cross")).all()
    assert "resized from 48 x 56" in Path("plain.html").read_text()


@pytest.mark.filterwarnings("default::store.scenes.prompt.PromptWarning")
def test_real_clips_are_resized_cut_and_reported(run: Run, data: Path) -> None:
    result = run(
        "sweep", "--clips", data / "det", "--stride", 10, *SHORT, "--threshold-cells", 1, "--report", "det.html"
    )
    printed, warned = result.output, [line for line in result.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 2, "a line for each clip, whose words mini does not know"
    assert all("the clip is shown to mini without its prompt " in line for line in warned)
    found = load_sweep("sweep.nc")
    assert set(found["source"].values) == {"dance-twirl", "dog-agility"}
    assert np.isfinite(found["accuracy"]).all()
    assert "nothing moves:" in printed
    assert "resized from 480 x 720" in Path("det.html").read_text()


@pytest.mark.filterwarnings("ignore::store.scenes.prompt.PromptWarning")
def test_a_generated_clip_of_the_published_set_is_read(run: Run, data: Path) -> None:
    folder = data / "difftrack" / "cogvideox_t2v_2b" / "fg"
    run("sweep", "--clips", folder, "--stride", 12, *SHORT, "--no-features")
    assert np.isfinite(load_sweep("sweep.nc")["accuracy"]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("record",), "error: nothing to record. Give --prompt, --clips or --scenes."),
        (("record", "--scene", 1, "--layers", 9), "error: layer 9 does not exist. The backbone has layers 0 to 5."),
        (("record", "--scene", 1, "--heads", 4), "error: head 4 does not exist. The backbone has heads 0 to 3."),
        (("record", "--scene", 1, "--at", 50), "error: step 50 does not exist. The run has steps 0 to 49."),
        (
            ("record", "--scene", 1, "--layers", "x"),
            "error: --layers 'x': 'x' is neither a number nor a range. Write for example 'all', '0,3,-1' or '0:50:5'.",
        ),
        (("record", "--scene", 1, "--size", "9"), "error: --size '9' is not HEIGHTxWIDTH. Write for example 480x720."),
        (
            ("record", "--scene", 1, "--limit", "lots"),
            "error: --limit 'lots' is not a size. Write for example 500MB or 20GB.",
        ),
        (("sweep",), "error: nothing to sweep. Give --clips, --scenes, --prompt or --recording."),
        (("select", "absent.nc"), "error: absent.nc holds no sweep: it does not exist."),
        (("record", "--clip", "absent.mp4"), "error: "),
        (
            ("info", "./absent"),
            "error: absent does not exist. Pass the folder that a pipeline's save_pretrained wrote.",
        ),
    ],
)
def test_bad_input_is_told_in_a_line_and_leaves_nothing(
    run: Run, tmp_path: Path, words: tuple[object, ...], message: str
) -> None:
    printed = run(*words, code=2).output
    assert message in printed
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


def test_a_plan_over_the_limit_is_refused(run: Run, tmp_path: Path) -> None:
    printed = run("record", "--scene", 1, "--limit", "10kB", code=2).output
    assert "10.0 kB" in printed
    assert not list(tmp_path.iterdir())


def test_a_taken_path_is_not_overwritten(run: Run) -> None:
    Path("sweep.nc").write_text("precious")
    printed = run("sweep", "--scenes", 0, *SHORT, code=2).output
    assert printed == (
        "error: sweep.nc exists already. Choose another path for the sweep, or pass --overwrite to replace it or "
        "--resume "
        "to complete it.\n"
    )
    assert Path("sweep.nc").read_text() == "precious"


def test_a_truncated_video_is_refused(run: Run) -> None:
    write_clip("whole.mp4", make_scene(0, images=30, height=64, width=64))
    whole = Path("whole.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) // 2])
    assert "cut.mp4" in run("record", "--clip", "cut.mp4", code=2).output


def test_a_folder_that_is_no_pipeline_is_refused(run: Run) -> None:
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("nothing")
    printed = run("info", "folder", code=2).output
    assert printed == (
        "error: folder is not a pipeline: it has no model_index.json. It holds: notes.txt. Pass the folder that a "
        "pipeline's save_pretrained wrote, with model_index.json and a folder for each component.\n"
    )


@pytest.fixture
def swept(run: Run) -> Path:
    run("sweep", "--scenes", "0", *SHORT, "--out", "swept.nc")
    return Path("swept.nc")


def test_overwriting_loses_nothing_to_a_bad_request(run: Run, swept: Path) -> None:
    before = swept.read_bytes()
    printed = run("sweep", "--scenes", 1, *SHORT, "--out", swept, "--overwrite", "--threshold-cells", 0, code=2).output
    assert printed.strip() == "error: threshold_cells must be above 0; got 0."
    printed = run("sweep", "--scenes", 1, *SHORT, "--out", swept, "--overwrite", "--resume", code=2).output
    assert printed == (
        "error: --resume and --overwrite are mutually exclusive: the first completes what is there, the second "
        "replaces "
        "it. Pass one.\n"
    )
    assert swept.read_bytes() == before
    run("sweep", "--scenes", 1, *SHORT, "--out", swept, "--overwrite")
    assert load_sweep(swept)["clip"].values.tolist() == ["scene 1"]


def test_paths_that_cannot_be_written_are_refused_before_anything_runs(run: Run, swept: Path, tmp_path: Path) -> None:
    Path("folder").mkdir()
    for words, message in [
        (
            ("sweep", "--scenes", 1, "--out", "folder", "--overwrite"),
            "folder is a folder. Name a file, for example folder/sweep.nc.",
        ),
        (
            ("sweep", "--scenes", 1, "--report", "folder", "--overwrite"),
            "folder is a folder. Name a file, for example folder/report.html.",
        ),
        (
            ("sweep", "--scenes", 1, "--report", "swept.nc/r.html"),
            f"swept.nc/r.html cannot be written: {tmp_path / 'swept.nc'} is a file, not a folder. Choose another path.",
        ),
        (
            ("sweep", "--scenes", 1, "--report", "sweep.nc"),
            "--report and --out are both sweep.nc. Give them different paths.",
        ),
        (
            ("report", "swept.nc", "-o", "folder", "--overwrite"),
            "folder is a folder. Name a file, for example folder/report.html.",
        ),
        (
            ("report", "swept.nc", "-o", "swept.nc/r.html"),
            f"swept.nc/r.html cannot be written: {tmp_path / 'swept.nc'} is a file, not a folder. Choose another path.",
        ),
        (
            ("report", "swept.nc", "-o", "swept.nc", "--overwrite"),
            "swept.nc is the sweep itself. Choose another --out.",
        ),
    ]:
        assert run(*words, code=2).output == f"error: {message}\n"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["folder", "swept.nc"]


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder that takes no files")
def test_a_report_where_no_file_can_be_made_is_refused(run: Run, swept: Path) -> None:
    for words in (("report", swept, "-o", "/proc/r.html"), ("sweep", "--scenes", 1, "--report", "/proc/r.html")):
        printed = run(*words, code=1).output
        assert printed.startswith("error: /proc/r.html cannot be written: ")
        assert printed.endswith(" in /proc. Choose another path.\n")
        assert printed.count("\n") == 1


def test_recordings_of_equal_names_are_kept_apart(run: Run) -> None:
    for seed, folder in enumerate("ab"):
        run("record", "--scene", seed, *SHORT, "--layers", 1, "--noise", "forward", "--out", f"{folder}/run.zarr")
    both = ("--recording", "a/run.zarr", "--recording", "b/run.zarr")
    run("sweep", *both, "--scenes", "0,1", "--out", "both.nc")
    assert load_sweep("both.nc")["clip"].values.tolist() == ["a/run.zarr", "b/run.zarr"]
    printed = run("sweep", *both, "--scenes", "1,0", code=2).output
    assert printed.strip().startswith("error: recording 'a/run.zarr' is of another clip: ")
    printed = run("sweep", "--recording", "a/run.zarr", "--recording", "a/run.zarr", code=2).output
    assert printed == "error: --recording a/run.zarr is given twice.\n"
    printed = run("sweep", *both, "--count", 2, code=2).output
    assert printed == "error: count must lie between 1 and the 1 layers of the sweep; got 2.\n"


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("--layers", "all"), "--layers"),
        (("--at", "-1"), "--at"),
        (("--no-features",), "--no-features"),
        (("-b", "mini"), "--backbone"),
        (("--resume",), "--resume"),
        (("--seed", 0), "--seed"),
        (("--prompt", "a dog"), "--prompt"),
    ],
)
def test_options_without_effect_on_recordings_are_refused(run: Run, words: tuple[object, ...], flag: str) -> None:
    printed = run("sweep", "--recording", "any.zarr", *words, code=2).output
    assert printed == f"error: {flag} does not apply to recordings, which are finished runs. Leave it out.\n"


def test_equal_names_and_idle_options_of_a_sweep_are_refused(run: Run) -> None:
    Path("clips").mkdir()
    write_clip("clips/scene 0.mp4", make_scene(1))
    for words, message in [
        (
            ("--clips", "clips", "--scenes", 0),
            "'scene 0' names two of what was given by --clips, --scenes and --prompt. Rename one, or leave it out.",
        ),
        (
            ("--prompt", "scene 0", "--scenes", 0),
            "'scene 0' names two of what was given by --clips, --scenes and --prompt. Rename one, or leave it out.",
        ),
        (("--prompt", "a", "--prompt", "a"), "--prompt 'a' is given twice."),
        (("--scenes", "0,1,0"), "--scenes '0,1,0' names 0 twice."),
        (("--prompt", "a", "--noise", "clean"), "--noise does not apply to prompts, only to clips. Leave it out."),
        (("--prompt", "a", "--stride", 2), "--stride does not apply to prompts, only to clips. Leave it out."),
        (
            ("--scenes", 0, "--layers", "1,2", "--count", 3),
            "count must lie between 1 and the 2 layers of the sweep; got 3.",
        ),
    ]:
        assert run("sweep", *words, code=2).output == f"error: {message}\n"
    assert not Path("sweep.nc").exists()


def test_one_image_is_no_clip_without_tracks(run: Run) -> None:
    Path("clips").mkdir()
    write_clip("clips/photo.mp4", make_scene(1).window(0, 1))
    printed = run("sweep", "--clips", "clips", *SHORT, code=2).output
    assert "photo window 0: it has one image, so there is nothing to follow" in printed
    printed = run("sweep", "--clips", "clips", "--scenes", 0, *SHORT, "--report", "swept.html").output
    assert "No clip has true tracks" not in printed
    assert "photo, window 0 at image 0: it has one image" in Path("swept.html").read_text()


def test_one_clip_has_no_interval(run: Run, swept: Path) -> None:
    printed = run("select", swept).output
    assert "One clip alone gives no intervals." in printed
    assert "nan" not in printed
    (row, *_) = json.loads(run("select", swept, "--json").output, parse_constant=pytest.fail)["table"]
    assert row["low"] is None


def test_report_selects_as_select_does(run: Run) -> None:
    run("sweep", "--scenes", "0,1", *SHORT, "--layers", "1,2", "--by", "mean")
    assert "Averaged over the steps, within 0.5 cells" in run("report", "sweep.nc", "--by", "mean", "--dry-run").output
    assert "No layer is shown to beat 'nothing moves' on these 2 clips" in run("select", "sweep.nc").output
    for verb in ("select", "report"):
        printed = run(verb, "sweep.nc", "--count", 3, code=2).output
        assert printed == "error: count must lie between 1 and the 2 layers of the sweep; got 3.\n"
