"""``ditprobe amf``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.layer_option import layer_option
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import tell_memory
from store.errors import InvalidInputError
from store.text import counted

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone
    from store.layout import TokenLayout

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe amf clip.mp4
  ditprobe amf clip.mp4 --backbone mini --layer 5 --out flow.nc --no-picture
  ditprobe amf clip.mp4 --soft --at 40 --first 10 --stride 2
  ditprobe amf clip.mp4 -b THUDM/CogVideoX-5b --preset ditflow --dry-run
"""


@verb
@takes_groups
def amf(
    ctx: typer.Context,
    clip: Annotated[Path, typer.Argument(help="The video.", show_default=False)],
    first: options.First = 0,
    last: options.Last = None,
    stride: options.Stride = 1,
    images: options.Images = None,
    size: options.SizeText = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The flow: .npz, .nc or .zarr; <clip>.flow.npz by default.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Page with the flow; <clip>.flow.html by default.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    picture_layers: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Layers that the page compares, such as 0:6; by default all for a small clip, else --layer.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    picture_steps: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Steps that the page compares; by default five of a small clip, else --step.",
            rich_help_panel=options.OUTPUT,
        ),
    ] = None,
    no_picture: Annotated[
        bool, typer.Option("--no-picture", help="Write no picture.", rich_help_panel=options.OUTPUT)
    ] = False,
    backbone: options.BackboneName = "mini",
    layer: Annotated[
        str | None,
        typer.Option(metavar="NUMBER", help="Layer, or a file of ditprobe select; by default the preset's."),
    ] = None,
    preset: Annotated[
        Literal["exact", "ditflow"],
        typer.Option(help="Layer and step known to hold correspondence, or DiTFlow's."),
    ] = "exact",
    step: options.MatchedStep = None,
    steps: options.Steps = 50,
    soft: Annotated[bool, typer.Option("--soft", help="The expected displacement instead of the best cell's.")] = False,
    temperature: Annotated[
        float, typer.Option(metavar="NUMBER", help="Temperature of the soft flow's attention.")
    ] = 2.0,
    prompt: options.Prompt = "",
    loading: LoadingOptions = DEFAULTS,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
) -> None:
    """Extract the attention motion flow of a clip, and draw it."""
    flow_path = out or Path(f"{clip.stem}.flow.npz")
    picture_path = None if no_picture else picture or Path(f"{clip.stem}.flow.html")
    inputs.check_exists(clip, "a video")
    wanted = parsing.pixel_size(size)
    options.check_size(wanted, backbone)
    _check_given(ctx, clip, flow_path, picture_path)
    if not dry_run:
        _check_free(flow_path, picture_path, overwrite)
    shown = inputs.read_part(clip, first, last, stride)
    asked = layer_option(layer)
    model = load_backbone_option(backbone, loading, plan=dry_run)

    from analyses.flow.files import save_flow
    from analyses.flow.reference_flow import reference_flow, shown_step
    from analyses.selection.defaults import chosen_layers
    from analyses.selection.layer_selection import LayerSelection
    from probe.run.windows import cut_windows
    from store.selection import resolve_number

    window = cut_windows(model, shown, size=wanted, images=images)[0]
    best = chosen_layers(asked, model)[0] if isinstance(asked, LayerSelection) else asked
    number = resolve_number("layer", _layer(model, preset) if best is None else best, len(model.layers))
    layout = model.layout(*window.size)
    step = shown_step(asked, model, preset, steps) if step is None else step
    step = None if step is None else resolve_number("step", step, steps, "run")
    at = "timestep 0" if step is None else f"step {step} of {steps}"
    frames = f"{layout.frames} x {counted(layout.frames, 'frame')}"
    shown_layers, shown_steps = _compared(model, layout, number, step, steps, picture_layers, picture_steps)
    pairs = f"{frames} of {layout.height} x {layout.width} cells (rows x columns)"
    if dry_run:
        say(f"{model!r}\n  clip      {window} of {clip}\n  flow      {flow_path}: {pairs}")
        say(f"  picture   {picture_path or 'none'}\n  run       layer {number} at {at}, one call of the model")
        if picture_path is not None:
            say(
                f"  compared  {counted(len(shown_layers), 'layer')} at {counted(len(shown_steps), 'step')}, a call each"
            )
        tell_memory(model, window.size, "flow")
        return
    flow = reference_flow(
        model,
        window.clip,
        layer=number,
        step=step,
        prompt=prompt,
        preset=preset,
        steps=steps,
        hard=not soft,
        temperature=temperature,
    )
    taken = {"clip": clip.name, "first": window.first_image, "stride": window.stride}
    flow.attrs["details"] = json.dumps({**json.loads(flow.attrs["details"]), **taken})
    save_flow(flow, flow_path, overwrite=overwrite)
    say(f"{flow_path}: {pairs}")
    if picture_path is not None:
        from ditprobe.report.flows import flow_part, read_flows
        from ditprobe.report.page import write_page

        how: dict[str, Any] = {"steps": steps, "prompt": prompt, "hard": not soft, "temperature": temperature}
        flows = read_flows(model, window.clip, shown_layers, shown_steps, **how)
        chosen = {"layer": shown_layers.index(number), "step": shown_steps.index(step)}
        part = flow_part(window.clip, flows, **chosen)
        write_page(picture_path, f"Attention motion flow of {clip.name}", [part], width=1240)
        say(f"{picture_path}: {counted(len(shown_layers), 'layer')} at {counted(len(shown_steps), 'step')}")
    say(f"{model.name}, layer {number} at {at}; {window}")


