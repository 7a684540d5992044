"""Load a backbone from a pipeline object, a folder, a hub id, or the bundled weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from probe.attention.retarget import check_multiplies
from probe.backbones.backbone import Backbone
from probe.families import CogVideoX, family_of
from probe.families.published import find_card
from probe.loading.model_index import check_safetensors, read_model_index
from probe.loading.options import Loading, Offload, Tiling, parse_dtype, parse_family
from probe.loading.placement import cast_vae_inputs, place_pipeline, set_vae_tiling
from probe.loading.precision import Precision, choose_precision, warn_if_slow
from probe.loading.quantization import check_not_quantized, quantization_config
from probe.loading.sources import (
    CODEC,
    check_name,
    commit_of,
    digest_of_weights,
    expanded,
    find_index,
    is_bundled_kind,
    not_loaded,
    saved_transformers,
)
from probe.loading.supported import check_pipeline, dtype_argument
from store.arguments import checked
from store.errors import InvalidInputError, UnsupportedBackboneError


@checked
def load_backbone(
    name_or_path_or_pipeline: Any,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    vae_dtype: str | torch.dtype = "auto",
    offload: Offload | None = None,
    device_map: str | None = None,
    quantization: Any = None,
    vae_tiling: Tiling = "auto",
    revision: str | None = None,
    variant: str | None = None,
    family: str | type | None = None,
    local_files_only: bool = False,
    use_safetensors: bool = True,
) -> Backbone:
    """Load a backbone, ready to generate, to be shown clips and to be probed.

    Parameters
    ----------
    name_or_path_or_pipeline : str, path or diffusers pipeline
        ``"mini"`` or ``"mini-rope"`` (bundled, need no network; ``"mini@1"`` and ``"mini-rope@1"`` have their
        first weights), a folder that ``save_pretrained`` wrote, a hub id such as ``"THUDM/CogVideoX-2b"``, or a
        pipeline object. An object may be compiled, LoRA-adapted, quantized or offloaded.
    device : str or torch.device
        "auto" is the GPU if there is one; a pipeline object stays where it is, and one whose parts are offloaded
        is never moved.
    dtype : str or torch.dtype
        "auto" is float32 on a CPU, elsewhere what the model's authors ran it in and bfloat16 where that is not known;
        a pipeline object keeps its own. Else "float32", ...
    vae_dtype : str or torch.dtype
        "auto" is float32 for models whose VAE is published so (Wan), else as the rest.
    offload : "model", "sequential" or "group", optional
        Keep the weights in the memory of the CPU and move to the device what is about to run: a whole part, a single
        module, or a module ahead of its use. The first is the fastest, the other two need least memory.
    device_map : str, optional
        Spread the parts over several devices while loading, as diffusers does: "balanced".
    quantization : str or diffusers.PipelineQuantizationConfig, optional
        "bitsandbytes-4bit", "bitsandbytes-8bit" or "quanto-int8" for the transformer and the text encoder; each needs
        its package. A configuration object is passed on as it is.
    vae_tiling : "auto" or bool
        Whether clips are encoded and decoded in tiles. "auto": on an accelerator where decoding a clip of the default
        size in one piece would not fit in the memory that is free.
    revision : str, optional
        Branch, tag or commit of a hub id.
    variant : str, optional
        Variant of the weights' files, such as "fp16" or "bf16".
    family : str or subclass of Backbone, optional
        The family of a pipeline whose class none of the families names, such as one of your own.
    local_files_only : bool
        Do not ask the hub, use what was downloaded before.
    use_safetensors : bool
        Load no other weights than safetensors. False also takes ``.bin`` files, which are pickles: torch reads them
        without running what they hold, but diffusers and torch alone see to that.

    Returns
    -------
    Backbone

    Raises
    ------
    BackboneNotFoundError
        No such folder or hub id, or a folder that is not a pipeline. The hub is asked only for names that can be a hub
        id, which is owner/name.
    InvalidInputError
        An unknown data type or family, a device that is unknown or not there, options that exclude each other or have
        no effect on this source, or a quantization whose package is not installed.
    UnsupportedBackboneError
        A pipeline of a family that cannot be probed, with parts of other libraries than diffusers and transformers,
        or without safetensors; known before its weights are loaded. Also one that diffusers cannot offload.

    Warns
    -----
    PrecisionWarning
        For a data type that is slow on the device.

    Examples
    --------
    >>> from probe.mini import new_pipeline
    >>> load_backbone(new_pipeline())
    Mini('CogVideoXPipeline': 6 layers of 4 heads x 32 channels, 40 x 40 px and 6 images, float32 on cpu)
    >>> load_backbone("mini", vae_dtype="bfloat16", device="cpu").pipeline.vae.dtype
    torch.bfloat16
    """
    loading = Loading(
        device,
        dtype,
        vae_dtype,
        offload,
        device_map,
        quantization,
        vae_tiling,
        revision,
        variant,
        family,
        local_files_only,
        use_safetensors,
    )
    source = name_or_path_or_pipeline
    if not isinstance(source, str | Path):
        return _ready(_wrap_object(source, loading), loading)
    if isinstance(source, str):
        check_name(source)
    if is_bundled_kind(source):
        return _ready(_load_bundled(source, loading), loading)
    return _ready(_load_saved(source, loading), loading)


def _ready(backbone: Backbone, loading: Loading) -> Backbone:
    """Set up what needs the backbone itself, and warn of what is slow."""
    vae = backbone.pipeline.vae
    if isinstance(vae, torch.nn.Module) and hasattr(vae, "dtype"):  # one of diffusers
        if backbone.dtype != vae.dtype:
            cast_vae_inputs(vae)
        set_vae_tiling(backbone, loading.vae_tiling)
    warn_if_slow(backbone.denoisers[0], backbone.device, backbone.dtype)
    return backbone


def _wrap_object(pipeline: Any, loading: Loading) -> Backbone:
    if not hasattr(pipeline, "components"):
        check_pipeline(pipeline)
    loading.refuse(
        ("device_map", "quantization", "variant"),
        "takes effect while weights are loaded, and a pipeline object has its own. Pass its name or folder, or leave "
        "it out.",
    )
    dtype, vae_dtype = parse_dtype(loading.dtype), parse_dtype(loading.vae_dtype)
    check_not_quantized(pipeline, dtype)
    if dtype is not None:
        pipeline.to(dtype)
    if vae_dtype is not None:
        pipeline.vae.to(vae_dtype)
    target = resolve_device(loading.device)
    if loading.device != "auto" or loading.offload is not None:
        place_pipeline(pipeline, loading, target)
    return _wrap(pipeline, revision=loading.revision, family=parse_family(loading.family))


def _load_bundled(source: str | Path, loading: Loading) -> Backbone:
    from probe.mini.model import BUNDLED, load_mini

    loading.refuse(
        ("device_map", "quantization", "variant", "family"), "has no effect on the small mini backbones. Leave it out."
    )
    target = resolve_device(loading.device)
    precision = choose_precision(loading, target, None)
    weights = BUNDLED[source] if isinstance(source, str) and source in BUNDLED else expanded(source)
    pipeline: Any = load_mini(weights, dtype=precision.model)
    if precision.vae != precision.model:
        torch.nn.Module.to(pipeline.vae, precision.vae)  # diffusers' own method warns if there is no reason
    placed = place_pipeline(pipeline, loading, target)
    return _wrap(placed, name=str(source), revision=digest_of_weights(weights / "transformer"))


def _load_saved(source: str | Path, loading: Loading) -> Backbone:
    family, target = parse_family(loading.family), resolve_device(loading.device)
    location, index, options = find_index(source, loading)
    if loading.use_safetensors and not options:  # a folder; of a hub id, diffusers fetches no others
        check_safetensors(expanded(source))
    card = find_card(str(source), saved_transformers(location, index, options))
    precision = choose_precision(loading, target, card)
    parts = read_model_index(index)
    how: dict[str, Any] = {"use_safetensors": loading.use_safetensors, **options}
    how |= {name: getattr(loading, name) for name in loading.changed("device_map", "variant")}
    if loading.quantization is not None:
        how["quantization_config"] = quantization_config(loading.quantization, parts, precision.model)
    pipeline = place_pipeline(_load(location, parts, precision, **how), loading, target)
    return wrap_pipeline(pipeline, name=str(source), index=index, revision=loading.revision, family=family)


def wrap_pipeline(
    pipeline: Any, *, name: str, index: Path, revision: str | None, family: type[Backbone] | None = None
) -> Backbone:
    """Return the backbone of a pipeline whose model_index.json is known."""
    return _wrap(pipeline, name=name, revision=commit_of(index) or revision, family=family)


def _load(location: str, parts: Mapping[str, Any], precision: Precision, **options: Any) -> Any:
    import diffusers

    # a pipeline saved without a part (its text encoder, say) loads only when that is requested
    absent = {name: None for name, kind in parts.items() if kind == [None, None]}
    if parts.get("vae") == ["probe.mini.codec", CODEC]:
        import_module("probe.mini")  # diffusers takes classes only from modules that are imported already
    try:
        return diffusers.DiffusionPipeline.from_pretrained(
            location, **{dtype_argument(): precision.for_pipeline()}, **options, **absent
        )
    except (ImportError, torch.OutOfMemoryError):
        raise  # not the files' fault
    except Exception as error:  # damaged configurations and weights raise a dozen kinds
        raise not_loaded(location, error) from error


def _wrap(
    pipeline: Any, *, name: str | None = None, revision: str | None = None, family: type[Backbone] | None = None
) -> Backbone:
    family = family or _family_of(pipeline)
    if family is None:
        _check_linear(pipeline)
        check_pipeline(pipeline)
        raise UnsupportedBackboneError(f"{type(pipeline).__name__} is not a pipeline of a supported family.")
    return family(pipeline, name=name, revision=revision)


def _family_of(pipeline: Any) -> type[Backbone] | None:
    """The family of a pipeline: that of the bundled backbones where it has their codec and reads their prompts."""
    family = family_of(pipeline)
    if family is not CogVideoX or type(pipeline.vae).__name__ != CODEC:
        return family
    from probe.mini.family import Mini, reads_scenes

    return Mini if reads_scenes(pipeline) else family


def _check_linear(pipeline: Any) -> None:
    """A better reason for models whose self-attention has no queries times keys to look at."""
    transformer = getattr(pipeline, "transformer", None)
    named = transformer.named_modules() if isinstance(transformer, torch.nn.Module) else ()
    for name, module in named:
        if name.endswith(".attn1") and hasattr(module, "processor"):
            check_multiplies(module, f"{type(transformer).__name__} layer {name}")


def resolve_device(device: str | torch.device) -> torch.device:
    """A device that is there; "auto" is the GPU if there is one.

    Raises
    ------
    InvalidInputError
        For a device that is unknown or not available; names those that are.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ", ".join(["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))])
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(f"device {device!r} is unknown. Available here: {available}.") from error
    try:
        torch.empty(1, device=target)
    except (AssertionError, RuntimeError) as error:  # what torch raises differs by kind of device
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InvalidInputError(
            f"device {str(target)!r} cannot be used: {reason}. Available here: {available}."
        ) from error
    return target
