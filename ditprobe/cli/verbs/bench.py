"""``ditprobe bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ditprobe.cli import options
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import tell_time, transfer_memory
from store.errors import InvalidInputError
from store.text import counted

if TYPE_CHECKING:
    from analyses.evaluation.mtbench_entries import Entry
    from probe.backbones.backbone import Backbone
    from store.clips.clip import Clip

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe bench mtbench --entries 1 --method ditflow --steps 10
  ditprobe bench mtbench --method none --method det --resume
  ditprobe bench motionbench --entries 1 --method follow-your-motion
  ditprobe bench mtbench MTBench/ -b THUDM/CogVideoX-5b --method det --published --clip-model ./clip --dino ./dino
"""


@verb
@takes_groups
def bench(
    benchmark: Annotated[
        Literal["mtbench", "motionbench"], typer.Argument(help="mtbench (DeT) or motionbench (Follow-Your-Motion).")
    ],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="The benchmark's data or a folder with its layout; synthetic scenes by default.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Finished clips, JSON lines; mtbench.jsonl or motionbench.jsonl by default.",
            show_default=False,
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A method of ditprobe transfer; repeatable. none and ditflow by default."),
    ] = None,
    entries: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Synthetic scenes per level or category.")] = 2,
    prompts: Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Prompts per clip.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also print the figures of the paper, which are for other models.")
    ] = False,
    clip_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="CLIP, for edit fidelity: a hub id or folder.")
    ] = None,
    dino: Annotated[
        str | None, typer.Option(metavar="NAME", help="DINO, for temporal consistency: a hub id or folder.")
    ] = None,
    backbone: options.BackboneName = "mini",
    seed: options.Seed = 0,
    steps: options.Steps = 50,
    guidance_scale: options.GuidanceScale = None,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Evaluate motion transfer as MTBench or MotionBench does."""
    from analyses.evaluation.mtbench_checkpoint import KIND
    from generators.transfer.methods import METHODS

    out = Path(f"{benchmark}.jsonl") if out is None else out
    names = list(dict.fromkeys(method or ["none", "ditflow"]))
    for name in names:
        METHODS[name]  # raises for an unknown name
    found = _entries(benchmark, data, entries, prompts)
    if not dry_run:
        KIND.check(out, resume=resume, overwrite=overwrite)
    model = load_backbone_option(backbone, loading, plan=dry_run)
    run: dict[str, Any] = {"seed": seed, "steps": steps, "guidance_scale": guidance_scale}
    from generators.transfer.methods import make_method

    made = {name: make_method(name) for name in names}
    how = "; ".join(_described(name, each, model, steps) for name, each in made.items())
    clips = sum(len(entry.prompts) for entry in found.values())
    if dry_run:
        listed = _listed(benchmark, found)
        say(f"{model!r}\n  entries   {counted(len(found), 'clip')} ({listed}), {counted(clips, 'prompt')}")
        say(f"  methods   {how}\n  finished  {out}")
        work = [(model.default_size, clips * (2 * steps + each.passes(model, steps))) for each in made.values()]
        memory = transfer_memory(model, model.default_size, list(made.values()))
        tell_time(model, work, steps=steps, estimate=not no_estimate, use="transfer", beside=memory)
        return
    from analyses.evaluation import motionbench, mtbench_tables
    from analyses.evaluation.mtbench import Measures, evaluate_mtbench
    from analyses.metrics.encoders import load_clip_encoder, load_image_encoder
    from analyses.trackers.optical_flow import FlowTracker

    measures = Measures(
        FlowTracker(),
        None if clip_model is None else load_clip_encoder(clip_model, local_files_only=loading.local_files_only),
        None if dino is None else load_image_encoder(dino, local_files_only=loading.local_files_only),
    )
    settings = {
        **run,
        "backbone": model.name,
        "config_hash": model.config_hash,
        "methods": list(map(repr, made.values())),
    }
    with progress("transferring") as bar:
        evaluation = evaluate_mtbench(
            found,
            {name: _transfer(model, each, run) for name, each in made.items()},
            measures,
            settings=settings,
            checkpoint=out,
            resume=resume,
            overwrite=overwrite,
            progress=bar,
        )
    of_motionbench = benchmark == "motionbench"
    table: Any = motionbench.motionbench_table if of_motionbench else mtbench_tables.mtbench_table
    say(table(evaluation, published=published))
    say("\nMF: hybrid motion fidelity by optical flow; means x 100 with 95 % intervals over clips; numbers of clips.")
    if published:
        source = motionbench.SOURCE if of_motionbench else f"{mtbench_tables.SOURCE}; MF by CoTracker"
        say(f"Published: {source}.")
    if of_motionbench and data is None:
        say("Scenes are drawn of three categories; people are measured on folders of yours alone.")
    say(f"finished clips in {out}")


def _entries(benchmark: str, data: Path | None, entries: int, prompts: int | None) -> dict[str, Entry]:
    from dataclasses import replace

    from analyses.evaluation import motionbench, mtbench_entries

    of_motionbench = benchmark == "motionbench"
    if data is None:
        drawn: Any = motionbench.motion_scene_entries if of_motionbench else mtbench_entries.scene_entries
        scenes: dict[str, Entry] = drawn(entries=entries, prompts=2 if prompts is None else prompts)
        return scenes
    if not data.exists():
        raise InvalidInputError(
            f"{data} does not exist. Name a folder of {'MotionBench' if of_motionbench else 'MTBench'}'s layout, or "
            "leave it out for scenes."
        )
    read = motionbench.read_motionbench_entries if of_motionbench else mtbench_entries.read_mtbench_entries
    return {
        name: entry if prompts is None else replace(entry, prompts=entry.prompts[:prompts])
        for name, entry in read(data).items()
    }


def _listed(benchmark: str, found: dict[str, Entry]) -> str:
    """The number of entries of each level or category."""
    if benchmark == "motionbench":
        groups = [str(entry.details["category"]) for entry in found.values()]
        return ", ".join(f"{groups.count(group)} {group}" for group in dict.fromkeys(groups))
    levels = [entry.difficulty.level for entry in found.values()]
    return ", ".join(f"{levels.count(level)} {level}" for level in ("easy", "medium", "hard"))


def _described(name: str, method: Any, model: Backbone, steps: int) -> str:
    """Describe the method before anything runs; raise if its layers must be given."""
    try:
        return str(method.describe(model, steps))
    except InvalidInputError as error:
        raise InvalidInputError(
            f"--method {name} does not know the layers of {model.name} to guide by, and bench has no option for them. "
            "Run evaluate_mtbench from Python with a method that has layers; ditprobe sweep and ditprobe select find "
            "them."
        ) from error


def _transfer(model: Backbone, method: Any, run: dict[str, Any]) -> Callable[[Clip, str], Clip]:
    """Return the method as a callable; one that trains does so once for each reference."""
    from generators.adapters.fitted import TrainedMethod
    from generators.transfer.motion_transfer import transfer_motion

    fitted: dict[int, Any] = {}

    def transfer(reference: Clip, prompt: str) -> Clip:
        chosen = method
        if isinstance(method, TrainedMethod):
            if id(reference) not in fitted:
                fitted.clear()  # references come one at a time
                fitted[id(reference)] = method.fit(model, reference)
            chosen = fitted[id(reference)]
        return transfer_motion(model, reference, prompt, method=chosen, on_step=False, **run)

    return transfer
