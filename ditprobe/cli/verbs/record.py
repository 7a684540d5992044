"""``ditprobe record``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.layer_option import check_layers, layers_option
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import Use, tell_time
from store.bfloat16 import StoredDtype
from store.clips.clip import Clip
from store.clips.encoding import check_clip_path
from store.clips.video import read_clip
from store.errors import InvalidInputError

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe record --scenes 3 --layers all --at -1 --out scene.zarr
  ditprobe record -b THUDM/CogVideoX-2b --prompt "a dog runs" --layers 13,17,21 --at 0,25,-1 --dry-run
  ditprobe record --clips dance.mp4 --noise forward --layers 4 --at 0:50:5 --out dance.zarr
"""


@verb
@takes_groups
def record(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="The recording to create.", rich_help_panel=options.OUTPUT),
    ] = Path("recording.zarr"),
    backbone: options.BackboneName = "mini",
    prompt: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Prompt to record while it is sampled; with --clips, the clip's text."),
    ] = None,
    clips: Annotated[Path | None, typer.Option(metavar="PATH", help="A video file to run through the model.")] = None,
    scenes: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="Seed of a synthetic scene to run through the model.")
    ] = None,
    layers: options.Layers = "all",
    at: options.At = "-1",
    branches: options.Branches = "cond",
    heads: options.Heads = None,
    frames: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Latent frames to keep; all by default.")
    ] = None,
    noise: options.ClipNoise = "clean",
    seed: options.Seed = 0,
    steps: options.Steps = 50,
    window: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="Window of a clip that is longer than the model's input.")
    ] = 0,
    size: options.SizeText = None,
    images: options.Images = None,
    stride: options.Stride = 1,
    guidance_scale: options.GuidanceScale = None,
    negative_prompt: options.NegativePrompt = None,
    features: Annotated[bool, typer.Option("--features", help="Also record the attention output.")] = False,
    values: Annotated[bool, typer.Option("--values", help="Also record the values of each head.")] = False,
    stored_dtype: Annotated[
        StoredDtype, typer.Option(help="Data type on disk; bfloat16 keeps the values of a bfloat16 model exactly.")
    ] = "float16",
    save_clip: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Also write the clip.", rich_help_panel=options.OUTPUT),
    ] = None,
    limit: Annotated[
        str,
        typer.Option(metavar="BYTES", help="Reject a recording larger than this.", rich_help_panel=options.OUTPUT),
    ] = "20GB",
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Store queries and keys of a prompt or a clip."""
    wanted = layers_option(layers) or ()
    chosen = parsing.selection(wanted, at, branches, heads, frames)
    shape: dict[str, Any] = {"size": parsing.pixel_size(size), "images": images, "stride": stride}
    limits: dict[str, Any] = {
        "features": features,
        "values": values,
        "stored_dtype": stored_dtype,
        "limit_bytes": parsing.byte_count(limit),
    }
    _check_source(prompt, clips, scenes)
    options.check_size(shape["size"], backbone)
    inputs.check_exists(clips, "a video")
    if save_clip is not None and not dry_run:
        if clips is not None and save_clip.resolve() == clips.resolve():
            raise InvalidInputError("--save-clip would replace --clips. Choose another path.")
        check_clip_path(save_clip, overwrite=overwrite or resume)
    if clips is not None:
        read_clip(clips, last=0)  # rejects what is not a video before the model is loaded

    from probe.recording import record as recording

    model = load_backbone_option(backbone, loading, plan=dry_run)
    check_layers(wanted, model)
    shown = None if clips is None else _read_window(clips, model, window, images, stride)
    if scenes is not None:
        layout = options.resolve_layout(model, shape["size"], images)
        (shown,) = inputs.make_scenes(scenes, layout, stride).values()
    source: str | Clip = shown if shown is not None else prompt or ""
    job = recording.plan_recording(model, source, chosen, noise=noise, steps=steps, window=window, **shape, **limits)
    say(job)
    if dry_run:
        use: Use = "record a prompt" if isinstance(source, str) else "record"
        tell_time(model, [(job.size, job.passes)], steps=steps, estimate=not no_estimate, use=use)
        return
    with progress("recording") as bar:
        done = recording.record(
            model,
            source,
            chosen,
            out,
            noise=noise,
            seed=seed,
            steps=steps,
            window=window,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            prompt=None if isinstance(source, str) else prompt,
            overwrite=overwrite,
            resume=resume,
            save_clip=save_clip,
            on_step=bar,
            **shape,
            **limits,
        )
    say(f"\nwritten to {out}\n{done!r}")


def _read_window(path: Path, model: Backbone, window: int, images: int | None, stride: int) -> Clip:
    """Read a video up to the end of a window; later images are not read."""
    longest = images or model.default_size.images
    return read_clip(path, last=max(0, (window + 1) * longest * stride - 1))


def _check_source(prompt: str | None, clips: Path | None, scenes: str | None) -> None:
    if clips is not None and scenes is not None:
        raise InvalidInputError("--clips and --scenes exclude each other.")
    if prompt is None and clips is None and scenes is None:
        raise InvalidInputError("nothing to record. Give --prompt, --clips or --scenes.")
    seeds = () if scenes is None else parsing.scene_seeds(scenes)
    if len(seeds) > 1:
        raise InvalidInputError(f"--scenes {scenes!r} names {len(seeds)} scenes; a recording holds one.")
