"""Which layer, step and heads track best on a backbone: found by this library's own selection, or published."""

from __future__ import annotations

from dataclasses import dataclass

from probe.backbone import Backbone
from probe.families.published import ModelCard, model_card, names_with
from store.errors import InvalidInputError

_STEPS = 50


@dataclass(frozen=True)
class TrackingDefaults:
    """What to match with, in a run of 50 steps; ``heads`` None is all of them; ``source`` says who found it."""

    layer: int
    step: int
    heads: tuple[int, ...] | None
    source: str

    def step_of(self, steps: int) -> int:
        """The step at about the same noise of a run of another length than 50.

        Examples
        --------
        >>> TrackingDefaults(5, 46, None, "").step_of(50), TrackingDefaults(5, 46, None, "").step_of(10)
        (46, 8)
        """
        return self.step if self.step < 0 else step_in_run(self.step, _STEPS, steps)


def step_in_run(step: int, steps: int, run_steps: int) -> int:
    """The step of a run of ``run_steps`` steps at about the noise of a step of a run of ``steps``.

    Examples
    --------
    >>> step_in_run(46, 50, 10), step_in_run(49, 50, 25), step_in_run(0, 50, 10)
    (8, 24, 0)
    """
    return max(0, round((step + 1) * run_steps / steps) - 1)


def tracking_defaults(backbone: Backbone) -> TrackingDefaults:
    """Return the choice for a backbone: by its name, else by the configuration of its transformer.

    A folder with the weights of a known model, and the model under another id, have its defaults; so have other
    weights of the same configuration, of which ``source`` warns.

    Raises
    ------
    InvalidInputError
        When nothing is known of it; says how to find out.

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
            f"no layer is known to track well on {backbone.name}. Pass layer=, or find one: "
            "select_layers(sweep(backbone, clips, Selection(steps=[-1], layers='all'))).layers[0]. "
            f"Known: {', '.join(names_with('tracking'))}.{_of_guiding(card)}"
        )
    return TrackingDefaults(known.layers[0], known.step, known.heads, card.source_of(known))


def _of_guiding(card: ModelCard | None) -> str:
    """What is published of such a model besides."""
    if card is None or card.guided is None:
        return ""
    layers = ", ".join(map(str, card.guided.layers))
    return f" Of {card.name} only the layers to guide by are published: {layers}."
