"""Published experiments on small stand-ins: what they print, what they keep, and when they may be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from ditprobe.reproduce.comparison import Comparison, Row
from ditprobe.reproduce.figures import MOTION_FIDELITY, SELECTED_LAYERS
from ditprobe.reproduce.prompts import read_prompts
from probe.families.published import find_card
from store import make_scene, write_clip
from store.datasets.tapvid_writing import write_tapvid
from store.errors import ClipError

Run = Callable[..., Result]


def difftrack_folder(folder: Path, count: int = 2) -> Path:
    """Prompts and tracks of scenes, in pixels of 720 x 480."""
    (folder / "tracks").mkdir(parents=True)
    scenes = [make_scene(number) for number in range(count)]
    for number, scene in enumerate(scenes):
        assert scene.tracks is not None
        np.save(folder / "tracks" / f"{number:03d}.npy", scene.tracks[None] * (720 / 40, 480 / 40))
    (folder / "prompt.txt").write_text("\n".join(str(scene.prompt) for scene in scenes) + "\n")
    return folder


def test_a_difference_has_an_interval_and_needs_one_protocol(tmp_path: Path) -> None:
    row = Row("CogVideoX-2B", 46.3, 45.9, 41.0, 50.6)
    assert row.difference == pytest.approx((-0.4, -5.3, 4.3))
    same = Comparison("x", "%", (row,), "source", "protocol", ())
    other = Comparison("x", "%", (row,), "source", "protocol", ("10 clips",))
    assert "-0.4 (-5.3 to 4.3)" in same.text()
    assert "-0.4" not in other.text()
    assert other.text().index("PUBLISHED") < other.text().index("46.3")
    other.save(tmp_path / "x.json")
    kept = json.loads((tmp_path / "x.json").read_text())
    assert (kept["comparable"], kept["deviations"]) == (False, ["10 clips"])
    Comparison("x", "%", (Row("y", None, 1.0),), "", "", ()).save(tmp_path / "nan.json")
    assert json.loads((tmp_path / "nan.json").read_text())["rows"][0]["low"] is None
    assert math.isnan(Row("y", None, 1.0).low)


def test_published_figures_are_of_models_with_a_card() -> None:
    for name in (*SELECTED_LAYERS, *MOTION_FIDELITY):
        assert find_card(name) is not None
    for name, layers in SELECTED_LAYERS.items():
        card = find_card(name)
        assert card is not None
        assert card.guided is not None
        assert sorted(layers) == sorted(card.guided.layers)


def test_prompts_and_start_points_are_read_and_others_refused(tmp_path: Path) -> None:
    difftrack_folder(tmp_path / "both" / "fg")
    found = read_prompts(tmp_path / "both")
    assert list(found) == ["fg/000", "fg/001"]
    scene = make_scene(1)
    assert scene.tracks is not None
    assert found["fg/001"].prompt == scene.prompt
    np.testing.assert_allclose(found["fg/001"].points, scene.tracks[0] / 40)
    (tmp_path / "both/fg/prompt.txt").write_text("one\n")
    with pytest.raises(ClipError, match=r"001\.npy has no prompt"):
        read_prompts(tmp_path / "both")


def test_the_analysis_runs_resumes_and_says_what_it_does_otherwise(run: Run, tmp_path: Path) -> None:
    data = difftrack_folder(tmp_path / "fg")
    words = ("reproduce", "difftrack-analysis", "--data", data, "--steps", 2, "--out", "a")
    printed = run(*words).output
    assert "difftrack-analysis: rank of a layer by the harmonic mean at the last step" in printed
    for said in ("2 denoising steps, published 50", "2 prompts, published 100", "tracks by optical flow, published by"):
        assert f"  - {said}" in printed
    assert printed.index("PUBLISHED") < printed.index("THUDM/CogVideoX-2b, layer 17")
    assert {path.name for path in Path("a").iterdir()} == {"comparison.json", "sweep.nc", "tracks"}
    assert "is not empty" in run(*words, code=2).output
    assert run(*words, "--resume").output.split("written")[0] == printed.split("written")[0]


def test_the_tracking_runs_on_other_clips_and_is_not_compared(run: Run) -> None:
    write_tapvid("davis.pkl", {"goat": make_scene(0)})
    printed = run("reproduce", "difftrack-davis", "--data", "davis.pkl", "--steps", 2, "--out", "b").output
    assert "  - the model sees 40 x 40 px, published 480 x 720 px (height x width)" in printed
    assert printed.index("PUBLISHED") < printed.index("46.3")
    assert Path("b/tapvid.nc").is_file()
    dry = run("reproduce", "difftrack-davis", "--data", "davis.pkl", "--dry-run", "--no-estimate").output
    assert "  experiment  1 clip of 6 images, layer 5 at step 49 of 50" in dry
    assert "  capture " in dry


def test_a_plan_of_the_tracking_refuses_what_the_run_would(run: Run) -> None:
    scene = make_scene(0, images=3)
    hidden = replace(scene, visibility=np.zeros_like(scene.visibility))
    write_tapvid("davis.pkl", {"goat": scene, "india": hidden})
    write_tapvid("hidden.pkl", {"india": hidden})
    Path("broken.pkl").write_bytes(Path("davis.pkl").read_bytes()[:1000])
    words = ("reproduce", "difftrack-davis", "--dry-run", "--no-estimate", "--data")
    printed = run(*words, "davis.pkl").output
    assert "  experiment  1 clip of 3 images" in printed
    assert "  left out    india: no point is visible in image 0" in printed
    assert "no clip of hidden.pkl has a point that is visible in image 0" in run(*words, "hidden.pkl", code=2).output
    assert "broken.pkl is damaged" in run(*words, "broken.pkl", code=2).output
    assert "layer 99" in run(*words, "davis.pkl", "--layer", 99, code=2).output
    assert not Path("reproduction").exists()


def test_transfers_are_measured_kept_and_resumed(run: Run) -> None:
    Path("refs").mkdir()
    for number in range(2):
        write_clip(f"refs/s{number}.mp4", make_scene(number))
    words = ("reproduce", "ditflow", "--data", "refs", "--steps", 2, "--method", "none", "--grid", 4, "--out", "c")
    printed = run(*words).output
    assert "backbone alone, caption" in printed
    assert "  - 2 references, published 50" in printed
    assert printed.index("PUBLISHED") < printed.index("THUDM/CogVideoX-5b: ditflow, all") < printed.index("0.785")
    log = Path("c/fidelity.jsonl").read_text()
    assert len(log.splitlines()) == 2
    run(*words, "--resume")
    assert Path("c/fidelity.jsonl").read_text() == log
    Path("bad.csv").write_text("reference,prompt,kind\nnobody,a dog,caption\n")
    assert "line 2 of bad.csv needs a reference of" in run(*words, "--resume", "--prompts", "bad.csv", code=2).output
    assert "--at applies to difftrack-analysis" in run(*words, "--at", "0", code=2).output
