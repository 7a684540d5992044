"""``ditprobe guide``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from ditprobe.cli import options, parsing
from ditprobe.cli.clip_file import enlarged, file_name, written
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.generation import GENERATION, GenerationOptions, describe_run
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.layer_option import layers_option
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import run_cost, tell_time
from generators.guidance.preset import GuidancePreset
from store.errors import InvalidInputError
from store.text import counted

GROUP = "Steer a generation"
EXAMPLES = """
\b
Examples:
  ditprobe guide "a red disc moves left over blue stripes"
  ditprobe guide "a pink ring moves up over grey dots" --strength 2 --at 0:25 --out ring.mp4
  ditprobe guide -b THUDM/CogVideoX-2b "a dog runs along the beach" --dry-run
"""


@verb
@takes_groups
def guide(
    prompt: Annotated[
        str, typer.Argument(help="The content of the clip; '' generates without text.", show_default=False)
    ],
    out: options.NamedVideo = None,
    backbone: options.BackboneName = "mini",
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Layers to guide, or a file of ditprobe select; by default those known for the model.",
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option(metavar="NUMBER", help="Strength of cross-attention guidance; 0 turns it off.")
    ] = 1.0,
    at: options.At = "all",
    preset: Annotated[
        GuidancePreset,
        typer.Option(help="difftrack follows its released code, which differs if --guidance-scale is 1."),
    ] = "exact",
    generation: GenerationOptions = GENERATION,
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Generate a clip under cross-attention guidance (DiffTrack)."""
    from store.clips.encoding import check_clip_path
    from store.clips.video import write_clip

    run = generation.arguments(backbone)
    path = out or Path(file_name(prompt)).with_stem(f"{Path(file_name(prompt)).stem}-guided")
    steps, seed = generation.steps, generation.seed
    guided_layers, guided_steps = _numbers(layers, "layers"), _numbers(at, "at")
    if not dry_run:
        check_clip_path(path, overwrite=overwrite)

    from ditprobe.cli.divergence import save_latents_on_divergence
    from generators.guidance.cross_attention import CrossAttentionGuidance
    from generators.sampling.sample import sample

    strategy = CrossAttentionGuidance(guided_layers, strength, guided_steps, preset)
    model = load_backbone_option(backbone, loading, plan=dry_run)
    arguments = model.arguments(prompt, **run)
    guided, at_steps = _resolved(strategy, model, steps)
    how = describe_run(model, arguments)
    which = f"layer{'s' * (len(guided) != 1)} {', '.join(map(str, guided))}"
    what = f"cross-attention guidance {strength:g} ({preset}) in {which}"
    if dry_run:
        say(f"{model!r}\n  clip      {path}\n  prompt    {prompt!r}\n  run       {how}")
        say(f"  guidance  {what} at {len(at_steps)} of {steps} steps, one pass more at each")
        shape, calls = run_cost(model, arguments)
        tell_time(model, [(shape, calls + len(at_steps))], steps=steps, estimate=not no_estimate, use="guide")
        return
    with save_latents_on_divergence(path), progress("guiding") as bar:
        clip = sample(model, prompt, strategy, seed=seed, on_step=bar, **run)
    clip = enlarged(clip, generation.pixel_scale)
    write_clip(path, clip, overwrite=overwrite)
    say(written(path, clip, seed))
    say(f"{model.name}, {how}, {what} at {counted(len(at_steps), 'step')}: {prompt!r}")


def _numbers(text: str | None, name: str) -> Iterable[int] | None:
    """Parse numbers of an option, or a selection; None (all steps, or the known layers) is left to the library."""
    found = layers_option(text) if name == "layers" else parsing.numbers(text, name)
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
