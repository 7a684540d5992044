"""Settings of a model run as one value: seed, steps, size, guidance and conditioning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from store.checks import height_and_width, integer


class RequestedSize(NamedTuple):
    """Size of a clip as it was asked for; None stands for what the model generates by default."""

    height: int | None = None
    width: int | None = None
    images: int | None = None


DEFAULT_SIZE = RequestedSize()


def requested_size(
    size: tuple[int, int] | None = None,
    height: int | None = None,
    width: int | None = None,
    images: int | None = None,
) -> RequestedSize:
    """Combine ``size=(height, width)``, ``height=``, ``width=`` and ``images=`` into one value.

    Raises
    ------
    InvalidInputError
        When ``size`` is not two whole numbers, or is given with ``height`` or ``width``.

    Examples
    --------
    >>> requested_size((480, 720), images=49)
    RequestedSize(height=480, width=720, images=49)
    """
    return RequestedSize(*height_and_width(size, height, width), images)


@dataclass(frozen=True)
class RunSettings:
    """Everything about a run but the model and the prompt.

    Public functions take these as keywords and build one value of them, which is what internal functions pass on.

    Parameters
    ----------
    seed : int
        Seed of a generator on the CPU, so that the noise does not depend on the device.
    steps : int
        Denoising steps.
    size : RequestedSize
        Pixels and images of the clip.
    guidance_scale : float, optional
        The pipeline's default where not given.
    negative_prompt : str, optional
    conditioning : mapping, optional
        Further keyword arguments of the pipeline, such as ``prompt_embeds`` or ``image``; they take precedence.

    Examples
    --------
    >>> settings = RunSettings(steps=30, size=requested_size((480, 720)))
    >>> settings.size.width, settings.changed(seed=3).seed
    (720, 3)
    """

    seed: int = 0
    steps: int = 50
    size: RequestedSize = DEFAULT_SIZE
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    conditioning: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        *,
        size: tuple[int, int] | None = None,
        height: int | None = None,
        width: int | None = None,
        images: int | None = None,
        **others: Any,
    ) -> RunSettings:
        """Build settings from the keywords of :meth:`probe.Backbone.generate`.

        Examples
        --------
        >>> RunSettings.of(steps=2, height=80, width=112).size
        RequestedSize(height=80, width=112, images=None)
        """
        return cls(size=requested_size(size, height, width, images), **others)

    def changed(self, **fields: Any) -> RunSettings:
        """Return a copy with other values of some fields."""
        return dataclasses.replace(self, **fields)

    def with_conditioning(self, further: Mapping[str, Any]) -> RunSettings:
        """Return a copy with further pipeline arguments, over which the given ones win."""
        return dataclasses.replace(self, conditioning={**further, **(self.conditioning or {})})


def check_seed(seed: int) -> int:
    """Return a seed that a generator of torch takes.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> check_seed(3)
    3
    """
    return integer(seed, "seed", min_value=-(2**63), max_value=2**64 - 1)
