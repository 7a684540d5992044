"""``make demo``: recording, tracking, transfer and report of scenes not seen in training, on the bundled backbone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ditprobe.cli.console import progress, say, verb
from store.errors import OutputExistsError
from store.text import duration

if TYPE_CHECKING:
    from analyses.evaluation.compare import Compared
    from ditprobe.report.transfer import TransferredClip
    from probe.backbones.backbone import Backbone

SCENES = range(24)
TRACKED_SCENES, TRACKED_IMAGES = 8, 12  # as many as intervals need; twice the images that the model takes at once
TRANSFERRED_SCENE = 18  # the first of one object before a camera at rest
TRANSFER_PROMPT, TRANSFER_STEPS = "a pink star over yellow clouds", 25
STEPS = 50
THRESHOLD_CELLS = 1.0
MARKER = ".ditprobe-demo"
SWEEP, SCENE, SAMPLED, CLIP, REPORT = "sweep.nc", "scene.zarr", "sampled.zarr", "sampled.mp4", "report.html"
TRACKING, TRACKED, TRANSFERRED = "tracking.nc", "tracked.mp4", "transferred.mp4"
MADE = (SWEEP, SCENE, SAMPLED, CLIP, f"{CLIP}.npz", TRACKING, TRACKED, TRANSFERRED, f"{TRANSFERRED}.npz", REPORT)


def prepare(folder: Path) -> None:
    """Make the demo's folder, or remove what an earlier demo left there; nothing else is ever removed.

    Raises
    ------
    OutputExistsError
        A file, or a folder with something in it that no demo made.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{folder} is a file; the demo needs a folder. Choose another --out.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).is_file():
        raise OutputExistsError(
            f"{folder} holds files and was not made by the demo (it has no {MARKER}), so nothing in it is touched. "
            "Choose another --out, or remove the folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("Made by ditprobe.demo, which replaces its own files here when it runs again.\n")
    for path in (folder / name for name in MADE):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _kept(given: Mapping[str, Any]) -> str:
    sweep = Path(given["out"]) / SWEEP
    if not sweep.is_file():
        return "No scene was finished."
    return f"The scenes that were finished are in {sweep}; the demo starts over when it runs again."


@verb(interrupted=_kept)
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that is made.")] = Path("demo"),
    scenes: Annotated[int, typer.Option(min=2, help="Number of scenes.")] = len(SCENES),
    every: Annotated[int, typer.Option(min=1, help="Sweep every n-th step.")] = 1,
) -> None:
    """Record, sweep, select, track, transfer and report on synthetic scenes; prints the paths of all results."""
    import ditprobe as dp
    from analyses.selection.words import listed_layers, verdict
    from ditprobe.cli.report_of_sweep import build
    from ditprobe.cli.text.sweep import accuracy_table, select_from_sweep

    began = time.monotonic()
    prepare(out)
    backbone = dp.load_backbone("mini")
    clips = {f"scene {seed}": dp.make_scene(seed) for seed in range(scenes)}
    say(repr(backbone))
    say(f"\n1. Sweep of all {len(backbone.layers)} layers on {scenes} scenes not seen in training")
    steps = sorted({*range(0, STEPS, every), STEPS - 1})
    chosen_steps = dp.Selection(steps=steps, layers="all")
    with progress("sweeping") as bar:
        found = dp.sweep(
            backbone,
            clips,
            chosen_steps,
            steps=STEPS,
            threshold_cells=THRESHOLD_CELLS,
            per_head=True,
            save=out / SWEEP,
            progress=bar,
        )
    say(accuracy_table(found))
    say("\n2. Selection")
    best = select_from_sweep(found)
    say(best)
    if best is None:
        raise typer.Exit(1)
    shown = best.layers or best.ranked[:1]
    say(f"\n3. Recordings of {listed_layers(shown)}: a scene at every tenth step, and a prompt while it is sampled")
    scene, prompt = clips["scene 0"], clips["scene 0"].prompt
    wanted = dp.Selection(steps=[*range(0, STEPS, 10), STEPS - 1], layers=shown)
    say(dp.plan_recording(backbone, scene, wanted, noise="forward", steps=STEPS))
    with progress("recording") as bar:
        dp.record(backbone, scene, wanted, out / SCENE, noise="forward", steps=STEPS, on_step=bar)
        dp.record(backbone, prompt, wanted, out / SAMPLED, steps=STEPS, save_clip=out / CLIP, on_step=bar)
    tracked_scenes = min(TRACKED_SCENES, scenes)
    say(f"\n4. Tracking: points through {tracked_scenes} longer scenes, next to other trackers")
    compared = track(backbone, range(scenes, scenes + tracked_scenes), out)
    followed = compared.tracked[backbone.name]
    say("\n5. Motion transfer: another object over another background, moving as a scene does")
    transferred = transfer(backbone, out)
    say("\n6. Report")
    build(
        found,
        best,
        out / REPORT,
        backbone,
        clips,
        tracking=compared.evaluation,
        tracked=list(followed.values())[:1],
        transfers=[transferred],
        title="The demo: which layers of mini match points",
    )
    say(f"\nDone in {duration(time.monotonic() - began)}.")
    say(f"  layers             {verdict(best)}")
    say(f"  sweep              {out / 'sweep.nc'}")
    say(f"  recordings         {out / 'scene.zarr'}, {out / 'sampled.zarr'}")
    say(f"  sampled clip       {out / 'sampled.mp4'}")
    say(f"  tracking           {out / TRACKING}, {out / TRACKED}")
    say(f"  motion transfer    {out / TRANSFERRED}")
    say(f"  report             {(out / 'report.html').resolve().as_uri()}")


