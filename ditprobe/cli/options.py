"""Options that several verbs share, and the parsing of their text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from store.clips.clip import Clip
from store.datasets.read_clips import read_clips
from store.errors import InvalidInputError
from store.layout import TokenLayout
from store.scenes.scene import make_scene
from store.selection import Noise, Selection
from store.text import pixels

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}

# Headings of --help; what has none is the verb's own.
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
        help="Look closer in crops that follow the points: '1,2' also at half the side, '1,2,4' at a quarter.",
    ),
]
ClipNoise = Annotated[Noise, typer.Option(help="Noise added to the clip.", rich_help_panel=RUN)]
Prompt = Annotated[str, typer.Option(metavar="TEXT", help="Prompt for the model.", rich_help_panel=RUN)]

_PIXEL_STEP_OF_MINIS = {"mini": 8, "mini-rope": 8}


def numbers(text: str | None, name: str) -> tuple[int, ...] | Literal["all"] | None:
    """Parse a list of numbers; a ``start:stop[:step]`` range excludes its stop, as in Python.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> numbers("3,0:6:2,-1", "layers"), numbers("all", "layers")
    ((3, 0, 2, 4, -1), 'all')
    """
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?::(-?\d+)(?::(\d+))?)?\s*", part)
        if match is None or match[3] == "0":
            span = re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", part)
            meant = f" Both included, that range is '{span[1]}:{int(span[2]) + 1}'." if span else ""
            raise InvalidInputError(
                f"--{name} {text!r}: {part!r} is neither a number nor a range.{meant} Write for example 'all', "
                "'0,3,-1' or '0:50:5'."
            )
        start, stop, step = (None if group is None else int(group) for group in match.groups())
        found.extend([start] if stop is None else range(start, stop, step or 1))  # type: ignore[list-item,arg-type]
    return tuple(found)


def selection(
    layers: str | Iterable[int], at: str, branches: str = "cond", heads: str | None = None, frames: str | None = None
) -> Selection:
    """Build a :class:`Selection` from the text of its options; layers may be numbers already."""
    return Selection(
        numbers(at, "at") or (),
        (numbers(layers, "layers") if isinstance(layers, str) else layers) or (),
        tuple(branch.strip() for branch in branches.split(",")),
        numbers(heads, "heads"),
        numbers(frames, "frames"),
    )


def pixel_size(text: str | None, name: str = "size") -> tuple[int, int] | None:
    """Parse ``HEIGHTxWIDTH``; ``name`` is the option's, for the message.

    Examples
    --------
    >>> pixel_size("480x720")
    (480, 720)
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\s*[xX]\s*(\d+)", text.strip())
    if match is None:
        raise InvalidInputError(f"--{name} {text!r} is not HEIGHTxWIDTH. Write for example 480x720.")
    return int(match[1]), int(match[2])


def height_and_width(
    size: tuple[int, int] | None, height: int | None, width: int | None
) -> tuple[int | None, int | None]:
    """Height and width from ``--size``, or from the older ``--height`` and ``--width``; None is the backbone's own.

    Examples
    --------
    >>> height_and_width((480, 720), None, None), height_and_width(None, 480, None)
    ((480, 720), (480, None))
    """
    if size is None:
        return height, width
    if height is not None or width is not None:
        raise InvalidInputError("--size is the height and the width. Leave --height and --width out.")
    return size


def check_exists(path: Path | None, what: str) -> None:
    """Raise if a path does not exist, before anything heavy is imported.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_exists(Path("nothere.mp4"), "a video")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: nothere.mp4 is missing. Give the path of a video.
    """
    if path is not None and not path.exists():
        raise InvalidInputError(f"{path} is missing. Give the path of {what}.")


