"""Layer, step and heads to match with: those requested, those of a selection, or the published ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from analyses.selection.layer_selection import LayerSelection
from probe.backbones.backbone import Backbone
from probe.families.published import ModelCard, model_card, names_with
from store.errors import EmptySelectionError, InvalidInputError
from store.wording import Wording

_STEPS = 50


@dataclass(frozen=True)
class TrackingDefaults:
    """Layer, step (of 50) and heads to match with; ``heads`` None means all; ``source`` states the origin."""

    layer: int
    step: int
    heads: tuple[int, ...] | None
    source: str

    def step_of(self, steps: int) -> int:
        """Return the step with about the same noise in a run of another length than 50.

        Examples
        --------
        >>> TrackingDefaults(5, 46, None, "").step_of(50), TrackingDefaults(5, 46, None, "").step_of(10)
        (46, 8)
        """
        return self.step if self.step < 0 else step_in_run(self.step, _STEPS, steps)


def step_in_run(step: int, steps: int, run_steps: int) -> int:
    """Return the step of a run of ``run_steps`` steps with about the noise of a step of a run of ``steps``.

    Examples
    --------
    >>> step_in_run(46, 50, 10), step_in_run(49, 50, 25), step_in_run(0, 50, 10)
    (8, 24, 0)
    """
    return max(0, round((step + 1) * run_steps / steps) - 1)


def tracking_defaults(backbone: Backbone) -> TrackingDefaults:
    """Return the choice for a backbone: by its name, else by the configuration of its transformer.

    The weights of a known model in a folder or under another id have its defaults. So do other weights of the same
    configuration, about which ``source`` warns.

    Raises
    ------
    InvalidInputError
        When no defaults are known; the message says how to find some.

    Examples
    --------
    >>> from probe import load_backbone
    >>> tracking_defaults(load_backbone("mini")).heads is None
    True
    """
    card = model_card(backbone)
    known = None if card is None else card.tracking
    if card is None or known is None or known.step is None:
        raise InvalidInputError(
            f"no layer is known to track well on {backbone.name}.",
            remedy=Wording(
                "Pass {layer}, or find one: select_layers(sweep(backbone, clips, Selection(steps=[-1], "
                "layers='all'))). Known: {}.{}",
                ", ".join(names_with("tracking")),
                _of_guiding(card),
                layer=...,
            ),
        )
    return TrackingDefaults(known.layers[0], known.step, known.heads, card.source_of(known))


def chosen_layers(layers: Iterable[int] | LayerSelection, backbone: Backbone) -> tuple[int, ...]:
    """Return layers as numbers; those of a selection best first, after a check that it belongs to this backbone.

    Parameters
    ----------
    layers : iterable of int, or LayerSelection
    backbone : Backbone

    Raises
    ------
    EmptySelectionError
        For a selection without layers.
    InvalidInputError
        For a selection that was made on another model. A model and its copy in a folder (equal ``config_hash``) count
        as the same, as do ids of the same weights; a selection without an origin is accepted.

    Examples
    --------
    >>> from probe import load_backbone
    >>> chosen_layers([5, 4], load_backbone("mini"))
    (5, 4)
    """
    if not isinstance(layers, LayerSelection):
        return tuple(layers)
    check_not_empty(layers)
    if not _is_of(layers, backbone):
        raise InvalidInputError(
            f"the layer selection was made on {layers.backbone or 'another model'} (configuration "
            f"{layers.config_hash or 'not noted'}), and this backbone is {backbone.name} ({backbone.config_hash}): "
            f"layers of one model mean nothing for another. Select again, or pass the numbers themselves, "
            "selection.layers."
        )
    return layers.layers


def check_not_empty(selection: LayerSelection) -> None:
    """Raise if a selection holds no layer.

    Raises
    ------
    EmptySelectionError

    Examples
    --------
    >>> import xarray as xr
    >>> check_not_empty(LayerSelection((5,), xr.Dataset(), 1, "last", 49, 2000, 0, 8))
    """
    if not selection.layers:
        raise EmptySelectionError(
            f"the layer selection{f' made on {selection.backbone}' if selection.backbone else ''} is empty: no layer "
            "was good enough to be chosen, because none finds more points than 'nothing moves'. Name the layers "
            "yourself, or select on clips that move more."
        )


def selected_step(selection: LayerSelection, steps: int) -> int | None:
    """Return the step with about the noise of a selection's step in a run of ``steps`` steps; None if it has none.

    Examples
    --------
    >>> import xarray as xr
    >>> chosen = LayerSelection((5,), xr.Dataset(), 1, "last", 49, 2000, 0, 8, steps=50)
    >>> selected_step(chosen, 50), selected_step(chosen, 25)
    (49, 24)
    """
    if selection.step is None:
        return None
    return step_in_run(selection.step, selection.steps or steps, steps)


def matched_with(
    backbone: Backbone,
    layer: int | LayerSelection | None,
    step: int | None = None,
    heads: Iterable[int] | None = None,
    *,
    steps: int = 50,
) -> tuple[int, int, tuple[int, ...] | None]:
    """Return layer, step and heads to match with, in a run of ``steps`` steps.

    Parameters
    ----------
    backbone : Backbone
    layer : int, LayerSelection or None
        Of a selection, its best layer; None takes that of :func:`tracking_defaults`.
    step, heads : optional
        By default those of the selection or of :func:`tracking_defaults`; for a layer number, the last step and all
        heads.
    steps : int

    Raises
    ------
    InvalidInputError
        When no layer is known for the backbone, or the selection belongs to another one.

    Examples
    --------
    >>> from probe import load_backbone
    >>> matched_with(load_backbone("mini"), None), matched_with(load_backbone("mini"), 3)
    ((5, 49, None), (3, -1, None))
    """
    if isinstance(layer, LayerSelection):
        number = chosen_layers(layer, backbone)[0]
        its_step, its_heads = selected_step(layer, steps), layer.heads
    elif layer is None:
        known = tracking_defaults(backbone)
        number, its_step, its_heads = known.layer, known.step_of(steps), known.heads
    else:
        number, its_step, its_heads = layer, None, None
    step = its_step if step is None else step
    return number, -1 if step is None else step, its_heads if heads is None else tuple(heads)


def _is_of(selection: LayerSelection, backbone: Backbone) -> bool:
    """Return whether a selection was made on a backbone, as far as it names the model."""
    if selection.config_hash and selection.config_hash == backbone.config_hash:
        return True
    made_on, name = selection.backbone.rstrip("/"), backbone.name.rstrip("/")
    if made_on == name:
        # pipelines without a name use that of their class, which many share
        return not selection.config_hash or name != type(backbone.pipeline).__name__
    card = model_card(backbone)
    known = card is not None and not card.by_configuration and made_on in (card.name, *card.aliases)
    return known or not (made_on or selection.config_hash)


def _of_guiding(card: ModelCard | None) -> str:
    """Return a sentence on what else is published about such a model."""
    if card is None or card.guided is None:
        return ""
    layers = ", ".join(map(str, card.guided.layers))
    return f" Of {card.name} only the layers to guide by are published: {layers}."
