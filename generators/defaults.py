"""Which layers to guide when the caller names none: those that layer selection chose."""

from __future__ import annotations

from analyses.defaults import tracking_defaults
from probe.backbone import Backbone
from store.errors import InvalidInputError

PUBLISHED_LAYERS = {
    "THUDM/CogVideoX-2b": (13, 17, 21),
    "THUDM/CogVideoX-5b": (15, 17, 18),
    "THUDM/CogVideoX-5b-I2V": (11, 14, 15),
    "hunyuanvideo-community/HunyuanVideo": (16, 33, 34),
}
"""The three layers of each backbone that DiffTrack (Nam et al., 2025) selected and guided."""


def guided_layers(backbone: Backbone) -> tuple[int, ...]:
    """The published layers of a published backbone; of another the one that tracks best, where that is known.

    Raises
    ------
    InvalidInputError
        When nothing is known of the backbone; says how to find out.

    Examples
    --------
    >>> from probe import load_backbone
    >>> guided_layers(load_backbone("mini"))
    (5,)
    """
    name = backbone.name.rstrip("/")
    if name in PUBLISHED_LAYERS:
        return PUBLISHED_LAYERS[name]
    try:
        return (tracking_defaults(backbone).layer,)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"no layers are known to guide {backbone.name} by. Pass layers=, or find them: "
            "select_layers(sweep(backbone, clips, Selection(steps=[-1], layers='all'))).layers. "
            f"Published: {', '.join(PUBLISHED_LAYERS)}."
        ) from error
