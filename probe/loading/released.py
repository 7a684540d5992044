"""Plans of published models from the configurations that are bundled: nothing is fetched."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from probe.backbones.backbone import Backbone
from probe.families.published import find_card
from probe.loading.load_backbone import load_backbone
from probe.loading.model_facts import meta_transformer
from probe.loading.planning import NotLoaded, on_meta
from store.errors import BackboneNotFoundError


def plan_released(name: str) -> Backbone:
    """Plan a published model from its bundled configuration; nothing is fetched.

    Parameters
    ----------
    name : str
        Of :func:`ditprobe.planning.model_plan.published_models`, or another id of the same weights.

    Raises
    ------
    BackboneNotFoundError
        For a name whose published configuration is not known.
    UnsupportedBackboneError
        When this diffusers does not have its classes, or ditprobe plans it by its facts alone.

    Examples
    --------
    >>> plan_released("THUDM/CogVideoX-5b").layout(480, 720, 49).video_tokens
    17550
    """
    import diffusers

    card = find_card(name)
    if card is None or card.released is None or card.released.vae is None:
        raise BackboneNotFoundError(f"the published configuration of {name!r} is not known.")
    release, precision = card.released, card.precision
    dtype, vae_dtype = ("bfloat16", "bfloat16") if precision is None else (precision.model, precision.vae)
    transformer = torch.nn.Module.to(meta_transformer(card), getattr(torch, dtype))
    vae: dict[str, Any] = dict(card.released.vae)
    kind = getattr(diffusers, release.pipeline)
    of_cogvideox = release.pipeline.startswith("CogVideoX")
    scheduler = diffusers.CogVideoXDDIMScheduler if of_cogvideox else diffusers.FlowMatchEulerDiscreteScheduler
    made: dict[str, Any] = {
        "transformer": transformer,
        "transformer_2": transformer if release.denoisers > 1 else None,
        "vae": on_meta(getattr(diffusers, vae.pop("class")), vae, getattr(torch, vae_dtype)),
        "scheduler": scheduler(),
    }
    needed = inspect.signature(kind.__init__).parameters
    optional = {each for each, parameter in needed.items() if parameter.default is not parameter.empty}
    parts = {
        each: made.get(each, NotLoaded())
        for each in needed
        if each != "self" and (each in made or each not in optional)
    }
    found = load_backbone(kind(**parts))
    found.name = name
    return found
