"""The data types in which a model's parts are loaded, and what is slow about a choice.

Each model's own are on its card (``probe/families/published.json``): the ones in which its authors ran it.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from probe.families.published import ModelCard
from probe.loading.options import Loading, parse_dtype
from store.errors import DitprobeWarning
from store.wording import Wording

LARGE = 10**8
"""Number of parameters from which a slow data type is warned about."""

_SHORT = {torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float32: "float32"}
# What a processor calls its own arithmetic in these types; without, each product is converted to float32 and back.
_FLAGS = {torch.bfloat16: ("avx512_bf16", "amx_bf16", "bf16"), torch.float16: ("avx512_fp16", "amx_fp16", "fphp")}


class PrecisionWarning(DitprobeWarning):
    """A data type that runs much slower on this device than another would."""


@dataclass(frozen=True)
class Precision:
    """The data types of a model's parts.

    Attributes
    ----------
    model : of the transformer and the text encoder
    vae : of the VAE
    """

    model: torch.dtype
    vae: torch.dtype

    def for_pipeline(self) -> Any:
        """Return what ``from_pretrained`` takes as the data type: one, or one for each part.

        Examples
        --------
        >>> Precision(torch.bfloat16, torch.float32).for_pipeline()
        {'default': torch.bfloat16, 'vae': torch.float32}
        """
        return self.model if self.model == self.vae else {"default": self.model, "vae": self.vae}


def choose_precision(loading: Loading, device: torch.device, card: ModelCard | None) -> Precision:
    """Return the data types that were asked for, and for "auto" the model's own.

    On a processor "auto" is float32 throughout. Elsewhere it is what the model's card recommends, and bfloat16 for a
    model without a card; a VAE that is published in float32 stays so whatever the rest is loaded in.

    Examples
    --------
    >>> choose_precision(Loading(dtype="float16"), torch.device("cpu"), None)
    Precision(model=torch.float16, vae=torch.float16)
    """
    own = card.precision if card is not None else None
    model, vae = parse_dtype(loading.dtype), parse_dtype(loading.vae_dtype, "vae_dtype")
    if model is None:
        recommended = torch.bfloat16 if own is None else getattr(torch, own.model)
        model = torch.float32 if device.type == "cpu" else recommended
    if vae is None:
        keeps = own is not None and (own.vae == "float32" or model == getattr(torch, own.model))
        vae = getattr(torch, own.vae) if own is not None and keeps and model != torch.float32 else model
    return Precision(model, vae)


def warn_if_slow(transformer: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Warn of a data type that is slow on a device, for transformers of at least :data:`LARGE` parameters.

    Warns
    -----
    PrecisionWarning
    """
    if sum(parameter.numel() for parameter in transformer.parameters()) < LARGE:
        return
    advice = slow_precision(device.type, dtype, processor_flags() if device.type == "cpu" else ())
    if advice:
        warnings.warn(PrecisionWarning(advice), stacklevel=2)


def slow_precision(device: str, dtype: torch.dtype, flags: Collection[str]) -> Wording | None:
    """Return why a data type is slow on a kind of device and what to use instead; None if it is not.

    Parameters
    ----------
    device : "cuda", "cpu" or another kind
    dtype : torch.dtype
    flags : instruction sets of the processor; empty where they are unknown

    Examples
    --------
    >>> str(slow_precision("cuda", torch.float32, ()))
    "float32 on cuda takes twice the memory of bfloat16 and has no fused attention. Pass dtype='bfloat16'."
    >>> slow_precision("cpu", torch.bfloat16, ["avx2", "avx512_bf16"]) is None
    True
    """
    if device == "cuda" and dtype == torch.float32:
        return Wording(
            "float32 on cuda takes twice the memory of bfloat16 and has no fused attention. Pass {dtype}.",
            dtype="bfloat16",
        )
    if device == "cpu" and dtype in _FLAGS and flags and not set(_FLAGS[dtype]).intersection(flags):
        return Wording(
            "{} on this processor, which has none of {}, is far slower than float32. Pass {dtype}.",
            _SHORT[dtype],
            ", ".join(_FLAGS[dtype]),
            dtype="float32",
        )
    return None


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Return the instruction sets that the system names, lower case; none where it does not say.

    Examples
    --------
    >>> processor_flags(Path("/nowhere"))
    ()
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return tuple(value.lower().split())
    return ()
