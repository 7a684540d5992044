"""Layers on the command line: numbers, or the file of a selection that ``ditprobe select --out`` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from ditprobe.cli.parsing import numbers
from store.errors import InvalidInputError

if TYPE_CHECKING:
    from analyses.selection.layer_selection import LayerSelection
    from probe.backbones.backbone import Backbone


def layers_option(text: str | None, name: str = "layers") -> tuple[int, ...] | Literal["all"] | LayerSelection | None:
    """Return the value of ``--layers``: numbers, "all", or the selection in a ``.json`` file.

    Parameters
    ----------
    text : "0,3,-1", "0:30:2", "all", or a path that ends in ``.json`` (an ``@`` before it is left out)
    name : name of the option, for messages

    Raises
    ------
    InvalidInputError
        For any other text; EmptySelectionError for a selection without layers.
    RecordingError
        For a file that is missing or is not a selection.

    Examples
    --------
    >>> layers_option("13,17"), layers_option("all"), layers_option(None)
    ((13, 17), 'all', None)
    """
    if text is None or not is_file_name(text):
        return numbers(text, name)
    from analyses.selection.defaults import check_not_empty
    from analyses.selection.files import load_selection

    found = load_selection(text.removeprefix("@"))
    check_not_empty(found)
    return found


def layer_option(text: str | None, name: str = "layer") -> int | LayerSelection | None:
    """Return the value of ``--layer``: one number, or the selection in a ``.json`` file, for its best layer.

    Raises
    ------
    InvalidInputError, RecordingError
        As of :func:`layers_option`, and for several numbers.

    Examples
    --------
    >>> layer_option("-1")
    -1
    """
    found = layers_option(text, name)
    if not isinstance(found, (tuple, str)):
        return found
    if found == "all" or len(found) != 1:
        raise InvalidInputError(
            f"--{name} {text!r} is not one layer. Write for example '5', or the file of a selection."
        )
    return int(found[0])


def check_layers(found: Any, backbone: Backbone) -> None:
    """Raise if layers are a selection that was made on another model.

    Raises
    ------
    InvalidInputError

    Examples
    --------
    >>> from probe import load_backbone
    >>> check_layers((5, 4), load_backbone("mini"))
    """
    from analyses.selection.defaults import chosen_layers
    from analyses.selection.layer_selection import LayerSelection

    if isinstance(found, LayerSelection):
        chosen_layers(found, backbone)


def is_file_name(text: str) -> bool:
    """Return whether the text of an option is meant as the file of a selection.

    Examples
    --------
    >>> is_file_name("runs/layers.json"), is_file_name("@layers"), is_file_name("0,3")
    (True, True, False)
    """
    return text.startswith("@") or text.lower().endswith(".json")
