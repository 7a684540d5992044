"""Cards of single models, one each, found by name or by the configuration of the transformer.

The cards are in ``published.json``: the layers that others published or that this library selected, learning rates
that were tuned, the data types and the configuration of a release, and the source of each. The architectures are
put together from published configurations and from the defaults of diffusers' classes; no released checkpoint was at
hand to compare them with. Fields of a configuration are compared one by one, so that a newer diffusers, which adds
fields, finds the same card.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe.execution.compiled import unwrapped
from store.checks import one_of

if TYPE_CHECKING:
    from probe.backbones.backbone import Backbone

_CARDS = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class KnownLayers:
    """Layers and, for matching, a step of a run of 50 steps and heads (None is all); ``source`` states the origin."""

    layers: tuple[int, ...]
    source: str
    step: int | None = None
    heads: tuple[int, ...] | None = None


@dataclass(frozen=True)
class KnownPrecision:
    """The data types in which a model's authors ran its transformer and its VAE; ``source`` states the origin."""

    model: str
    vae: str
    source: str


@dataclass(frozen=True)
class Release:
    """The published configuration of a model, enough to plan with and not to run.

    Attributes
    ----------
    pipeline : class of diffusers
    transformer : fields of its configuration beyond those of the card's architecture
    denoisers : how many transformers of this configuration there are
    attention : where the self-attention modules are, such as ``blocks.*.attn1``
    strides : images per latent frame, and pixels per latent cell
    text_tokens : the most text tokens that take part in the self-attention
    size : height and width in pixels, and images, of the clips that it was published for
    steps : denoising steps
    vae : class of the VAE (``class``) and fields of its configuration, or None
    source : where this is from
    """

    pipeline: str
    transformer: Mapping[str, Any]
    denoisers: int
    attention: tuple[str, ...]
    strides: tuple[int, int]
    text_tokens: int
    size: tuple[int, int, int]
    steps: int
    vae: Mapping[str, Any] | None
    source: str


@dataclass(frozen=True)
class ModelCard:
    """The facts of one model; None and empty where nothing is known.

    Attributes
    ----------
    name : str
    aliases : other ids of the same weights
    architecture : mapping
        Fields of the transformer's configuration that tell the model from others, and its ``class``.
    tracking : the layer, step and heads that match points best
    guided : the layers of cross-attention guidance
    ditflow : the layer of the DiTFlow release
    learning_rates : mapping from what is optimised to (first, last), for motion transfer
    precision : the data types of the model's authors
    released : the published configuration
    by_configuration : bool
        Found by configuration: the weights may be others than those that the facts were found on.
    """

    name: str
    aliases: tuple[str, ...]
    architecture: Mapping[str, Any]
    tracking: KnownLayers | None = None
    guided: KnownLayers | None = None
    ditflow: KnownLayers | None = None
    learning_rates: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    precision: KnownPrecision | None = None
    released: Release | None = None
    by_configuration: bool = False

    def source_of(self, found: KnownLayers) -> str:
        """Source of some layers, and the model where that is known by its configuration alone."""
        if not self.by_configuration:
            return found.source
        return f"{found.source}; of {self.name}, whose configuration this backbone has: other weights may differ"


@lru_cache(maxsize=1)
def model_cards() -> tuple[ModelCard, ...]:
    """Return all cards.

    Examples
    --------
    >>> [card.name for card in model_cards()][:3]
    ['mini', 'mini-rope', 'mini@1']
    """
    return tuple(_card(entry) for entry in json.loads(_CARDS.read_text(encoding="utf-8")))


def names_with(fact: str) -> tuple[str, ...]:
    """The models of which a fact is known: "tracking", "guided", "ditflow" or "learning_rates".

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> names_with("ditflow")
    ('THUDM/CogVideoX-2b', 'THUDM/CogVideoX-5b')
    """
    one_of(fact, ("tracking", "guided", "ditflow", "learning_rates"), "fact")
    return tuple(card.name for card in model_cards() if getattr(card, fact))


def model_card(backbone: Backbone) -> ModelCard | None:
    """Return the card of a backbone: by its name or an alias, else by its transformer's configuration.

    Examples
    --------
    >>> from probe import load_backbone
    >>> card = model_card(load_backbone("mini"))
    >>> card.tracking.layers, card.by_configuration
    ((5,), False)
    """
    denoisers: tuple[Any, ...] = tuple(map(unwrapped, backbone.denoisers))
    described = [({kind.__name__ for kind in type(each).__mro__}, dict(each.config)) for each in denoisers]
    return find_card(backbone.name, described)


def find_card(name: str, transformers: Sequence[tuple[Collection[str], Mapping[str, Any]]] = ()) -> ModelCard | None:
    """Return the card of a name, an alias, or transformers that all have its architecture.

    Parameters
    ----------
    name : str
    transformers : the names of each one's class and its bases, and its configuration

    Examples
    --------
    >>> find_card("zai-org/CogVideoX-2b").name
    'THUDM/CogVideoX-2b'
    """
    name = name.rstrip("/")
    for card in model_cards():
        if name in (card.name, *card.aliases):
            return card
    for card in model_cards():
        if transformers and all(_matches(kinds, config, card.architecture) for kinds, config in transformers):
            return dataclasses.replace(card, by_configuration=True)
    return None


def _matches(kinds: Collection[str], config: Mapping[str, Any], architecture: Mapping[str, Any]) -> bool:
    """Tell whether a transformer is of the class, or one derived from it, and has every field."""
    if architecture["class"] not in kinds:
        return False
    fields = {name: value for name, value in architecture.items() if name != "class"}
    return all(name in config and _as_tuple(config[name]) == _as_tuple(value) for name, value in fields.items())


def _as_tuple(value: Any) -> Any:
    """A list as the tuple that it was before it was saved as JSON."""
    return tuple(value) if isinstance(value, list) else value


def _card(entry: Mapping[str, Any]) -> ModelCard:
    rates = {name: value for name, value in entry.get("learning_rates", {}).items() if name != "source"}
    return ModelCard(
        entry["name"],
        tuple(entry["aliases"]),
        entry["architecture"],
        _layers(entry.get("tracking")),
        _layers(entry.get("guided")),
        _layers(entry.get("ditflow")),
        {name: (float(first), float(last)) for name, (first, last) in rates.items()},
        None if "precision" not in entry else KnownPrecision(**entry["precision"]),
        _release(entry.get("released")),
    )


def _release(entry: Mapping[str, Any] | None) -> Release | None:
    if entry is None:
        return None
    values: dict[str, Any] = {name: _as_tuple(value) for name, value in entry.items()}
    return Release(**values)


def _layers(entry: Mapping[str, Any] | None) -> KnownLayers | None:
    if entry is None:
        return None
    layers, heads = entry.get("layers") or [entry["layer"]], entry.get("heads")
    return KnownLayers(tuple(layers), entry["source"], entry.get("step"), None if heads is None else tuple(heads))
