"""A folder, or a file of another kind, where a verb wants a file: a typed error in one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from explored import write_recording
from report_helpers import sweep
from typer.testing import Result

from analyses.layers.sweep_files import save_sweep
from store import make_scene, write_clip

Run = Callable[..., Result]
PROMPT = "a red disc moves left over blue stripes"
GIVEN = {  # verb and option: the words, and which of the kinds below they take
    "select": (("select", "{}"), {"sweep.nc"}),
    "info": (("info", "{}"), {"sweep.nc", "run.zarr", "scene.mp4"}),
    "report": (("report", "{}", "--dry-run"), {"sweep.nc"}),
    "report --tracking": (("report", "sweep.nc", "--tracking", "{}", "--dry-run"), set()),
    "report --heads": (("report", "sweep.nc", "--heads", "{}", "--dry-run"), set()),
    "report --transfer": (("report", "sweep.nc", "--transfer", "{}", "scene.mp4", "--dry-run"), {"scene.mp4"}),
    "explore": (("explore", "{}", "--html", "view.html", "--overwrite"), {"run.zarr"}),
    "explore --sweep": (("explore", "run.zarr", "--sweep", "{}", "--html", "view.html", "--overwrite"), {"sweep.nc"}),
    "explore --clips": (("explore", "run.zarr", "--clips", "{}", "--html", "view.html"), {"scene.mp4"}),
    "explore --beside": (("explore", "run.zarr", "--beside", "{}", "--html", "view.html", "--overwrite"), {"run.zarr"}),
    "sweep --recording": (("sweep", "--recording", "{}", "--out", "new.nc"), {"run.zarr"}),
    "sweep --clips": (("sweep", "--clips", "{}", "--dry-run", "--no-estimate"), {"scene.mp4"}),
    "record --clips": (("record", "--clips", "{}", "--dry-run", "--no-estimate"), {"scene.mp4"}),
    "track": (("track", "{}", "--grid", 2, "--dry-run", "--no-estimate"), {"scene.mp4"}),
    "track --points": (("track", "scene.mp4", "--points", "{}", "--dry-run", "--no-estimate"), set()),
    "track --layer": (("track", "scene.mp4", "--grid", 2, "--layer", "{}", "--dry-run", "--no-estimate"), set()),
    "amf": (("amf", "{}", "--layer", 1, "--dry-run"), {"scene.mp4"}),
    "transfer": (("transfer", "{}", PROMPT, "--dry-run", "--no-estimate"), {"scene.mp4"}),
    "transfer --embedding": (("transfer", PROMPT, "--embedding", "{}", "--dry-run", "--no-estimate"), set()),
    "transfer --adapter": (("transfer", PROMPT, "--adapter", "{}", "--dry-run", "--no-estimate"), set()),
    "guide --layers": (("guide", PROMPT, "--layers", "{}", "--dry-run", "--no-estimate"), set()),
    "eval-tapvid --data": (("eval-tapvid", "--data", "{}", "--tracker", "flow", "--dry-run"), {"scene.mp4"}),
    "adapt": (("adapt", "{}", "--dry-run"), {"scene.mp4"}),
    "bench": (("bench", "motionbench", "{}", "--dry-run"), set()),
    "reproduce --data": (("reproduce", "difftrack-davis", "--data", "{}", "--dry-run"), set()),
    "generate --backbone": (("generate", PROMPT, "--backbone", "./{}", "--dry-run", "--no-estimate"), set()),
}
KINDS = ("folder", "notes.txt", "scene.mp4", "run.zarr", "sweep.nc")


@pytest.mark.parametrize("given", GIVEN)
def test_what_is_of_another_kind_is_refused_by_name(run: Run, given: str) -> None:
    words, fitting = GIVEN[given]
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("nothing")
    Path("notes.txt").write_text("nothing")
    write_clip("scene.mp4", make_scene(3))
    write_recording(Path("run.zarr"))
    save_sweep(sweep(), "sweep.nc")
    for kind in KINDS:
        if kind in fitting:
            continue
        printed = run(*(str(word).format(kind) for word in words), code=2).stderr
        assert printed.startswith("error: "), printed
        assert kind in printed
        assert "Errno" not in printed
        assert printed.count("\n") == 1, printed
