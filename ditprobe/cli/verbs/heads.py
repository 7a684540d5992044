"""``ditprobe heads``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ditprobe.cli import inputs, options, parsing
from ditprobe.cli.console import progress, say, verb
from ditprobe.cli.groups import takes_groups
from ditprobe.cli.layer_option import check_layers, layers_option
from ditprobe.cli.loading import DEFAULTS, LoadingOptions, load_backbone_option
from ditprobe.cli.text.estimates import tell_time
from ditprobe.cli.text.tables import plain_table
from store.errors import InvalidInputError
from store.text import counted

GROUP = "What a model knows"
EXAMPLES = """
\b
Examples:
  ditprobe heads --scenes 0:8 --picture heads.html
  ditprobe heads --clips my_clips/ --at 0,25,-1 --draws 2 --out heads.nc
  ditprobe heads -b THUDM/CogVideoX-2b --clips my.mp4 --dry-run
"""


@verb
@takes_groups
def heads(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="PATH", help="The masses, a .nc file.", rich_help_panel=options.OUTPUT),
    ] = Path("heads.nc"),
    picture: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Also write a page with the classes.", rich_help_panel=options.OUTPUT),
    ] = None,
    backbone: options.BackboneName = "mini",
    clips: options.Clips = None,
    scenes: Annotated[str | None, typer.Option(metavar="NUMBERS", help="Seeds of synthetic scenes: 0:8.")] = None,
    layers: options.Layers = "all",
    at: options.At = "-1",
    noise: options.ClipNoise = "forward",
    seed: options.Seed = 0,
    steps: options.Steps = 50,
    draws: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Noise draws for each clip.")] = 1,
    radius: Annotated[
        int, typer.Option(min=0, metavar="CELLS", help="Distance, in y and in x, that counts as the same place.")
    ] = 1,
    margin: Annotated[
        float, typer.Option(min=1, metavar="NUMBER", help="Factor by which one density must exceed the other.")
    ] = 1.25,
    size: options.SizeText = None,
    images: options.Images = None,
    first: options.First = 0,
    last: options.Last = None,
    stride: options.Stride = 1,
    loading: LoadingOptions = DEFAULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    no_estimate: options.NoEstimate = False,
) -> None:
    """Classify attention heads by where they attend."""
    inputs.check_exists(clips, "a video or of a folder of clips")
    if not (clips or scenes):
        raise InvalidInputError("nothing to measure. Give --clips or --scenes.")
    wanted_layers = layers_option(layers) or ()
    selection = parsing.selection(wanted_layers, at, "cond", None)
    wanted = parsing.pixel_size(size)
    options.check_size(wanted, backbone)
    if not dry_run:
        _check_free(out, picture, overwrite)
    model = load_backbone_option(backbone, loading, plan=dry_run)
    check_layers(wanted_layers, model)
    layout = options.resolve_layout(model, wanted, images)
    sources = inputs.read_sources(clips, scenes, layout, stride, first=first, last=last)
    cut: dict[str, Any] = {"size": wanted, "images": images, "stride": stride}
    if dry_run:
        from probe.run.run import pass_count
        from probe.run.windows import cut_windows

        windows = [window for clip in sources.values() for window in cut_windows(model, clip, **cut)]
        passes = draws * pass_count(selection, noise=noise, steps=steps)
        say(f"{model!r}\n  {counted(len(windows), 'window')} of {counted(len(sources), 'clip')}")
        calls = [(window.size, float(passes)) for window in windows]
        tell_time(model, calls, steps=steps, estimate=not no_estimate, use="heads")
        return

    from analyses.heads.decide import decide_heads
    from analyses.heads.files import save_heads
    from analyses.heads.sweep import sweep_heads
    from analyses.heads.words import classes_rows, classes_text

    how: dict[str, Any] = {"noise": noise, "seed": seed, "draws": draws, "steps": steps, "radius": radius}
    with progress("measuring heads") as bar:
        masses = sweep_heads(model, sources, selection, progress=bar, **how, **cut)
    decided = decide_heads(masses, margin=margin)
    if as_json:
        table = decided.drop_attrs().to_dataframe().reset_index().to_dict(orient="records")
        say(
            json.dumps(
                {"step": decided.attrs["step"], "margin": margin, "clips": decided.attrs["clips"], "heads": table}
            )
        )
    else:
        header, rows = classes_rows(decided)
        say(classes_text(decided))
        say("\n".join(plain_table([(name, 0) for name in header], rows)))
        say("T temporal, S spatial, ? undecided; temporal over spatial density")
    save_heads(masses, out, overwrite=overwrite)  # written last, so that on a full disk the classes have been printed
    if not as_json:
        say(f"masses at {out}")
    if picture is not None:
        from analyses.plots.heads import plot_head_classes
        from ditprobe.report.page import write_page

        write_page(picture, f"Heads of {model.name}", [plot_head_classes(decided)])
        if not as_json:
            say(f"picture at {picture}")


def _check_free(out: Path, picture: Path | None, overwrite: bool) -> None:
    """Validate the outputs before the model is loaded."""
    from analyses.heads.files import check_heads_path
    from ditprobe.report.page import check_page

    check_heads_path(out, overwrite=overwrite)
    if picture is not None:
        check_page(picture, overwrite=overwrite)
