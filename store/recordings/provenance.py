"""Origin of a recording: the model, its input and its settings."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from typing import Any

from store.errors import InvalidInputError

_LIBRARIES = ("ditprobe", "diffusers", "numpy", "torch", "transformers", "xarray", "zarr")


@dataclass(frozen=True)
class Provenance:
    """Everything but the plan that decides what a run records. None is "unknown" or "does not apply".

    Parameters
    ----------
    model, revision, config_hash : str
        Model id or folder, its revision, and a hash of its configuration.
    source : str
        What was run: "prompt", or the name of a clip.
    prompt, negative_prompt : str
    seed : int
    scheduler : str
        Class name, or whatever tells one scheduler from another.
    guidance_scale : float
    noise : str
        How a clip was noised: "clean", "forward" or "inversion".
    window : int
        Which window of a longer clip.
    softmax_scale : float
        What the attention multiplies q k^T by.
    source_dtype : str
        Data type of the queries and keys before they were cast to what is stored.
    stage : str
        Where in the attention they were taken.
    extra : mapping
        Anything else that JSON can hold.

    Raises
    ------
    InvalidInputError
        When a value cannot be written as JSON.

    Examples
    --------
    >>> Provenance(model="mini", seed=3).to_dict()["seed"]
    3
    """

    model: str | None = None
    revision: str | None = None
    config_hash: str | None = None
    source: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    scheduler: str | None = None
    guidance_scale: float | None = None
    noise: str | None = None
    window: int | None = None
    softmax_scale: float | None = None
    source_dtype: str | None = None
    stage: str = "post_norm_post_rope"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            json.dumps(self.to_dict(), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"provenance must be plain values that JSON can hold: {error}.") from error

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Provenance:
        """Known names become fields, all others go to ``extra``.

        Examples
        --------
        >>> Provenance.from_mapping({"model": "mini", "mood": "good"}).extra
        {'mood': 'good'}
        """
        known = {item.name for item in fields(cls)} - {"extra"}
        extra = {**values.get("extra", {}), **{k: v for k, v in values.items() if k not in known and k != "extra"}}
        return cls(**{name: values[name] for name in known if name in values}, extra=extra)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that take part in a run (without importing them)."""
    return dict(_installed())


@functools.cache
def _installed() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
