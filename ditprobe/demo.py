"""``make demo``: scenes nobody trained on, through recording, sweep, selection and report, on the bundled backbone."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from ditprobe.console import progress, say, seconds_for_people, verb

SCENES = range(24)
STEPS = 50
THRESHOLD_CELLS = 1.0


@verb
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for everything that is made.")] = Path("demo"),
    scenes: Annotated[int, typer.Option(min=2, help="How many scenes.")] = len(SCENES),
    every: Annotated[int, typer.Option(min=1, help="Sweep every so many steps.")] = 1,
) -> None:
    """Record, sweep, select and report on synthetic scenes; prints where everything is."""
    import ditprobe as dp
    from analyses.checkpoint import save_sweep
    from ditprobe.summary import accuracy_table, selection_of
    from ditprobe.verbs.report import build

    began = time.monotonic()
    if out.exists():
        shutil.rmtree(out)  # only ever this folder, which the demo alone fills
    out.mkdir(parents=True)
    backbone = dp.load_backbone("mini")
    clips = {f"scene {seed}": dp.make_scene(seed) for seed in range(scenes)}
    say(repr(backbone))
    say(f"\n1. Sweep of all {len(backbone.layers)} layers on {scenes} scenes nobody trained on")
    steps = sorted({*range(0, STEPS, every), STEPS - 1})
    chosen_steps = dp.Selection(steps=steps, layers="all")
    with progress("sweeping") as bar:
        found = dp.sweep(
            backbone, clips, chosen_steps, steps=STEPS, threshold_cells=THRESHOLD_CELLS, per_head=True, progress=bar
        )
    save_sweep(found, out / "sweep.nc")
    say(accuracy_table(found))
    say("\n2. Selection")
    best = selection_of(found, 3)
    say(best)
    if best is None:
        raise typer.Exit(1)
    say("\n3. Recordings of the selected layers: a scene at every tenth step, and a prompt while it is sampled")
    scene, prompt = clips["scene 0"], clips["scene 0"].prompt
    wanted = dp.Selection(steps=[*range(0, STEPS, 10), STEPS - 1], layers=best.layers)
    say(dp.plan_recording(backbone, scene, wanted, noise="forward", steps=STEPS))
    with progress("recording") as bar:
        dp.record(backbone, scene, wanted, out / "scene.zarr", noise="forward", steps=STEPS, on_step=bar)
        dp.record(
            backbone, prompt, wanted, out / "sampled.zarr", steps=STEPS, save_clip=out / "sampled.mp4", on_step=bar
        )
    say("\n4. Report")
    build(found, best, out / "report.html", backbone, clips, title="The demo: which layers of mini match points")
    say(f"\nDone in {seconds_for_people(time.monotonic() - began)}.")
    say(f"  three best layers  {', '.join(map(str, best.layers))}")
    say(f"  sweep              {out / 'sweep.nc'}")
    say(f"  recordings         {out / 'scene.zarr'}, {out / 'sampled.zarr'}")
    say(f"  sampled clip       {out / 'sampled.mp4'}")
    say(f"  report             {(out / 'report.html').resolve().as_uri()}")


if __name__ == "__main__":
    typer.run(demo)