def _check_given(ctx: typer.Context, clip: Path, flow: Path, picture: Path | None) -> None:
    """Raise for options without effect, and for outputs that would replace the clip, its extra file, or each other."""
    from store.clips.video import extras_path

    if not ctx.params["soft"]:
        options.reject_options(ctx, ("temperature",), "affects only the soft flow. Add --soft, or leave it out.")
    if picture is None:
        options.reject_options(
            ctx, ("picture", "picture_layers", "picture_steps"), "has no effect with --no-picture. Leave one out."
        )
    for option, path in (("--out", flow), ("--picture", picture)):
        if path is not None and path.resolve() in (clip.resolve(), extras_path(clip).resolve()):
            raise InvalidInputError(f"{option} {path} is the clip itself, or its extra file. Choose another path.")
    if picture is not None and flow.resolve() == picture.resolve():
        raise InvalidInputError(f"--out {flow} and --picture {picture} are the same file. Give them different paths.")


def _check_free(flow: Path, picture: Path | None, overwrite: bool) -> None:
    """Validate output paths before the model is loaded."""
    from analyses.flow.files import check_flow_path
    from ditprobe.report.page import check_page

    check_flow_path(flow, overwrite=overwrite)
    if picture is not None:
        check_page(picture, overwrite=overwrite)


def _layer(model: Backbone, preset: Literal["exact", "ditflow"]) -> int:
    from analyses.flow.reference_flow import default_layer

    try:
        return default_layer(model, preset)
    except InvalidInputError as error:
        if preset == "ditflow":
            raise InvalidInputError(
                f"DiTFlow has published no layer for {model.name}. Give --layer, or leave --preset ditflow out."
            ) from error
        raise InvalidInputError(
            f"no layer is known to track well on {model.name}. Give --layer; ditprobe sweep and ditprobe select find "
            "one."
        ) from error


def _compared(
    model: Backbone,
    layout: TokenLayout,
    layer: int,
    step: int | None,
    steps: int,
    picture_layers: str | None,
    picture_steps: str | None,
) -> tuple[list[int], list[int | None]]:
    """Layers and steps of the page, including the chosen ones.

    Raises
    ------
    InvalidInputError
        Where the page would be too large.
    """
    from ditprobe.cli.parsing import numbers
    from ditprobe.report.flows import MOST_BYTES, default_choices, page_bytes
    from store.plan import format_bytes
    from store.selection import resolve_number

    def resolved(kind: str, text: str, count: int, owner: str) -> set[int]:
        found = numbers(text, f"picture-{kind}s")
        if found is None or isinstance(found, str):
            return set(range(count))
        return {resolve_number(kind, each, count, owner) for each in found}

    tokens = layout.frames * layout.height * layout.width
    layers, shown = default_choices(len(model.layers), tokens, layer, step, steps)
    if picture_layers is not None:
        layers = sorted({layer, *resolved("layer", picture_layers, len(model.layers), "model")})
    if picture_steps is not None:
        found = resolved("step", picture_steps, steps, "run")
        shown = [*([None] if step is None else []), *sorted(found | ({step} if step is not None else set()))]
    each = page_bytes(layout.frames, layout.height * layout.width, 1)
    if len(layers) * len(shown) > 1 and each * len(layers) * len(shown) > MOST_BYTES:
        raise InvalidInputError(
            f"{counted(len(layers), 'layer')} at {counted(len(shown), 'step')} take "
            f"{format_bytes(each * len(layers) * len(shown))} of the page, more than {format_bytes(MOST_BYTES)}. "
            f"Ask for {max(1, MOST_BYTES // each)} at most."
        )
    return layers, shown
