"""The facts of a model that a plan needs, from a backbone or from the published configuration of a model's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from probe.backbones.backbone import Backbone
from probe.backbones.geometry import Size
from probe.backbones.layers import LayerInfo
from probe.families.published import ModelCard, Release
from probe.families.registry import families
from probe.loading.planning import on_meta
from store.errors import InvalidInputError, UnsupportedBackboneError
from store.layout import TokenLayout


@dataclass(frozen=True)
class ModelFacts:
    """A model as a plan sees it.

    Attributes
    ----------
    name, source : what it is, and where its configuration is from
    layers : its self-attention layers in execution order
    denoisers : transformers, of which one runs at a step
    parameters : of all transformers together
    patch : latent frames, rows and columns of a token
    strides : images per latent frame after the first, and pixels per latent cell
    text_tokens : the most text tokens in the self-attention
    size : the default size of a clip
    steps : the usual number of denoising steps
    dtype, vae_dtype : the data types that it is planned in
    vae : class and configuration of the VAE; None if it is not known
    """

    name: str
    source: str
    layers: tuple[LayerInfo, ...]
    denoisers: int
    parameters: int
    patch: tuple[int, int, int]
    strides: tuple[int, int]
    text_tokens: int
    size: Size
    steps: int
    dtype: torch.dtype
    vae_dtype: torch.dtype
    vae: tuple[type, Mapping[str, Any]] | None

    def layout(self, size: Size) -> TokenLayout:
        """Return where the tokens of a clip of a size lie.

        Raises
        ------
        InvalidInputError
            For heights and widths that are not whole cells.
        """
        steps = [self.strides[1] * cells for cells in self.patch[1:]]
        for name, side, step in zip(("height", "width"), size[:2], steps, strict=True):
            if side % step:
                raise InvalidInputError(
                    f"{self.name} does not take {name} {side}: it must be a multiple of {step} px. The nearest is "
                    f"{max(1, round(side / step)) * step}."
                )
        frames = -(-self.latent_frames(size.images) // self.patch[0])
        rows, columns = (side // step for side, step in zip(size[:2], steps, strict=True))
        # whichever images a frame covers, its tokens are as many: all of them but the first share what is left
        ends = [1 + (size.images - 1) * frame // max(1, frames - 1) for frame in range(frames)]
        spans = [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        return TokenLayout(frames, rows, columns, *size, self.text_tokens, spans)

    def latent_frames(self, images: int) -> int:
        """Return the frames of the latents of a clip."""
        return (images - 1) // self.strides[0] + 1

    def latent_shape(self, size: Size, channels: int) -> tuple[int, ...]:
        """Return the shape of the latents that the VAE decodes, (batch, channel, frame, y, x)."""
        spatial = self.strides[1]
        return 1, channels, self.latent_frames(size.images), size.height // spatial, size.width // spatial


def facts_of_backbone(backbone: Backbone) -> ModelFacts:
    """Return the facts of a backbone, loaded or planned.

    Examples
    --------
    >>> from probe.loading.planning import plan_backbone
    >>> facts = facts_of_backbone(plan_backbone("mini"))
    >>> len(facts.layers), facts.patch, facts.strides, facts.text_tokens
    (6, (1, 2, 2), (1, 2), 40)
    """
    vae = backbone.pipeline.vae
    return ModelFacts(
        backbone.name,
        f"{type(backbone.pipeline).__name__} with its own configuration",
        backbone.layers,
        len(backbone.denoisers),
        sum(_count(denoiser) for denoiser in backbone.denoisers),
        backbone.patch,
        backbone.strides,
        backbone.text_tokens(),
        backbone.default_size,
        50,
        backbone.dtype,
        vae.dtype,
        (type(vae), dict(vae.config)) if hasattr(vae, "config") else None,
    )


def meta_transformer(card: ModelCard) -> Any:
    """Return the transformer of a published model on the meta device.

    Raises
    ------
    UnsupportedBackboneError
        When this diffusers does not have its class.
    """
    further = {} if card.released is None else dict(card.released.transformer)
    config = {name: value for name, value in card.architecture.items() if name != "class"} | further
    frozen = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in config.items())
    return _transformer(card.architecture["class"], frozen)


@lru_cache(maxsize=8)
def _transformer(kind: str, config: tuple[tuple[str, Any], ...]) -> Any:
    import diffusers

    found = getattr(diffusers, kind, None)
    if found is None:
        raise UnsupportedBackboneError(
            f"this diffusers has no {kind}. Install a newer diffusers to plan for this model."
        )
    return on_meta(found, dict(config), torch.bfloat16)


def facts_of_card(card: ModelCard) -> ModelFacts:
    """Return the facts of a published model, its layers counted in its transformer on the meta device.

    Raises
    ------
    InvalidInputError
        For a card without a published configuration.
    UnsupportedBackboneError
        When diffusers does not have its transformer.

    Examples
    --------
    >>> from probe.families.published import find_card
    >>> facts = facts_of_card(find_card("THUDM/CogVideoX-2b"))
    >>> len(facts.layers), facts.layers[0].heads, facts.layout(facts.size).video_tokens
    (30, 30, 17550)
    """
    import diffusers

    release = card.released
    if release is None:
        raise InvalidInputError(f"the published configuration of {card.name} is not known.")
    transformer = meta_transformer(card)
    vae = None if release.vae is None else dict(release.vae)
    precision = card.precision
    dtype, vae_dtype = ("bfloat16", "bfloat16") if precision is None else (precision.model, precision.vae)
    return ModelFacts(
        card.name,
        release.source,
        _layers(transformer, release),
        release.denoisers,
        release.denoisers * _count(transformer),
        _patch(transformer),
        release.strides,
        release.text_tokens,
        Size(*release.size),
        release.steps,
        getattr(torch, dtype),
        getattr(torch, vae_dtype),
        None if vae is None else (getattr(diffusers, vae.pop("class")), vae),
    )


def _layers(transformer: Any, release: Release) -> tuple[LayerInfo, ...]:
    config = transformer.config
    family = next((family for family in families() if release.pipeline in family.pipelines), None)
    found: list[LayerInfo] = []
    for path in release.attention:
        container, _, leaf = path.partition(".*.")
        for number, block in enumerate(getattr(transformer, container)):
            module = getattr(block, leaf)
            name = f"{container}.{number}.{leaf}"
            own = None if family is None else family.heads_of(transformer, module)
            heads, channels = own or (config.num_attention_heads, config.attention_head_dim)
            found.append(LayerInfo(len(found), name, int(heads), int(channels)))
    if not found:
        raise UnsupportedBackboneError(
            f"{type(transformer).__name__} of this diffusers has no modules at {', '.join(release.attention)}."
        )
    return tuple(found)


def _patch(transformer: Any) -> tuple[int, int, int]:
    config = transformer.config
    if isinstance(config.patch_size, int):
        return config.get("patch_size_t") or 1, config.patch_size, config.patch_size
    frames, rows, columns = config.patch_size
    return frames, rows, columns


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
