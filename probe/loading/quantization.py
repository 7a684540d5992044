"""Weights in fewer bits, by the quantization back ends of diffusers and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch

from store.checks import shown
from store.errors import InvalidInputError
from store.wording import Wording

PACKAGES = {
    "bitsandbytes-4bit": "bitsandbytes",
    "bitsandbytes-8bit": "bitsandbytes",
    "quanto-int8": "optimum.quanto",
}
"""Names of usual quantizations, and the package that each needs."""

PARTS = ("transformer", "transformer_2", "text_encoder", "text_encoder_2")
"""Parts that a named quantization takes; the VAE is small and keeps its precision."""


def quantization_config(quantization: Any, parts: Mapping[str, Any], compute: torch.dtype) -> Any:
    """Return diffusers' configuration of a quantization by its name; one of diffusers' own is passed on.

    Parameters
    ----------
    quantization : one of :data:`PACKAGES`, a ``diffusers.PipelineQuantizationConfig``, or None
    parts : what the pipeline's model_index.json names
    compute : data type of the arithmetic

    Raises
    ------
    InvalidInputError
        For an unknown name, or one whose package is not installed.

    Examples
    --------
    >>> quantization_config("int3", {}, torch.bfloat16)
    Traceback (most recent call last):
    ...
    store.errors.InvalidInputError: quantization 'int3' is unknown. Use 'bitsandbytes-4bit', 'bitsandbytes-8bit' or \
'quanto-int8', or pass a PipelineQuantizationConfig of diffusers.
    """
    from diffusers import PipelineQuantizationConfig

    if quantization is None or isinstance(quantization, PipelineQuantizationConfig):
        return quantization
    package = PACKAGES.get(quantization) if isinstance(quantization, str) else None
    if package is None:
        *names, last = map(repr, PACKAGES)
        raise InvalidInputError(
            f"quantization {shown(quantization)} is unknown. Use {', '.join(names)} or {last}, or pass a "
            "PipelineQuantizationConfig of diffusers."
        )
    if not _is_installed(package):
        pip = package.replace(".", "-")
        raise InvalidInputError(
            Wording("{quantization} needs {}, which is not installed.", package, quantization=quantization),
            remedy=f"Run pip install {pip}.",
        )
    chosen = {name: parts[name][0] for name in PARTS if parts.get(name) not in (None, [None, None])}
    return PipelineQuantizationConfig(
        quant_mapping={name: _config(quantization, library, compute) for name, library in chosen.items()}
    )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _config(quantization: str, library: str, compute: torch.dtype) -> Any:
    import diffusers
    import transformers

    source = diffusers if library == "diffusers" else transformers
    if quantization == "bitsandbytes-4bit":
        return source.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
    if quantization == "bitsandbytes-8bit":
        return source.BitsAndBytesConfig(load_in_8bit=True)
    name = "weights_dtype" if source is diffusers else "weights"
    return source.QuantoConfig(**{name: "int8"})


def check_not_quantized(pipeline: Any, dtype: torch.dtype | None) -> None:
    """Raise for a data type asked of a pipeline whose weights are quantized, which cannot be cast.

    Raises
    ------
    InvalidInputError
    """
    if dtype is None:
        return
    for name, part in pipeline.components.items():
        if getattr(part, "is_quantized", False) or getattr(part, "hf_quantizer", None) is not None:
            raise InvalidInputError(
                f"dtype={str(dtype).removeprefix('torch.')!r} was asked for, but the {name} of this pipeline is "
                "quantized and cannot be cast. Leave dtype out."
            )