def track(backbone: Backbone, seeds: range, out: Path) -> Compared:
    """Track the points of scenes with every tracker, write the figures and one scene with its tracks drawn on it."""
    import ditprobe as dp
    from analyses.evaluation.compare import compare_trackers, usual_trackers
    from analyses.plots.overlay import viewing_scale
    from ditprobe.cli.text.tapvid import mean_table

    clips = {f"scene {seed}": dp.make_scene(seed, images=TRACKED_IMAGES, cell=5.0) for seed in seeds}
    with progress("tracking") as bar:
        compared = compare_trackers(clips, usual_trackers(backbone), progress=bar)
    say(mean_table(compared.evaluation))
    dp.save_evaluation(compared.evaluation, out / TRACKING)
    first = next(iter(compared.tracked[backbone.name].values()))
    images = dp.drawn_images(first.clip.images, first.tracks, scale=viewing_scale(first.clip.height, first.clip.width))
    dp.write_video(out / TRACKED, images, first.clip.fps)
    return compared


def transfer(backbone: Backbone, out: Path) -> TransferredClip:
    """Transfer the motion of a scene to a prompt, write the clip, and compare it with the plain backbone."""
    import ditprobe as dp
    from ditprobe.report.transfer import transfer_in_words, transferred_clip

    reference = dp.make_scene(TRANSFERRED_SCENE)
    method, clips = dp.DiTFlow(), []
    with progress("transferring") as bar:
        for each in (method, dp.PlainBackbone()):
            clips.append(
                dp.transfer_motion(backbone, reference, TRANSFER_PROMPT, method=each, steps=TRANSFER_STEPS, on_step=bar)
            )
    made, plain = clips
    dp.write_clip(out / TRANSFERRED, made)
    name = f"scene {TRANSFERRED_SCENE}"
    found = transferred_clip(
        backbone, name, reference, made, method=method.describe(backbone, TRANSFER_STEPS), plain=plain
    )
    say(f"{TRANSFER_PROMPT}, moving as {name}: {transfer_in_words(found)}")
    return found


if __name__ == "__main__":
    typer.run(demo)
