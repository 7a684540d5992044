"""Selection of the steps, layers, branches, heads and frames to record."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from store.arguments import check_kind, checked
from store.bfloat16 import StoredDtype
from store.checks import integer, one_of, shown
from store.errors import InvalidInputError, UnknownLayerError
from store.layout import TokenLayout
from store.plan import DEFAULT_LIMIT_BYTES, BackboneInfo, LayerInfo, Plan

BRANCHES = ("cond", "uncond")
_MOST = 10**6
Numbers = Iterable[int] | Literal["all"]


def resolve_number(kind: str, number: int, count: int, owner: str = "backbone") -> int:
    """The non-negative number that ``number`` means among ``count``; -1 is the last.

    Raises
    ------
    UnknownLayerError
        Names what exists.
    InvalidInputError
        ``number`` is not an int, or nothing exists: ``count`` is below 1.

    Examples
    --------
    >>> resolve_number("layer", -1, 30)
    29
    """
    _check_count(kind, count, owner)
    number = integer(number, kind)
    if not -count <= number < count:
        raise UnknownLayerError(f"{kind} {number} does not exist. The {owner} has {kind}s 0 to {count - 1}.")
    return number % count


def _check_count(kind: str, count: int, owner: str) -> None:
    if integer(count, f"{kind}s", max_value=_MOST) < 1:
        raise InvalidInputError(f"a {owner} needs at least 1 {kind}; got {kind}s={count}.")


def _as_numbers(name: str, numbers: Any) -> tuple[int, ...] | Literal["all"]:
    if isinstance(numbers, str):
        if numbers == "all":
            return "all"
        raise InvalidInputError(f"{name} must be ints or 'all'; got {numbers!r}.")
    try:
        if isinstance(numbers, Sized) and len(numbers) > _MOST:
            raise InvalidInputError(f"{name} has {len(numbers)} numbers; a recording has at most {_MOST} of each kind.")
        asked = tuple(numbers)
    except TypeError as error:
        raise InvalidInputError(f"{name} must be an iterable of ints or 'all'; got {shown(numbers)}.") from error
    if any(isinstance(number, (bool, np.bool_)) for number in asked):
        raise InvalidInputError(
            f"{name} holds True or False, as a mask does, but takes numbers. Pass those of the mask, as "
            "np.flatnonzero(mask) gives them."
        )
    try:
        given = tuple(operator.index(number) for number in asked)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(f"{name} must be an iterable of ints or 'all'; got {shown(numbers)}.") from error
    if not given:
        raise InvalidInputError(f"{name} is empty: nothing would be recorded. Name at least one, or pass 'all'.")
    return given


def _resolve(kind: str, numbers: Any, count: int, owner: str) -> tuple[int, ...]:
    _check_count(kind, count, owner)
    if numbers is None or numbers == "all":
        return tuple(range(count))
    return tuple(sorted({resolve_number(kind, number, count, owner) for number in numbers}))


@dataclass(frozen=True)
class ResolvedSelection:
    """A selection whose every number is concrete: ascending, unique, non-negative."""

    steps: tuple[int, ...]
    layers: tuple[int, ...]
    branches: tuple[str, ...]
    heads: tuple[int, ...]
    frames: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Selection:
    """Selection of what to record. Negative numbers count from the end; results are ascending and without duplicates.

    Parameters
    ----------
    steps : iterable of int, or "all"
        Denoising steps, 0 = most noise.
    layers : iterable of int, or "all"
        Self-attention layers in execution order.
    branches : iterable of "cond" and "uncond"
        Branches of classifier-free guidance.
    heads : iterable of int, optional
        Attention heads; None is all of them.
    frames : iterable of int, optional
        Latent frames; None is all of them.

    Raises
    ------
    InvalidInputError
        When one of them is empty or no iterable of ints.
    UnknownLayerError
        For an unknown branch; for unknown steps, layers, heads and frames once they are resolved.

    Examples
    --------
    >>> Selection(steps=[-1], layers=range(2)).resolve(6, 50, 4)
    ResolvedSelection(steps=(49,), layers=(0, 1), branches=('cond',), heads=(0, 1, 2, 3), frames=None)
    """

    steps: Numbers
    layers: Numbers
    branches: Iterable[str] = ("cond",)
    heads: Numbers | None = None
    frames: Numbers | None = None

    def _repr_html_(self) -> str:
        from store.notebook import repr_html

        fields = {name: getattr(self, name) for name in ("steps", "layers", "branches", "heads", "frames")}
        lines = [f"  {name}  {_shown_numbers(value)}" for name, value in fields.items()]
        return repr_html("\n".join(["Selection", *lines]))

    def __post_init__(self) -> None:
        for name in ("steps", "layers", "heads", "frames"):
            value = getattr(self, name)
            if value is not None or name in ("steps", "layers"):
                object.__setattr__(self, name, _as_numbers(name, value))
        check_kind(self.branches, Iterable[str], "branches")
        asked = (self.branches,) if isinstance(self.branches, str) else tuple(self.branches)
        for branch in asked:
            if branch not in BRANCHES:
                raise UnknownLayerError(f"branch {branch!r} does not exist. Branches are 'cond' and 'uncond'.")
        if not asked:
            raise InvalidInputError("branches is empty: nothing would be recorded. Branches are 'cond' and 'uncond'.")
        object.__setattr__(self, "branches", tuple(branch for branch in BRANCHES if branch in asked))

    @checked
    def resolve(
        self, layer_count: int, steps: int, head_count: int, frame_count: int | None = None
    ) -> ResolvedSelection:
        """The concrete numbers, for a backbone of ``layer_count`` layers and a run of ``steps`` steps.

        ``frames`` of the result is None unless ``frame_count`` is given.

        Raises
        ------
        UnknownLayerError
            Names the first number that does not exist, and what does.
        InvalidInputError
            A count is below 1.
        """
        frames = None if frame_count is None else _resolve("frame", self.frames, frame_count, "layout")
        return ResolvedSelection(
            _resolve("step", self.steps, steps, "run"),
            _resolve("layer", self.layers, layer_count, "backbone"),
            tuple(self.branches),
            _resolve("head", self.heads, head_count, "backbone"),
            frames,
        )

    @checked
    def plan(
        self,
        backbone: BackboneInfo,
        layout: TokenLayout,
        steps: int = 50,
        *,
        limit_bytes: int | None = DEFAULT_LIMIT_BYTES,
        features: bool = False,
        values: bool = False,
        stored_dtype: StoredDtype = "float16",
    ) -> Plan:
        """Plan of a recording of this selection: its content and its size.

        Parameters
        ----------
        backbone : anything with ``name`` and ``layers``
            Each layer has ``index``, ``name`` (its module path), ``heads`` and ``channels`` (per head).
        layout : TokenLayout
        steps : int
            Denoising steps of the run.
        limit_bytes : int or None
            Largest size accepted (20 GB by default); None for no limit.
        features : bool
            Record the attention output too: every head's, whatever ``heads`` selects.
        values : bool
            Record the values too: what each head carries from the cells that it attends to.
        stored_dtype : "float16" or "bfloat16"
            What the numbers are cast to. bfloat16 keeps those of a model in bfloat16 to the bit; float16 keeps more
            digits of a wider one, and nothing beyond 65504.

        Raises
        ------
        UnknownLayerError, InvalidInputError, PlanTooLargeError

        Examples
        --------
        >>> from types import SimpleNamespace as Namespace
        >>> layers = [Namespace(index=i, name=f"blocks.{i}.attn1", heads=2, channels=4) for i in range(6)]
        >>> backbone = Namespace(name="tiny", layers=layers)
        >>> Selection([-1], [1, 4]).plan(backbone, TokenLayout(3, 5, 7, 80, 112, 9), steps=10)
        Plan for tiny: 2 records, 6.7 kB
          steps     9 (1 of 10)
          layers    1, 4 (2 of 6)
          branches  cond
          heads     0, 1 (2 of 2)
          frames    0, 1, 2 (3 of 3)
          cells     5 x 7 of a clip of 80 x 112 px (height x width)
          query  float16  3.4 kB  (step: 1, branch: 1, layer: 2, head: 2, frame: 3, y: 5, x: 7, channel: 4)
          key    float16  3.4 kB  (step: 1, branch: 1, layer: 2, head: 2, frame: 3, y: 5, x: 7, channel: 4)
        """
        _check_count("step", steps, "run")
        one_of(stored_dtype, get_args(StoredDtype), "stored_dtype")
        layers = [backbone.layers[n] for n in _resolve("layer", self.layers, len(backbone.layers), "backbone")]
        heads, channels = _uniform(layers)
        chosen = self.resolve(len(backbone.layers), steps, heads, layout.frames)
        plan = Plan(
            backbone=backbone.name,
            layout=layout,
            steps=chosen.steps,
            layers=chosen.layers,
            branches=chosen.branches,
            heads=chosen.heads,
            frames=chosen.frames or (),
            layer_names=tuple(layer.name for layer in layers),
            run_steps=steps,
            layer_count=len(backbone.layers),
            head_count=heads,
            channels=channels,
            features=features,
            values=values,
            stored_dtype=stored_dtype,
        )
        plan.check(limit_bytes)
        return plan


def _shown_numbers(value: Any) -> str:
    """Numbers or names in words; None is all."""
    return "all" if value is None else value if isinstance(value, str) else ", ".join(map(str, value))


def _uniform(layers: list[LayerInfo]) -> tuple[int, int]:
    """Heads and channels that all selected layers share; one recording holds only such layers."""
    first = layers[0]
    for layer in layers:
        if (layer.heads, layer.channels) != (first.heads, first.channels):
            raise InvalidInputError(
                f"layer {layer.index} has {layer.heads} heads of {layer.channels} channels, layer {first.index} has "
                f"{first.heads} of {first.channels}. Record layers of different sizes in separate recordings."
            )
    return first.heads, first.channels


Noise = Literal["clean", "forward", "inversion"]


def check_noise(noise: str) -> None:
    """Raise for an unknown kind of noise.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_noise("forward")
    """
    one_of(noise, get_args(Noise), "noise")
