"""Layer selections on disk: readable JSON with a digest that detects changes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from analyses.selection.layer_selection import LayerSelection
from store.arguments import checked, checked_but
from store.errors import FormatVersionError, InvalidInputError, RecordingError
from store.files.damaged import damage_as
from store.files.digest import digest_of_text
from store.files.outputs import OutputFile

_FILE = OutputFile("layer selection", "layers.json")
FORMAT, VERSION = "ditprobe layer selection", 1
_TUPLES = ("layers", "heads")


@checked_but("selection")
def save_selection(selection: LayerSelection, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a selection as JSON, atomically.

    Parameters
    ----------
    selection : LayerSelection
    path : file, usually with the suffix ``.json``
    overwrite : replace a file that is there

    Returns
    -------
    Path of the file.

    Raises
    ------
    InvalidInputError
        For anything but a selection.
    OutputExistsError
        When the path is taken and ``overwrite`` is False, or is a folder.
    RecordingError
        When it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> chosen = LayerSelection((5, 4), xr.Dataset(), 2, "last", 49, 2000, 0, 8, steps=50, backbone="mini")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_selection(save_selection(chosen, f"{folder}/layers.json")) == chosen
    True
    """
    if not isinstance(selection, LayerSelection):
        raise InvalidInputError(f"save_selection takes a LayerSelection; got {type(selection).__name__}.")
    path = Path(path)
    _FILE.check(path, overwrite=overwrite)
    content = _content(selection)
    text = json.dumps({**content, "digest": _digest(content)}, indent=1, allow_nan=False) + "\n"
    _FILE.write(path, text)
    return path


@checked
def load_selection(path: str | os.PathLike[str]) -> LayerSelection:
    """Read a selection that :func:`save_selection` wrote.

    Raises
    ------
    RecordingError
        When there is none at that path, or it was changed or damaged after saving.
    FormatVersionError
        When it was written in a newer format.

    Examples
    --------
    >>> load_selection("nowhere.json")
    Traceback (most recent call last):
    ...
    store.errors.RecordingError: nowhere.json holds no layer selection: it does not exist.
    """
    path = Path(path)
    with _FILE.reading(path):
        content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RecordingError(f"{path} holds no layer selection: it does not say {FORMAT!r} in 'format'.")
    if content.get("version") != VERSION:
        raise FormatVersionError(
            f"{path} is a layer selection of version {content.get('version')!r}; this ditprobe reads version {VERSION}."
        )
    if content.pop("digest", None) != _digest(content):
        raise RecordingError(
            f"{path} was changed or damaged since it was saved: its digest does not match. Save the selection again, "
            f"or pass the layers themselves."
        )
    with damage_as(RecordingError, f"{path} is a layer selection that this ditprobe cannot read"):
        return _selection(content)


def _content(selection: LayerSelection) -> dict[str, Any]:
    """Everything but the digest, as JSON holds it."""
    values = {field.name: getattr(selection, field.name) for field in fields(selection) if field.name != "scores"}
    plain = {name: list(value) if name in _TUPLES and value is not None else value for name, value in values.items()}
    scores = selection.scores
    table = {
        str(name): {"dims": list(array.dims), "values": _listed(array)} for name, array in scores.variables.items()
    }
    attrs = {str(name): dict(array.attrs) for name, array in scores.variables.items() if array.attrs}
    return {"format": FORMAT, "version": VERSION, **plain, "scores": table, "attributes": attrs}


def _listed(array: xr.Variable) -> Any:
    """Return values as JSON holds them, with null for NaN."""
    return _without_nan(np.asarray(array.values).tolist())


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _selection(content: Mapping[str, Any]) -> LayerSelection:
    names = [field.name for field in fields(LayerSelection) if field.name != "scores"]
    values = {name: content[name] for name in names}
    values |= {name: tuple(values[name]) for name in _TUPLES if values[name] is not None}
    return LayerSelection(**values, scores=_scores(content["scores"], content["attributes"]))


def _scores(table: Mapping[str, Any], attrs: Mapping[str, Any]) -> xr.Dataset:
    variables = {}
    for name, entry in table.items():
        array = np.asarray(entry["values"])
        # null stands for NaN; arrays that contain it are read as objects.
        array = array.astype(np.float64) if array.dtype == object else array
        variables[name] = (tuple(entry["dims"]), array, attrs.get(name, {}))
    coords = {name: variables.pop(name) for name in list(variables) if variables[name][0] == (name,)}
    return xr.Dataset(variables, coords)


def _digest(content: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits of the content, whatever its white space and order."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return digest_of_text(text)
