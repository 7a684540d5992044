"""``ditprobe guide``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ditprobe import options
from ditprobe.console import progress, say, verb
from ditprobe.layer_option import layers_option
from ditprobe.verbs.generate import enlarged, file_name
from store.errors import InvalidInputError

EXAMPLES = """
\b
Examples:
  ditprobe guide "a red disc moves left over blue stripes"
  ditprobe guide "a pink ring moves up over grey dots" --layers 4,5 --scale 2 --at 0:25 --pixel-scale 8 --out ring.mp4
  ditprobe guide -b THUDM/CogVideoX-2b "a dog runs along the beach" --dry-run
"""

Preset = Literal["exact", "difftrack", "renormalised"]


@verb
def guide(
    prompt: Annotated[str, typer.Argument(help="What to show; '' generates without a text.", show_default=False)],
    out: options.NamedVideo = None,
    backbone: options.BackboneName = "mini",
    layers: Annotated[
        str | None,
        typer.Option(
            help="Layers to guide, 0-based: '13,17', '0:30:2', '-1', or a file of ditprobe select --out; what is known "
            "of the backbone by default."
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="Of cross-attention guidance; 0 is a plain generation.")] = 1.0,
    at: Annotated[str, typer.Option(help="Steps to guide, 0 = most noise: 'all', '0,25,-1', '0:50:5'.")] = "all",
    preset: Annotated[
        Preset, typer.Option(help="'difftrack' does as the released code in runs without --guidance-scale above 1.")
    ] = "exact",
    seed: options.Seed = 0,
    steps: options.Steps = 50,
    guidance_scale: options.GuidanceScale = None,
    negative_prompt: options.NegativePrompt = None,
    images: options.Images = None,
    height: options.Height = None,
    width: options.Width = None,
    pixel_scale: options.PixelScale = 1,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    revision: options.Revision = None,
    local_files_only: options.LocalOnly = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, write nothing.")] = False,
) -> None:
    """Generate a clip under cross-attention guidance (DiffTrack): away from frames that do not look at one another."""
    from ditprobe.divergence import keeping_latents
    from generators.cag import CrossAttentionGuidance
    from generators.sampling import sample
    from probe.record import check_clip_path
    from store.video import write_clip

    path = out or Path(file_name(prompt)).with_stem(f"{Path(file_name(prompt)).stem}-guided")
    strategy = CrossAttentionGuidance(_numbers(layers, "layers"), scale, _numbers(at, "at"), preset)
    if not dry_run:
        check_clip_path(path, overwrite=overwrite)
    model = options.backbone_of(backbone, device, dtype, revision, local_files_only)
    run: dict[str, Any] = {"steps": steps, "height": height, "width": width, "images": images}
    run |= {"guidance_scale": guidance_scale, "negative_prompt": negative_prompt}
    arguments = model.arguments(prompt, **run)
    guided, at_steps = _resolved(strategy, model, steps)
    how = f"{steps} steps with guidance {model.guidance_of(arguments):g}"
    what = f"cross-attention guidance {scale:g} ({preset}) in layers {', '.join(map(str, guided))}"
    if dry_run:
        say(f"{model!r}\n  clip      {path}\n  prompt    {prompt!r}\n  run       {how}")
        say(f"  guidance  {what} at {len(at_steps)} of {steps} steps, one pass more at each")
        return
    with keeping_latents(path), progress("guiding") as bar:
        clip = sample(model, prompt, strategy, seed=seed, on_step=bar, **run)
    write_clip(path, enlarged(clip, pixel_scale), overwrite=overwrite)
    say(f"{path}: {len(clip)} images of {clip.height} x {clip.width} px at {clip.fps:g} fps, seed {seed}")
    say(f"{model.name}, {how}, {what} at {len(at_steps)} steps: {prompt!r}")


def _numbers(text: str | None, name: str) -> Iterable[int] | None:
    """Numbers of an option, or a selection; 'all' of the steps, and no layers, are left to the library."""
    found = layers_option(text) if name == "layers" else options.numbers(text, name)
    if found == "all" and name == "layers":
        raise InvalidInputError("--layers 'all' would guide by every layer. Name some, such as '13,17'.")
    return None if found is None or isinstance(found, str) else found


def _resolved(strategy: Any, model: Any, steps: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    try:
        layers, at = strategy.resolve(model, steps)
    except InvalidInputError as error:
        if strategy.layers is not None:
            raise
        raise InvalidInputError(
            f"no layers are known to guide {model.name} by. Give --layers; ditprobe sweep and ditprobe select find "
            "them."
        ) from error
    return layers, at
