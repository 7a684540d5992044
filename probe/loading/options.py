"""Options of loading a model: precision, place and source of its parts, as one value that is checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch

from store.arguments import check_fields
from store.errors import InvalidInputError
from store.wording import Wording

Offload = Literal["model", "sequential", "group"]
"""Unit moved to the device for a call: a whole part, one module, or one group of modules ahead of its use."""

Tiling = Literal["auto"] | bool


@dataclass(frozen=True)
class Loading:
    """Options of :func:`probe.loading.load_backbone.load_backbone`, which describes each one.

    Raises
    ------
    InvalidInputError
        For an unknown data type, and for options that exclude each other.

    Examples
    --------
    >>> Loading(offload="model", device_map="balanced")
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: offload='model' and device_map='balanced' both decide where the weights are kept. \
Pass one of them.
    """

    device: str | torch.device = "auto"
    dtype: str | torch.dtype = "auto"
    vae_dtype: str | torch.dtype = "auto"
    offload: Offload | None = None
    device_map: str | None = None
    quantization: Any = None
    vae_tiling: Tiling = "auto"
    revision: str | None = None
    variant: str | None = None
    family: str | type | None = None
    local_files_only: bool = False
    use_safetensors: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        parse_dtype(self.dtype)
        parse_dtype(self.vae_dtype, "vae_dtype")
        if self.device_map is not None:
            if self.offload is not None:
                raise InvalidInputError(
                    Wording(
                        "{offload} and {device_map} both decide where the weights are kept.",
                        offload=self.offload,
                        device_map=self.device_map,
                    ),
                    remedy="Pass one of them.",
                )
            if self.device != "auto":
                raise InvalidInputError(
                    Wording(
                        "{device} and {device_map} both decide where the weights are kept.",
                        device=str(self.device),
                        device_map=self.device_map,
                    ),
                    remedy="Pass one of them.",
                )

    def changed(self, *names: str) -> list[str]:
        """Return those of the named options that do not have their default.

        Examples
        --------
        >>> Loading(variant="fp16").changed("variant", "offload")
        ['variant']
        """
        defaults = {item.name: item.default for item in fields(self)}
        return [name for name in names if getattr(self, name) != defaults[name]]

    def refuse(self, names: tuple[str, ...], why: str) -> None:
        """Raise for options that were given and would have no effect.

        Raises
        ------
        InvalidInputError
        """
        given = self.changed(*names)
        if given:
            raise InvalidInputError(Wording(f"{{{given[0]}}} {{}}", why, **{given[0]: getattr(self, given[0])}))


def parse_dtype(dtype: str | torch.dtype, name: str = "dtype") -> torch.dtype | None:
    """Return a floating data type by its name; None for "auto".

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> parse_dtype("bfloat16"), parse_dtype("auto")
    (torch.bfloat16, None)
    """
    if isinstance(dtype, str) and dtype == "auto":
        return None
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InvalidInputError(f"{name} {dtype!r} is unknown. Use 'auto', 'float32', 'bfloat16' or 'float16'.")
    return found


def parse_family(family: str | type | None) -> Any:
    """Return a family of backbones by its class or registered name; None stays None.

    Raises
    ------
    InvalidInputError
        For an unknown name, with the known ones, or a class that is not a family.

    Examples
    --------
    >>> parse_family("Wan").__name__
    'Wan'
    """
    from probe.backbones.backbone import Backbone
    from probe.families.registry import REGISTRY

    if isinstance(family, str):
        return REGISTRY[family]
    if family is not None and not issubclass(family, Backbone):
        raise InvalidInputError(f"family must be a subclass of Backbone or its name; got {family.__name__}.")
    return family
