"""Which layer, step and heads track best on a backbone: found by this library's own selection, or published."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from probe.backbone import Backbone
from store.errors import InvalidInputError

_STEPS = 50
_FOUND = Path(__file__).with_suffix(".json")


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
        return self.step if self.step < 0 else max(0, round((self.step + 1) * steps / _STEPS) - 1)


@lru_cache(maxsize=1)
def _known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_FOUND.read_text())
    return found


def tracking_defaults(backbone: Backbone) -> TrackingDefaults:
    """The choice for a backbone, by its name or where it was loaded from.

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
    entry = _known().get(backbone.name.rstrip("/"))
    if entry is None:
        raise InvalidInputError(
            f"no layer is known to track well on {backbone.name}. Pass layer=, or find one: "
            "select_layers(sweep(backbone, clips, Selection(steps=[-1], layers='all'))).layers[0]. "
            f"Known: {', '.join(_known())}."
        )
    heads = None if entry["heads"] is None else tuple(entry["heads"])
    return TrackingDefaults(entry["layer"], entry["step"], heads, entry["source"])
