"""Options that several verbs share, and the parsing of their text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.selection import Noise
from store.text import pixels

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone


# Headings of --help; options without one are specific to a verb.
MODEL, RUN, OUTPUT = "Model", "Run of the model", "Output"

BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone", "-b", metavar="NAME", help="mini, mini-rope, a saved folder or a hub id.", rich_help_panel=MODEL
    ),
]
Layers = Annotated[
    str, typer.Option(metavar="NUMBERS", help="Layers, from 0: all, 13,17, 0:30:2, -1, or a file of ditprobe select.")
]
Heads = Annotated[str | None, typer.Option(metavar="NUMBERS", help="Heads, from 0; all by default.")]
At = Annotated[str, typer.Option(metavar="NUMBERS", help="Denoising steps, 0 = most noise: all, 0,25,-1 or 0:50:5.")]
Steps = Annotated[
    int, typer.Option(min=1, metavar="NUMBER", help="Denoising steps of the whole run.", rich_help_panel=RUN)
]
Branches = Annotated[str, typer.Option(metavar="NAMES", help="cond, uncond or cond,uncond.")]
Count = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="NUMBER",
        help="Layers to select; by default those that beat 'nothing moves'.",
        show_default=False,
    ),
]
RankBy = Annotated[
    Literal["harmonic", "accuracy"], typer.Option(help="Rank by the harmonic mean of three measures, or by accuracy.")
]
RankedPoints = Annotated[Literal["all", "moving"], typer.Option(help="Rank by accuracy on all or on moving points.")]
By = Annotated[Literal["last", "mean"], typer.Option(help="Rank at the last step, or by the mean over steps.")]
Seed = Annotated[int, typer.Option(metavar="NUMBER", help="Seed of the sampling or of the noise.", rich_help_panel=RUN)]
SizeText = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="HEIGHTxWIDTH",
        help="Size of the model's input in pixels; its own by default.",
        rich_help_panel=RUN,
    ),
]
Images = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="NUMBER", help="Images per clip; the model's own number by default.", rich_help_panel=RUN
    ),
]
First = Annotated[int, typer.Option(min=0, metavar="NUMBER", help="First image of the clip to use.")]
Last = Annotated[int | None, typer.Option(min=0, metavar="NUMBER", help="Last image of the clip to use.")]
Stride = Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Use every n-th image of a clip.")]
GuidanceScale = Annotated[
    float | None,
    typer.Option(metavar="NUMBER", help="Classifier-free guidance; the model's own by default.", rich_help_panel=RUN),
]
NegativePrompt = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Text of the uncond branch.", rich_help_panel=RUN)
]
Height = Annotated[int | None, typer.Option(min=1, hidden=True)]
Width = Annotated[int | None, typer.Option(min=1, hidden=True)]
PixelScale = Annotated[
    int,
    typer.Option(
        "--pixel-scale",
        min=1,
        metavar="NUMBER",
        help="Enlargement of each pixel.",
        rich_help_panel=OUTPUT,
    ),
]
NamedVideo = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="PATH", help="The video; by default named after the prompt.", rich_help_panel=OUTPUT
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.", rich_help_panel=OUTPUT)]
Resume = Annotated[
    bool, typer.Option("--resume", help="Resume an interrupted run with the same settings.", rich_help_panel=OUTPUT)
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the plan and an estimate of the time, write nothing.", rich_help_panel=OUTPUT
    ),
]
NoEstimate = Annotated[
    bool, typer.Option("--no-estimate", help="With --dry-run: skip the time estimate.", rich_help_panel=OUTPUT)
]
Clips = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="A video, a folder of videos, a DiffTrack folder or an MTBench entry."),
]
MatchedLayer = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER", help="Layer to match, or a file of ditprobe select; by default the one known to track best."
    ),
]
MatchedStep = Annotated[
    int | None, typer.Option("--at", metavar="NUMBER", help="Denoising step at which the clip is read, 0 = most noise.")
]
TrackingPreset = Annotated[
    Literal["exact", "difftrack-tracking"], typer.Option(help="ditprobe's procedure, or that of DiffTrack's release.")
]
Encode = Annotated[Literal["images", "clip"], typer.Option(help="Encode images alone, or a chunk of them together.")]
Levels = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Look again: '1,1' at the whole image without its coarse motion, '1,1,2' then in crops of half the side.",
    ),
]
MaxCrops = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="NUMBER",
        help="Maximum number of crops at level 2 for each chunk of images; more take longer. 5 by default.",
    ),
]
Crops = Annotated[
    Literal["auto", "compensate", "follow"],
    typer.Option(help="Take the coarse motion out of closer looks, or follow points that move alike."),
]
Visibility = Annotated[
    Literal["limits", "calibrated", "flow"],
    typer.Option(
        help="Tell hidden points by limits, by a probability, or by one that also reads optical flow, which suits real "
        "videos best."
    ),
]
ClipNoise = Annotated[Noise, typer.Option(help="Noise added to the clip.", rich_help_panel=RUN)]
Prompt = Annotated[str, typer.Option(metavar="TEXT", help="Prompt for the model.", rich_help_panel=RUN)]

_PIXEL_STEP_OF_MINIS = {"mini": 8, "mini-rope": 8, "mini@1": 8, "mini-rope@1": 8}


def check_size(size: tuple[int, int] | None, backbone: str) -> None:
    """Raise for a size that a bundled backbone does not take, without loading the backbone.

    Examples
    --------
    >>> check_size((41, 41), "mini")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: mini does not take 41 x 41 px (height x width): heights and widths must be multiples of 8 px. The nearest size that fits is --size 40x40.
    """  # noqa: E501
    step = _PIXEL_STEP_OF_MINIS.get(backbone)
    if size is None or step is None:
        return
    fits = tuple(max(1, round(side / step)) * step for side in size)
    if fits != size:
        raise InvalidInputError(
            f"{backbone} does not take {pixels(*size)}: heights and widths must be multiples of {step} px. The nearest "
            f"size that fits is --size {fits[0]}x{fits[1]}."
        )


def check_count(count: int | None, layers: int) -> None:
    """Raise if more layers are asked for than there are, as :func:`analyses.selection.select.select_layers` does."""
    if count is not None and not 1 <= count <= layers:
        raise InvalidInputError(f"count must lie between 1 and the {layers} layers of the sweep; got {count}.")


def reject_options(ctx: typer.Context, names: Iterable[str], why: str) -> None:
    """Raise for options that were given but would have no effect.

    Parameters
    ----------
    ctx : typer.Context
    names : parameters of the verb
    why : text that follows the option's name in the message

    Raises
    ------
    InvalidInputError
    """
    given = [name for name in names if _was_given(ctx, name)]
    if given:
        raise InvalidInputError(f"{_flag(ctx, given[0])} {why}")


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _flag(ctx: typer.Context, name: str) -> str:
    """Name of an option as it was written: ``--no-features`` for a switch that is off."""
    option = next(option for option in ctx.command.params if option.name == name)
    return option.secondary_opts[0] if option.secondary_opts and ctx.params[name] is False else option.opts[0]


def resolve_layout(backbone: Backbone, size: tuple[int, int] | None, images: int | None) -> TokenLayout:
    """Layout of the clips that the model sees, from ``--size`` and ``--images``."""
    default = backbone.default_size
    height, width = size or default[:2]
    return backbone.layout(height, width, images or default.images)
