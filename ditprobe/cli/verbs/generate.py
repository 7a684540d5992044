"""``ditprobe generate``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ditprobe.cli import options
from ditprobe.cli.clip_file import enlarged, file_name, written
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.generation import GENERATION, GenerationOptions, describe_run
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import run_cost, tell_time

GROUP = "Start here"
EXAMPLES = """
\b
Examples:
  ditprobe generate "a red disc moves left over blue stripes"
  ditprobe generate "a pink ring moves up over grey dots while the camera pans left" --count 4 --out rings.mp4
  ditprobe generate -b THUDM/CogVideoX-2b "a dog runs along the beach" --steps 30 --dry-run
"""


def _interrupted(given: Mapping[str, Any]) -> str:
    return "Finished clips are kept." if given["count"] > 1 else ""


@verb(interrupted=_interrupted)
@takes_groups
def generate(
    prompt: Annotated[
        str, typer.Argument(help="The content of the clip; '' generates without text.", show_default=False)
    ],
    out: options.NamedVideo = None,
    backbone: options.BackboneName = "mini",
    count: Annotated[
        int, typer.Option(min=1, metavar="NUMBER", help="Number of clips, with seeds from --seed upwards.")
    ] = 1,
    generation: GenerationOptions = GENERATION,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Generate clips from a prompt and write them as videos."""
    from store.clips.encoding import check_clip_path
    from store.clips.video import write_clip

    run = generation.arguments(backbone)
    paths = output_paths(out or Path(file_name(prompt)), generation.seed, count)
    if not dry_run:
        for path in paths.values():
            check_clip_path(path, overwrite=overwrite)
    model = load_backbone_option(backbone, loading, plan=dry_run)
    arguments = model.arguments(prompt, **run)
    how = describe_run(model, arguments)
    if dry_run:
        say(f"{model!r}\n  clips     {', '.join(map(str, paths.values()))}")
        say(f"  prompt    {prompt!r}\n  run       {how}")
        calls = [run_cost(model, arguments, count)]
        tell_time(model, calls, steps=generation.steps, estimate=not no_estimate, use="generate")
        return
    with progress("generating") as bar:
        for number, (each, path) in enumerate(paths.items()):

            def on_step(done: int, _: int, before: int = number * generation.steps) -> None:
                bar(before + done, count * generation.steps)

            clip = enlarged(model.generate(prompt, seed=each, on_step=on_step, **run), generation.pixel_scale)
            write_clip(path, clip, overwrite=overwrite)
            say(written(path, clip, each))
    say(f"{model.name}, {how}: {prompt!r}")


def output_paths(out: Path, seed: int, count: int) -> dict[int, Path]:
    """Return the output path of each seed: ``out``, or for several clips ``out`` with the seed in its name.

    Examples
    --------
    >>> [str(path) for path in output_paths(Path("runs/ring.mp4"), 7, 2).values()]
    ['runs/ring-7.mp4', 'runs/ring-8.mp4']
    """
    if count == 1:
        return {seed: out}
    return {each: out.with_name(f"{out.stem}-{each}{out.suffix}") for each in range(seed, seed + count)}
