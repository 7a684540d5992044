"""JSON files of a saved pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from store.errors import BackboneNotFoundError
from store.files.damaged import damage_as


def read_json(path: Path) -> dict[str, Any]:
    """Return the values of a JSON file of a saved pipeline.

    Raises
    ------
    BackboneNotFoundError
        If the file is damaged, or does not hold named values.
    """
    with damage_as(BackboneNotFoundError, f"{path} is damaged", "Save or copy the pipeline again."):
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise ValueError("it does not hold named values")
        return values
