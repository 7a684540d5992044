"""Layers to guide by default: those that layer selection chose."""

from __future__ import annotations

from analyses.selection.defaults import tracking_defaults
from probe.backbones.backbone import Backbone
from probe.families.published import model_card, names_with
from store.arguments import checked
from store.errors import InvalidInputError
from store.wording import Wording


@checked
def guided_layers(backbone: Backbone) -> tuple[int, ...]:
    """Return the published layers of a published backbone; for others the layer that tracks best, if known.

    The published layers are those that DiffTrack (Nam et al., 2025) selected and guided.

    Raises
    ------
    InvalidInputError
        When no layer is known for the backbone; the message says how to find some.

    Examples
    --------
    >>> from probe import load_backbone
    >>> guided_layers(load_backbone("mini"))
    (5,)
    """
    card = model_card(backbone)
    if card is not None and card.guided is not None:
        return card.guided.layers
    try:
        return (tracking_defaults(backbone).layer,)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"no layers are known to guide {backbone.name} by.",
            remedy=Wording(
                "Pass {layers}, or find them: select_layers(sweep(backbone, clips, Selection(steps=[-1], "
                "layers='all'))). Published: {}.",
                ", ".join(names_with("guided")),
                layers=...,
            ),
        ) from error