def check_size(size: tuple[int, int] | None, backbone: str) -> None:
    """Raise for a size that a bundled backbone does not take, without loading it.

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


def byte_count(text: str) -> int:
    """Parse a size such as ``20GB`` into bytes.

    Examples
    --------
    >>> byte_count("1.5 GB")
    1500000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b?)", text.strip().lower())
    unit = "" if match is None else match[2].rstrip("b") + "b" if match[2].rstrip("b") else ""
    if match is None or unit not in _UNITS:
        raise InvalidInputError(f"--limit {text!r} is not a size. Write for example 500MB or 20GB.")
    return round(float(match[1]) * _UNITS[unit])


def scene_seeds(text: str) -> tuple[int, ...]:
    """Parse the seeds of ``--scenes``.

    Examples
    --------
    >>> scene_seeds("0:3,7")
    (0, 1, 2, 7)
    """
    seeds = numbers(text, "scenes")
    if seeds is None or seeds == "all" or not seeds:
        raise InvalidInputError(f"--scenes {text!r} names no seeds. Write for example '0:16'.")
    twice = [seed for seed, count in Counter(seeds).items() if count > 1]
    if twice:
        raise InvalidInputError(f"--scenes {text!r} names {twice[0]} twice.")
    return seeds


def make_scenes(text: str, layout: TokenLayout, stride: int = 1) -> dict[str, Clip]:
    """Synthetic scenes by their seeds, named ``scene 3``, with a point in every cell of the layout."""
    images = stride * (layout.images - 1) + 1
    size = (images, layout.pixel_height, layout.pixel_width)
    return {f"scene {seed}": make_scene(seed, *size, cell=layout.cell_size[0]) for seed in scene_seeds(text)}


def read_sources(
    clips: Path | None,
    scenes: str | None,
    layout: TokenLayout,
    stride: int = 1,
    *,
    first: int = 0,
    last: int | None = None,
) -> dict[str, Clip]:
    """Read the clips of ``--clips``, from image ``first`` to ``last``, and make those of ``--scenes``, by name."""
    found = {} if clips is None else dict(read_clips(clips, first=first, last=last))
    return joined(found, {} if scenes is None else make_scenes(scenes, layout, stride))


def read_part(path: Path, first: int, last: int | None, stride: int) -> Clip:
    """Read every n-th image of a video, from ``first`` to ``last`` inclusive."""
    from store.clips.video import read_clip

    clip = read_clip(path, first=first, last=last, stride=stride)
    images = len(clip) if clip.part is None else clip.part.images
    if last is not None and last >= images:
        raise InvalidInputError(f"{path} has images 0 to {images - 1}; --last {last} lies beyond them.")
    return clip


def joined(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sources by name; raise if two have the same name.

    Examples
    --------
    >>> joined({"a dog": 1}, {"scene 0": 2})
    {'a dog': 1, 'scene 0': 2}
    """
    found: dict[str, Any] = {}
    for more in sources:
        for name in more:
            if name in found:
                raise InvalidInputError(
                    f"{name!r} names two of what was given by --clips, --scenes and --prompt. Rename one, or leave it "
                    f"out."
                )
        found.update(more)
    return found


def name_prompts(texts: Sequence[str] | None) -> dict[str, str]:
    """Name prompts by their own text; raise if one is given twice."""
    twice = [text for text, count in Counter(texts or ()).items() if count > 1]
    if twice:
        raise InvalidInputError(f"--prompt {twice[0]!r} is given twice.")
    return {text: text for text in texts or ()}


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
    why : what follows the option's name in the message

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
    """Name of an option as it was written: ``--no-features`` where that is its value."""
    option = next(option for option in ctx.command.params if option.name == name)
    return option.secondary_opts[0] if option.secondary_opts and ctx.params[name] is False else option.opts[0]


def resolve_layout(backbone: Backbone, size: tuple[int, int] | None, images: int | None) -> TokenLayout:
    """Layout of the clips that the model sees, from ``--size`` and ``--images``."""
    default = backbone.default_size
    height, width = size or default[:2]
    return backbone.layout(height, width, images or default.images)
