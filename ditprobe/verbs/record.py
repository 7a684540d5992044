"""``ditprobe record``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ditprobe import options
from ditprobe.console import progress, say, seconds_for_people, verb
from ditprobe.layer_option import check_layers, layers_option
from store.clip import Clip
from store.errors import InvalidInputError
from store.video import read_clip

if TYPE_CHECKING:
    from probe.backbone import Backbone

EXAMPLES = """
\b
Examples:
  ditprobe record --scene 3 --layers all --at -1 --out scene.zarr
  ditprobe record -b THUDM/CogVideoX-2b --prompt "a dog runs" --layers 13,17,21 --at 0,25,-1 --dry-run
  ditprobe record --clip dance.mp4 --noise forward --layers 4 --at 0:50:5 --out dance.zarr
"""


@verb
def record(
    out: Annotated[Path, typer.Option("--out", "-o", help="The recording to create.")] = Path("recording.zarr"),
    backbone: options.BackboneName = "mini",
    prompt: Annotated[str | None, typer.Option(help="Record while this is generated; with --clip, its text.")] = None,
    clip: Annotated[Path | None, typer.Option(help="A video file to show to the model.")] = None,
    scene: Annotated[int | None, typer.Option(help="Seed of a synthetic scene to show to the model.")] = None,
    layers: options.Layers = "all",
    at: options.At = "-1",
    branches: options.Branches = "cond",
    heads: options.Heads = None,
    frames: Annotated[str | None, typer.Option(help="Latent frames to keep; all by default.")] = None,
    noise: Annotated[options.NoiseKind, typer.Option(help="How a clip is noised.")] = "clean",
    seed: options.Seed = 0,
    steps: options.Steps = 50,
    window: Annotated[int, typer.Option(min=0, help="Which window of a clip longer than the backbone takes.")] = 0,
    size: options.SizeText = None,
    images: options.Images = None,
    stride: options.Stride = 1,
    guidance_scale: Annotated[float | None, typer.Option(help="Of classifier-free guidance.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="Text of the uncond branch.")] = None,
    features: Annotated[bool, typer.Option("--features", help="Keep the attention output too.")] = False,
    save_clip: Annotated[Path | None, typer.Option(help="Write the clip that was generated or shown.")] = None,
    limit: Annotated[str, typer.Option(help="Refuse a recording larger than this.")] = "20GB",
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    local_files_only: options.LocalOnly = False,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
) -> None:
    """Store queries and keys of a prompt or a clip, layer by layer and step by step."""
    from probe import record as recording

    wanted = layers_option(layers) or ()
    chosen = options.selection(wanted, at, branches, heads, frames)
    shape: dict[str, Any] = {"size": options.pixel_size(size), "images": images, "stride": stride}
    limits: dict[str, Any] = {"features": features, "limit_bytes": options.byte_count(limit)}
    _check_source(prompt, clip, scene)
    if save_clip is not None and not dry_run:
        if clip is not None and save_clip.resolve() == clip.resolve():
            raise InvalidInputError("--save-clip would replace --clip. Choose another path.")
        recording.check_clip_path(save_clip, overwrite=overwrite or resume)
    if clip is not None:
        read_clip(clip, last=0)  # refuses what is no video before the model is loaded
    model = options.backbone_of(backbone, device, dtype, revision, local_files_only)
    check_layers(wanted, model)
    shown = None if clip is None else _window_of(clip, model, window, images, stride)
    if scene is not None:
        layout = options.layout_of(model, shape["size"], images)
        (shown,) = options.scene_clips(str(scene), layout, stride).values()
    source: str | Clip = shown if shown is not None else prompt or ""
    job = recording.plan_recording(model, source, chosen, noise=noise, steps=steps, window=window, **shape, **limits)
    say(job)
    if dry_run:
        text = prompt if isinstance(source, str) else prompt or model.caption_of(source)
        say(f"  time      about {seconds_for_people(recording.estimate_seconds(model, job, text))} for the model")
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


def _window_of(path: Path, model: Backbone, window: int, images: int | None, stride: int) -> Clip:
    """The video as far as the window may reach: what lies behind it is not read."""
    longest = images or model.default_size.images
    return read_clip(path, last=max(0, (window + 1) * longest * stride - 1))


def _check_source(prompt: str | None, clip: Path | None, scene: int | None) -> None:
    if clip is not None and scene is not None:
        raise InvalidInputError("--clip and --scene exclude each other.")
    if prompt is None and clip is None and scene is None:
        raise InvalidInputError("nothing to record. Give --prompt, --clip or --scene.")
