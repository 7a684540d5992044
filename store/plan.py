"""Plans of recordings: their content and their bytes, known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from store.arguments import check_fields
from store.bfloat16 import StoredDtype
from store.errors import PlanTooLargeError
from store.layout import TokenLayout
from store.text import pixels
from store.wording import Wording

DEFAULT_LIMIT_BYTES = 20_000_000_000


class LayerInfo(Protocol):
    """Protocol of one self-attention layer, as a plan needs it."""

    @property
    def index(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def heads(self) -> int: ...
    @property
    def channels(self) -> int: ...


class BackboneInfo(Protocol):
    """Protocol of a backbone, as a plan needs it: its name and its layers in execution order."""

    @property
    def name(self) -> str: ...
    @property
    def layers(self) -> Sequence[LayerInfo]: ...


def format_bytes(count: int) -> str:
    """Human-readable number of bytes, in decimal units.

    Examples
    --------
    >>> format_bytes(134_784_000), format_bytes(512)
    ('134.8 MB', '512 B')
    """
    if count < 1000:
        return f"{count} B"
    power = min(int(math.log10(count) // 3), 5)
    return f"{count / 1000**power:.1f} {('kB', 'MB', 'GB', 'TB', 'PB')[power - 1]}"


def format_numbers(numbers: Sequence[int]) -> str:
    """Human-readable numbers: all of them when few, else the first and last three.

    Examples
    --------
    >>> format_numbers(range(50))
    '0, 1, 2, ..., 47, 48, 49'
    """
    if len(numbers) <= 8:
        return ", ".join(map(str, numbers))
    return f"{', '.join(map(str, numbers[:3]))}, ..., {', '.join(map(str, numbers[-3:]))}"


@dataclass(frozen=True)
class PlannedArray:
    """One array of a recording: its name, named dims, shape and dtype.

    Examples
    --------
    >>> PlannedArray("query", ("step", "head"), (3, 2)).nbytes
    12
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str = "float16"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * (2 if self.dtype in ("float16", "bfloat16") else 4)

    @property
    def stored_as(self) -> str:
        """Dtype in the files: that of the array, but for bfloat16 its bits as uint16, since Zarr has no bfloat16."""
        return "uint16" if self.dtype == "bfloat16" else self.dtype

    @property
    def record_shape(self) -> tuple[int, ...]:
        """Shape of one record: without step, branch and layer."""
        return self.shape[3:]


@dataclass(frozen=True, repr=False)
class Plan:
    """Content of a recording to be made; built by :meth:`store.selection.Selection.plan`.

    Parameters
    ----------
    backbone : str
        Name of the backbone.
    layout : TokenLayout
    steps, layers, heads, frames : tuple of int
        What is recorded, ascending. Heads and frames always name every one of them.
    branches : tuple of str
    layer_names : tuple of str
        Module path of each recorded layer.
    run_steps, layer_count, head_count : int
        Denoising steps of the run, and layers and heads of the backbone: what a negative number counts from.
    channels : int
        Channels per head.
    features : bool
        Whether the attention output is recorded too.
    values : bool
        Whether the values of the attention are recorded too: what each head carries.
    stored_dtype : "float16" or "bfloat16"
        What the numbers are cast to; bfloat16 keeps those of a model in bfloat16 to the bit.
    """

    backbone: str
    layout: TokenLayout
    steps: tuple[int, ...]
    layers: tuple[int, ...]
    branches: tuple[str, ...]
    heads: tuple[int, ...]
    frames: tuple[int, ...]
    layer_names: tuple[str, ...]
    run_steps: int
    layer_count: int
    head_count: int
    channels: int
    features: bool = False
    values: bool = False
    stored_dtype: StoredDtype = "float16"

    @property
    def arrays(self) -> tuple[PlannedArray, ...]:
        """The arrays of the recording, one entry each."""
        record = ("step", "branch", "layer")
        counts = (len(self.steps), len(self.branches), len(self.layers))
        grid = (len(self.frames), self.layout.height, self.layout.width)
        heads = len(self.heads)

        def array(name: str, dims: tuple[str, ...], shape: tuple[int, ...]) -> PlannedArray:
            return PlannedArray(name, record + dims, counts + shape, self.stored_dtype)

        dims = ("head", "frame", "y", "x", "channel")
        arrays = [array(name, dims, (heads, *grid, self.channels)) for name in ("query", "key")]
        if self.values:
            arrays.append(array("value", dims, (heads, *grid, self.channels)))
        if self.layout.text_tokens:
            shape = (heads, self.layout.text_tokens, self.channels)
            arrays += [array(name, ("head", "token", "channel"), shape) for name in ("text_query", "text_key")]
        if self.features:
            width = self.head_count * self.channels
            arrays.append(array("features", ("frame", "y", "x", "feature"), (*grid, width)))
        return tuple(arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that will be recorded."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def records(self) -> int:
        """Number of (step, branch, layer) records."""
        return len(self.steps) * len(self.branches) * len(self.layers)

    def check(self, limit: int | None = DEFAULT_LIMIT_BYTES) -> None:
        """Raise for a plan above ``limit`` bytes; None for no limit.

        Raises
        ------
        PlanTooLargeError
            Says how many bytes are needed, the limit, and what to do.
        """
        if limit is not None and self.nbytes > limit:
            raise PlanTooLargeError(
                f"the plan needs {format_bytes(self.nbytes)} ({self.nbytes} bytes) for {self.records} records of "
                f"{format_bytes(self.nbytes // self.records)}; the limit is {format_bytes(limit)} ({limit} bytes).",
                remedy=Wording(
                    "Select fewer of the {} steps, {} layers, {} branches, {} heads or {} frames, or raise it with "
                    "{limit_bytes}.",
                    *map(len, (self.steps, self.layers, self.branches, self.heads, self.frames)),
                    limit_bytes=self.nbytes,
                ),
            )

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        return repr_html(repr(self))

    def __repr__(self) -> str:
        title = f"Plan for {self.backbone}: {self.records} record{'s' if self.records > 1 else ''}"
        return "\n".join([f"{title}, {format_bytes(self.nbytes)}", *self.lines()])

    def lines(self) -> list[str]:
        """Lines of text: the selection, and one for every array."""
        layout = self.layout
        lines = [
            f"  steps     {format_numbers(self.steps)} ({len(self.steps)} of {self.run_steps})",
            f"  layers    {format_numbers(self.layers)} ({len(self.layers)} of {self.layer_count})",
            f"  branches  {', '.join(self.branches)}",
            f"  heads     {format_numbers(self.heads)} ({len(self.heads)} of {self.head_count})",
            f"  frames    {format_numbers(self.frames)} ({len(self.frames)} of {layout.frames})",
            f"  cells     {layout.height} x {layout.width} of a clip of "
            f"{pixels(layout.pixel_height, layout.pixel_width)}",
        ]
        names = max(len(array.name) for array in self.arrays)
        for array in self.arrays:
            dims = ", ".join(f"{dim}: {size}" for dim, size in zip(array.dims, array.shape, strict=True))
            lines.append(f"  {array.name:<{names}}  {array.dtype}  {format_bytes(array.nbytes)}  ({dims})")
        return lines
